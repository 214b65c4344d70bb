"""Keeps the agents reading: a Faust app that crashed or reads no more is replaced by a new one.

Known of Faust: after an outage of the brokers, or when topics were made again, its consumer may
live on and read nothing. So topics that are missing are made here, and what it should have read is
compared with what was handled. Transfers run beside it and go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from app.errors import BrokerUnavailableError, DeliveryError, NotReachableError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import CONSUMER_LAG, CONSUMER_RESTARTS
from app.waiting.backoff import Backoff
from streams.kafka.brokers import cause_of
from streams.kafka.faust_app import DeliveryApp
from streams.kafka.lag import ConsumerLag, GroupLag
from streams.kafka.standstill import Standstills

log = get_logger(__name__)

CHECKS_UNTIL_STUCK = 6  # in the time after which a partition counts as stuck
_CHECKS_UNTIL_TOLD = 2  # until it is told that a partition stands still, this worker's or not
_START_TIMEOUT = 30.0  # seconds, or that of some rebalances if that is more: it waits for one
_REBALANCES = 3  # one that others are in, its own, and what they take beside their time
_STOP_TIMEOUT = 30.0  # seconds
_LEAVE_TIMEOUT = 5.0  # seconds for the rest of an app, when a part of it does not stop
_BACKOFF = Backoff(first=1.0, longest=30.0)  # between attempts to start


class Consumer(Service):
    """Runs a Faust app; makes another when that one crashes, or is stuck for `stuck_after` seconds.

    Its start does not wait for the group: `check` and the log tell when events are read. A group
    that has not let it in after three times `rebalance_timeout` seconds is asked again.
    A part of an app that does not stop is left behind, to end when Kafka lets it. When an app can't
    even be left, this service crashes, and with it the process: its supervisor starts it again.
    """

    def __init__(
        self,
        *,
        make: Callable[[], DeliveryApp],
        lag: ConsumerLag,
        make_topics: Callable[[], Awaitable[object]],
        stuck_after: float,
        rebalance_timeout: float,
        start_timeout: float = _START_TIMEOUT,
        stop_timeout: float = _STOP_TIMEOUT,
        leave_timeout: float = _LEAVE_TIMEOUT,
    ) -> None:
        super().__init__()
        self._make = make
        self._lag = lag
        self._make_topics = make_topics
        self._stuck_after = stuck_after
        # One that waits for its group for ever is no better than one that is stuck.
        self._start_timeout = max(start_timeout, _REBALANCES * rebalance_timeout)
        self._stop_timeouts = stop_timeout, leave_timeout
        self._app = make()
        # What was committed of a partition, and when it was last as it should be.
        self._seen: dict[TopicPartition, tuple[int, float]] = {}
        told_after = stuck_after * _CHECKS_UNTIL_TOLD / CHECKS_UNTIL_STUCK
        self._standstills = Standstills(told_after, self._whose)
        self._joined = False
        self._trouble: str | None = None

    async def on_shutdown(self) -> None:
        """Stop the app; by now, no other one is about to take its place."""
        await self._stop_app()

    async def check(self) -> None:
        """Raise BrokerUnavailableError unless agents read."""
        if self._trouble is not None:
            raise BrokerUnavailableError(
                f"events are not read: {self._trouble}; a new consumer is being started"
            )
        if not self._joined:
            raise BrokerUnavailableError(
                "events are not read yet: this worker joins its consumer group; what arrives "
                "meanwhile is kept"
            )

    async def _join(self) -> None:
        """Start the first app: it returns when the group has given it partitions.

        That takes seconds, so no caller waits for it. What it raises ends the process:
        NotReachableError.
        """
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._app.start()
        except KafkaError as error:
            raise NotReachableError(
                f"Kafka went away while this process started ({cause_of(error)}); start it again"
            ) from error
        except TimeoutError:
            await self._replace(await self._silence())
        if not self.should_stop:
            self._joined = True
            log.info("consumer_ready")

    async def _silence(self) -> str:
        """Return why the group may be silent: a consumer that may not join waits, too."""
        silent = "the consumer group does not answer"
        try:
            await self._measure()
        except DeliveryError as error:
            return f"{silent}: {error}"
        return silent

    async def _measure(self) -> GroupLag:
        """Return where the group is; topics that are missing are made, for the next time.

        Raises BrokerUnavailableError, and ConfigurationError when they can't be made.
        """
        lag = await self._lag.measure()
        if lag.missing:
            log.warning("topics_missing", topics=sorted(lag.missing))
            await self._make_topics()
        return lag

    @Service.task
    async def _watch(self) -> None:
        await self._join()
        while not self.should_stop:
            await self.sleep(self._stuck_after / CHECKS_UNTIL_STUCK)
            if self._app.crashed:
                await self._replace(f"the Faust app crashed: {self._app.crash_reason!r}")
                continue
            try:
                lag = await self._measure()
            except DeliveryError as error:
                log.warning("lag_unknown", cause=str(error))
                self._seen.clear()
                self._standstills.forget()
                continue
            if lag.unread:
                # Where this app is in them says nothing of those that were made.
                await self._replace(f"topics were missing: {', '.join(lag.unread)}")
                continue
            _count(lag.behind)
            self._standstills.look(lag.behind)
            stuck = self._stuck(lag.behind)
            if stuck:
                await self._replace(f"stuck: {', '.join(stuck)}")

    def _stuck(self, lags: Mapping[TopicPartition, tuple[int, int]]) -> list[str]:
        """Name the partitions that should have moved and have not, for too long.

        One whose group is beyond its end is one of them: nothing in it will be read.
        """
        now = time.monotonic()
        stuck = []
        for partition, (committed, end) in lags.items():
            before, since = self._seen.get(partition, (committed, now))
            if committed == end or committed != before or self._holds(partition):
                since = now
            self._seen[partition] = committed, since
            if now - since >= self._stuck_after:
                stuck.append(f"{partition.topic}/{partition.partition} at {committed} of {end}")
        return stuck

    def _holds(self, partition: TopicPartition) -> bool:
        """Whether it is not the consumer's turn: events were read and are being handled.

        Or another worker reads this partition.
        """
        return self._handles(partition) or self._is_anothers(partition)

    def _handles(self, partition: TopicPartition) -> bool:
        return any(dispatcher.holds(partition) for dispatcher in self._app.dispatchers)

    def _is_anothers(self, partition: TopicPartition) -> bool:
        assigned = self._app.consumer.assignment()
        return bool(assigned) and partition not in assigned

    def _whose(self, partition: TopicPartition) -> str:
        """Say who has a partition that stands still."""
        if self._handles(partition):
            return "this worker has read it, and is handling it"
        if self._is_anothers(partition):
            return "another worker's, or none's"
        return "this worker's, which reads nothing of it"

    async def _replace(self, reason: str) -> None:
        self._trouble = reason
        self._seen.clear()
        log.error("consumer_restarts", cause=reason)
        CONSUMER_RESTARTS.inc()
        await self._stop_app()
        pauses = _BACKOFF.pauses()
        while not self.should_stop:
            self._app = self._make()
            try:
                async with asyncio.timeout(self._start_timeout):
                    await self._app.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, reading must go on
                late = isinstance(error, TimeoutError)
                cause = await self._silence() if late else cause_of(error)
                self._trouble = f"{reason}; then no start: {cause}"
                log.warning("consumer_not_started", cause=cause)
                await self._stop_app()
            else:
                self._trouble = None
                log.info("consumer_restarted")
                return
            await self.sleep(next(pauses))

    async def _stop_app(self) -> None:
        """Stop it; a part that takes too long is left behind: it ends when Kafka lets it.

        Raises TimeoutError when the others don't stop then.
        """
        stopping = asyncio.ensure_future(self._app.stop())
        try:
            for timeout in self._stop_timeouts:
                await asyncio.wait({stopping}, timeout=timeout)
                if stopping.done():
                    break
                log.warning("consumer_does_not_stop", seconds=timeout)
                stopping.cancel()  # mode goes on to the next part, and raises nothing
            if not stopping.done() or stopping.cancelled():
                raise TimeoutError("the Faust app does not stop")
            with contextlib.suppress(ConnectionError):
                stopping.result()
        finally:
            stopping.cancel()


def _count(lags: Mapping[TopicPartition, tuple[int, int]]) -> None:
    behind: Counter[str] = Counter()
    for partition, (committed, end) in lags.items():
        behind[partition.topic] += max(0, end - committed)
    for topic, events in behind.items():
        CONSUMER_LAG.labels(topic).set(events)
