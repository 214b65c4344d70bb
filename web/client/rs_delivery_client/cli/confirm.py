"""What can't be taken back is asked for at a terminal; elsewhere it takes a word in the call."""

from __future__ import annotations

import sys

import click

yes_option = click.option("--yes", is_flag=True, help="Don't ask.")


def confirmed(question: str, *, yes: bool) -> None:
    """Return if it is wanted. Raises Abort; UsageError where there is no terminal to ask at."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"there is no terminal to ask at ({question}): add --yes")
    click.confirm(question, abort=True, err=True)
