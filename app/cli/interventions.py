"""`delivery cancel` and `retry`: deliveries steered from a shell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from app.cli.options import chosen_tenant, tenant_option
from app.cli.who import caller
from app.run.wiring.services import open_services
from app.settings import load_settings


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@tenant_option
@click.option("--reason", default="", help="Told to the client, in the log and the audit trail.")
def cancel(ids: Sequence[str], tenant: str | None, reason: str) -> None:
    """End deliveries now; their clients are told ERROR."""
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

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
def retry(ids: Sequence[str], tenant: str | None) -> None:
    """Try again: at once what waits for a later attempt, from the start what ended in ERROR."""
    settings = load_settings()
    actor = caller(chosen_tenant(settings, tenant))

    async def run() -> None:
        async with open_services(settings) as services:
            for correlation_id in ids:
                delivery = await services.interventions.retry(actor, correlation_id)
                click.echo(f"{correlation_id} is tried again ({delivery.state})")

    asyncio.run(run())
