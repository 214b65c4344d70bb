"""Who may touch an upload: looked at as each request is made, not as it arrives.

- An attempt opens uploads of its delivery, once those that earlier attempts left are aborted, and
  none after one of which it was not told whether it is open; it
  sends parts of those that it opened, or that an attempt before has left recorded, and completes
  them after PostgreSQL has noted what is about to appear. It holds the lease then, or has lost it
  so short a time ago that it may not know.
- An upload whose attempt has its delivery is aborted by that attempt alone; another one also by an
  attempt of the same delivery or key, and by the process that leads the sweep. One of which steps
  are saved is gone on with: no attempt that worked on it and lost its lease aborts it.
- An attempt that fails aborts the upload that it opened, unless another may go on with it; one
  that was told that it lost its lease sends no more.
- Who goes on with an upload does so behind parts that are there as they were sent.
- An object is removed by an attempt of its delivery, or by the sweep for its delivery; never while
  a client was answered with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from uuid import UUID

from app.delivery.checkpoint import Checkpoint, FinishedMember, SavedStep
from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, Upload
from app.delivery.states import State
from app.store.memory import MemoryLeases
from app.store.memory.rows import DeliveryRow
from app.store.memory.transaction import MemoryUnitOfWork
from app.usecases.archive_manifests import manifest_key_of
from app.usecases.remove import Removal
from app.usecases.resume import Resumption
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from sinks.stores.memory import MemoryTarget
from tests.simulation.postgres import Leadership, SimulatedDatabase
from tests.simulation.processes import Process, current

# Seconds until a worker that runs must know that its lease is gone, though PostgreSQL is silent:
# the whole lease, and a look at it.
NOTICED = 12.0 + 1.0 + 4.0

_WORK: ContextVar[Delivery | None] = ContextVar("_WORK", default=None)
_SINCE: ContextVar[float] = ContextVar("_SINCE", default=0.0)
# For which delivery an object is removed.
_REMOVING: ContextVar[Delivery | None] = ContextVar("_REMOVING", default=None)
# Which upload an attempt goes on with while it aborts others.
_GOES_ON_WITH: ContextVar[str | None] = ContextVar("_GOES_ON_WITH", default=None)
_MARK = "rs-delivery-id"
_STOPS = 1.0  # seconds until a transfer that is told to stop sends nothing more


@dataclass(frozen=True)
class Asker:
    """Who asks: an attempt, or a process that works on none."""

    process: Process
    delivery: Delivery | None
    since: float = 0.0  # when its attempt began, by the clock of the night

    def __str__(self) -> str:
        if self.delivery is None:
            return f"{self.process}"
        return f"{self.process} at attempt {self.delivery.attempt} of {self.delivery}"

    @property
    def attempt(self) -> tuple[Process, UUID, int] | None:
        """Which attempt it is, and whose."""
        if self.delivery is None:
            return None
        return self.process, self.delivery.id, self.delivery.attempt


@dataclass(frozen=True)
class _Opened:
    """An upload, and who asked for it."""

    upload: Upload
    by: Asker
    at: float  # when, by the clock of the night


class Fences:
    """Looks at each request that changes something at the object store."""

    def __init__(self, database: SimulatedDatabase, leader: Leadership) -> None:
        self.wrong: Callable[[str], object] = repr  # told of what must not be
        self._database = database
        self._leader = leader
        self._opened: dict[str, _Opened] = {}  # by upload id
        self._appeared: dict[tuple[str, str], float] = {}  # by delivery id and ETag
        self._there: dict[str, FoundObject] = {}  # what appeared last, by URL
        self._sent: set[tuple[tuple[Process, UUID, int] | None, str]] = set()  # by, upload id
        # Who has asked for an upload, and was not told of it.
        self._opening: set[tuple[Process, UUID, int] | None] = set()
        # What attempts have recorded as theirs, and have not dealt with yet, by upload id.
        self._recorded: dict[tuple[tuple[Process, UUID, int] | None, str], Upload] = {}
        self._listed: dict[tuple[tuple[Process, UUID, int] | None, str], Mapping[int, str]] = {}
        self._told_lost: dict[tuple[Process, UUID, int], float] = {}  # when, by attempt

    @staticmethod
    def asker() -> Asker:
        """Return who asks now."""
        return Asker(current(), _WORK.get(), _SINCE.get())

    def opens(
        self,
        asker: Asker,
        key: str,
        marks: Mapping[str, str],
        *,
        beside: Sequence[Upload],
        there: FoundObject | None,
    ) -> None:
        """An upload is asked for, `beside` those that are open; an object may be `there`."""
        if asker.delivery is None or str(asker.delivery.id) != marks[_MARK]:
            self.wrong(f"{asker} opens an upload of {key} for another delivery")
        self._must_hold(asker, f"opens an upload of {key}")
        if asker.attempt in self._opening:
            self.wrong(f"{asker} opens an upload of {key} again, and may have opened one")
        self._opening.add(asker.attempt)
        for upload in beside:
            opened = self._opened[upload.upload_id]
            if self._had_to_abort(asker, opened):
                self.wrong(f"{asker} opens an upload of {key} beside that of {opened.by}")
        if there is not None and self._is_made(asker, there):
            self.wrong(f"{asker} opens an upload of {key}, and its archive is there")

    def told_opened(self, asker: Asker) -> None:
        """An attempt is told that an upload is open."""
        self._opening.discard(asker.attempt)

    def opened(self, asker: Asker, upload: Upload) -> None:
        """An upload is open."""
        now = asyncio.get_running_loop().time()
        self._opened[upload.upload_id] = _Opened(upload, asker, now)

    def listed(self, asker: Asker, upload: Upload, etags: Mapping[int, str]) -> None:
        """An attempt is told which parts of an upload are there."""
        self._listed[asker.attempt, upload.upload_id] = etags

    def sends(self, asker: Asker, upload: Upload, number: int) -> None:
        """A part is sent."""
        what = f"sends a part of {upload.key}"
        self._must_be_its_own(asker, upload, what)
        self._must_not_know(asker, what)
        if (asker.attempt, upload.upload_id) not in self._sent:
            self._sent.add((asker.attempt, upload.upload_id))
            if (etags := self._listed.get((asker.attempt, upload.upload_id))) is not None:
                self._goes_on_behind(asker, upload, number, etags)

    def completes(self, asker: Asker, target: MemoryTarget, upload: Upload) -> None:
        """A completion is asked for."""
        what = f"completes {upload.key}"
        self._must_be_its_own(asker, upload, what)
        assert asker.delivery is not None
        noted = (*self._lease_of(asker), target.url_of(upload.key))
        if noted not in self._database.completions:
            self.wrong(f"{asker} {what}, and has not noted it")

    def made(self, upload: Upload) -> None:
        """An attempt is told that its object is there: of its upload nothing is left to any."""
        for recorded in [key for key in self._recorded if key[1] == upload.upload_id]:
            del self._recorded[recorded]

    def aborts(self, asker: Asker, upload: Upload) -> None:
        """An abort is asked for."""
        self._recorded.pop((asker.attempt, upload.upload_id), None)
        if upload.upload_id == _GOES_ON_WITH.get():
            self.wrong(f"{asker} aborts {upload.key}, which it goes on with")
        opened = self._opened[upload.upload_id]
        if opened.by.attempt == asker.attempt or (asker.attempt, upload.upload_id) in self._sent:
            if self._is_saved(opened) and not self._has(asker):
                self.wrong(f"{asker} aborts {upload.key}, and a successor may go on with it")
            return
        what = f"aborts an upload of {upload.key} by {opened.by}"
        if self._has(opened.by):
            self.wrong(f"{asker} {what}, which has its delivery")
        if asker.delivery is None:
            self._must_lead(asker, what)
        elif not self._shares(asker.delivery, opened):
            self.wrong(f"{asker} {what}, which is none of its own")
        else:
            self._must_hold(asker, what)

    def removes(self, asker: Asker, key: str, there: FoundObject | None) -> None:
        """A removal is asked for."""
        what = f"removes {key}"
        delivery = _REMOVING.get()
        if there is not None and delivery is not None and there.marks[_MARK] != str(delivery.id):
            self.wrong(f"{asker} {what} for {delivery}, which is another's")
        if key.endswith(f"/{REPORT_NAME}"):
            if asker.delivery is not None and there is not None:
                self._must_be_of_its_client(asker.delivery, what, there)
            return
        if asker.delivery is None:
            self._must_lead(asker, what)
            return
        if there is not None and there.marks[_MARK] != str(asker.delivery.id):
            before = self._database.deliveries.get(UUID(there.marks[_MARK]))
            if not self._may_replace(asker.delivery, before, key):
                self.wrong(f"{asker} {what}, which is another's")
        self._must_hold(asker, what)

    def _must_be_of_its_client(self, delivery: Delivery, what: str, there: FoundObject) -> None:
        row = self._database.deliveries.get(UUID(there.marks[_MARK]))
        client = delivery.tenant, delivery.correlation_id, delivery.user
        of = None if row is None else row.delivery
        if of is None or (of.tenant, of.correlation_id, of.user) != client:
            self.wrong(f"{delivery} {what}, which is of {of}")

    @staticmethod
    def _may_replace(delivery: Delivery, before: DeliveryRow | None, key: str) -> bool:
        """Whether files of an earlier delivery of its id make room for those of a delivery.

        Or a manifest of its client's, which tells of an archive that its own is about to replace.
        """
        if before is not None and key == manifest_key_of(delivery.key):
            clients = (before.delivery.tenant, before.delivery.user)
            if clients == (delivery.tenant, delivery.user):
                return True
        return (
            before is not None
            and delivery.archive_name == MANIFEST_NAME
            and key.startswith(delivery.key.removesuffix(MANIFEST_NAME))
            and before.delivery.tenant == delivery.tenant
            and before.delivery.correlation_id == delivery.correlation_id
            and before.delivery.requested_at < delivery.requested_at
        )

    def puts(self, asker: Asker, key: str) -> None:
        """A file is put."""
        if key.endswith(f"/{REPORT_NAME}"):
            return  # in the transaction that ends its delivery, whichever worker that is
        self._must_hold(asker, f"puts {key}")
        self._must_not_know(asker, f"puts {key}")

    def removed(self, url: str, there: FoundObject) -> None:
        """An object is gone."""
        rows = [row for _, row in self._database.deliveries.items() if row.state is State.DONE]
        for row in rows:
            told = row.result
            if url.endswith(f"/{MANIFEST_NAME}"):
                continue  # it goes before the files of the next delivery of its id come
            if told is not None and (told.url, told.etag) == (url, there.etag):
                if self._is_over(row):
                    continue
                self.wrong(f"{url} is removed, and {row.delivery} is DONE with it")

    def _is_over(self, row: DeliveryRow) -> bool:
        """Whether what a client was told is to be removed, or is another's who came later."""
        kept = self._database.kept_contents.get(row.delivery.id)
        return kept is not None and kept.is_over(self._database.time())

    def patches(self) -> Iterator[Any]:
        """Iterate over the patches by which it is known who asks, and what attempts know."""
        yield patch.object(Transfers, "deliver", self._watched_work())
        yield patch.object(Removal, "remove", _watched_removal())
        yield patch.object(MemoryUnitOfWork, "relied_on", self._watched_reliance())
        yield patch.object(Uploads, "abort_orphans", _watched_aborts())
        yield patch.object(Resumption, "is_kept", self._watched_keeping())
        yield patch.object(MemoryLeases, "record_upload", self._watched_record())
        for name in ("renew", "holds"):
            yield patch.object(MemoryLeases, name, self._watched_lease(name))

    def _watched_work(self) -> Any:
        deliver = Transfers.deliver

        async def known(transfers: Transfers, delivery: Delivery, lease: Any) -> None:
            _WORK.set(delivery)  # in the context of this task, and of those that it makes
            _SINCE.set(asyncio.get_running_loop().time())
            try:
                await deliver(transfers, delivery, lease)
            except GeneratorExit:  # the night is over
                raise
            except BaseException as error:
                if not _is_cut_short(error):
                    self._fails(self.asker())
                raise

        return known

    def _watched_reliance(self) -> Any:
        relied_on = MemoryUnitOfWork.relied_on

        async def watched(
            tx: MemoryUnitOfWork, delivery: Delivery, url: str, etag: str, **options: Any
        ) -> bool:
            there = self._there.get(url)
            its = there is None or there.etag != etag or there.marks[_MARK] == str(delivery.id)
            if not its and _REMOVING.get() is not None:
                self.wrong(
                    f"an object at {url} is about to be removed for {delivery}, and is not its"
                )
            return await relied_on(tx, delivery, url, etag, **options)

        return watched

    def _watched_keeping(self) -> Any:
        is_kept = Resumption.is_kept

        async def watched(
            resumption: Resumption, delivery: Delivery, upload: Upload, **options: Any
        ) -> bool:
            kept = await is_kept(resumption, delivery, upload, **options)
            if kept:
                self._recorded.pop((self.asker().attempt, upload.upload_id), None)
            return kept

        return watched

    def _watched_record(self) -> Any:
        record_upload = MemoryLeases.record_upload

        async def watched(leases: MemoryLeases, delivery: Delivery, upload: Upload) -> bool:
            self._recorded[self.asker().attempt, upload.upload_id] = upload
            return await record_upload(leases, delivery, upload)

        return watched

    def _watched_lease(self, name: str) -> Any:
        ask = getattr(MemoryLeases, name)

        async def watched(leases: MemoryLeases, delivery: Delivery) -> bool:
            has: bool = await ask(leases, delivery)
            if not has:
                attempt = current(), delivery.id, delivery.attempt
                self._told_lost.setdefault(attempt, asyncio.get_running_loop().time())
            return has

        return watched

    def _fails(self, asker: Asker) -> None:
        """An attempt fails: it has aborted what it opened, or saved it for another."""
        assert asker.delivery is not None
        rows = [row for _, row in self._database.checkpoints.of(asker.delivery.id)]
        saved = {row.upload_id for row in rows}
        for (attempt, upload_id), upload in list(self._recorded.items()):
            if attempt == asker.attempt and upload_id not in saved:
                self.wrong(f"{asker} fails, and leaves its upload of {upload.key}")

    def _goes_on_behind(
        self, asker: Asker, upload: Upload, number: int, etags: Mapping[int, str]
    ) -> None:
        """Have it be wrong unless the parts before the one that is sent are as they were sent."""
        assert asker.delivery is not None
        rows = [row for _, row in self._database.checkpoints.of(asker.delivery.id)]
        steps = [row.step.saved for row in rows if row.upload_id == upload.upload_id]
        steps.sort(key=lambda step: step.reaches)
        saved = Checkpoint.of(steps, _no_members).parts if steps else []
        for before, part in enumerate(saved[: number - 1], start=1):
            if etags.get(before) != part.etag:
                self.wrong(f"{asker} goes on with {upload.key}, and part {before} is another one")

    def _must_not_know(self, asker: Asker, what: str) -> None:
        """Have it be wrong if an attempt has been told that it lost its lease."""
        told = None if asker.attempt is None else self._told_lost.get(asker.attempt)
        if told is None:
            return
        known = asyncio.get_running_loop().time() - max(told, asker.process.thawed)
        if known > _STOPS:
            self.wrong(f"{asker} {what} {known:.0f} s after it was told that it lost its lease")

    def _must_be_its_own(self, asker: Asker, upload: Upload, what: str) -> None:
        opened = self._opened[upload.upload_id]
        if opened.by.attempt != asker.attempt and not self._goes_on(asker, opened):
            self.wrong(f"{asker} {what}, an upload of {opened.by}")
        self._must_hold(asker, what)

    def _had_to_abort(self, asker: Asker, opened: _Opened) -> bool:
        """Whether an upload is one that an earlier attempt has left, for this one to abort.

        While another tenant has a delivery of the same id, it may be that one's.
        """
        ours, theirs = asker.delivery, opened.by.delivery
        assert theirs is not None
        return (
            ours is not None
            and theirs.id == ours.id
            and theirs.attempt < ours.attempt
            and opened.at < asker.since
            and self._has(asker)
            and not self._has_a_namesake(ours, asker.since)
        )

    def _has_a_namesake(self, delivery: Delivery, since: float) -> bool:
        """Whether another tenant had a delivery of the same id under way at a time, or later."""
        now, database = asyncio.get_running_loop().time(), self._database
        latest = now + database.ahead.total_seconds()  # its clock may have jumped meanwhile
        return any(
            row.delivery.correlation_id == delivery.correlation_id
            and row.delivery.tenant != delivery.tenant
            and (
                row.finished_at is None or latest + database.seconds_until(row.finished_at) > since
            )
            for _, row in database.deliveries.items()
        )

    def appeared(self, url: str, found: FoundObject) -> None:
        """An object is visible from now on."""
        self._there[url] = found
        self._appeared[found.marks[_MARK], found.etag] = asyncio.get_running_loop().time()

    def _is_made(self, asker: Asker, there: FoundObject) -> bool:
        """Whether an object is the archive that an earlier attempt noted, and made in time."""
        if asker.delivery is None or asker.delivery.completing is None:
            return False
        noted = asker.delivery.completing  # as it was claimed
        made = str(asker.delivery.id), noted.etag or ""
        return (there.marks[_MARK], there.etag) == made and self._appeared[made] < asker.since

    def _goes_on(self, asker: Asker, opened: _Opened) -> bool:
        """Whether it is the upload that an attempt before has left to its delivery."""
        if asker.delivery is None or opened.by.delivery is None:
            return False
        recorded = asker.delivery.upload  # as it was claimed
        return (
            opened.by.delivery.id == asker.delivery.id
            and opened.by.delivery.attempt < asker.delivery.attempt
            and recorded is not None
            and recorded.upload_id == opened.upload.upload_id
        )

    def _is_saved(self, opened: _Opened) -> bool:
        """Whether steps of an upload are saved, and it is still the one that is recorded."""
        assert opened.by.delivery is not None
        row = self._database.deliveries.get(opened.by.delivery.id)
        recorded = None if row is None else row.delivery.upload
        saved = self._database.checkpoints.of(opened.by.delivery.id)
        return (
            recorded is not None
            and recorded.upload_id == opened.upload.upload_id
            and any(row.upload_id == opened.upload.upload_id for _, row in saved)
        )

    def _must_lead(self, asker: Asker, what: str) -> None:
        if not any(self._leader.leads(job, asker.process) for job in ("sweep", "retention")):
            self.wrong(f"{asker} {what}, and has no delivery, nor leads what removes")

    def _must_hold(self, asker: Asker, what: str) -> None:
        """Have it be wrong unless an attempt holds its delivery, as far as it can know."""
        if asker.delivery is None:
            self.wrong(f"{asker} {what}, and works on no delivery")
            return
        if self._has(asker):
            return
        lost = self._database.lost.get(self._lease_of(asker))
        if lost is None:
            self.wrong(f"{asker} {what}, and never had its lease")
            return
        known = asyncio.get_running_loop().time() - max(lost, asker.process.thawed)
        if known > NOTICED:
            self.wrong(f"{asker} {what} {known:.0f} s after it lost its lease")

    def _has(self, asker: Asker) -> bool:
        """Whether PostgreSQL says that it holds its delivery."""
        if asker.delivery is None:
            return False
        row = self._database.deliveries.get(asker.delivery.id)
        if row is None:
            return False
        return (row.delivery.id, row.lease_owner, row.delivery.attempt) == self._lease_of(asker)

    @staticmethod
    def _lease_of(asker: Asker) -> tuple[UUID, str, int]:
        assert asker.delivery is not None
        return asker.delivery.id, asker.process.name, asker.delivery.attempt

    @staticmethod
    def _shares(delivery: Delivery, opened: _Opened) -> bool:
        """Whether an upload is of a delivery, or has its key."""
        assert opened.by.delivery is not None
        if opened.by.delivery.id == delivery.id:
            return True
        return opened.upload.key.endswith(delivery.key)


