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
    """What was told of a function; one that waits for it holds the loop until then.

    Of others it may be told, too: whatever ran when this thread had no processor.
    """

    def __init__(self, function: str) -> None:
        self.seen = threading.Event()
        self.holder: dict[str, str] = {}
        self._function = function

    def __call__(self, seconds: float, holder: dict[str, str]) -> None:
        if holder["doing"].endswith(self._function):
            self.holder = holder
            self.seen.set()


@pytest.fixture
def _told_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.telemetry.watchdog._MAX_SILENCE", 0.0)


@pytest.fixture
def _nothing_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this thread has no processor."""
    monkeypatch.setattr("app.telemetry.watchdog._LIMIT", 3600.0)


@pytest.mark.usefixtures("_told_while_it_is_held")
async def test_a_task_that_holds_the_loop_is_named() -> None:
    told = Told("stubborn")

    async def stubborn() -> None:
        told.seen.wait(30)

    with watching_loop(told):
        await asyncio.create_task(stubborn(), name="delivery x of tenant y")
    assert told.holder["task"] == "delivery x of tenant y"
    assert "wait" in told.holder["place"]


@pytest.mark.usefixtures("_told_while_it_is_held")
async def test_a_callback_that_holds_the_loop_is_named() -> None:
    told = Told("slow")

    def slow() -> None:
        told.seen.wait(30)

    with watching_loop(told):
        asyncio.get_running_loop().call_soon(slow)
        await asyncio.sleep(0)
    assert told.holder["task"] == "a callback"


@pytest.mark.usefixtures("_nothing_is_long")
async def test_what_holds_the_loop_for_less_than_is_logged_is_counted_by_its_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = threading.Event()
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
    with watching_loop():
        asyncio.get_running_loop().call_soon(looked.wait)
        while counted() == before:
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("_nothing_is_long")
async def test_a_loop_that_waits_is_held_by_nobody() -> None:
    before, told = held(), list[dict[str, str]]()
    with watching_loop(lambda _, holder: told.append(holder)):
        while held() < before + 3:
            await asyncio.sleep(0.05)
    assert told == []
