"""`delivery migrate`: the schema, without a process that stays."""

from __future__ import annotations

import asyncio

import click

from app.run.wiring.database import run_migrations
from app.settings import load_settings


@click.command()
@click.option(
    "--grant-to",
    metavar="ROLE",
    help="Give this role of PostgreSQL what the service needs; the tables stay those of the role "
    "that migrates.",
)
def migrate(grant_to: str | None) -> None:
    """Bring the database schema up to date."""
    applied = asyncio.run(run_migrations(load_settings(), grant_to=grant_to))
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
    if grant_to is not None:
        click.echo(f"granted {grant_to} what the service needs")
