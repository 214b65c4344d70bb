"""A night as text: a lane for each party, what happened in it, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.simulation.night import Line, Night

_WIDTH = 110  # characters of what happened


def draw(night: Night) -> Iterator[str]:
    """Iterate over the lines of the drawing."""
    lanes = ["parties", *(f"worker {number}" for number in range(night.plan.workers)), "console"]
    yield " " * 12 + "  ".join(f"{lane:8}" for lane in lanes)
    for line in night.lines:
        lane = _lane(line, night.plan.workers)
        marks = ("●" if number == lane else "│" for number in range(len(lanes)))
        what = line.what if len(line.what) <= _WIDTH else line.what[: _WIDTH - 1] + "…"
        yield f"{line.at:10.3f}  " + "  ".join(f"{mark:8}" for mark in marks) + f"  {what}"


def _lane(line: Line, workers: int) -> int:
    if line.who is None:
        return 0
    worker = re.match(r"w(\d+)\.", line.who)
    return int(worker[1]) + 1 if worker else workers + 1
