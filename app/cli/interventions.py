"""`delivery cancel`, `retry`, `remove` and `purge`: deliveries steered from a shell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import click

from app.cli.options import AGE, chosen_tenant, named_tenant, tenant_option
from app.cli.tables import size
from app.cli.who import caller
from app.delivery.content import ContentState
from app.run.wiring.services import open_services
from app.settings import load_settings


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@tenant_option
@click.option("--reason", default="", help="Told to the client, in the log and the audit trail.")
def cancel(ids: Sequence[str], tenant: str | None, reason: str) -> None:
    """End deliveries now; their clients are told ERROR."""
    settings = load_settings()
    actor = caller(named_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            for correlation_id in ids:
                delivery = await services.interventions.cancel(actor, correlation_id, reason=reason)
                click.echo(
                    f"{correlation_id} cancelled"
                    if delivery.state.ended
                    else f"{correlation_id} is just being completed: it ends when it is known "
                    "whether its archive has appeared, and is done if it has"
                )

    asyncio.run(run())


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@tenant_option
@click.option("--force", is_flag=True, help="Also what would fail again for a cause that stays.")
def retry(ids: Sequence[str], tenant: str | None, *, force: bool) -> None:
    """Try again: at once what waits for a later attempt, from the start what ended in ERROR.

    What failed for a cause that stays (`delivery explain ID` tells it) only with --force.
    """
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            for correlation_id in ids:
                delivery = await services.interventions.retry(actor, correlation_id, force=force)
                click.echo(f"{correlation_id} is tried again ({delivery.state})")

    asyncio.run(run())


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@tenant_option
def remove(ids: Sequence[str], tenant: str | None) -> None:
    """Remove from its target what a delivery has put there.

    It is done by a worker, within a minute where the target answers; `delivery show` tells.
    """
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            for correlation_id in ids:
                found = await services.interventions.remove(actor, correlation_id)
                is_removed = (
                    found.content is not None and found.content.state is ContentState.REMOVED
                )
                click.echo(
                    f"{correlation_id} is removed from its target"
                    if is_removed
                    else f"{correlation_id} is being removed from its target"
                )

    asyncio.run(run())


@click.command()
@click.option("--older-than", "age", type=AGE, required=True, help="Such as 12h, 30d or 8w.")
@tenant_option
@click.option("--dry-run", is_flag=True, help="Only tell how many there are.")
def purge(age: timedelta, tenant: str | None, dry_run: bool) -> None:
    """Remove from the targets what was delivered long ago; deliveries stay known.

    As `delivery remove` does, of all that was done so long ago. What deliveries left that are not
    kept any more is not known (`DELIVERY_FINISHED_RETENTION`).
    """
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            if dry_run:
                count, total = await services.interventions.count_old(actor, age)
                click.echo(f"{count} deliveries, {size(total)}, would be removed from targets")
                return
            count = total = 0
            while (found := await services.interventions.purge(actor, age))[0]:
                count, total = count + found[0], total + found[1]
            click.echo(f"{count} deliveries, {size(total)}, are being removed from targets")

    asyncio.run(run())
