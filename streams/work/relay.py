"""Publishes what the outbox holds: a relay a lane, so that none waits for another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from mode import Service

from app.delivery.outgoing import Lane, OutgoingMessage, Relayed
from app.delivery.ports import Outbox
from app.errors import StoreUnavailableError
from app.telemetry.logs import get_logger
from app.waiting.wakeup import Wakeup

log = get_logger(__name__)

_STOP_TIMEOUT = 5.0  # seconds that a stop waits for a broker


class Relay(Service):
    """Empties one lane of the outbox, woken by commits and by a slow clock."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        lane: Lane,
        publish: Callable[[OutgoingMessage], Awaitable[None]],
        owed: Wakeup,
        interval: float,
        stop_timeout: float = _STOP_TIMEOUT,
    ) -> None:
        super().__init__()
        self._outbox = outbox
        self._lane = lane
        self._publish = publish
        self._owed = owed.waiter(lane)
        self._interval = interval
        self._stop_timeout = stop_timeout
        self._idle = asyncio.Event()
        self._idle.set()

    async def on_stop(self) -> None:
        """Let what is being published be confirmed, and forgotten: else it is sent again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_timeout):
                await self._idle.wait()

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            self._idle.clear()
            try:
                passed = await self._outbox.relay(self._lane, self._publish)
            except StoreUnavailableError as error:
                log.warning("relay_waits", cause=str(error))
                passed = Relayed(0, 0, more=False)
            finally:
                self._idle.set()
            if passed.unsent:
                log.warning("relay_postponed", messages=passed.unsent, lane=self._lane.value)
            if not (passed.dealt_with and passed.more):  # or nothing got through
                await self._owed.wait(self._interval)
