"""`delivery doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio

import click

from app.cli.options import NotWellError
from app.cli.tables import in_json, printable
from app.run.doctor import examine
from app.settings import load_settings
from app.views.findings import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Only problems.")
def doctor(as_json: bool, quiet: bool) -> None:
    """Check every dependency; leave nothing changed. Exit code 1 when there are problems."""
    settings = load_settings()

    def report(finding: Finding) -> None:
        if quiet and finding.ok:
            return
        if as_json:
            click.echo(in_json(finding))
            return
        mark = (
            click.style("ok     ", fg="green") if finding.ok else click.style("PROBLEM", fg="red")
        )
        line = f"{finding.part}, {finding.check}: {finding.message}"
        click.echo(f"{mark}  {printable(line)}")
        if finding.advice:
            click.echo(f"         → {printable(finding.advice)}")

    async def run() -> int:
        problems = 0
        async for finding in examine(settings):
            problems += not finding.ok
            report(finding)
        return problems

    problems = asyncio.run(run())
    if problems:
        found = "1 problem was" if problems == 1 else f"{problems} problems were"
        raise NotWellError(f"{found} found")
    if not as_json:
        click.echo("all is well")
