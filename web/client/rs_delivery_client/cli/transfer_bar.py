"""A line at a terminal that tells how far a transfer is: bytes, rate, what stalls or waits.

It is drawn over itself, on standard error, and gone when the command ends. Times in it are of the
clock: they stay right while nothing is heard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len, set_cell_size

import rs_delivery_client
from rs_delivery_client.cli.ends import printable
from rs_delivery_client.cli.tables import size
from rs_delivery_client.cli.when import read, span

if TYPE_CHECKING:
    from rs_delivery_client.models import Delivery, Event

_LEAST, _MOST = 8, 40  # cells of the bar itself
_CLEAR = "\r\x1b[K"  # to the line's begin, and nothing on it
_GAP = "  "


class TransferBar:
    """The line, as events change it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Event) -> None:
        """Draw what an event tells."""
        width = _columns(self._stream) - 1  # what fills a line ends it
        if isinstance(event, rs_delivery_client.ProgressEvent):
            self._draw(progress_line(event.raw, width, datetime.now(UTC)))
        elif event.delivery.ended:
            self.clear()
        else:
            self._draw(state_line(event.delivery, width))

    def clear(self) -> None:
        """Leave nothing of it."""
        self._stream.write(_CLEAR)
        self._stream.flush()

    def _draw(self, line: str) -> None:
        self._stream.write(f"{_CLEAR}{line}")
        self._stream.flush()


@contextmanager
def transfer_bar(*, quiet: bool) -> Iterator[TransferBar | None]:
    """Give the line where standard error is a terminal; None: it is none, or it is to be quiet."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    drawn = TransferBar(sys.stderr)
    try:
        yield drawn
    finally:
        drawn.clear()


def progress_line(progress: Mapping[str, Any], width: int, now: datetime) -> str:
    """Return how far a transfer is, in at most `width` cells.

    Where that is narrow, files are left out first, then the time left, the bytes, and the pace.
    """
    done, total = int(progress.get("bytesDone") or 0), int(progress.get("bytesTotal") or 0)
    share = min(1.0, done / total) if total else 1.0
    stalled, rate = progress.get("stalledFor"), progress.get("bytesPerSecond")
    left = progress.get("secondsLeft")
    pace = f"{size(rate)}/s" if rate else None
    if stalled is not None:
        pace, left = f"no byte since {_clock(now - timedelta(seconds=stalled))}", None
    elif progress.get("phase") == "COMPLETING":
        pace, left = "is being completed", None
    elif progress.get("phase") == "PAUSED":
        pace, left = "paused", None
    parts = [
        f"{100 * share:3.0f} %",
        pace,
        f"{size(done)} of {size(total)}",
        None if left is None else f"{span(left)} left",
        f"{progress.get('filesDone') or 0}/{progress.get('filesTotal') or 0} files",
    ]
    said = [part for part in parts if part]
    while len(said) > 1 and _width(said) + len(_GAP) + _LEAST > width:
        said.pop()
    words = _GAP.join(said)
    room = min(_MOST, width - cell_len(words) - len(_GAP))
    if room < _LEAST:
        return _fitted(words, width)
    filled = round(room * share)
    return f"{'━' * filled}{'╌' * (room - filled)}{_GAP}{words}"


def state_line(delivery: Delivery, width: int) -> str:
    """Return what a delivery waits for, in at most `width` cells."""
    raw = delivery.raw
    words = [delivery.state]
    activity = raw.get("activity")
    if activity == "retrying":
        words.append(f"retrying ({raw.get('tries') or 0} failed)")
    elif activity:
        words.append(str(activity))
    again = read(raw.get("nextAttemptAt"))
    if again is not None:
        words.append(f"tried again at {_clock(again)}")
    if activity in ("retrying", "paused") and raw.get("lastCause"):
        words.append(str(raw["lastCause"]))
    return _fitted(printable(", ".join(words)), width)


def _columns(terminal: TextIO) -> int:
    """Return how wide a terminal is; 80, where it does not say."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80


def _width(said: list[str]) -> int:
    return cell_len(_GAP.join(said))


def _fitted(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"
