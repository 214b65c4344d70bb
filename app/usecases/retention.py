"""What was delivered is removed when its time is over, or when a person asks for it.

Only what is ours: the object has the marks of its delivery, and is what its client was told. What
another hand has removed is gone, which is told, and not counted as removed; what a later delivery
has replaced is that one's by now, and nothing is told of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby

from app.codes import Code
from app.delivery.content import GIVEN_UP_AFTER, Content, ContentEnd, DueContent
from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME
from app.delivery.marks import marks_of
from app.delivery.object_store import FoundObject
from app.delivery.ports import Contents, DeliveryStore, UnitOfWork
from app.delivery.targets import Target
from app.errors import (
    ContentChangedError,
    DeliveryError,
    PermanentError,
    RetryableError,
    StoreUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.content_news import tell_end, tell_expires_soon
from app.usecases.folders import Folders
from app.waiting.backoff import Backoff

log = get_logger(__name__)

_CONCURRENCY = 8  # targets
_LOCKS = 2  # objects that are removed at a time: each keeps a connection to the database
_TURN = 60.0  # seconds of a target in one look; what is left has its turn later
_FILES_TURN = 20.0  # seconds of a delivery's files in one look
_SOON = timedelta(seconds=1)  # until the next files of such a delivery have their turn
_BUSY = Backoff(first=30.0, longest=3600.0)  # of a place where something else may come
_BACKOFF = Backoff(first=30.0, longest=3600.0)  # of a target that does not answer
_REFUSED = Backoff(first=3600.0, longest=6 * 3600.0)  # of what is refused until a person acts
# Beside an archive, under names of the service's own.
_BESIDE = (MANIFEST_NAME, REPORT_NAME)


class _Busy(RetryableError):  # noqa: N818 - nothing is wrong
    """Another delivery may be putting something to the same place."""

    code = Code.PLACE_BUSY


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Removes contents whose time is over, and warns of those whose time is over soon."""

    store: DeliveryStore
    contents: Contents
    tenants: ConfiguredTenants
    folders: Folders
    within: timedelta  # after that, what was asked for has happened, or never will
    limit: int = 100  # contents of a target at a time
    patience: float = 30.0  # seconds that a target may take for one step
    # At so many targets at once an object is removed under its lock, which keeps a connection.
    _locked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LOCKS))
    _failures: dict[tuple[str, str], int] = field(default_factory=dict)  # in a row, by target

    async def look(self) -> int:
        """Do what is due; return how many contents were removed.

        Targets are asked side by side: one that is silent, or holds very much, delays no other.
        """
        turns = asyncio.Semaphore(_CONCURRENCY)

        async def visit(due: Sequence[DueContent]) -> int:
            async with turns:
                return await self._visit(due)

        total = 0
        while True:
            found = await self.contents.due(limit=self.limit)
            by_target = [list(due) for _, due in groupby(found, key=_target_of)]
            # All of them end before this does: another process may lead after that.
            ends = await asyncio.gather(*map(visit, by_target), return_exceptions=True)
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
            removed = sum(end for end in ends if isinstance(end, int))
            total += removed
            if not removed or all(len(due) < self.limit for due in by_target):
                return total

    async def _visit(self, due: Sequence[DueContent]) -> int:
        """Do what is due at one target, one after the other, as long as its turn lasts."""
        ends, removed = time.monotonic() + _TURN, 0
        place = _target_of(due[0])
        for item in due:
            if time.monotonic() > ends:
                break
            if not item.removes:
                async with self.store.transaction() as tx:
                    await tell_expires_soon(tx, item.content)
                continue
            try:
                removed += await self._remove(item)
            except (_Busy, PermanentError) as error:
                await self._put_off(item, error)
            except StoreUnavailableError:
                raise
            except DeliveryError as error:
                await self._leave_alone(place, due, item, error)
                return removed
            self._failures.pop(place, None)
        return removed

    async def _leave_alone(
        self,
        place: tuple[str, str],
        due: Sequence[DueContent],
        failed: DueContent,
        error: DeliveryError,
    ) -> None:
        """Put off all that is due at a target that does not answer; longer each time.

        That which it did not answer for comes behind the others, should it be at fault itself.
        """
        failures = self._failures.get(place, 0)
        self._failures[place] = failures + 1
        pause = timedelta(seconds=_BACKOFF.pause(failures))
        for item in due:
            if item.removes:
                await self._gives_up(item, str(error))
        await self.contents.postpone(
            failed.content, 2 * pause, position=failed.position, cause=str(error)
        )
        await self.contents.postpone_all(*place, pause, str(error))
        _warn(failed, error, pause)

    async def _put_off(self, due: DueContent, error: DeliveryError) -> None:
        """Leave one for later that something speaks against which is no matter of its target."""
        position, is_busy = due.position, isinstance(error, _Busy)
        # What is busy at the first look, however late that comes, may not be at the next one.
        if (due.tries or not is_busy) and await self._gives_up(due, str(error)):
            return
        if is_busy:
            pause = timedelta(seconds=_BUSY.pause(due.tries))
        else:
            pause, position = timedelta(seconds=_REFUSED.pause(due.tries)), -1
            _warn(due, error, pause)
        await self.contents.postpone(due.content, pause, position=position, cause=str(error))

    async def _gives_up(self, due: DueContent, cause: str) -> bool:
        """Give up what could not be removed for very long: its row would stay for ever."""
        if due.overdue < GIVEN_UP_AFTER:
            return False
        await self.contents.give_up(due.content, f"{cause}; given up")
        log.error(
            "content_left",
            **due.content.log_context,
            cause=cause,
            consequence=f"it was to be removed {due.overdue.days} days ago, and stays: remove it "
            "by hand, or mend the cause and ask for its removal again (`delivery remove`)",
        )
        return True

    async def _remove(self, due: DueContent) -> bool:
        """Remove a content, or some of its files; return whether it is gone now.

        Raises what speaks against it.
        """
        content = due.content
        target = self._target(content)
        if content.is_folder:
            return await self._remove_folder(due, target)
        await self._check_told(content, target)
        for name in _BESIDE:  # first: it tells of the archive
            if name != content.archive_name:
                await self._remove_beside(content, target, name)
        return await self._remove_object(due, target, ends=True) is not None

    def _target(self, content: Content) -> Target:
        """Return where a content is, with the credentials of today.

        Those that it was put there with are not kept after its end. Raises TargetUnavailableError
        where that is so of all that is due there, and TargetRefusedError where it is of this one.
        """
        if not self.tenants.works_for(content.tenant):
            raise TargetUnavailableError(
                f"tenant {content.tenant} is not served any more, and nothing else opens "
                f"{content.url}: serve it again (DELIVERY_TENANTS), or remove it by hand"
            )
        self.tenants.check_secrets(content.tenant)
        target = self.tenants.settings(content.tenant).target_named(content.target)
        if target is None:
            raise TargetUnavailableError(
                f"target {content.target} is not among the delivery_targets of tenant "
                f"{content.tenant} any more: set it again until {content.url} is removed, or "
                "remove that by hand"
            )
        elsewhere = content.namespace not in (target.namespace, None)
        if elsewhere or target.url_of(content.key) != content.url:
            raise TargetRefusedError(
                f"target {content.target} of tenant {content.tenant} leads to another place now "
                f"({target}): let it lead to where {content.url} is until that is removed, or "
                "remove it by hand"
            )
        return target

    @contextlib.asynccontextmanager
    async def _asking(self, target: Target) -> AsyncIterator[None]:
        """Ask a target, in time. Raises TargetUnavailableError."""
        try:
            async with asyncio.timeout(self.patience):
                yield
        except TimeoutError:
            raise TargetUnavailableError(
                f"{target} did not answer within {self.patience:g} seconds"
            ) from None

    async def _find(self, content: Content, target: Target, key: str) -> FoundObject | None:
        """Return the object with a key, if it is of the content's delivery."""
        async with self._asking(target):
            found = await self.folders.uploads.objects.find(target, key)
        ours = found is not None and found.has(marks_of(content.as_delivery()))
        return found if ours else None

    async def _check_told(self, content: Content, target: Target) -> FoundObject | None:
        """Return the object that was told; None if it is not there.

        Raises ContentChangedError where it is of the delivery, and another one than was told.
        """
        found = await self._find(content, target, content.key)
        if found is None:
            return None
        if found.size != content.size or content.etag not in (found.etag, None):
            raise ContentChangedError(
                f"{content.url} has the marks of its delivery, and is another object than its "
                f"client was told of ({found.size} bytes, ETag {found.etag}): see who changed it, "
                "and remove it by hand"
            )
        return found

    async def _check_place(self, content: Content, target: Target) -> None:
        """Raise unless it is known that an object that is not found is not there any more.

        A container that is gone answers like one that is empty, so it is asked for something that
        it must be there for. Raises TargetRefusedError, and what the store raises.
        """
        if content.namespace is None:
            raise TargetRefusedError(
                f"nothing is found as {content.url}, and it was put there by a version that did "
                f"not keep on which server; {target} is where the target {content.target} leads "
                "now: see whether it was there, and remove it by hand if it is elsewhere"
            )
        async with self._asking(target):
            await self.folders.uploads.objects.open_uploads(target, content.key)

    async def _remove_object(
        self, due: DueContent, target: Target, *, ends: bool
    ) -> ContentEnd | None:
        """Remove the object that was told, if it is still there, and return what became of it.

        With `ends`, that is noted; None where it was noted before.
        """
        content = due.content
        # Looked for once without the lock: one that is silent keeps no connection to the database.
        if await self._check_told(content, target) is None:
            await self._check_place(content, target)
        async with self._locked, self.store.transaction() as tx:
            await self._lock(tx, content, target, content.key)
            # What is not found after an earlier try may have been removed by that.
            end = ContentEnd.REMOVED if due.tries else ContentEnd.GONE
            found = await self._check_told(content, target)
            if found is not None and await tx.is_told_by_a_later(content, found.etag):
                # By the same bytes. It has this one's marks, and goes with it when the other's time
                # is over; where that is not soon, it is left to stay.
                if due.overdue < GIVEN_UP_AFTER:
                    raise _Busy(f"a later delivery was told {content.url}, which stays for that")
                end = ContentEnd.REPLACED
            elif found is not None:
                async with self._asking(target):
                    await self.folders.uploads.objects.delete(target, content.key, etag=found.etag)
                tx.on_commit(metrics.OBJECTS_REMOVED.labels(content.tenant).inc)
                end = ContentEnd.REMOVED
            if ends and not await tell_end(tx, content, end, within=self.within):
                return None
            return end

    async def _remove_beside(self, content: Content, target: Target, name: str) -> None:
        """Remove what is beside an archive, if it has the marks of its delivery."""
        key = f"{content.key.rpartition('/')[0]}/{name}"
        if await self._find(content, target, key) is None:
            return
        async with self._locked, self.store.transaction() as tx:
            await self._lock(tx, content, target, key)
            found = await self._find(content, target, key)
            if found is not None:
                async with self._asking(target):
                    await self.folders.uploads.objects.delete(target, key, etag=found.etag)
                tx.on_commit(metrics.OBJECTS_REMOVED.labels(content.tenant).inc)

    async def _lock(self, tx: UnitOfWork, content: Content, target: Target, key: str) -> None:
        """Keep others from an object; raise _Busy unless it is to be removed now."""
        url = target.url_of(key)
        await tx.lock_object(url, target.namespace)
        if not await tx.may_remove(content, url, target.namespace):
            raise _Busy(f"another delivery is completing {url}, or its time is not over any more")

    async def _remove_folder(self, due: DueContent, target: Target) -> bool:
        """Remove a manifest, then its files, as long as their turn lasts."""
        content, delivery = due.content, due.content.as_delivery()
        end: ContentEnd | None = ContentEnd.REMOVED
        if due.position < 0:
            await self._check_files_known(content)
            end = await self._remove_object(due, target, ends=False)
            await self._remove_beside(content, target, _BESIDE[-1])
        ends, position = time.monotonic() + _FILES_TURN, due.position
        refused = None if position < 0 else due.cause  # of an earlier turn of this pass
        removing = self.folders.remove(delivery, target, content.key, after=position)
        async with contextlib.aclosing(removing):
            while True:
                async with self._asking(target):
                    cleared = await anext(removing, None)
                if cleared is None:
                    break
                position = cleared.position
                refused = refused or (str(cleared.refused) if cleared.refused else None)
                if time.monotonic() > ends:
                    await self.contents.postpone(content, _SOON, position=position, cause=refused)
                    return False
        if refused is not None:
            raise PermanentError(refused)  # all files are looked for again, the next time
        if await self._has_files(content, behind=position):
            raise _Busy(f"another delivery is putting files beside {content.url}")
        async with self.store.transaction() as tx:
            return await tell_end(tx, content, end or ContentEnd.REMOVED, within=self.within)

    async def _check_files_known(self, content: Content) -> None:
        """Raise PermanentError if the files of a folder are forgotten: the manifest alone has them.

        They are kept as long as the content, unless a version did it that does not know that, or a
        person.
        """
        if content.file_count and not await self._has_files(content, behind=-1):
            raise PermanentError(
                f"the rows that tell the files beside {content.url} are gone from the database: "
                "remove what is in its folder by hand; its manifest lists it"
            )

    async def _has_files(self, content: Content, *, behind: int) -> bool:
        async for _ in self.store.files(content.as_delivery(), after=behind):
            return True
        return False


def _target_of(due: DueContent) -> tuple[str, str]:
    return due.content.tenant, due.content.target


def _warn(due: DueContent, error: DeliveryError, pause: timedelta) -> None:
    log.warning(
        "content_not_removed",
        **due.content.log_context,
        overdue_seconds=round(due.overdue.total_seconds()),
        retry_in_seconds=round(pause.total_seconds()),
        cause=str(error),
        consequence="it stays at its target for now, and is tried again",
    )
