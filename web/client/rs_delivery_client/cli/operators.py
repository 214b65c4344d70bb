"""`rs-delivery status`, `targets`: what needs an operator, and how it goes with each target."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, Silent, printable, run
from rs_delivery_client.cli.fields import FINDING, TARGET, JsonCommand, fields_option
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import Column, hint, show_json, show_table
from rs_delivery_client.cli.when import at, read, relative, span

if TYPE_CHECKING:
    from rs_delivery_client.models import Finding, Target
    from rs_delivery_client.operating import Body

_COLUMNS = (
    Column(title="TARGET"),
    Column(title="STATE"),
    Column(title="FOR"),
    Column(title="RUNNING"),
    Column(title="WAITING"),
    Column(title="LAST HOUR", least=10),
    Column(title="LAST", least=16),
)


@click.command(cls=JsonCommand)
@place_option
@fields_option(FINDING)
def status(where: Where, fields: Sequence[str] | None) -> None:
    """Tell what needs an operator now, since when, and what to do. Exit code 1 for problems."""
    client = where.client()

    async def ask() -> tuple[list[Finding], Body | None]:
        async with client:
            found = await client.attention()
            return found, None if fields is not None else await client.operating.schema()

    found, schema = run(ask())
    problems = sum(finding.severity == "problem" for finding in found)
    if fields is not None:
        show_json([finding.raw for finding in found], fields)
        if problems:
            raise Silent(EXIT_FAILED)
        return
    now = datetime.now(UTC)
    for finding in found:
        _say(finding, now)
    if schema is not None:
        _say_schema(schema)
    if any(finding.code.startswith("TARGET") for finding in found):
        hint(where, "targets", "list --active")
    if problems:
        told = "1 problem needs" if problems == 1 else f"{problems} problems need"
        raise Ended(f"{told} you", EXIT_FAILED)
    click.echo("nothing needs you")


def _say(finding: Finding, now: datetime) -> None:
    problem = finding.severity == "problem"
    mark = click.style("✖", fg="red") if problem else "▲"
    since = read(finding.since)
    said = finding.sentence if finding.tenant is None else f"{finding.tenant}: {finding.sentence}"
    if since is not None:
        said += f", since {at(since)} ({span((now - since).total_seconds())})"
    click.echo(f"{mark} {printable(said)}  {printable(finding.code)}")
    if finding.cause:
        click.echo(f"    {printable(finding.cause)}")
    click.echo(f"    {printable(finding.advice)}")


def _say_schema(schema: Body) -> None:
    """Say where the database is older or newer than a program that runs."""
    for told in (schema, *schema.get("workers", ())):
        if told.get("standing", "same") == "same":
            continue
        click.echo(f"▲ {printable(str(told.get('sentence')))}")
        if told.get("advice"):
            click.echo(f"    {printable(str(told['advice']))}")


@click.command(cls=JsonCommand)
@place_option
@fields_option(TARGET)
def targets(where: Where, fields: Sequence[str] | None) -> None:
    """Tell how it goes with each target: whether it works, fails or is paused, and since when."""
    client = where.client()

    async def ask() -> list[Target]:
        async with client:
            return await client.targets()

    found = run(ask())
    if fields is not None:
        show_json([target.raw for target in found], fields)
        return
    if not found:
        click.echo("no targets", err=True)
        return
    now = datetime.now(UTC)
    show_table(_COLUMNS, [_row(target, now) for target in found])


def _row(target: Target, now: datetime) -> Sequence[str | None]:
    raw, since = target.raw, read(target.since)
    return (
        target.name,
        target.state,
        None if since is None else span((now - since).total_seconds()),
        str(raw.get("running", 0)),
        str(raw.get("waiting", 0)),
        f"{raw.get('goodLastHour', 0)} well, {raw.get('badLastHour', 0)} failed",
        _last(target, now),
    )


def _last(target: Target, now: datetime) -> str | None:
    bad, good = target.raw.get("lastBad"), target.raw.get("lastGood")
    if bad and target.raw.get("failures"):
        return " ".join(filter(None, (bad.get("code"), bad.get("cause"))))
    return f"went well {relative(good, now)}" if good else None
