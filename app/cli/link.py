"""`delivery link`: a link to what was delivered, made from a shell."""

from __future__ import annotations

import asyncio
from datetime import UTC

import click

from app.cli.options import chosen_tenant, tenant_option
from app.cli.who import caller
from app.errors import UnknownDeliveryError
from app.run.wiring.services import open_services
from app.settings import load_settings

_MAX_SECONDS = 7 * 86400


@click.command()
@click.argument("correlation_id", metavar="ID")
@tenant_option
@click.option("--path", help="Of a file in the list of files; default: the archive, or that list.")
@click.option(
    "--ttl",
    type=click.IntRange(1, _MAX_SECONDS),
    help="Seconds for which it holds; the tenant's link_ttl at most, and by default.",
)
def link(correlation_id: str, tenant: str | None, path: str | None, ttl: int | None) -> None:
    """Print a link by which any client that has it has what was delivered.

    Until when it holds is told on standard error.
    """
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            database = services.database
            found = await database.tracking.of(actor.tenant, correlation_id)
            if not found:
                raise UnknownDeliveryError(
                    f"tenant {actor.tenant} has no delivery {correlation_id[:100]!r}, or it was "
                    "long ago"
                )
            made = await services.links.make(
                actor, found[0], trail=database.audit, path=path, seconds=ttl
            )
            click.echo(made.url)
            click.echo(f"it holds until {made.expires.astimezone(UTC):%FT%TZ}", err=True)

    asyncio.run(run())
