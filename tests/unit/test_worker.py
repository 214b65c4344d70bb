"""A worker's parts: what starts, and stops, together."""

from __future__ import annotations

import asyncio

import pytest
from mode import Service

from app.run.worker import Root, running


class Part(Service):
    """Ends when another one is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.other: Part = self

    async def on_stop(self) -> None:
        self.asked.set()
        await self.other.asked.wait()


async def test_what_runs_beside_each_other_is_stopped_at_once() -> None:
    """One that takes all the time there is for it leaves the others theirs."""
    one, two = Part(), Part()
    one.other, two.other = two, one
    async with asyncio.timeout(30), running([one, two], of=Root()):
        assert one.started
        assert two.started
    assert one.asked.is_set()
    assert two.asked.is_set()


class Broken(Service):
    async def on_start(self) -> None:
        raise ConnectionError("away")


async def test_what_has_started_beside_one_that_does_not_is_stopped() -> None:
    one, never = Part(), Part()
    with pytest.raises(ConnectionError):
        async with running([one, Broken(), never], of=Root()):
            pass
    assert one.asked.is_set()
    assert not never.asked.is_set()


class Unstoppable(Service):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def on_stop(self) -> None:
        raise ConnectionError(self.name)


class Slow(Service):
    """Takes some turns of the loop to stop."""

    ended = False

    async def on_stop(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        self.ended = True


async def test_what_does_not_stop_as_it_should_leaves_the_others_their_time() -> None:
    """What all of them use is closed behind them, and not beneath one that still hands over."""
    slow, late = Slow(), Slow()
    with pytest.raises(ConnectionError, match="first") as raised:
        async with running([slow, Unstoppable("first"), Unstoppable("second"), late], of=Root()):
            pass
    assert (slow.ended, late.ended) == (True, True)
    assert raised.value.__notes__ == ["and ConnectionError('second'), as another part stopped"]
