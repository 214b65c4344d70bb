"""Our changes to Faust's consumer: how it hands messages on, what it trusts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError
from faust.types import TP
from mode import Service

from streams.kafka import faust_transport
from streams.kafka.ends import beyond_end
from streams.kafka.faust_app import DeliveryApp
from streams.kafka.faust_transport import (
    OwnAcknowledgements,
    OwnThread,
    QuickHandOver,
    _ConsumerThread,
    seek_to_committed,
)


class Consumer(QuickHandOver, Service):
    """Only what `wait_first` needs."""


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


async def test_a_message_that_fits_is_handed_over_at_once(consumer: Consumer) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    await consumer.wait_first(queue.put(1), asyncio.Event().wait())
    assert queue.get_nowait() == 1


async def test_a_message_waits_until_its_stream_has_room(consumer: Consumer) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(0)
    waiting = asyncio.create_task(consumer.wait_first(queue.put(1), asyncio.Event().wait()))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert queue.get_nowait() == 0
    await waiting
    assert queue.get_nowait() == 1


async def test_waiting_ends_when_the_flow_is_suspended(consumer: Consumer) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(0)
    suspended = asyncio.Event()
    waiting = asyncio.create_task(consumer.wait_first(queue.put(1), suspended.wait()))
    await asyncio.sleep(0)
    suspended.set()
    await waiting
    assert queue.get_nowait() == 0
    await asyncio.sleep(0)
    assert queue.empty()


async def test_an_error_in_the_hand_over_is_raised(consumer: Consumer) -> None:
    async def broken(*, waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError

    for waits in (False, True):
        with pytest.raises(KeyError):
            await consumer.wait_first(broken(waits=waits), asyncio.Event().wait())


class FaustConsumer:
    """What Faust's does with acknowledgements, as far as it matters here."""

    def __init__(self) -> None:
        self._unacked_messages: Any = WeakSet()
        self.acknowledged: list[object] = []

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Nothing else."""

    def ack(self, message: object) -> bool:
        self.acknowledged.append(message)
        return True


class Trusting(OwnAcknowledgements, FaustConsumer):
    """Ours on top of it."""


class Message:
    """Something that was read."""


async def test_an_event_read_before_a_rebalance_is_not_acknowledged_after_it() -> None:
    """The topic may have been made again: that offset of the old one must not be committed."""
    consumer = Trusting()
    before, after = Message(), Message()
    consumer._unacked_messages.add(before)
    await consumer.on_partitions_revoked(set())
    consumer._unacked_messages.add(after)
    assert not consumer.ack(before)
    assert consumer.ack(after)
    assert consumer.acknowledged == [after]


HERE, ELSEWHERE = TopicPartition("t", 0), TopicPartition("t", 1)


class Kafka:
    """A consumer of two partitions that begin at 2."""

    def __init__(
        self,
        committed: dict[TopicPartition, int | None],
        ends: dict[TopicPartition, int],
        *,
        told: dict[TopicPartition, int] | None = None,
    ) -> None:
        self.committed = committed
        self.ends = ends
        self.told = told or ends  # of the ends
        self.positions: dict[TopicPartition, int] = {}
        self.refuses = False

    async def seek_to_committed(self) -> dict[TopicPartition, int | None]:
        return self.committed

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.told[partition] for partition in partitions}

    async def beginning_offsets(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 2)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[SimpleNamespace]]:
        """Answer at once with what is there; what was out of range, from the beginning."""
        await asyncio.sleep(0)
        at = {partition: self.positions[partition] for partition in partitions}
        return {
            partition: [SimpleNamespace(offset=offset if offset < self.ends[partition] else 2)]
            for partition, offset in at.items()
        }

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        if self.refuses:
            raise CommitFailedError
        self.committed = {**self.committed, **offsets}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_transport, "beyond_end", partial(beyond_end, patience=0.01))


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_group_that_is_beyond_the_end_goes_on_at_the_beginning(refuses: bool) -> None:
    kafka = Kafka({HERE: 9, ELSEWHERE: 5}, {HERE: 8, ELSEWHERE: 5})
    kafka.refuses = refuses
    assert await seek_to_committed(kafka) == {HERE: None, ELSEWHERE: 5}
    assert kafka.positions == {HERE: 2}
    assert kafka.committed == {HERE: 9 if refuses else 2, ELSEWHERE: 5}


async def test_a_broker_that_tells_its_end_too_low_is_not_believed() -> None:
    kafka = Kafka({HERE: 9}, {HERE: 9}, told={HERE: 7})
    assert await seek_to_committed(kafka) == {HERE: 9}
    assert kafka.positions == {HERE: 9}


async def test_a_group_that_has_committed_nothing_begins_at_the_beginning() -> None:
    """Whatever was read of it before, and dropped in a rebalance."""
    kafka = Kafka({HERE: None, ELSEWHERE: 0}, {})
    kafka.positions = {HERE: 7, ELSEWHERE: 7}
    assert await seek_to_committed(kafka) == {HERE: None, ELSEWHERE: 0}
    assert kafka.positions == {HERE: 2, ELSEWHERE: 2}


class Beginning(OwnThread):
    """A service whose thread begins when it is let, and then waits for an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def _start_thread(self) -> None:
        self.let.wait()
        super()._start_thread()

    async def on_start(self) -> None:
        await asyncio.Event().wait()


