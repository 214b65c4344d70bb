"""Keeps the agents reading: a Faust app that crashed or reads no more is replaced by a new one.

Known of Faust: after an outage of the brokers, or when topics were made anew, its consumer may live
on and read nothing. So what it should have read is compared with what was handled. Transfers run
beside it and go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition
from mode import Service

from app.errors import BrokerUnavailableError, DeliveryError
from app.logs import get_logger
from streams.faust_app import DeliveryApp
from streams.lag import Lag

log = get_logger(__name__)

_LOOKS = 6  # in the time after which a partition counts as stuck
_STOP_TIMEOUT = 30.0  # seconds
_LONGEST_WAIT = 30.0  # seconds between attempts to start


class Consumer(Service):
    """Runs a Faust app; makes another when that one crashes, or is stuck for `stuck_after` seconds.

    `ensure_topics` makes topics that are missing. When an app can't even be stopped, this service
    crashes, and with it the process: its supervisor starts it anew.
    """

    def __init__(
        self,
        *,
        make: Callable[[], DeliveryApp],
        lag: Lag,
        ensure_topics: Callable[[], Awaitable[None]],
        stuck_after: float,
    ) -> None:
        super().__init__()
        self._make = make
        self._lag = lag
        self._ensure_topics = ensure_topics
        self._stuck_after = stuck_after
        self._app = make()
        self._trouble: str | None = None

    async def on_start(self) -> None:
        """Start the first app: what it raises is for the operator who starts the process."""
        await self._app.start()

    async def on_stop(self) -> None:
        """Stop the app."""
        await self._stop_app()

    async def check(self) -> None:
        """Return if agents read. Raises BrokerUnavailableError."""
        if self._trouble is not None:
            raise BrokerUnavailableError(f"events are not read: {self._trouble}; it is mended")

    @Service.task
    async def _watch(self) -> None:
        moved_at: dict[TopicPartition, float] = {}
        before: dict[TopicPartition, int] = {}
        while not self.should_stop:
            await self.sleep(self._stuck_after / _LOOKS)
            if self._app.crashed:
                await self._replace(f"the Faust app crashed: {self._app.crash_reason!r}")
                moved_at.clear()
                continue
            try:
                await self._ensure_topics()
                lags = await self._lag.look()
            except DeliveryError as error:
                log.warning("lag_unknown", cause=str(error))
                moved_at.clear()
                continue
            now = time.monotonic()
            stuck = []
            for partition, (committed, end) in lags.items():
                if committed >= end or committed != before.get(partition) or self._holds(partition):
                    moved_at[partition] = now
                elif now - moved_at.setdefault(partition, now) >= self._stuck_after:
                    stuck.append(f"{partition.topic}/{partition.partition} at {committed} of {end}")
                before[partition] = committed
            if stuck:
                await self._replace(f"stuck: {', '.join(stuck)}")
                moved_at.clear()

    def _holds(self, partition: TopicPartition) -> bool:
        """Whether it is not the consumer's turn: events were read and are being handled.

        Or another worker reads this partition.
        """
        if any(dispatcher.holds(partition) for dispatcher in self._app.dispatchers):
            return True
        assigned = self._app.consumer.assignment()
        return bool(assigned) and partition not in assigned

    async def _replace(self, reason: str) -> None:
        self._trouble = reason
        log.error("consumer_restarts", cause=reason)
        await self._stop_app()
        wait = 1.0
        while not self.should_stop:
            self._app = self._make()
            try:
                await self._app.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, reading must go on
                self._trouble = f"{reason}; then no start: {error!r}"
                log.warning("consumer_not_started", cause=repr(error))
                await self._stop_app()
            else:
                self._trouble = None
                log.info("consumer_restarted")
                return
            await self.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _stop_app(self) -> None:
        async with asyncio.timeout(_STOP_TIMEOUT):
            with contextlib.suppress(ConnectionError):
                await self._app.stop()
