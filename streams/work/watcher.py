"""Settings that change take effect: every process hears of it from PostgreSQL, and reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from mode import Service

from app.errors import StoreUnavailableError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_READ_INTERVAL = 30.0  # seconds between reads when nothing is heard: a line may be dead unseen
_RETRY_INTERVAL = 1.0  # seconds before listening again


class Watcher(Service):
    """Refreshes what is known of the tenants' configuration; `changed` are called each time."""

    def __init__(
        self,
        *,
        listening: Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]],
        refresh: Callable[[], Awaitable[None]],
        changed: Sequence[Callable[[], object]] = (),
    ) -> None:
        super().__init__()
        self._listening = listening
        self._refresh = refresh
        self._changed = changed

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            try:
                async with self._listening() as news:
                    while not self.should_stop:
                        await self._refresh()
                        for tell in self._changed:
                            tell()
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(_READ_INTERVAL):
                                await news()
            except StoreUnavailableError as error:
                log.warning("settings_wait", cause=str(error))
                await self.sleep(_RETRY_INTERVAL)
