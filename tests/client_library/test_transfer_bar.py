"""The line at a terminal: what it tells, within its width; and none where there is no terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len

from rs_delivery_client.cli.transfer_bar import progress_line, state_line
from rs_delivery_client.models import Delivery
from tests.client_library.fake import TOKEN, Fake
from tests.client_library.test_client import progress, state

NOW = datetime(2026, 11, 28, 12, 0, 45, tzinfo=UTC)
HALF = {
    "bytesDone": 5_000_000,
    "bytesTotal": 10_000_000,
    "filesDone": 3,
    "filesTotal": 7,
    "bytesPerSecond": 1_500_000,
    "secondsLeft": 90,
}


def test_a_wide_line_tells_all() -> None:
    line = progress_line(HALF, 120, NOW)
    assert line == (
        f"{'━' * 20}{'╌' * 20}   50 %  1.5 MB/s  5.0 MB of 10.0 MB  1 min 30 s left  3/7 files"
    )


@pytest.mark.parametrize(
    ("width", "ends"),
    [
        (79, "3/7 files"),
        (70, "1 min 30 s left"),
        (48, "5.0 MB of 10.0 MB"),
        (30, "1.5 MB/s"),
        (16, " 50 %"),
        (7, " 50 %"),
        (4, " 50…"),
        (1, "…"),
    ],
)
def test_a_narrow_terminal_is_told_what_matters_most(width: int, ends: str) -> None:
    line = progress_line(HALF, width, NOW)
    assert line.endswith(ends)
    assert cell_len(line) <= width


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"stalledFor": 45.0}, r"  no byte since \d\d:\d\d:00  "),
        ({"phase": "COMPLETING"}, "  is being completed  "),
        ({"phase": "PAUSED"}, "  paused  "),
        ({"bytesTotal": 0, "bytesDone": 0}, "  100 %  "),
    ],
)
def test_what_does_not_move_says_why(more: dict[str, object], says: str) -> None:
    line = progress_line({**HALF, **more}, 120, NOW)
    assert re.search(says, line)
    assert ("left" in line) is ("bytesTotal" in more)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"state": "ORDERED", "activity": "waiting"}, "ORDERED, waiting"),
        (
            {"state": "TRANSFERRING", "activity": "retrying", "tries": 3, "lastCause": "away\x1b"},
            "TRANSFERRING, retrying (3 failed), away?",
        ),
    ],
)
def test_what_waits_is_told_with_its_cause(body: dict[str, object], says: str) -> None:
    delivery = Delivery.of({"id": "0", "correlationId": "d", **body})
    assert state_line(delivery, 200) == says
    assert cell_len(state_line(delivery, 12)) <= 12


def test_a_retry_is_told_by_the_clock() -> None:
    body = {"state": "READY", "activity": "retrying", "nextAttemptAt": "2026-11-28T12:00:00+00:00"}
    delivery = Delivery.of({"id": "0", "correlationId": "d", **body})
    assert re.search(r"tried again at \d\d:00:00$", state_line(delivery, 200))


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """The service, with a delivery that is transferred and done."""
    made = Fake()
    made.delivery |= {"url": "s3://b/k"}
    made.frames = [[state(1, "TRANSFERRING"), progress(5), state(2, "DONE")]]
    async with made.running():
        yield made


async def at_a_terminal(fake: Fake, command: str, *options: str, **environment: str) -> str:
    """Return what a command writes to a terminal of 60 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from rs_delivery_client.cli import main; main()"),
        *(command, "d 1/é", *options),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"DELIVERY_URL": fake.url, "DELIVERY_TOKEN": TOKEN, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    written = await asyncio.to_thread(_read, ours)
    os.close(ours)
    assert await process.wait() == 0, written
    return written


def _read(terminal: int) -> str:
    found = b""
    with contextlib.suppress(OSError):  # Linux' way to say that its other end is closed
        while chunk := os.read(terminal, 65536):
            found += chunk
    return found.decode()


@pytest.mark.parametrize("command", ["watch", "wait"])
async def test_a_line_is_drawn_over_itself_and_gone_at_the_end(fake: Fake, command: str) -> None:
    written = await at_a_terminal(fake, command)
    drawn = [piece.partition("\r\n")[0] for piece in written.split("\r\x1b[K")]
    assert any(piece.endswith("  50 %  5 B of 10 B  0/0 files") for piece in drawn)
    assert all(cell_len(piece) < 60 for piece in drawn if "%" in piece)
    # The last that was drawn is nothing, and what is printed for good stands behind it.
    assert "%" not in written.rpartition("\r\x1b[K")[2]
    assert "s3://b/k\r\n" in written


async def test_lines_of_states_stay_above(fake: Fake) -> None:
    written = await at_a_terminal(fake, "watch")
    assert re.search(r"  d 1/é  TRANSFERRING\r\n", written)
    assert "50 %, 5 B" not in written  # of those lines there are none beside the bar


@pytest.mark.parametrize("options", [(("--json",), {}), ((), {"TERM": "dumb"})])
async def test_where_it_is_not_wanted_nothing_is_drawn(
    fake: Fake, options: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    arguments, environment = options
    assert "\x1b" not in await at_a_terminal(fake, "watch", *arguments, **environment)
