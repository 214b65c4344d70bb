"""Operators are told a thing once in a while, by whatever publishes it; nothing waits for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.delivery.notices import Notice
from app.errors import BrokerUnavailableError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_AGAIN = 60.0  # seconds after which what was not taken is tried again


class Notices:
    """Publishes notices, of each thing one in `interval` seconds. Call it from the event loop."""

    def __init__(
        self,
        publish: Callable[[Notice], Awaitable[None]],
        *,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._interval = interval
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # by tenant and what it is about: when
        self._sending: set[asyncio.Task[None]] = set()

    def tell(self, notice: Notice) -> None:
        """Publish a notice soon, unless one about the same was published a short while ago."""
        now = self._clock()
        self._told = {about: at for about, at in self._told.items() if now - at < self._interval}
        about = notice.tenant, notice.about
        if about in self._told:
            return
        self._told[about] = now
        task = asyncio.create_task(self._send(notice))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Give up what is not published yet."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _send(self, notice: Notice) -> None:
        context = {"tenant": notice.tenant, "about": notice.about}
        try:
            await self._publish(notice)
        except BrokerUnavailableError as error:
            # Met again in a while, it is tried again: not with each delivery that meets it.
            again = self._clock() - max(0.0, self._interval - _AGAIN)
            self._told[notice.tenant, notice.about] = again
            log.warning("operators_not_told", **context, cause=str(error))
        else:
            log.info("operators_told", **context, title=notice.title)
