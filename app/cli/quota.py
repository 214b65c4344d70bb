"""`delivery quota`: what is left of the quotas of a tenant and its users."""

from __future__ import annotations

import asyncio
import json

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import chosen_tenant, tenant_option
from app.cli.tables import printable
from app.run.wiring.services import open_services
from app.settings import load_settings
from app.views.quotas import AllowanceLeftView, QuotaView, SideView


@click.command()
@tenant_option
@click.option("--user", help="Of this ordering user, too.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: JSON.")
def quota(tenant: str | None, user: str | None, as_json: bool) -> None:
    """Tell what is left of a tenant's quotas, and of a user's."""
    settings = load_settings()
    name = chosen_tenant(settings, tenant)

    async def run() -> QuotaView:
        async with open_services(settings) as services:
            quotas = services.quotas
            usage = await quotas.usage(name, user or "")
            return QuotaView.of(quotas.of(name), usage, tenant=name, user=user)

    found = asyncio.run(run())
    if as_json:
        click.echo(json.dumps(found.body()))
        return
    table = Table(box=None, header_style="bold")
    for column in ("of", "active", "requests a minute", "bytes a day", "waiting"):
        table.add_column(column, overflow="fold")
    for title, side in (("tenant", found.tenant), ("user", found.user)):
        if side is not None:
            table.add_row(*_cells(title, side))
    console = Console(markup=False, highlight=False)
    console.print(table)
    click.echo(
        f"requests over a quota: {found.over_requests}; bytes over one: {found.over_bytes}; the "
        f"next day begins {found.resets_at:%FT%TZ}"
    )


def _cells(title: str, side: SideView) -> list[str]:
    waiting = f"{side.waiting} requests, {side.waiting_bytes} deliveries for bytes"
    return [
        f"{title} {printable(side.name)}",
        *map(_cell, (side.active, side.requests, side.bytes)),
        waiting if side.waiting or side.waiting_bytes else "none",
    ]


def _cell(found: AllowanceLeftView) -> str:
    return f"{found.used}" if found.limit is None else f"{found.used} of {found.limit}"
