"""`delivery worker` and `delivery serve`: what works, without and with HTTP."""

from __future__ import annotations

import click

from app.cli.pauses import drain
from app.cli.serving import serve_until_stopped
from app.run import worker as process
from rs_delivery_client.cli.workers import list_, resume


@click.group(invoke_without_command=True)
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Take in requests and transfer; without HTTP.

    `list` and `resume` ask the service over HTTP, and so does `drain` with --url or --profile.
    """
    if ctx.invoked_subcommand is not None:
        return
    serve_until_stopped(
        lambda settings, reloads: process.running_worker(settings, site=False, reloads=reloads)
    )


worker.add_command(drain)
worker.add_command(list_)
worker.add_command(resume)


@click.command()
def serve() -> None:
    """Work and answer HTTP in one process."""
    serve_until_stopped(
        lambda settings, reloads: process.running_worker(settings, site=True, reloads=reloads)
    )
