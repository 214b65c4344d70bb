"""`delivery attention`: what needs an operator now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from app.cli.options import NotWellError, chosen_tenant
from app.cli.tables import in_json, printable
from app.run.wiring.database import open_database
from app.settings import load_settings
from app.views.attention import AttentionView, Trouble, strangers_merged


@click.command()
@click.option("--tenant", "tenants", multiple=True, help="Only of this one (repeat); default: all.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
def attention(tenants: Sequence[str], as_json: bool) -> None:
    """Tell what needs an operator now, since when, and what to do. Exit code 1 for problems."""
    settings = load_settings()
    wanted = [chosen_tenant(settings, tenant) for tenant in tenants] or None

    async def run() -> list[Trouble]:
        async with open_database(settings) as database:
            return await database.attention.troubles(wanted)

    troubles = asyncio.run(run())
    found = [AttentionView.of(trouble) for trouble in strangers_merged(troubles, settings.tenants)]
    for view in found:
        if as_json:
            click.echo(in_json(view))
        else:
            _say(view)
    problems = sum(view.severity == "problem" for view in found)
    if problems:
        told = "1 problem needs" if problems == 1 else f"{problems} problems need"
        raise NotWellError(f"{told} you")
    if not as_json:
        click.echo("nothing needs you")


def _say(view: AttentionView) -> None:
    is_problem = view.severity == "problem"
    mark = click.style("PROBLEM", fg="red") if is_problem else "note   "
    since = "" if view.since is None else f", since {view.since:%Y-%m-%d %H:%M:%S}Z"
    tenant = "" if view.tenant is None else f"tenant {view.tenant}: "
    click.echo(f"{mark}  {printable(f'{tenant}{view.sentence}{since}')}")
    if view.cause:
        click.echo(f"         {printable(view.cause)}")
    click.echo(f"         → {printable(view.advice)}")
