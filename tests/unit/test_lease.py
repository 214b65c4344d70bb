"""A lease and its slot, by a clock that is given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from app.delivery.lease import Lease
from app.waiting.places import Places


class Worker:
    """A worker with one slot, which a piece of work has."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting = 0  # pieces of the work that have given the slot up
        self.places = Places(1, changed=lambda: None)
        assert self.places.take()
        self.lease = Lease(30, self.places, clock=lambda: self.now, waits=self._waits)

    @contextlib.contextmanager
    def _waits(self) -> Iterator[None]:
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


@pytest.fixture
def worker() -> Worker:
    """A worker that has just begun."""
    return Worker()


def test_the_last_of_its_time_is_not_used_to_complete(worker: Worker) -> None:
    for now, safe, expired in ((23.9, True, False), (24.0, False, False), (30.0, False, True)):
        worker.now = now
        assert (worker.lease.safe_to_complete(), worker.lease.expired()) == (safe, expired)


def test_a_renewal_counts_from_when_it_was_asked_for(worker: Worker) -> None:
    worker.now = 12.0  # when it was answered
    worker.lease.renewed(10.0)
    worker.now = 39.9
    assert not worker.lease.expired()
    worker.now = 40.0
    assert worker.lease.expired()


async def test_work_that_steps_aside_leaves_its_slot_and_waits_for_one(worker: Worker) -> None:
    async with worker.lease.aside():
        assert worker.waiting == 1
        assert worker.places.take()  # other work begins
        coming = asyncio.create_task(worker.lease.come_back())
        await asyncio.sleep(0)
        assert not coming.done()
        worker.places.leave()
        await coming
    assert (worker.waiting, worker.places.taken) == (0, 1)


async def test_of_several_parts_aside_the_last_one_comes_back(worker: Worker) -> None:
    async with worker.lease.aside():
        async with worker.lease.aside():
            assert worker.waiting == 2
        assert worker.places.taken == 0
    assert worker.places.taken == 1


async def test_an_error_ends_the_work_without_a_slot(worker: Worker) -> None:
    with contextlib.suppress(KeyError):
        async with worker.lease.aside():
            assert worker.places.take()
            raise KeyError
    assert worker.waiting == 0
    worker.lease.leave()  # as its end does: the slot is the other work's
    assert worker.places.taken == 1


async def test_nothing_new_begins_while_work_waits_that_must_come_back(worker: Worker) -> None:
    async with worker.lease.aside(claims=False):
        assert not worker.places.take()
    worker.lease.leave()
    assert worker.places.take()


async def test_a_slot_is_left_and_taken_once_however_often_it_is_asked(worker: Worker) -> None:
    worker.lease.leave()
    worker.lease.leave()
    assert worker.places.taken == 0
    await asyncio.gather(worker.lease.come_back(), worker.lease.come_back())
    assert worker.places.taken == 1
