"""What waits for a quota is let through when a place may be free."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from mode import Service

from app.telemetry.logs import get_logger
from app.waiting.wakeup import Waiter

log = get_logger(__name__)


class Admissions(Service):
    """Looks when a delivery may have ended here, and every few seconds: others may have ended any.

    Where no tenant has a quota, it looks only now and then, for what waits since there was one.
    """

    def __init__(
        self,
        *,
        look: Callable[[], Awaitable[object]],
        any_set: Callable[[], bool],
        ended: Waiter,
        interval: float,
    ) -> None:
        super().__init__()
        self._look = look
        self._any_set = any_set
        self._ended = ended
        self._interval = interval

    @Service.task
    async def _run(self) -> None:
        looked_at = float("-inf")
        while not self.should_stop:
            if self._any_set() or time.monotonic() - looked_at >= self._interval:
                looked_at = time.monotonic()
                try:
                    await self._look()
                except Exception as error:  # noqa: BLE001 - the next time may be better
                    log.warning("quotas_not_looked_at", cause=repr(error))
            await self._ended.wait(self._interval)
