"""`delivery link`: a link to what was delivered, made from a shell."""

from __future__ import annotations

import asyncio
from datetime import UTC
from uuid import UUID

import click

from app.cli.options import chosen_tenant, tenant_option
from app.cli.who import caller
from app.delivery.object_store import MAX_LINK
from app.errors import UnknownDeliveryError
from app.run.wiring.services import open_services
from app.settings import load_settings
from app.views.deliveries import Tracked, Tracking

_MAX_SECONDS = int(MAX_LINK.total_seconds())


@click.command()
@click.argument("correlation_id", metavar="[ID]", required=False)
@tenant_option
@click.option(
    "--id",
    "delivery_id",
    type=click.UUID,
    help="Of the delivery itself, as `delivery show --json` has it, where its correlation id was "
    "used again; default: the newest.",
)
@click.option("--path", help="Of a file in the list of files; default: the archive, or that list.")
@click.option(
    "--ttl",
    type=click.IntRange(1, _MAX_SECONDS),
    help="Seconds for which it holds; the tenant's link_ttl at most, and by default.",
)
def link(
    correlation_id: str | None,
    tenant: str | None,
    delivery_id: UUID | None,
    path: str | None,
    ttl: int | None,
) -> None:
    """Print a link by which any client that has it has what was delivered.

    Until when it holds is told on standard error.
    """
    if correlation_id is None and delivery_id is None:
        raise click.UsageError("name a delivery: by its correlation id, or by --id")
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            database = services.database
            found = await chosen(database.tracking, actor.tenant, correlation_id, delivery_id)
            made = await services.links.make(
                actor, found, trail=database.audit, path=path, seconds=ttl
            )
            click.echo(made.url)
            click.echo(f"it holds until {made.expires.astimezone(UTC):%FT%TZ}", err=True)

    asyncio.run(run())


async def chosen(
    tracking: Tracking, tenant: str, correlation_id: str | None, delivery_id: UUID | None
) -> Tracked:
    """Return that very delivery, or the newest of a correlation id. Raises UnknownDeliveryError."""
    if delivery_id is None:
        newest = await tracking.of(tenant, correlation_id or "")
        if newest:
            return newest[0]
        what = repr((correlation_id or "")[:100])
    else:
        found = await tracking.one(tenant, delivery_id)
        if found is not None and correlation_id in (found.delivery.correlation_id, None):
            return found
        of = "" if correlation_id is None else f" of {correlation_id[:100]!r}"
        what = f"with the id {delivery_id}{of}"
    raise UnknownDeliveryError(f"tenant {tenant} has no delivery {what}, or it was long ago")
