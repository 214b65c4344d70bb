"""What changes, shown line by line before it is changed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import click

from rs_delivery_client.cli.ends import printable

_COLOURS = {"+": "green", "-": "red"}


def show_differences(name: str, before: Sequence[str], after: Sequence[str]) -> bool:
    """Print what differs as a unified diff; return whether something does."""
    lines = list(
        difflib.unified_diff(before, after, f"{name} (now)", f"{name} (then)", lineterm="")
    )
    for line in lines:
        click.echo(click.style(printable(line), fg=_COLOURS.get(line[:1])))
    return bool(lines)
