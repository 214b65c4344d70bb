"""What memory the listings of orders are read in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from app.delivery.manifest import ListedFile
from app.errors import OrderTooLargeError, RetryableError
from app.usecases.laying_out import MEMORY_A_FILE, Room
from sinks.pipeline.budget import Budget
from tests.builders import make_delivery, make_listed

ORDERED = replace(make_delivery(), order_id=7)


async def listed(count: int, *, told: bool = False) -> AsyncIterator[ListedFile]:
    """Iterate over so many files; whether their pages tell how many they are."""
    for number in range(count):
        yield make_listed("f", file_id=number, listed=count if told else None)


class Held:
    """Memory that is there for any who ask, and how much of it was asked for each time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        self.asked.append(size // MEMORY_A_FILE)
        yield

    def room(self, files: int, *, grows: bool) -> Room:
        memory = files * MEMORY_A_FILE
        return Room(memory=memory, reserve=self.reserve, most_files=1_000_000, grows=grows)


async def read(room: Room, files: AsyncIterator[ListedFile], *, behind: int = 0) -> int:
    """Read a listing; return how many files it has."""
    async with AsyncExitStack() as stack:
        listing = await room.read(ORDERED, files, stack, behind=behind)
        return sum(1 for _ in listing)


async def test_who_never_waits_for_memory_asks_for_no_more_than_twice_what_a_list_needs() -> None:
    """All of a worker's memory is never free for one who has some already."""
    held = Held()
    assert await read(held.room(100_000, grows=True), listed(20_001)) == 20_001
    assert held.asked == [10_000, 10_000, 20_000]
    held = Held()
    assert await read(held.room(12_000, grows=True), listed(5_500), behind=5_000) == 5_500
    assert held.asked == [10_000, 2_000], "there is no more"


async def test_who_waits_for_memory_asks_for_it_once() -> None:
    held = Held()
    assert await read(held.room(100_000, grows=False), listed(20_001)) == 20_001
    assert held.asked == [100_000]
    held = Held()
    assert await read(held.room(100_000, grows=False), listed(20_001, told=True)) == 20_001
    assert held.asked == [20_001]


@pytest.mark.parametrize("told", [True, False])
async def test_a_list_that_never_fits_beside_its_transfer_is_refused_in_words(
    *, told: bool
) -> None:
    """It would be tried again until the delivery expires."""
    memory = 10_000 * MEMORY_A_FILE
    room = Room(
        memory=memory, reserve=Budget(memory).reserve_at_once, most_files=10**6, grows=True
    ).beside(memory // 2)
    assert await read(room, listed(1_000, told=told), behind=4_000) == 1_000
    with pytest.raises(OrderTooLargeError) as refused:
        await read(room, listed(1_001, told=told), behind=4_000)
    assert str(refused.value) == (
        "order 7 holds 5001 files or more, and a worker has memory for 5000 beside the "
        f"{memory // 2} bytes of its transfer: order less at once, or raise DELIVERY_WORKER_MEMORY "
        f"to {memory // 2 + 5001 * MEMORY_A_FILE} or more"
    )


async def test_memory_that_others_have_is_asked_for_again() -> None:
    memory = Budget(10_000 * MEMORY_A_FILE)
    room = Room(memory=memory.size, reserve=memory.reserve_at_once, most_files=10**6, grows=True)
    async with memory.reserve(1):
        with pytest.raises(RetryableError, match="others hold them; it is tried again"):
            await read(room, listed(10_000, told=True))
    assert await read(room, listed(10_000, told=True)) == 10_000
