"""What commands list: a table on a terminal, or JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from app.views.view import View

V = TypeVar("V", bound=View)

_WIDE = 10_000  # columns; a table takes no more than it needs


def in_json(view: View, *, indent: int | None = None) -> str:
    """Return a view as scripts read it. Values that JSON has no type for are texts in it."""
    return json.dumps(view.body(), ensure_ascii=False, indent=indent, default=str)


def show_all(
    entries: Sequence[V],
    columns: Sequence[str],
    *,
    as_json: bool,
    what: str,
    more: str,
    row: Callable[[V], Mapping[str, Any]] = View.body,
) -> None:
    """Print entries of a kind (`what`); `more` says how to see one whole, `row` makes its line."""
    if as_json:
        for entry in entries:
            click.echo(in_json(entry))
        return
    if not entries:
        click.echo(f"no {what}")
        return
    table = Table(box=None, header_style="bold")
    for name in columns:
        # An id is copied into the next command: it stays in one piece.
        table.add_column(name, overflow="fold", no_wrap=name == "id", min_width=len(name))
    for entry in entries:
        shown = row(entry)
        cells = [shown[name] for name in columns]
        table.add_row(*("-" if value is None else printable(str(value)) for value in cells))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDE  # for `grep`: an entry a line
    console.print(table)
    click.echo(f"{_counted(len(entries), what)}; {more}")


def _counted(count: int, what: str) -> str:
    """Return "2 deliveries", or "1 delivery"."""
    if count == 1:
        what = f"{what.removesuffix('ies')}y" if what.endswith("ies") else what.removesuffix("s")
    return f"{count} {what}"


def printable(text: str) -> str:
    """Keep what a stranger sent from driving the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def size(count: float) -> str:
    """Return bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"
