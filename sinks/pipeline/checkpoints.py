"""How far an archive is, saved now and then, so that another process can go on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.delivery.checkpoint import Step
from app.errors import StoreUnavailableError
from app.telemetry.logs import get_logger
from sinks.pipeline.archive import ArchiveStream

log = get_logger(__name__)

_BYTES = 256 * 1024 * 1024  # sent since the last checkpoint, or
_SECONDS = 30.0

SaveStep = Callable[[Step], Awaitable[bool]]


class Checkpoints:
    """Saves the steps of one archive. `save` says whether the archive is still this worker's."""

    def __init__(self, archive: ArchiveStream, save: SaveStep) -> None:
        self._archive = archive
        self._save = save
        self._sent = 0  # bytes since the last checkpoint
        self._due = asyncio.Event()
        self._saving = asyncio.Lock()

    def sent(self, size: int) -> None:
        """Note that the store has a part more."""
        self._sent += size
        if self._sent >= _BYTES:
            self._due.set()

    async def keep(self) -> None:
        """Save again and again, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await self._due.wait()
            await self.save()

    async def save(self) -> None:
        """Save how far the archive is. What PostgreSQL is away for comes with the next one."""
        async with self._saving:
            self._due.clear()
            self._sent = 0
            step = self._archive.step()
            if step is None:
                return
            try:
                if await self._save(step):
                    self._archive.saved(step)
            except StoreUnavailableError as error:
                log.warning("checkpoint_waits", parts=step.boundary.parts, cause=str(error))
