"""What waits for the same thing is tried by turns, and all at once when one gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable

import pytest

from app.errors import StoreUnavailableError
from app.waiting.turns import Turns

NEVER = 3600.0  # seconds: a pause that no test waits for


class Tried:
    """Tries of messages, each with a key, that go on when the test says so."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.log: list[str] = []
        self.away = True
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, key: Hashable) -> None:
        self.tasks[name] = asyncio.create_task(self._try(name, key))

    async def _try(self, name: str, key: Hashable) -> None:
        async with self.turns.turn(key) as turn:
            while self.away:
                self.log.append(f"{name} waits")
                await turn.pause(NEVER)
            self.log.append(f"{name} is through")

    async def settle(self) -> list[str]:
        """Return what happened since the last time, once nothing more does."""
        for _ in range(10):
            await asyncio.sleep(0)
        log, self.log = self.log, []
        return log


@pytest.fixture
async def tried() -> AsyncIterator[Tried]:
    tried = Tried()
    yield tried
    for task in tried.tasks.values():
        task.cancel()
    await asyncio.gather(*tried.tasks.values(), return_exceptions=True)


async def test_what_pauses_is_tried_at_once_in_the_order_in_which_it_came(tried: Tried) -> None:
    for name in ("a", "b", "c"):
        tried.begin(name, key=name)
    assert await tried.settle() == ["a waits", "b waits", "c waits"]
    tried.turns.notify()
    assert await tried.settle() == ["a waits", "b waits", "c waits"]
    tried.away = False
    tried.turns.notify()
    assert await tried.settle() == ["a is through", "b is through", "c is through"]


async def test_a_later_one_does_not_overtake_an_earlier_one_of_its_key(tried: Tried) -> None:
    tried.begin("a", key="k")
    assert await tried.settle() == ["a waits"]
    tried.away = False
    tried.begin("b", key="k")
    tried.begin("c", key="another")
    assert await tried.settle() == ["c is through"]
    tried.turns.notify()
    assert await tried.settle() == ["a is through", "b is through"]


async def test_one_that_is_cancelled_lets_none_behind_it_overtake(tried: Tried) -> None:
    tried.begin("a", key="k")
    tried.begin("b", key="k")
    tried.begin("c", key="k")
    await tried.settle()
    tried.away = False
    tried.tasks["b"].cancel()
    assert await tried.settle() == []
    tried.turns.notify()
    assert await tried.settle() == ["a is through", "c is through"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_those_behind_one_that_gives_up_give_up_too(cancelled: bool) -> None:
    turns = Turns()
    until = asyncio.Event()

    async def give_up() -> None:
        async with turns.turn("k"):
            await until.wait()
            raise StoreUnavailableError("it is away")

    async def never() -> None:
        async with turns.turn("k"):
            raise AssertionError("it has overtaken")

    first = asyncio.create_task(give_up())
    second, third = asyncio.create_task(never()), asyncio.create_task(never())
    await asyncio.sleep(0)
    if cancelled:
        second.cancel()
    until.set()
    outcomes = await asyncio.gather(first, second, third, return_exceptions=True)
    assert isinstance(outcomes[2], StoreUnavailableError)
    assert isinstance(outcomes[1], asyncio.CancelledError if cancelled else StoreUnavailableError)
    async with turns.turn("k"):
        """Nothing of it is left."""
