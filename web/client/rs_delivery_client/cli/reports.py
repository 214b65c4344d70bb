"""What a check prints: a bar meanwhile, each flaw as it is found, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, Silent, printable
from rs_delivery_client.flaws import Flaw, Report
from rs_delivery_client.verification import Progress


class _Bar:
    """A bar on a terminal; see `Progress`."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, total: int | None) -> None:
        """Begin, or begin again."""
        if self._task is None:
            self._task = self._bars.add_task("", total=total)
        else:
            self._bars.reset(self._task, total=total)

    def advance(self, count: int) -> None:
        """Go on."""
        if self._task is not None:
            self._bars.advance(self._task, count)


@contextmanager
def bar(*, quiet: bool) -> Iterator[Progress | None]:
    """Give a bar on a terminal; None: there is no terminal, or it is to be quiet."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bar(bars)


def teller(*, as_json: bool) -> Callable[[Flaw], None]:
    """Return what prints a flaw as it is found."""

    def tell(flaw: Flaw) -> None:
        if as_json:
            click.echo(json.dumps(flaw.body()))
        else:
            click.echo(printable(f"{flaw.kind}: {flaw}"))

    return tell


def tell_end(report: Report, *, as_json: bool, **more: Any) -> None:
    """Say what a check came to. Raises Ended when it found flaws."""
    if as_json:
        click.echo(json.dumps({**report.body(), **more}))
        if not report.ok:
            raise Silent(EXIT_FAILED)
        return
    for note in report.notes:
        click.echo(printable(f"({note})"), err=True)
    if not report.ok:
        raise Ended(str(report), EXIT_FAILED)
    click.echo(printable(str(report)))
