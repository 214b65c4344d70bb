"""Work that is due by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from mode import Service

from app.telemetry.logs import get_logger

log = get_logger(__name__)


class Timer(Service):
    """Does a job again and again. Jobs are safe to run in several workers at once."""

    def __init__(self, *, name: str, job: Callable[[], Awaitable[object]], interval: float) -> None:
        super().__init__()
        self._name = name
        self._job = job
        self._interval = interval

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            try:
                await self._job()
            except asyncio.CancelledError as error:
                if self.should_stop or _is_cancelled():
                    raise
                # Of something that the job waited for: that is a failure as any other.
                log.warning("timer_failed", timer=self._name, cause=repr(error))
            except Exception as error:  # noqa: BLE001 - the next time may be better
                log.warning("timer_failed", timer=self._name, cause=repr(error))
            await self.sleep(self._interval)


def _is_cancelled() -> bool:
    """Whether it is this task that has to end."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def led(
    name: str,
    job: Callable[[], Awaitable[object]],
    *,
    leading: Callable[[str], AbstractAsyncContextManager[bool]],
) -> None:
    """Do a job that one process does for all, unless another does it now.

    `leading` gives whether this process leads a job of that name: jobs don't wait for each other.
    """
    async with leading(name) as leads:
        if leads:
            await job()
