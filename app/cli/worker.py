"""`delivery worker` and `delivery serve`: what works, without and with HTTP."""

from __future__ import annotations

import click

from app.cli.serving import serve_until_stopped
from app.run import worker as process


@click.command()
def worker() -> None:
    """Take in requests and transfer; without HTTP."""
    serve_until_stopped(lambda settings: process.running_worker(settings, site=False))


@click.command()
def serve() -> None:
    """Work and answer HTTP in one process."""
    serve_until_stopped(lambda settings: process.running_worker(settings, site=True))
