"""Workers that die at any step of a large file: the next attempt ends it, and nothing is left."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import pytest

from app.settings import Settings
from compose.embedded.stack import TENANT
from sinks.pipeline import large_file
from sinks.pipeline.parts import MIB
from tests.conftest import noise
from tests.deliveries import DeliveriesInMemory
from tests.store.conftest import OTHER
from tests.store.test_folders import LATE
from tests.store.test_half_sent_files import HalfSent

FILES = {"a.txt": b"a", "large.bin": noise(17 * MIB + 7), "z.txt": b"z"}
MOST_STEPS = 60  # that an attempt takes


class DiedError(Exception):
    """The worker is dead: it does nothing any more."""


class Mortal:
    """What a worker asks; at a step it dies, before that is done or right behind it."""

    def __init__(self, at: int, *, done: bool) -> None:
        self._at = at
        self._done = done
        self._steps = 0
        self.dead = False

    def of(self, asked: Any) -> Any:
        """Return something whose calls are steps."""
        return _Asked(asked, self)

    async def step(self, act: Any, given: Any, how: Any) -> Any:
        """Take a step."""
        if self.dead:
            raise DiedError
        self._steps += 1
        if self._steps < self._at:
            return await act(*given, **how)
        self.dead = True
        if self._done:
            await act(*given, **how)
        raise DiedError


class _Asked:
    def __init__(self, asked: Any, mortal: Mortal) -> None:
        self._asked = asked
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._asked, name)
        if not inspect.iscoroutinefunction(act):
            return act

        async def step(*given: Any, **how: Any) -> Any:
            return await self._mortal.step(act, given, how)

        return step


async def attempt_of(half_sent: HalfSent, mortal: Mortal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker make an attempt, as long as it lives."""
    shelf, checkpoints = mortal.of(half_sent.shelf), half_sent.deliveries.checkpoints
    with monkeypatch.context() as patch, contextlib.suppress(DiedError, ExceptionGroup):
        patch.setattr(half_sent, "shelf", shelf)
        patch.setattr(half_sent, "uploads", half_sent.uploads_with(shelf))
        patch.setattr(
            half_sent.deliveries, "checkpoints", lambda owner: mortal.of(checkpoints(owner))
        )
        await half_sent.attempt()


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("dies_in", [1, 2])
async def test_a_worker_may_die_at_any_step_of_a_large_file(
    monkeypatch: pytest.MonkeyPatch, dies_in: int, done: bool
) -> None:
    """In the first attempt, or in the one that goes on with what a first one has sent."""
    monkeypatch.setattr(large_file, "EVERY_BYTES", 1)
    for at in range(1, MOST_STEPS):
        half_sent = HalfSent(DeliveriesInMemory(Settings(tenants=(TENANT, OTHER))))
        await half_sent.plan(FILES)
        if dies_in == 2:
            await half_sent.break_off(12 * MIB)
        mortal = Mortal(at, done=done)
        await attempt_of(half_sent, mortal, monkeypatch)
        if not await half_sent.is_done():
            await half_sent.attempt()
        half_sent.check_delivered(FILES)
        await half_sent.deliveries.elapse(LATE)
        await half_sent.sweep()
        assert half_sent.shelf.open() == [], f"died at step {at}"
        if not mortal.dead:
            break
    assert not mortal.dead, "it takes more steps than were tried"
    assert at > 10
