"""What ended deliveries left at their targets: abort open uploads, remove late objects and tails.

Who transferred does so itself, unless it died, or the target was away. Expiry and cancels leave it
to this, so that they never wait for a target.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from math import ceil

from app.delivery.checkpoint import TailObject
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.model import Delivery
from app.delivery.ports import Checkpoints, DeliveryStore
from app.delivery.states import State
from app.delivery.targets import Target, same_place
from app.errors import (
    DeliveryError,
    PermanentError,
    SecretUnreadableError,
    TargetUnavailableError,
)
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.archive_manifests import manifest_key_of, may_be_large, remove_late
from app.usecases.folders import Clear, Cleared, Folders
from app.usecases.remove import Removal
from app.usecases.tails import Tails
from app.usecases.uploads import Uploads
from app.waiting.backoff import Backoff

log = get_logger(__name__)

# After that, what a target was asked to open is open, or never will be: such a call's deadline.
_OPENED = timedelta(seconds=30)
_CONCURRENCY = 8  # places
_TURN_TIMEOUT = 60.0  # seconds of a place in one look; what is left has its turn later
_FILES_TURN = 20.0  # seconds of a delivery's files in one look
_SOON = 1.0  # seconds until the next files of such a delivery have their turn
_BACKOFF = Backoff(first=30.0, longest=3600.0)  # of a place, by its failures in a row


@dataclass
class _Pause:
    """Nothing is asked at a place that failed."""

    until: float  # by the monotonic clock
    failures: int  # in a row


@dataclass
class _Pass:
    """How far the files of a folder were looked for."""

    began: float  # by the monotonic clock
    last: int = -1  # the position up to which none is left, but for what is refused
    refused: PermanentError | None = None  # the first


@dataclass
class _Folder:
    """Where a delivery may have put files, and what its attempts have noted of that."""

    manifest_key: str
    place: Target
    notes: list[TailObject]

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return self.notes[-1].key

    @property
    def is_cleared(self) -> bool:
        """Whether all was removed, but for what came late."""
        return all(note.dropped for note in self.notes)

    @property
    def may_come(self) -> float:
        """For how many seconds there may still come something."""
        return max(note.may_come.total_seconds() for note in self.notes)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Leftover:
    """A delivery that may have left something open, and where."""

    delivery: Delivery
    recorded: Target | None  # where its last upload was opened
    current: Target | None  # where an attempt now would open one

    @property
    def endpoints(self) -> list[str]:
        return [place.endpoint for place in self._places]

    @property
    def _places(self) -> list[Target]:
        return [place for place in (self.recorded, self.current) if place is not None]

    def warn(self, error: DeliveryError, *, tried_again: bool = False) -> None:
        """Log for the operator that an upload may be open, and what comes of it."""
        ends = next((place.leftovers for place in self._places), "its own tools end it")
        log.warning(
            "uploads_not_swept",
            **self.delivery.log_context,
            cause=str(error),
            consequence="it is tried again"
            if tried_again
            else f"an upload may stay open at the target; {ends}",
        )


def after_end(lease: timedelta) -> timedelta:
    """Return how long after its end a delivery is swept, where leases last that long.

    By then a worker that lost its lease knows it, and what it asked for before is open: a target
    may open that after the worker has gone, and what is opened after the sweep stays for ever.
    """
    return lease + max(lease, _OPENED)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Looks at each ended delivery once: at its recorded upload, and at its key."""

    store: DeliveryStore
    tenants: ConfiguredTenants
    uploads: Uploads
    checkpoints: Checkpoints
    after: timedelta  # their end: `after_end`
    limit: int  # deliveries at a time
    patience: float = 30.0  # seconds that a place may take for one step
    _pauses: dict[str, _Pause] = field(default_factory=dict)  # by endpoint
    # Over files that are removed look by look, by `_Folder.name`: a delivery's own, and those that
    # it was to replace. Another process begins again from the first.
    _passes: dict[str, list[_Pass]] = field(default_factory=dict)

    async def look(self) -> int:
        """Sweep what is due; return how many deliveries have nothing open any more.

        Places are asked side by side. One that fails is left alone for a while, longer each time,
        and its deliveries are postponed; those of others don't wait for it.
        """
        total = 0
        turns = asyncio.Semaphore(_CONCURRENCY)

        async def visit(leftovers: Sequence[_Leftover]) -> int:
            async with turns:
                return await self._visit(leftovers)

        while True:
            due = await self.store.unswept(self.after, limit=self.limit)
            by_place: defaultdict[str, list[_Leftover]] = defaultdict(list)
            for leftover in map(self._leftover, due):
                by_place[next(iter(leftover.endpoints), "")].append(leftover)
            total += sum(await asyncio.gather(*map(visit, by_place.values())))
            if len(due) < self.limit:
                return total

    async def _visit(self, leftovers: Sequence[_Leftover]) -> int:
        """Sweep what was left at one place, one after the other; postpone what can't be."""
        ends = time.monotonic() + _TURN_TIMEOUT
        later: defaultdict[int, list[Delivery]] = defaultdict(list)  # by the pause, in seconds
        for leftover in leftovers:
            skipped = self._all_paused(leftover) or time.monotonic() > ends
            pause = _BACKOFF.first if skipped else await self._sweep(leftover)
            if pause:
                later[ceil(max(pause, self._paused(leftover)))].append(leftover.delivery)
        for seconds, deliveries in later.items():
            await self.store.postpone_sweeps(
                deliveries, after=self.after, pause=timedelta(seconds=seconds)
            )
        return len(leftovers) - sum(map(len, later.values()))

    async def _sweep(self, leftover: _Leftover) -> float:
        """Return 0 if nothing of the delivery is left, as far as can be known.

        Else the seconds after which there is another look. A place that fails in one step keeps no
        other step from being done elsewhere.

        If a completion may have been under way when this look began, there is another one: what
        appeared in the midst of it was not seen.
        """
        began = time.monotonic()
        pause = 0.0
        passing: DeliveryError | None = None
        steps = (self._abort_recorded, self._drop_tails, self._clear_folders, self._abort_orphans)
        for step in steps:
            try:
                pause = max(pause, await step(leftover))
            except PermanentError as error:
                leftover.warn(error)
            except (TargetUnavailableError, SecretUnreadableError) as error:
                passing, pause = passing or error, max(pause, _BACKOFF.first)
        if passing is not None:
            leftover.warn(passing, tried_again=True)
        if pause:
            return pause
        for endpoint in leftover.endpoints:
            self._pauses.pop(endpoint, None)
        took = timedelta(seconds=time.monotonic() - began)
        return 0.0 if await self.store.swept(leftover.delivery, took=took) else _BACKOFF.first

    # Each returns after how many seconds there must be another look for it; 0: it is done.

    async def _abort_recorded(self, leftover: _Leftover) -> float:
        delivery = leftover.delivery
        if leftover.recorded is None:
            await self.uploads.abort_last(delivery)  # there is none, or it tells that it can't
            return 0.0
        async with self._asking(leftover.recorded):
            await self.uploads.abort_last(delivery)
        async with self._asking(leftover.recorded):
            removal = Removal(store=self.store, objects=self.uploads.objects)
            await removal.remove_late(delivery, leftover.recorded)
        async with self._asking(leftover.recorded):
            await remove_late(delivery, leftover.recorded, self.store, self.uploads.objects)
        return 0.0

    async def _abort_orphans(self, leftover: _Leftover) -> float:
        """Abort what a worker may have opened, that died before it recorded it."""
        delivery, target = leftover.delivery, leftover.current
        if target is None or delivery.archive_name is None:
            return 0.0
        self.tenants.check_secrets(delivery.tenant)
        key = target.prefix + delivery.key
        async with self._asking(target):
            known = await self.uploads.abort_orphans(delivery, target, key)
        if _may_have_sent_manifest(delivery):
            async with self._asking(target):
                abort = self.uploads.abort_orphans
                known &= await abort(delivery, target, manifest_key_of(key))
        return 0.0 if known else _BACKOFF.first

    async def _drop_tails(self, leftover: _Leftover) -> float:
        """Remove what archives that paused have beside them.

        Those that may come late stay noted, and those that are refused: then the delivery does not
        count as swept, and there is another look.
        """
        delivery, pause = leftover.delivery, 0.0
        passing: TargetUnavailableError | None = None
        tails = Tails(checkpoints=self.checkpoints, uploads=self.uploads)
        for tail in await self.checkpoints.tails(delivery):
            if tail.manifest_key is not None:
                continue
            drop = partial(tails.drop, delivery, [tail], today=leftover.current)
            try:
                async with self._asking(self.uploads.opened(tail.target)):
                    dropped = await drop()
            except SecretUnreadableError:
                dropped = await drop()  # which tells that it can't
            except TargetUnavailableError as error:
                passing = passing or error
                continue
            if not dropped:
                pause = _BACKOFF.longest
        if passing is not None:
            raise passing
        return pause

    async def _clear_folders(self, leftover: _Leftover) -> float:
        """Remove the files that a delivery has put as they are, wherever that was.

        Where it is done, they stay, and only what is open of them is aborted. What may come late
        stays noted, as with tails. A place that fails keeps no other one from being cleared.
        """
        delivery, pauses = leftover.delivery, list[float]()
        passing: TargetUnavailableError | None = None
        folders, unreadable = self._folders(leftover, await self.checkpoints.tails(delivery))
        if unreadable is not None:
            pauses.append(_BACKOFF.longest)
            _tell_files_left(delivery, *unreadable)
        waits = [folder.may_come for folder in folders if folder.is_cleared]
        for folder in folders:
            if folder.is_cleared and folder.may_come:
                continue
            try:
                pauses.append(await self._clear_folder(leftover, folder))
            except TargetUnavailableError as error:
                passing = passing or error
            except PermanentError as error:
                pauses.append(_BACKOFF.longest)
                _tell_files_left(delivery, folder.manifest_key, error)
        if passing is not None:
            raise passing
        return max(pauses, default=0) or max(waits, default=0)

    def _folders(
        self, leftover: _Leftover, tails: Sequence[TailObject]
    ) -> tuple[list[_Folder], tuple[str, DeliveryError] | None]:
        """Return where files are noted, each place once, however many attempts have noted it.

        And what can't be read of these places, if that is so of one.
        """
        folders: list[_Folder] = []
        unreadable: tuple[str, DeliveryError] | None = None
        for noted in tails:
            if (key := noted.manifest_key) is None:
                continue
            try:
                place = self.uploads.opened(noted.target)
            except (SecretUnreadableError, TargetUnavailableError) as error:
                unreadable = key, error
                continue
            if leftover.current is not None and same_place(leftover.current, place):
                place = leftover.current  # with the credentials of today
            for folder in folders:
                if folder.manifest_key == key and same_place(folder.place, place):
                    folder.place = place  # the last attempt's credentials
                    folder.notes.append(noted)
                    break
            else:
                folders.append(_Folder(key, place, [noted]))
        return folders, unreadable

    async def _clear_folder(self, leftover: _Leftover, folder: _Folder) -> float:
        delivery, place, manifest_key = leftover.delivery, folder.place, folder.manifest_key
        folders = Folders(store=self.store, checkpoints=self.checkpoints, uploads=self.uploads)
        stays = _is_delivered(leftover, place, manifest_key)
        clears: list[Clear] = [folders.abort_uploads if stays else folders.remove]
        if not stays:
            clears.append(folders.remove_replaced)
        ends = time.monotonic() + _FILES_TURN
        passes = self._passes.setdefault(folder.name, [])
        for number, clear in enumerate(clears):
            if number == len(passes):
                passes.append(_Pass(began=time.monotonic()))
            clearing = clear(delivery, place, manifest_key, after=passes[number].last)
            if not await self._go_on(passes[number], clearing, place, ends=ends):
                return _SOON
            if number == 0 and await self._has_files_behind(delivery, passes[0].last):
                return _BACKOFF.first  # another delivery is on its way there
        del self._passes[folder.name]
        for refused in (done.refused for done in passes if done.refused is not None):
            raise refused
        took = timedelta(seconds=time.monotonic() - passes[0].began)
        await self.checkpoints.forget_tails(
            delivery, [note.key for note in folder.notes], took=took
        )
        return folder.may_come

    async def _go_on(
        self,
        done: _Pass,
        clearing: AsyncGenerator[Cleared, None],
        place: Target,
        *,
        ends: float,
    ) -> bool:
        """Go on with a pass, some files at a time; return whether it is over before its turn is."""
        async with contextlib.aclosing(clearing):
            while True:
                async with self._asking(place):
                    cleared = await anext(clearing, None)
                if cleared is None:
                    return True
                done.last = cleared.position
                done.refused = done.refused or cleared.refused
                if time.monotonic() > ends:
                    return False

    async def _has_files_behind(self, delivery: Delivery, position: int) -> bool:
        async for _ in self.store.files(delivery, after=position):
            return True
        return False

    @contextlib.asynccontextmanager
    async def _asking(self, target: Target) -> AsyncIterator[None]:
        """Ask a place, in time. Raises TargetUnavailableError, also while it is left alone."""
        if (pause := self._pauses.get(target.endpoint)) and pause.until > time.monotonic():
            raise TargetUnavailableError(f"{target} did not answer just now, and is left alone")
        try:
            async with asyncio.timeout(self.patience):
                yield
        except TimeoutError:
            self._failed(target)
            raise TargetUnavailableError(
                f"{target} did not answer within {self.patience:g} seconds"
            ) from None
        except TargetUnavailableError:
            self._failed(target)
            raise

    def _failed(self, target: Target) -> None:
        last = self._pauses.get(target.endpoint)
        failures = 0 if last is None else last.failures
        until = time.monotonic() + _BACKOFF.pause(failures)
        self._pauses[target.endpoint] = _Pause(until, failures + 1)

    def _paused(self, leftover: _Leftover) -> float:
        """Return for how many seconds a place of the delivery is left alone."""
        now = time.monotonic()
        pauses = [self._pauses.get(endpoint) for endpoint in leftover.endpoints]
        return max(
            (pause.until - now for pause in pauses if pause and pause.until > now), default=0
        )

    def _all_paused(self, leftover: _Leftover) -> bool:
        """Whether every place of the delivery is left alone."""
        now = time.monotonic()
        pauses = [self._pauses.get(endpoint) for endpoint in leftover.endpoints]
        return bool(pauses) and all(pause and pause.until > now for pause in pauses)

    def _leftover(self, delivery: Delivery) -> _Leftover:
        try:
            recorded = self.uploads.place(delivery)
        except (SecretUnreadableError, TargetUnavailableError):
            recorded = None  # `abort_last` reports it
        return _Leftover(delivery=delivery, recorded=recorded, current=self._current(delivery))

    def _current(self, delivery: Delivery) -> Target | None:
        if not self.tenants.works_for(delivery.tenant):
            return None
        with contextlib.suppress(TargetUnavailableError):  # of another version's kind
            return self.tenants.settings(delivery.tenant).target_named(delivery.target)
        return None


def _may_have_sent_manifest(delivery: Delivery) -> bool:
    """Whether an upload of a manifest may be open beside its archive, which had appeared."""
    appeared = delivery.state is State.DONE or delivery.completing is not None
    return appeared and delivery.archive_name != MANIFEST_NAME and may_be_large(delivery)


def _tell_files_left(delivery: Delivery, manifest_key: str, cause: DeliveryError) -> None:
    log.warning(
        "files_left",
        **delivery.log_context,
        key=manifest_key,
        cause=str(cause),
        consequence="it is tried again, as long as the delivery is kept",
    )


def _is_delivered(leftover: _Leftover, place: Target, manifest_key: str) -> bool:
    """Whether files at a place are those that a client was told of."""
    upload = leftover.delivery.upload
    if leftover.delivery.state is not State.DONE:
        return False
    # Of equal ones at two servers both stay: what is in doubt is not removed.
    return upload is None or (upload.container, upload.key) == (place.container, manifest_key)
