"""The event loop's clock, put forward: a bound is over when a test says, not when it has waited."""

from __future__ import annotations

import asyncio

import pytest


class LoopClock:
    """What `asyncio.timeout` and all that waits for a time goes by."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.passed = 0.0  # seconds, beside those that pass by themselves
        loop = asyncio.get_running_loop()
        time = loop.time
        patched.setattr(loop, "time", lambda: time() + self.passed)
