"""How far an archive is, saved now and then, so that another process can go on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from app.delivery.checkpoint import Step, Tail
from app.errors import LeaseLostError, StoreUnavailableError
from app.telemetry.logs import get_logger
from app.waiting.patience import until_answered
from sinks.pipeline.archive import ArchiveStream
from sinks.pipeline.parts import Part

log = get_logger(__name__)

EVERY_BYTES = 256 * 1024 * 1024  # sent since the last checkpoint, or
EVERY_SECONDS = 30.0
_TIMEOUT = 10.0  # seconds that PostgreSQL has for one

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
        if self._sent >= EVERY_BYTES:
            self._due.set()

    async def keep(self) -> None:
        """Save again and again, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._due.wait()
            await self.save()

    async def pause(
        self, put: Callable[[Part], Awaitable[Tail]], *, good: Callable[[], bool]
    ) -> None:
        """Save all of an archive that paused; `put` what lies beyond its last part. Nothing twice.

        PostgreSQL is waited for while `good()`. Raises StoreUnavailableError, LeaseLostError when
        the archive is another worker's, and what `put` raises.
        """
        async with self._saving:
            rest = self._archive.rest
            if rest is None:
                return
            if rest.md5_state is None:
                log.warning(
                    "pause_not_kept",
                    cause="this worker's _md5pair was not built, so no state of an MD5 can be had",
                    consequence="the transfer begins again from its first file",
                )
                return
            tail = None if rest.body is None else await put(rest.body)
            step = self._archive.last_step(rest.md5_state, tail, rest.sha256_state)
            if not await until_answered(partial(self._save, step), good=good):
                raise LeaseLostError("another worker has the archive that pauses")
            self._archive.saved(step)

    async def save(self, seconds: float | None = None) -> None:
        """Save how far the archive is. What PostgreSQL is away for comes with the next one.

        It has `seconds` to answer; None: as many as any other time. Raises nothing: an archive is
        as good without.
        """
        seconds = _TIMEOUT if seconds is None else seconds
        async with self._saving:
            self._due.clear()
            self._sent = 0
            step = None
            try:
                step = self._archive.step()
                if step is None:
                    return
                async with asyncio.timeout(seconds):
                    if await self._save(step):
                        self._archive.saved(step)
            except Exception as error:
                late = f"PostgreSQL did not answer within {seconds:g} s"
                log.warning(
                    "checkpoint_waits",
                    parts=step and step.boundary.parts,
                    cause=late if isinstance(error, TimeoutError) else str(error),
                    exc_info=not isinstance(error, (TimeoutError, StoreUnavailableError)),
                )
