"""What happens to deliveries, handed to every subscriber.

One look at PostgreSQL and one at the table of progress a tick, whatever the number of subscribers;
each event is encoded once, and what a tick brought is one write for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from mode import Service

from app.delivery.progress import Progress
from app.errors import DeliveryError
from app.telemetry.logs import get_logger
from app.views.deliveries import Change, Changes
from app.views.events import (
    ContentEvent,
    Event,
    ExpiredEvent,
    ProgressEvent,
    ReloadEvent,
    StateEvent,
)
from app.waiting.slices import in_slices

log = get_logger(__name__)

_INTERVAL = 0.5  # seconds
_BATCH_SIZE = 1000  # changes in one look
_GAP_RETRIES = 20  # looks that a missing number is waited for: its transaction may still be open
_MAX_BACKLOG = 64  # ticks that a subscriber may lag behind before it is let go


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded event."""

    data: bytes
    id: int = 0  # of the step; 0 for progress
    last: bool = False  # nothing follows for this delivery


def step_frame(change: Change) -> Frame:
    """Encode a step: a change of state, an attempt that was given up, or news of a content."""
    step = change.step
    kind = StateEvent if step.news is None else ContentEvent
    return Frame(_encoded(kind.of_change(change), step.id), step.id, step.state.ended)


def progress_frame(progress: Progress) -> Frame:
    """Encode how far a transfer is."""
    return Frame(_encoded(ProgressEvent.of_transfer(progress)))


def reload_frame(number: int, *, last: bool) -> Frame:
    """Encode that more has happened than is told: up to that step, it is to be looked up."""
    event = ReloadEvent(message="more has happened than is told here; look it up again")
    return Frame(_encoded(event, number), last=last)


def mark_frame(number: int) -> Frame:
    """Encode no event but the number of the last one: a reader who comes again has one to tell."""
    return Frame(f"id: {number}\r\n\r\n".encode())


def expired_frame(why: str) -> Frame:
    """Encode that the reader must bring another token, and why."""
    return Frame(_encoded(ExpiredEvent(message=why)))


def _encoded(event: Event, number: int = 0) -> bytes:
    head = f"id: {number}\r\n" if number else ""
    return f"{head}event: {event.event}\r\ndata: {json.dumps(event.body())}\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class _Addressed:
    """A frame, and who may have it."""

    tenant: str
    delivery: UUID | None
    user: str | None  # whose delivery it is; None: its transfer reports it, which does not know
    frame: Frame


def _changed(change: Change) -> _Addressed:
    delivery = change.tracked.delivery
    return _Addressed(delivery.tenant, delivery.id, delivery.user, step_frame(change))


def _reported(report: Progress) -> _Addressed:
    return _Addressed(report.tenant, report.delivery, None, progress_frame(report))


