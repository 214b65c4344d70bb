"""Faust's transport over aiokafka, where two of its constants cost too much.

And where it trusts too much: offsets outlive what they count. Brokers that lost a topic may still
be told by a reader how far it was, and that is then where the group goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Iterable, Mapping
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from mode.threads import ServiceThread, WorkerThread
from mode.utils.futures import notify

from app.telemetry.logs import get_logger
from streams.kafka.ends import beyond_end

log = get_logger(__name__)

_THREAD_CHECK_INTERVAL = 0.02  # seconds


class QuickHandOver:
    """Hands a message to its stream without a task, as long as the stream has room."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 - mode's
        """Faust's, but only when there is something to wait for.

        It is called for each message, with what hands it to its stream: four tasks and some
        turns of the loop, to wait for what is done at once unless the stream's buffer is full.
        Under load, a turn of the loop is long.
        """
        if timeout is None and len(coros) == 2 and all(map(asyncio.iscoroutine, coros)):
            handing_over, suspended = coros
            try:
                future = handing_over.send(None)
            except StopIteration:
                suspended.close()
                return None
            except BaseException:
                suspended.close()
                raise
            coros = (_go_on(handing_over, future), suspended)
        return await super().wait_first(*coros, timeout=timeout)  # type: ignore[misc]


async def _go_on(coroutine: Any, future: Any) -> Any:
    return await _resumed(coroutine, future)


@types.coroutine
def _resumed(coroutine: Any, future: Any) -> Any:
    """Go on with a coroutine that has begun, and waits for this future (or for its next turn)."""
    try:
        yield future
    except BaseException as error:
        coroutine.throw(error)
        raise
    return (yield from coroutine)


async def seek_to_committed(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int | None]:
    """Go on where the group was; at the beginning where that is beyond the end, or it was nowhere.

    Beyond the end, nothing would be read until the log is as long again: what was appended to it
    since, below, never. And aiokafka seeks nowhere in a partition that nothing was committed of:
    what it has read there, and Faust has dropped in a rebalance, would be passed over. To read an
    event twice changes nothing. Returns the offsets.
    """
    committed: dict[TopicPartition, int | None] = await consumer.seek_to_committed()
    new = [partition for partition, offset in committed.items() if not offset]
    if new:
        for partition, offset in (await consumer.beginning_offsets(new)).items():
            consumer.seek(partition, offset)
    far = {partition: offset for partition, offset in committed.items() if offset}
    beyond = await beyond_end(consumer, far, await consumer.end_offsets(list(far)) if far else {})
    if beyond:
        await _seek_to_beginning(consumer, beyond)
        log.warning(
            "events_read_from_beginning",
            partitions=sorted(f"{partition.topic}/{partition.partition}" for partition in beyond),
            cause="the group is beyond their end; Kafka has lost what was there",
        )
    return {tp: None if tp in beyond else offset for tp, offset in committed.items()}


async def _seek_to_beginning(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> None:
    beginnings: Mapping[TopicPartition, int] = await consumer.beginning_offsets(list(partitions))
    for partition, offset in beginnings.items():
        consumer.seek(partition, offset)
    try:
        await consumer.commit(dict(beginnings))
    except KafkaError as error:
        log.warning("offsets_not_corrected", cause=repr(error))  # the next reader tries again


class _LeftBehind(WorkerThread):
    """A thread that need not end before its process may."""

    def __init__(self, service: ServiceThread, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True


class OwnThread(ServiceThread):
    """A service in a thread that can be stopped at any time, and keeps no process alive.

    mode stops only what its thread has begun to start, and waits for the thread's end in the loop
    of the others, who stand still meanwhile: while Kafka is silent, or for ever. What it is in the
    middle of starting, it lets come to its end: a broker that is silent has a minute and a half.
    """

    abstract = True
    Worker = _LeftBehind
    _starting: asyncio.Task[Any] | None = None  # in its thread, until it has started

    async def stop(self) -> None:
        """Return when its thread has ended."""
        thread = self._thread
        if thread is None or thread.is_stopped.is_set():
            return
        await super(ServiceThread, self).stop()
        while not thread.is_stopped.is_set():  # noqa: ASYNC110 - it is of threads
            await asyncio.sleep(_THREAD_CHECK_INTERVAL)

    def _start_thread(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # its start was given up
            super()._start_thread()

    async def _serve(self) -> None:
        try:
            if self.should_stop:
                await self._shutdown_thread()
            else:
                self._starting = asyncio.current_task()
                await super()._serve()
        finally:  # whatever waits for its start, and would wait for ever where it was given up
            self.parent_loop.call_soon_threadsafe(notify, self._thread_running)

    async def on_thread_started(self) -> None:
        """From now on, it ends by what it waits for itself."""
        self._starting = None
        await super().on_thread_started()

    def _stopped_set(self) -> None:
        self.thread_loop.call_soon_threadsafe(self._stop_in_thread)

    def _stop_in_thread(self) -> None:
        self._stopped.set()
        if self._starting is not None:
            self._starting.cancel()


class _ConsumerThread(OwnThread, driver.AIOKafkaConsumerThread):
    """Faust's, with the wait of a fetch as a setting: 1.5 s is built in there.

    Some brokers don't cut that wait short when data arrives, so it is paid at each hop.
    """

    async def seek_to_committed(self) -> Any:
        """Seek in this thread, with a look at the ends."""
        return await self.call_thread(seek_to_committed, self._ensure_consumer())

    def close(self) -> None:
        """Close nothing here: its own thread closes the client, and leaves the group, as it stops.

        Faust calls this where partitions are assigned or revoked while its app stops, and closes
        the client in the app's loop. The thread may be closing it then, too: connections of
        asyncio are not for two threads, and both fail. Where the thread comes second it finds
        that all is closed, and the group waits for a member that has not left it.
        """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = cast("Any", self.app).fetch_max_wait_ms  # noqa: SLF001 - no other way in
        return consumer


class OwnAcknowledgements:
    """Takes acknowledgements of events that were read since partitions were assigned.

    An earlier one counts for nothing: what was read, and not acknowledged by then, is read again,
    if it is still there.
    """

    _unacked_messages: Any  # Faust's: messages that were handed to streams

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget what was handed out."""
        self._unacked_messages.clear()  # in place: what hands messages out has a reference
        await super().on_partitions_revoked(revoked)  # type: ignore[misc]

    def ack(self, message: Any) -> bool:
        """Take one, unless it is of before."""
        if message not in self._unacked_messages:
            return False
        return bool(super().ack(message))  # type: ignore[misc]


class _Consumer(OwnAcknowledgements, QuickHandOver, driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Look for no standstill here: `streams.kafka.standstill` does, and the supervisor.

        Faust's own look takes the first event of a partition that was quiet for five minutes for
        one, if it comes while that event is being read, and logs it as an error.
        """


class Transport(driver.Transport):
    """Faust's, with those changes."""

    Consumer = _Consumer
