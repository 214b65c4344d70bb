"""The watchdog names who holds the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import REGISTRY

from app.telemetry.watchdog import watching_loop


def held() -> float:
    return REGISTRY.get_sample_value("delivery_loop_held_seconds_count") or 0


class Told:
    """What was told; a task that waits for it without giving up the loop holds the loop."""

    def __init__(self) -> None:
        self.holders: list[dict[str, str]] = []
        self.seen = threading.Event()

    def __call__(self, seconds: float, holder: dict[str, str]) -> None:
        self.holders.append(holder)
        self.seen.set()


async def test_a_task_that_holds_the_loop_is_named() -> None:
    told = Told()

    async def stubborn() -> None:
        threading.Event().wait(0.6)

    with watching_loop(told):
        await asyncio.create_task(stubborn(), name="delivery x of tenant y")
        while not told.seen.is_set():
            await asyncio.sleep(0)
    (holder,) = told.holders
    assert holder["task"] == "delivery x of tenant y"
    assert holder["doing"].endswith("stubborn")
    assert "wait" in holder["place"]


async def test_a_callback_that_holds_the_loop_is_named() -> None:
    told = Told()

    def slow() -> None:
        threading.Event().wait(0.6)

    with watching_loop(told):
        asyncio.get_running_loop().call_soon(slow)
        while not told.seen.is_set():
            await asyncio.sleep(0)
    (holder,) = told.holders
    assert holder["task"] == "a callback"
    assert holder["doing"].endswith("slow")


async def test_what_holds_the_loop_for_less_than_is_logged_is_counted_by_its_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, looked = Told(), threading.Event()
    current = asyncio.current_task

    def looking(loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Task[object] | None:
        if threading.current_thread().name == "watchdog":  # it has read the stack
            looked.set()
        return current(loop)

    def counted() -> float:
        labels = {"function": "threading:Condition.wait"}
        return REGISTRY.get_sample_value("delivery_loop_holder_seconds_count", labels) or 0

    monkeypatch.setattr(asyncio, "current_task", looking)
    before = counted()
    with watching_loop(told):
        asyncio.get_running_loop().call_soon(looked.wait)
        while counted() == before:
            await asyncio.sleep(0.01)


async def test_a_loop_that_waits_is_held_by_nobody() -> None:
    before = held()
    told = Told()
    with watching_loop(told):
        while held() < before + 3:
            await asyncio.sleep(0.05)
    assert not told.holders
