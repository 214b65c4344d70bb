"""Slots: what a worker begins, and when it begins nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from app.delivery.lease import Lease
from app.delivery.model import Delivery
from app.delivery.ports import Leases
from app.delivery.states import Work
from app.errors import (
    DeliveryError,
    LeaseLostError,
    PausedError,
    StoreUnavailableError,
    WorkerStoppedError,
)
from app.waiting.grace import Grace
from app.waiting.wakeup import Wakeup
from streams.work.slots import Slots
from tests.builders import make_lease, make_transfer


class Queue:
    """Leases of what is put into it."""

    def __init__(self) -> None:
        self.due: list[Delivery] = []
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.more = True  # may be due, as the last claim has seen
        self.held_back = False  # something that is due and not claimed
        self.looks = 0
        self.answer: bool | Exception = True

    async def claim(self, work: Work) -> Delivery | None:
        self.asked += 1
        await self.gate.wait()
        claimed = self.due.pop(0) if self.due else None
        self.more = claimed is None or bool(self.due) or self.held_back
        return claimed

    def sees_more(self, work: Work) -> bool:
        return self.more

    async def renew(self, delivery: Delivery) -> bool:
        return await self.holds(delivery)

    async def holds(self, delivery: Delivery) -> bool:
        self.looks += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Working:
    """Notes what begins; it ends when told."""

    def __init__(
        self,
        *,
        lease_ttl: float = 30,
        then: Callable[[Lease], object] = id,
        grace: Grace | None = None,
        interval: float = 0.01,
    ) -> None:
        self.then = then
        self.hands_over = False
        self.drained = False
        self.paused: WorkerStoppedError | None = None
        self.queue = Queue()
        self.wake = Wakeup()
        self.begun: list[Delivery] = []
        self.done: list[Delivery] = []
        self.ended: list[tuple[Delivery, DeliveryError]] = []
        self.end = asyncio.Event()
        self.slots = Slots(
            kind=Work.TRANSFER,
            count=1,
            work=self._work,
            settle=self._settle,
            leases=cast("Leases", self.queue),
            wake=self.wake,
            interval=interval,
            lease_ttl=lease_ttl,
            grace=grace or Grace(5),
            may_claim=lambda: not self.drained,
            stopped_by=lambda _work, _delivery: self.paused,
            check_interval=0.01,
        )

    async def _work(self, delivery: Delivery, held: Lease) -> None:
        self.begun.append(delivery)
        self.held = held
        self.then(held)
        if self.hands_over:  # as a transfer does, whatever has it stop
            await held.stopping.wait()
            raise WorkerStoppedError
        await self.end.wait()
        self.done.append(delivery)

    async def _settle(self, delivery: Delivery, error: DeliveryError) -> None:
        self.ended.append((delivery, error))


async def until(condition: object) -> None:
    async with asyncio.timeout(30):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_nothing_is_claimed_once_the_process_is_about_to_stop() -> None:
    working = Working()
    first, second = make_transfer(), make_transfer()
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


async def test_what_runs_is_told_at_once_that_the_process_stops_and_needs_no_grace_then() -> None:
    """The ways in may take longer to close than there is grace: meanwhile, it is handed over."""
    now = [0.0]
    working = Working(grace=Grace(60, clock=lambda: now[0]))
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.begun)
    working.slots.stop_claiming()
    assert working.held.stopping.is_set()
    working.end.set()  # as a transfer that is told so ends
    await until(lambda: working.done)
    now[0] = 72.0
    await working.slots.stop()
    assert working.done == working.begun
    assert working.ended == []


async def test_a_delivery_claimed_during_the_stop_is_given_back() -> None:
    working = Working()
    working.queue.due = [make_transfer()]
    working.queue.gate.clear()
    await working.slots.start()
    await until(lambda: working.queue.asked)
    working.slots.stop_claiming()
    working.queue.gate.set()
    await until(lambda: working.ended)
    await working.slots.stop()
    assert working.begun == []
    assert isinstance(working.ended[0][1], WorkerStoppedError)


async def test_silence_ends_work_when_its_lease_has_run_out() -> None:
    working = Working(lease_ttl=0.1)
    working.queue.answer = StoreUnavailableError("away")
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.ended)
    await working.slots.stop()
    assert isinstance(working.ended[0][1], LeaseLostError)
    assert working.done == []


async def test_silence_does_not_end_a_completion_but_a_clear_answer_does() -> None:
    working = Working(lease_ttl=0.1, then=Lease.completes)
    working.queue.answer = StoreUnavailableError("away")
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.begun and working.held.expired())
    looks = working.queue.looks
    await until(lambda: working.queue.looks > looks + 3)
    assert working.ended == []
    working.queue.answer = False
    await until(lambda: working.ended)
    await working.slots.stop()
    assert isinstance(working.ended[0][1], LeaseLostError)


async def test_a_finishing_transfer_is_not_ended_from_outside() -> None:
    """Its own last write makes the lease go."""
    working = Working(then=Lease.finishes)
    working.queue.answer = False
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.queue.looks > 3)
    working.end.set()
    await until(lambda: working.done)
    await working.slots.stop()
    assert working.ended == []


async def test_what_runs_is_told_of_a_stop_and_may_end_before_the_grace_does() -> None:
    working = Working()
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.begun)
    stopping = asyncio.create_task(working.slots.stop())
    await working.held.stopping.wait()
    working.end.set()
    await stopping
    assert working.done == working.begun
    assert working.ended == []


async def test_what_does_not_end_in_the_grace_is_handed_over() -> None:
    working = Working(grace=Grace(0))
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.begun)
    await working.slots.stop()
    assert working.done == []
    assert isinstance(working.ended[0][1], WorkerStoppedError)


async def test_all_that_runs_has_one_grace_which_begins_when_the_process_is_told_to_stop() -> None:
    """Whatever the ways in took to close, and other kinds of work to end."""
    now = [0.0]
    grace = Grace(60, clock=lambda: now[0])
    kinds = [Working(grace=grace), Working(grace=grace)]
    for working in kinds:
        working.queue.due = [make_transfer()]
        await working.slots.start()
        await until(lambda working=working: working.begun)
    for working in kinds:
        working.slots.stop_claiming()
    now[0] = 60.0
    for working in kinds:
        await working.slots.stop()
        assert isinstance(working.ended[0][1], WorkerStoppedError)


async def test_a_wait_ends_when_the_worker_stops() -> None:
    lease = make_lease()
    waiting = asyncio.create_task(lease.unless_stopping(asyncio.Event().wait()))
    await asyncio.sleep(0)
    lease.stopping.set()
    with pytest.raises(WorkerStoppedError):
        await waiting
    assert await make_lease().unless_stopping(asyncio.sleep(0, "done")) == "done"


async def test_a_worker_that_is_drained_claims_nothing_until_it_is_not() -> None:
    working = Working()
    working.drained = True
    first = make_transfer()
    working.queue.due = [first]
    await working.slots.start()
    working.wake.notify()
    await asyncio.sleep(0)
    assert working.queue.asked == 0
    working.drained = False
    working.wake.notify()
    await until(lambda: working.begun == [first])
    working.end.set()
    await working.slots.stop()


async def test_what_is_claimed_as_its_worker_is_drained_is_given_back() -> None:
    working = Working()
    working.queue.due = [make_transfer()]
    working.queue.gate.clear()
    await working.slots.start()
    await until(lambda: working.queue.asked)
    working.drained = True
    working.queue.gate.set()
    await until(lambda: working.ended)
    await working.slots.stop()
    assert working.begun == []
    assert str(working.ended[0][1]) == "the worker was drained"


async def test_what_is_paused_is_told_to_stop_and_settled_by_the_pause() -> None:
    working = Working()
    working.queue.due = [make_transfer()]
    working.hands_over = True
    await working.slots.start()
    await until(lambda: working.begun)
    working.paused = PausedError("transfers are paused")
    await until(lambda: working.ended)
    assert working.ended[0][1] is working.paused
    await working.slots.stop()


async def test_what_does_not_stop_for_a_pause_is_ended_when_its_grace_is_over() -> None:
    working = Working(grace=Grace(0))
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.begun)
    working.paused = PausedError("transfers are paused")
    await until(lambda: working.ended)
    assert working.ended[0][1] is working.paused
    assert working.done == []
    await working.slots.stop()


async def test_what_is_about_to_appear_is_not_ended_by_a_pause() -> None:
    working = Working(grace=Grace(0), then=lambda held: held.completes())
    working.queue.due = [make_transfer()]
    await working.slots.start()
    await until(lambda: working.begun)
    working.paused = PausedError("transfers are paused")
    await until(working.held.stopping.is_set)
    looks = working.queue.looks
    await until(lambda: working.queue.looks > looks + 2)
    assert working.ended == []
    working.end.set()
    await until(lambda: working.done)
    await working.slots.stop()
    assert working.ended == []


async def turns() -> None:
    for _ in range(50):  # enough for a claim that is not waited for
        await asyncio.sleep(0)


async def test_no_claim_follows_one_that_saw_nothing_else_due_until_something_wakes() -> None:
    working = Working(interval=60)
    first, second = make_transfer(), make_transfer()
    working.queue.due = [first]
    await working.slots.start()
    await until(lambda: working.begun == [first])
    working.end.set()
    await until(lambda: working.done == [first])
    await turns()
    assert working.queue.asked == 1
    working.queue.due = [second]
    working.wake.notify()
    await until(lambda: working.done == [first, second])
    assert working.queue.asked == 2
    await working.slots.stop()


async def test_what_wakes_while_all_slots_are_taken_is_claimed_for_when_one_is_free() -> None:
    working = Working(interval=60)
    first, second = make_transfer(), make_transfer()
    working.queue.due = [first]
    await working.slots.start()
    await until(lambda: working.begun == [first])
    working.queue.due = [second]
    working.wake.notify()
    await turns()
    assert working.queue.asked == 1
    working.end.set()
    await until(lambda: working.done == [first, second])
    await working.slots.stop()


async def test_what_wakes_while_it_is_claimed_is_not_missed() -> None:
    working = Working(interval=60)
    working.end.set()
    working.queue.due = [make_transfer()]
    working.queue.gate.clear()
    await working.slots.start()
    await until(lambda: working.queue.asked)
    working.wake.notify()
    working.queue.gate.set()
    await until(lambda: working.queue.asked == 2)
    await working.slots.stop()


async def test_what_is_let_go_may_be_claimed_again_at_once() -> None:
    working = Working(interval=60)
    first = make_transfer()
    working.queue.due = [first]
    working.hands_over = True
    await working.slots.start()
    await until(lambda: working.begun)
    working.queue.due = [first]
    working.hands_over = False
    working.held.stop(PausedError("paused, and over at once"))
    await until(lambda: len(working.begun) == 2)
    working.end.set()
    await working.slots.stop()
    assert len(working.ended) == 1


async def test_what_is_held_back_is_claimed_for_when_a_slot_is_free() -> None:
    """Its tenant may have as many under way as it may: until one of them ends."""
    working = Working(interval=60)
    working.queue.held_back = True
    first, second = make_transfer(), make_transfer()
    working.queue.due = [first]
    await working.slots.start()
    await until(lambda: working.begun == [first])
    working.queue.due = [second]
    working.end.set()
    await until(lambda: working.done == [first, second])
    await working.slots.stop()
