"""`delivery migrate`: the schema, without a process that stays."""

from __future__ import annotations

import asyncio

import click

from app.database import run_migrations
from app.settings import load_settings


@click.command()
def migrate() -> None:
    """Bring the database schema up to date."""
    applied = asyncio.run(run_migrations(load_settings()))
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
