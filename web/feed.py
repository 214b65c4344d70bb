"""What happens to deliveries, handed to everybody who watches.

One look at PostgreSQL and one at the table of progress a tick, whatever the number of watchers;
each event is encoded once, and what a tick brought is one write for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mode import Service

from app.errors import DeliveryError
from app.logs import get_logger
from app.model import Progress, State
from app.progress import in_json
from app.tracking import Change, Changes, to_json

log = get_logger(__name__)

_TICK = 0.5  # seconds
_AT_ONCE = 1000  # changes in one look
_PATIENCE = 20  # looks that a missing number is waited for: its transaction may still be open
_LONGEST = 64  # ticks that a watcher may lag behind before it is let go
_ENDED = (State.DONE, State.ERROR)
# What is told of a delivery with the step that it is in, and with none before.
_OF_THE_PRESENT = (
    *("url", "md5", "archiveBytes", "errorType", "errorMessage"),
    *("stateSince", "finishedAt"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded event."""

    data: bytes
    id: int = 0  # of the step; 0 for progress
    last: bool = False  # nothing follows for this delivery


def state_frame(change: Change) -> Frame:
    """Encode a step: a change of state, or an attempt that was given up (with its cause)."""
    step = change.step
    body: dict[str, Any] = to_json(change.tracked)
    if step.state is not change.tracked.delivery.state:
        # It went on since: what is told later belongs to a later event.
        for name in _OF_THE_PRESENT:
            body.pop(name, None)
    body |= {
        "state": step.state.value,
        "attempt": step.attempt,
        "at": step.at.isoformat(timespec="milliseconds"),
    }
    if step.cause is not None:
        body["cause"] = step.cause
    return Frame(_encoded("state", body, step.id), step.id, step.state in _ENDED)


def progress_frame(progress: Progress) -> Frame:
    """Encode how far a transfer is."""
    body = {"correlationId": progress.correlation_id, **in_json(progress)}
    return Frame(_encoded("progress", body))


def _encoded(event: str, body: dict[str, Any], number: int = 0) -> bytes:
    head = f"id: {number}\r\n" if number else ""
    return f"{head}event: {event}\r\ndata: {json.dumps(body)}\r\n\r\n".encode()


class Watcher:
    """One who watches a tenant, or one delivery of it."""

    def __init__(self, tenant: str, correlation_id: str | None) -> None:
        self.tenant = tenant
        self.correlation_id = correlation_id
        self._queue: asyncio.Queue[list[Frame] | None] = asyncio.Queue()
        self.lost = False  # too slow, or the feed stops: come again, with the last id
        self.cut: Callable[[], object] | None = None  # ends a connection that takes nothing

    def give(self, frames: list[Frame]) -> None:
        """Hand frames over, unless the watcher is too slow to ever read them."""
        if self._queue.qsize() >= _LONGEST:
            self.let_go()
            if self.cut is not None:
                self.cut()
        elif not self.lost:
            self._queue.put_nowait(frames)

    def let_go(self) -> None:
        """End the watching."""
        self.lost = True
        self._queue.put_nowait(None)

    async def frames(self) -> list[Frame] | None:
        """Wait for what the next tick brings; None at the end."""
        return await self._queue.get()


class Feed(Service):
    """Looks, encodes, hands over. `news` gives what transfers reported since it was asked last."""

    def __init__(self, changes: Changes, news: Callable[[], Sequence[Progress]]) -> None:
        super().__init__()
        self._changes = changes
        self._news = news
        self._watchers: set[Watcher] = set()
        self._last: int | None = None  # number of the newest change; None while nobody watches
        self._beginning = asyncio.Lock()
        self._missing: dict[int, int] = {}  # smaller numbers that have not appeared; looks left

    @contextlib.asynccontextmanager
    async def watching(
        self, tenant: str, correlation_id: str | None = None
    ) -> AsyncIterator[Watcher]:
        """Give a watcher; from then on it misses nothing. Raises RetryableError."""
        watcher = Watcher(tenant, correlation_id)
        self._watchers.add(watcher)
        try:
            await self._begin()
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def on_stop(self) -> None:
        """Let all watchers go."""
        self.release()

    def release(self) -> None:
        """Let all watchers go, so that their connections end."""
        for watcher in self._watchers:
            watcher.let_go()

    @Service.task
    async def _run(self) -> None:
        progress = True
        while not self.should_stop:
            try:
                await self._tick(progress=progress)
            except DeliveryError as error:
                log.warning("feed_waits", cause=str(error))
            progress = (
                not progress
            )  # each second is often enough: every write counts a thousand times
            await self.sleep(_TICK)

    async def _tick(self, *, progress: bool = True) -> None:
        news = self._news() if progress or not self._watchers else ()
        if not self._watchers:
            self._last = None
            return
        frames: dict[tuple[str, str], list[Frame]] = defaultdict(list)
        for change in await self._look():
            delivery = change.tracked.delivery
            frames[delivery.tenant, delivery.correlation_id].append(state_frame(change))
        for report in news:
            frames[report.tenant, report.correlation_id].append(progress_frame(report))
        self._hand_over(frames)

    async def _begin(self) -> None:
        """Note where the changes are now, unless others watch already."""
        async with self._beginning:
            if self._last is not None:
                return
            last = await self._changes.last()
            first = max(0, last - _AT_ONCE // 2)
            recent = await self._changes.since(first, missing=(), limit=_AT_ONCE)
            seen = {change.step.id for change in recent}
            self._missing = dict.fromkeys(set(range(first + 1, last)) - seen, _PATIENCE)
            self._last = last

    async def _look(self) -> list[Change]:
        if self._last is None:
            return []
        found = await self._changes.since(self._last, missing=list(self._missing), limit=_AT_ONCE)
        newest = max([self._last, *(change.step.id for change in found)])
        seen = {change.step.id for change in found}
        waited = {n: left - 1 for n, left in self._missing.items() if left > 1 and n not in seen}
        gaps = set(range(self._last + 1, newest)) - seen
        self._missing = waited | dict.fromkeys(gaps, _PATIENCE)
        self._last = newest
        return found

    def _hand_over(self, frames: dict[tuple[str, str], list[Frame]]) -> None:
        by_tenant: dict[str, list[Frame]] = defaultdict(list)
        for (tenant, _), some in frames.items():
            by_tenant[tenant] += some
        for watcher in self._watchers:
            if watcher.correlation_id is None:
                mine = by_tenant.get(watcher.tenant)
            else:
                mine = frames.get((watcher.tenant, watcher.correlation_id))
            if mine:
                watcher.give(mine)
