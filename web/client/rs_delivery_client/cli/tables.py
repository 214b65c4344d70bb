"""What commands list: tables that fit the terminal, or JSON for scripts; and what to call next."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

from rs_delivery_client.cli.ends import encoded, printable, program
from rs_delivery_client.cli.place import Where

_GAP = "  "


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    title: str
    least: int | None = None  # cells that it may be cut to; None: it stays in one piece


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[str]:
    """Return the lines of a table, no longer than `width` cells (None: as long as it takes).

    What may be cut is cut, the last column first; where that is not enough, columns are left out.
    """
    shown = list(range(len(columns)))
    whole = [
        max([cell_len(column.title), *(cell_len(row[number]) for row in rows)])
        for number, column in enumerate(columns)
    ]
    widths = list(whole)
    while width is not None and (over := _sum(widths, shown) - width) > 0:
        number = next((n for n in reversed(shown) if _spare(columns[n], widths[n])), None)
        if number is not None:
            widths[number] -= min(over, _spare(columns[number], widths[number]))
            continue
        number = next((n for n in reversed(shown) if columns[n].least is not None), None)
        if number is None:
            break
        shown.remove(number)
        widths = list(whole)
    lines = [[column.title for column in columns], *rows]
    return [
        _GAP.join(_cut(line[number], widths[number]) for number in shown).rstrip() for line in lines
    ]


def _sum(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[number] for number in shown) + len(_GAP) * (len(shown) - 1)


def _spare(column: Column, width: int) -> int:
    """Return how many cells a column can do without."""
    return 0 if column.least is None else max(0, width - max(column.least, len(column.title)))


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[str | None]]) -> None:
    """Print a table that fits the terminal; without one, each row whole, for `grep`."""
    cells = [["-" if cell is None else printable(cell) for cell in row] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in fitted(columns, cells, width):
        click.echo(line)


def show_json(bodies: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> None:
    """Print an object a line: all of it, or only some fields; null is one that it has not."""
    for body in bodies:
        click.echo(encoded({name: body.get(name) for name in fields} if fields else body))


def hint(where: Where, *calls: str) -> None:
    """Tell what to call next, to those who read at a terminal."""
    if sys.stdout.isatty():
        said = " · ".join(f"{program()} {call}{where.repeated}" for call in calls)
        click.echo(f"next: {printable(said)}", err=True)


def size(count: float) -> str:
    """Return bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def counted(count: int, one: str, many: str) -> str:
    """Return "2 deliveries", or "1 delivery"."""
    return f"{count:,} {one if count == 1 else many}"