class Stuck(Beginning):
    """One whose loop stands still: nothing that it is told is heard."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = threading.Event()

    async def on_start(self) -> None:
        self.answer.wait()


async def cancelled(service: Beginning) -> threading.Thread:
    """Begin to start the service, and give it up; return its thread."""
    starting = asyncio.create_task(service.start())
    await asyncio.sleep(0)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    assert service._thread is not None
    return service._thread


async def test_a_thread_that_was_given_up_before_it_began_ends() -> None:
    service = Beginning()
    thread = await cancelled(service)
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    service.let.set()
    async with asyncio.timeout(30):
        await stopping
    thread.join(30)
    assert not thread.is_alive()


async def test_a_thread_that_waits_while_it_starts_ends_when_it_is_stopped() -> None:
    service = Beginning()
    service.let.set()
    starting = asyncio.create_task(service.start())
    async with asyncio.timeout(30):
        while not service.started:
            await asyncio.sleep(0.01)
        await service.stop()
        await starting
    assert service._thread is not None
    service._thread.join(30)
    assert not service._thread.is_alive()


async def test_a_thread_that_does_not_end_keeps_neither_the_loop_nor_its_process() -> None:
    service = Stuck()
    service.let.set()
    thread = await cancelled(service)
    async with asyncio.timeout(30):
        while not service.started:
            await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await service.stop()
    assert thread.is_alive()
    assert thread.daemon  # Python ends without it
    service.answer.set()
    async with asyncio.timeout(30):
        while thread.is_alive():
            await asyncio.sleep(0.01)


class ClosedBy:
    """A client of Kafka that notes in which thread it is closed."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self._client = SimpleNamespace(close=self.stop)
        self._coordinator = SimpleNamespace(close=self.stop)

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        self.threads.append(threading.current_thread())


async def test_a_client_is_closed_by_its_own_thread_although_its_group_moves_while_it_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = ClosedBy()
    monkeypatch.setattr(_ConsumerThread, "_create_consumer", lambda *_args, **_options: kafka)
    app = DeliveryApp("of-this-test", broker="kafka://127.0.0.1:1", store="memory://")
    consumer: Any = app.consumer
    thread = consumer._thread
    async with asyncio.timeout(30):
        await thread.start()
        own = thread._thread
        app._stopped.set()
        await app._on_partitions_revoked(set())
        await app._on_partitions_assigned(set())
        await thread.stop()
    assert kafka.threads == [own]


async def test_the_first_event_of_a_partition_that_was_long_quiet_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Faust takes it for a standstill: there is an event, and none was handled since the start."""
    kafka = ClosedBy()
    monkeypatch.setattr(_ConsumerThread, "_create_consumer", lambda *_args, **_options: kafka)
    app = DeliveryApp("of-this-test", broker="kafka://127.0.0.1:1", store="memory://")
    consumer: Any = app.consumer
    first = TP("delivery.orders-ready", 5)
    at = SimpleNamespace(highwater=1, position=0, timestamp=3_600_000)  # read this moment
    assignment = SimpleNamespace(active=True, state_value=lambda _partition: at)
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    thread = consumer._thread
    thread._consumer = SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscriptions))
    thread.time_started = 0.0
    monkeypatch.setattr(app.topics, "acks_enabled_for", lambda _topic: True)
    try:
        consumer.verify_event_path(3_600.0, first)
    finally:
        thread.thread_loop.close()
    assert caplog.records == []