def _is_cut_short(error: BaseException) -> bool:
    """Whether an attempt was cancelled while it let go of what it had: the next one does."""
    task = asyncio.current_task()
    again = task is not None and task.cancelling() > 1
    return again or (isinstance(error, asyncio.CancelledError) and error.__context__ is not None)


def _watched_aborts() -> Any:
    """Return `abort_orphans`, of which it is known which upload it is to leave."""
    abort_orphans = Uploads.abort_orphans

    async def watched(
        uploads: Uploads, *of: Any, but: Upload | None = None, **options: Any
    ) -> bool:
        _GOES_ON_WITH.set(None if but is None else but.upload_id)
        try:
            return await abort_orphans(uploads, *of, but=but, **options)
        finally:
            _GOES_ON_WITH.set(None)

    return watched


def _watched_removal() -> Any:
    """Return `remove`, of which it is known for which delivery it removes an object."""
    remove = Removal.remove

    async def watched(removal: Removal, delivery: Delivery, target: Any, key: str) -> bool:
        _REMOVING.set(delivery)
        try:
            return await remove(removal, delivery, target, key)
        finally:
            _REMOVING.set(None)

    return watched


async def _no_members(_step: SavedStep) -> list[FinishedMember]:
    """Only the parts are looked at."""
    return []
