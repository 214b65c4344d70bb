"""`delivery maintenance`: a tenant's requests wait, until an administrator ends that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click

from app.cli.options import MOMENT, SPAN, chosen_tenant, named_tenant, tenant_option
from app.cli.tables import in_json, printable
from app.cli.who import caller
from app.delivery.maintenance import Maintenance
from app.run.wiring.database import open_database
from app.run.wiring.tenants import open_configuration
from app.settings import Settings, load_settings
from app.tenants.configure import Configure
from app.views.maintenance import MaintenanceStateView

T = TypeVar("T")


@click.group()
def maintenance() -> None:
    """Have a tenant's new requests wait, and say why; see whether they do, and end it."""


@maintenance.command("on")
@tenant_option
@click.option(
    "--reason",
    help="Told to operators, and to callers that are refused; in the log and the audit trail.",
)
@click.option("--until", type=MOMENT, help="When it should be over; it is not ended by that.")
@click.option("--for", "lasts", type=SPAN, help="Instead: in how long, such as 30m, 2h or 1d.")
def begin(
    tenant: str | None, reason: str | None, until: datetime | None, lasts: timedelta | None
) -> None:
    """Put a tenant into maintenance, or say something else of the one that it is in.

    It lasts until `delivery maintenance off`. After the end that was announced, operators are told
    that it goes on. Of the one that it is in, what is not given here stays as it was said.
    """
    if until is not None and lasts is not None:
        raise click.UsageError("give --until or --for, not both")
    if lasts is not None:
        until = datetime.now(UTC) + lasts
    settings = load_settings()
    name = chosen_tenant(settings, tenant)

    async def said(configure: Configure) -> Maintenance:
        known = await configure.maintenance(name)
        before = known if known is not None and known.active else None
        return await configure.enable_maintenance(
            caller(name),
            reason=before.reason if before is not None and reason is None else reason,
            until=before.until if before is not None and until is None else until,
        )

    click.echo(_said(name, _on_database(settings, said)))


@maintenance.command("off")
@tenant_option
def end(tenant: str | None) -> None:
    """Take a tenant out of maintenance: what waited begins."""
    settings = load_settings()
    name = named_tenant(settings, tenant)

    async def over(configure: Configure) -> Maintenance:
        if await configure.maintenance(name) is None:
            chosen_tenant(settings, name)  # none that is served, nor was
        return await configure.disable_maintenance(caller(name))

    click.echo(_said(name, _on_database(settings, over)))


@maintenance.command("show")
@tenant_option
@click.option("--json", "as_json", is_flag=True, help="For scripts: JSON.")
def show(tenant: str | None, as_json: bool) -> None:
    """Tell whether a tenant is in maintenance, since when, until when, and why."""
    settings = load_settings()
    name = named_tenant(settings, tenant)
    found = _on_database(settings, lambda configure: configure.maintenance(name))
    if found is None:
        chosen_tenant(settings, name)  # none that is served, nor was
    if as_json:
        click.echo("null" if found is None else in_json(MaintenanceStateView.of(found)))
    else:
        click.echo(_said(name, found))


def _said(tenant: str, found: Maintenance | None) -> str:
    if found is None or not found.active:
        return f"tenant {tenant} is in no maintenance"
    more = "" if found.said is None else f", {found.said}"
    since = f"{found.updated_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return printable(f"tenant {tenant} is in maintenance since {since}{more}")


def _on_database(settings: Settings, act: Callable[[Configure], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_database(settings) as database:
            parts = await open_configuration(settings, database.pool)
            return await act(parts.configure)

    return asyncio.run(run())
