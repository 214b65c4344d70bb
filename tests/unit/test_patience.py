"""Waiting in place for an object store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from app.errors import StoreUnavailableError, TargetUnavailableError
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience, Retried, Waits, out_of_slot, until_answered
from sinks.pipeline.budget import Budget


class Target:
    """Away until told; counts who asks."""

    def __init__(self) -> None:
        self.away = True
        self.asked = 0
        self.asides = 0
        self.went = asyncio.Event()

    async def ask(self) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise TargetUnavailableError("away")
        return "answer"

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        self.asides += 1
        self.went.set()
        yield
        self.asides -= 1


def waits(target: Target, *, limit: float = 60, in_slot: float = 0) -> Waits:
    patience = Patience(limit=limit, backoff=Backoff(first=0.001, longest=0.001), in_slot=in_slot)
    return Waits(patience, target.aside)


async def test_one_waiter_asks_again_while_the_others_wait() -> None:
    target = Target()
    waiting = waits(target)
    calls = [asyncio.create_task(waiting.through(target.ask)) for _ in range(4)]
    await target.went.wait()
    assert target.asides == 1
    target.away = False
    assert await asyncio.gather(*calls) == ["answer"] * 4
    assert target.asides == 0


async def test_a_short_wait_keeps_its_slot() -> None:
    target = Target()
    waiting = waits(target, in_slot=60)
    call = asyncio.create_task(waiting.through(target.ask))
    while target.asked < 5:
        await asyncio.sleep(0)
    target.away = False
    await call
    assert not target.went.is_set()


async def test_patience_ends_with_the_cause() -> None:
    target = Target()
    with pytest.raises(TargetUnavailableError, match="away; it was waited for"):
        await waits(target, limit=0.01).through(target.ask)
    with pytest.raises(TargetUnavailableError, match="away"):
        await waits(target, limit=0).through(target.ask)


async def test_a_holder_of_what_others_wait_for_is_less_patient() -> None:
    target, budget = Target(), Budget(100)
    patience = Patience(
        limit=60, backoff=Backoff(first=0.001, longest=0.001), in_slot=0, wanted=0.01
    )
    async with budget.reserve(60):
        waiting = Waits(patience, target.aside, wanted=budget.is_wanted)
        call = asyncio.create_task(waiting.through(target.ask))
        while target.asked < 50:  # no other transfer wants it
            await asyncio.sleep(0.001)
        wants = asyncio.create_task(budget.reserve(60).__aenter__())
        with pytest.raises(TargetUnavailableError, match="others wait"):
            await call
    await wants
    assert not budget.is_wanted()


async def test_other_errors_are_not_waited_for() -> None:
    async def refuse() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await waits(Target()).through(refuse)


async def test_a_long_call_gives_up_its_slot_and_a_quick_one_does_not() -> None:
    target = Target()
    target.away = False
    assert await out_of_slot(target.ask, target.aside, after=60) == "answer"
    assert not target.went.is_set()

    async def slow() -> str:
        await target.went.wait()
        return await target.ask()

    assert await out_of_slot(slow, target.aside, after=0.001) == "answer"
    assert target.asides == 0


async def test_a_call_that_moves_keeps_its_slot_however_long_it_takes() -> None:
    target = Target()
    moves = iter(range(3))

    def moved() -> float:
        return time.monotonic() if next(moves, None) is not None else 0

    async def act() -> str:
        await target.went.wait()
        return await target.ask()

    target.away = False
    assert await out_of_slot(act, target.aside, after=0.001, moved=moved) == "answer"
    assert next(moves, None) is None  # it was aside only when nothing moved any more


async def test_a_long_call_is_cancelled_with_its_waiter() -> None:
    target = Target()
    ended = asyncio.Event()

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(out_of_slot(stuck, target.aside, after=0.001))
    await target.went.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert ended.is_set()


async def test_a_database_is_asked_as_long_as_the_lease_is_good() -> None:
    left = 2

    async def ask() -> None:
        nonlocal left
        left -= 1
        raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        await until_answered(ask, good=lambda: left > 0)
    assert left == 0


class Deed:
    """What is away for some tries, and keeps what each was told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.told: list[bool] = []

    async def act(self, *, again: bool) -> str:
        self.told.append(again)
        if self.errors:
            raise self.errors.pop()
        return "answer"


async def test_each_try_but_the_first_is_told_that_an_earlier_one_may_have_been_done() -> None:
    kept = Deed(*[StoreUnavailableError("away")] * 2)
    assert await until_answered(Retried(kept.act)) == "answer"
    assert kept.told == [False, True, True]
    sent = Deed(*[TargetUnavailableError("away")] * 3)
    assert await waits(Target()).through(Retried(sent.act)) == "answer"
    assert sent.told == [False, True, True, True]


async def test_a_try_after_anothers_wait_is_told_so_too() -> None:
    """It waited for its turn, and asks again without a pause of its own."""
    target = Target()
    waiting = waits(target)
    first = asyncio.create_task(waiting.through(target.ask))
    await target.went.wait()
    behind = Deed(TargetUnavailableError("away"))
    second = asyncio.create_task(waiting.through(Retried(behind.act)))
    while not behind.told:
        await asyncio.sleep(0)
    target.away = False
    assert [await first, await second] == ["answer", "answer"]
    assert behind.told == [False, True]


def test_those_who_wait_hold_half_of_the_memory_at_most_or_there_is_one() -> None:
    budget = Budget(100)
    with budget.idle(80), pytest.raises(TargetUnavailableError), budget.idle(10):
        pass
    with budget.idle(25), budget.idle(25), pytest.raises(TargetUnavailableError), budget.idle(1):
        pass
