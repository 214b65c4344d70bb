"""Slots: what a worker begins, and when it begins nothing more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

from app.errors import DeliveryError, RetryableError
from app.model import Delivery, State, Work
from app.ports import Leases
from app.signals import Signal
from streams.slots import Held, Slots

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def delivery() -> Delivery:
    return Delivery(
        id=uuid4(),
        tenant="t",
        correlation_id="d",
        state=State.TRANSFERRING,
        user="u",
        target="x",
        order={},
        origin_app=None,
        priority=1,
        requested_at=NOW,
        expires_at=NOW,
        attempt=1,
    )


class Queue:
    """Leases of what is put into it."""

    def __init__(self) -> None:
        self.due: list[Delivery] = []
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def claim(self, work: Work) -> Delivery | None:
        self.asked += 1
        await self.gate.wait()
        return self.due.pop(0) if self.due else None

    async def renew(self, delivery: Delivery) -> bool:
        return True

    async def holds(self, delivery: Delivery) -> bool:
        return True


class Working:
    """Notes what begins; it ends when told."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.wake = Signal()
        self.begun: list[Delivery] = []
        self.ended: list[tuple[Delivery, DeliveryError]] = []
        self.end = asyncio.Event()
        self.slots = Slots(
            kind=Work.TRANSFER,
            count=1,
            work=self._work,
            settle=self._settle,
            leases=cast("Leases", self.queue),
            wake=self.wake,
            interval=0.01,
            lease_ttl=30,
            grace=5,
        )

    async def _work(self, delivery: Delivery, _held: Held) -> None:
        self.begun.append(delivery)
        await self.end.wait()

    async def _settle(self, delivery: Delivery, error: DeliveryError) -> None:
        self.ended.append((delivery, error))


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_nothing_is_claimed_once_the_process_is_about_to_stop() -> None:
    working = Working()
    first, second = delivery(), delivery()
    working.queue.due = [first, second]
    await working.slots.start()
    await until(lambda: working.begun == [first])
    working.slots.stop_claiming()
    working.end.set()  # the slot is free
    asked = working.queue.asked
    working.wake.notify()
    await working.slots.stop()
    assert working.begun == [first]
    assert working.queue.asked == asked
    assert working.queue.due == [second]


async def test_what_was_just_claimed_then_is_given_back() -> None:
    working = Working()
    working.queue.due = [delivery()]
    working.queue.gate.clear()
    await working.slots.start()
    await until(lambda: working.queue.asked)
    working.slots.stop_claiming()
    working.queue.gate.set()
    await until(lambda: working.ended)
    await working.slots.stop()
    assert working.begun == []
    assert isinstance(working.ended[0][1], RetryableError)