class Subscriber:
    """Takes what happens to the deliveries of a tenant, to those of one user of it, or to one."""

    def __init__(self, tenant: str, delivery: UUID | None, user: str | None) -> None:
        self.tenant = tenant
        self.delivery = delivery
        self.user = user
        self.transferring: set[UUID] = set()  # the user's, whose progress is told
        self.since = 0  # the newest step when it came
        self._queue: asyncio.Queue[list[Frame] | None] = asyncio.Queue()
        self.lost = False  # too slow, or the feed stops: come again, with the last id
        self.disconnect: Callable[[], object] | None = None  # where a connection takes nothing
        self.gone: Callable[[], bool] = lambda: False  # whether its connection is closed

    def push(self, frames: list[Frame]) -> None:
        """Hand frames over, unless the subscriber is too slow to ever read them."""
        if self._queue.qsize() >= _MAX_BACKLOG:
            self.close()
            if self.disconnect is not None:
                self.disconnect()
        elif not self.lost:
            self._queue.put_nowait(frames)

    def own(self, told: Sequence[_Addressed]) -> list[Frame]:
        """Return what of it is the user's: steps of their deliveries, and how far those are.

        Whose delivery reports its progress, only the steps before it tell.
        """
        mine = []
        for each in told:
            if each.user is not None and each.user == self.user and each.delivery is not None:
                mine.append(each.frame)
                if each.frame.last:
                    self.transferring.discard(each.delivery)
                else:
                    self.transferring.add(each.delivery)
            elif each.user is None and each.delivery in self.transferring:
                mine.append(each.frame)
        return mine

    def close(self) -> None:
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
        self._subscribers: set[Subscriber] = set()
        self._last: int | None = None  # number of the newest change; None without subscribers
        self._beginning = asyncio.Lock()
        self._missing: dict[int, int] = {}  # smaller numbers that have not appeared; looks left

    @contextlib.asynccontextmanager
    async def watching(
        self, tenant: str, delivery: UUID | None = None, *, user: str | None = None
    ) -> AsyncIterator[Subscriber]:
        """Give a subscriber; from then on it misses nothing. Raises RetryableError.

        With a `user`, of no other user's deliveries is anything told.
        """
        subscriber = Subscriber(tenant, delivery, user)
        self._subscribers.add(subscriber)
        try:
            subscriber.since = await self._begin()
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)

    async def on_stop(self) -> None:
        """Let all subscribers go."""
        self.release()

    def release(self) -> None:
        """Let all subscribers go, so that their connections end."""
        for subscriber in self._subscribers:
            subscriber.close()

    @Service.task
    async def _run(self) -> None:
        progress = True
        while not self.should_stop:
            try:
                await self.tick(progress=progress)
            except DeliveryError as error:
                log.warning("feed_waits", cause=str(error))
            # Each second is often enough: every write counts a thousand times.
            progress = not progress
            await self.sleep(_INTERVAL)

    async def tick(self, *, progress: bool = True) -> None:
        """Look once, and hand over what is new: changes, and progress if asked for."""
        for subscriber in self._subscribers:
            if subscriber.gone():  # what it holds is free before the next ping finds no client
                subscriber.close()
        news = self._news() if progress or not self._subscribers else ()
        if not self._subscribers:
            self._last = None
            return
        reports = await in_slices(_reported, news)
        self._hand_over([*await self._read_changes(), *reports])

    async def _begin(self) -> int:
        """Note where the changes are now, unless others watch already; return it."""
        async with self._beginning:
            if self._last is not None:
                return self._last
            last = await self._changes.last()
            first = max(0, last - _BATCH_SIZE // 2)
            recent = await self._changes.since(first, missing=(), limit=_BATCH_SIZE)
            seen = {change.step.id for change in recent}
            self._missing = dict.fromkeys(set(range(first + 1, last)) - seen, _GAP_RETRIES)
            self._last = last
            return last

    async def _read_changes(self) -> list[_Addressed]:
        if self._last is None:
            return []
        found = await self._changes.since(
            self._last, missing=list(self._missing), limit=_BATCH_SIZE
        )
        # Before they count as told: a subscriber that comes meanwhile is told them, too.
        told = await in_slices(_changed, found)
        newest = max([self._last, *(change.step.id for change in found)])
        seen = {change.step.id for change in found}
        waited = {n: looks - 1 for n, looks in self._missing.items() if looks > 1 and n not in seen}
        gaps = set(range(self._last + 1, newest)) - seen
        self._missing = waited | dict.fromkeys(gaps, _GAP_RETRIES)
        self._last = newest
        return told

    def _hand_over(self, told: Sequence[_Addressed]) -> None:
        """Push to each its own. One delivery is told by its id: others may have its name."""
        of_tenant: dict[str, list[_Addressed]] = defaultdict(list)
        of_one: dict[tuple[str, UUID | None], list[Frame]] = defaultdict(list)
        for each in told:
            of_tenant[each.tenant].append(each)
            of_one[each.tenant, each.delivery].append(each.frame)
        frames = {tenant: [each.frame for each in theirs] for tenant, theirs in of_tenant.items()}
        for subscriber in self._subscribers:
            if subscriber.delivery is not None:
                mine = of_one.get((subscriber.tenant, subscriber.delivery))
            elif subscriber.user is not None:
                mine = subscriber.own(of_tenant.get(subscriber.tenant, ()))
            else:
                mine = frames.get(subscriber.tenant)
            if mine:
                subscriber.push(mine)
