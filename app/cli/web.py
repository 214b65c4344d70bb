"""`delivery web`: the HTTP server alone."""

from __future__ import annotations

import click

from app.cli.serving import serve_until_stopped
from app.run import website


@click.command()
def web() -> None:
    """Answer HTTP; without work."""
    serve_until_stopped(website.running_site)
