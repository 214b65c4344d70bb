"""Events side by side: in order within a key, fair between tenants, acknowledged without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.kafka.dispatch import Dispatcher, PendingEvent


class Handling:
    """Handles an event when told to; notes when each began."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.gates: dict[bytes, asyncio.Event] = {}
        self.news = asyncio.Event()

    async def __call__(self, batch: Sequence[PendingEvent]) -> None:
        (one,) = batch
        gate = self.gates[one.value] = asyncio.Event()
        self.began.append(one.value)
        self.news.set()
        await gate.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.news.clear()
                await self.news.wait()


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def event(key: str, value: str, acked: list[bytes], partition: int = 0) -> PendingEvent:
    pending = PendingEvent(
        key=key.encode(),
        value=value.encode(),
        partition=partition,
        acknowledge=lambda: acked.append(pending.value),
    )
    return pending


async def test_events_of_one_key_are_handled_one_after_the_other() -> None:
    handling, acked = Handling(), list[bytes]()
    dispatcher = Dispatcher(handling, concurrency=3)
    async with dispatcher.running():
        for value in ("1", "2"):
            await dispatcher.put(event("t/a", value, acked))
        await dispatcher.put(event("t/b", "other", acked))
        await handling.until(lambda: len(handling.began) == 2)
        assert handling.began == [b"1", b"other"]
        handling.gates[b"1"].set()
        await handling.until(lambda: b"2" in handling.began)


async def test_an_event_is_acknowledged_only_after_all_before_it_in_its_partition() -> None:
    handling, acked = Handling(), list[bytes]()
    dispatcher = Dispatcher(handling, concurrency=4)
    async with dispatcher.running():
        for number in range(3):
            await dispatcher.put(event(f"t/{number}", f"{number}", acked))
        await dispatcher.put(event("t/x", "elsewhere", acked, partition=1))
        await handling.until(lambda: len(handling.began) == 4)
        for value in (b"1", b"2", b"elsewhere"):
            handling.gates[value].set()
        await settled()
        assert acked == [b"elsewhere"]
        handling.gates[b"0"].set()
        await settled()
        assert acked == [b"elsewhere", b"0", b"1", b"2"]


async def test_a_burst_of_one_tenant_does_not_hold_up_another() -> None:
    handling, acked = Handling(), list[bytes]()
    dispatcher = Dispatcher(handling, concurrency=1)
    async with dispatcher.running():
        for number in range(100):
            await dispatcher.put(event(f"busy/{number}", f"busy-{number}", acked))
        await dispatcher.put(event("quiet/0", "quiet", acked))
        await handling.until(lambda: len(handling.began) == 1)
        handling.gates[b"busy-0"].set()
        await handling.until(lambda: len(handling.began) == 2)
        handling.gates[handling.began[1]].set()
        await handling.until(lambda: len(handling.began) == 3)
        assert b"quiet" in handling.began


@pytest.mark.parametrize("limit", [{"most_events": 2}, {"most_bytes": 3}])
async def test_reading_waits_while_too_much_is_in_memory(limit: dict[str, int]) -> None:
    handling, acked = Handling(), list[bytes]()
    dispatcher = Dispatcher(handling, concurrency=1, **limit)
    async with dispatcher.running():
        await dispatcher.put(event("t/a", "aa", acked))
        second = asyncio.create_task(dispatcher.put(event("t/b", "bb", acked)))
        await settled()
        assert not second.done()
        handling.gates[b"aa"].set()
        await second


@pytest.mark.parametrize("limit", [{"most_events": 2}, {"most_bytes": 3}])
async def test_what_is_done_behind_an_event_that_is_not_is_in_memory_as_well(
    limit: dict[str, int],
) -> None:
    """It is acknowledged after that one, and kept until then."""
    handling, acked = Handling(), list[bytes]()
    dispatcher = Dispatcher(handling, concurrency=2, **limit)
    async with dispatcher.running():
        await dispatcher.put(event("t/a", "aa", acked))
        second = asyncio.create_task(dispatcher.put(event("t/b", "bb", acked)))
        await handling.until(lambda: len(handling.began) == 2)
        handling.gates[b"bb"].set()
        await settled()
        assert acked == []
        assert not second.done()
        handling.gates[b"aa"].set()
        await second
        assert acked == [b"aa", b"bb"]


async def test_an_event_being_handled_at_the_end_is_not_acknowledged() -> None:
    handling, acked = Handling(), list[bytes]()
    dispatcher = Dispatcher(handling, concurrency=1)
    async with dispatcher.running():
        await dispatcher.put(event("t/a", "1", acked))
        await handling.until(lambda: bool(handling.began))
    assert acked == []


async def test_a_handler_that_raises_ends_the_reading() -> None:
    async def broken(_batch: Sequence[PendingEvent]) -> None:
        raise KeyError

    dispatcher = Dispatcher(broken, concurrency=1)
    with pytest.raises(ExceptionGroup):
        async with dispatcher.running():
            await dispatcher.put(event("t/a", "1", []))
            await asyncio.Event().wait()


async def test_a_dispatcher_that_ended_holds_nothing() -> None:
    """Else a partition whose agent is gone would never count as stuck."""

    async def broken(_batch: Sequence[PendingEvent]) -> None:
        raise KeyError

    dispatcher = Dispatcher(broken, concurrency=1)
    with pytest.raises(ExceptionGroup):
        async with dispatcher.running():
            await dispatcher.put(event("t/a", "1", []))
            assert dispatcher.holds(0)
            await asyncio.Event().wait()
    assert not dispatcher.holds(0)


@given(
    keys=st.lists(st.sampled_from(["a/1", "a/2", "b/1", "c/1", "c/2"]), max_size=30),
    concurrency=st.integers(1, 5),
    batch=st.integers(1, 4),
)
@example(keys=["a/1"] * 5 + ["b/1"], concurrency=2, batch=1)
async def test_every_event_is_handled_once_in_the_order_of_its_key(
    keys: list[str], concurrency: int, batch: int
) -> None:
    handled: dict[bytes, list[int]] = {}
    acked: list[bytes] = []
    every = asyncio.Event()

    async def handle(events: Sequence[PendingEvent]) -> None:
        assert len({event.key for event in events}) == len(events) <= batch
        for _ in range(int(events[0].value) % 3):
            await asyncio.sleep(0)
        for event in events:
            handled.setdefault(event.key, []).append(int(event.value))
        if sum(map(len, handled.values())) == len(keys):
            every.set()

    dispatcher = Dispatcher(handle, concurrency=concurrency, batch=batch)
    async with dispatcher.running():
        for number, key in enumerate(keys):
            await dispatcher.put(event(key, str(number), acked))
        if keys:
            await every.wait()
        await settled()
    assert handled == {
        key.encode(): [n for n, k in enumerate(keys) if k == key] for key in set(keys)
    }
    assert acked == [str(number).encode() for number in range(len(keys))]
