"""Memory shared by transfers."""

from __future__ import annotations

import asyncio

import pytest

from sinks.pipeline.budget import Budget


async def test_memory_is_granted_in_turn_and_never_beyond_its_size() -> None:
    budget = Budget(10)
    order: list[str] = []
    held = {"large": asyncio.Event(), "small": asyncio.Event(), "first": asyncio.Event()}

    async def hold(name: str, size: int) -> None:
        async with budget.reserve(size):
            order.append(name)
            await held[name].wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold("first", 6))
        await asyncio.sleep(0)
        group.create_task(hold("large", 10))
        await asyncio.sleep(0)
        group.create_task(hold("small", 1))  # would fit, but must not pass by
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["first"]
        for name in ("first", "large", "small"):
            held[name].set()
    assert order == ["first", "large", "small"]


async def test_a_waiter_that_gives_up_is_forgotten() -> None:
    budget = Budget(1)
    async with budget.reserve(1):
        waiting = asyncio.create_task(budget.reserve(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(30), budget.reserve(1):
        pass
