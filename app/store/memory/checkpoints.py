"""Checkpoints in memory: how far half-made archives are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from app.delivery.checkpoint import FinishedMember, SavedStep, Step, TailObject, files_busy
from app.delivery.kept_files import FileStep
from app.delivery.model import Delivery
from app.delivery.object_store import Upload
from app.delivery.states import State
from app.store.memory import deliveries
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import (
    CheckpointRow,
    ContentsRow,
    DeliveryRow,
    FileCheckpointRow,
    TailRow,
)
from app.store.memory.session import Session
from app.waiting.patience import until_answered


class MemoryCheckpoints:
    """See `app.delivery.ports.Checkpoints`: those of one worker, the `owner`."""

    def __init__(self, database: MemoryDatabase, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def save(self, delivery: Delivery, upload: Upload, step: Step) -> bool:
        """Add a step to what was saved of an upload."""
        table = self._database.checkpoints
        follows = step.follows, step.follows_members
        async with self._database.session() as session:
            if not await self._hold(session, delivery, upload):
                return False
            for key, row in list(session.rows(table, delivery.id)):
                if row.upload_id != upload.upload_id or row.step.reaches > follows:
                    session.remove(table, key)
            session.put(
                table,
                (delivery.id, *step.reaches),
                CheckpointRow(delivery_id=delivery.id, upload_id=upload.upload_id, step=step),
            )
        return True

    async def steps(self, delivery: Delivery, upload: Upload) -> list[SavedStep]:
        """Return what was saved of an upload, without the members."""
        async with self._database.session() as session:
            found = [row.step.saved for row in self._saved_of(session, delivery, upload)]
        return sorted(found, key=lambda step: step.reaches)

    async def members(
        self, delivery: Delivery, upload: Upload, step: SavedStep
    ) -> list[FinishedMember]:
        """Return the members of a step."""
        async with self._database.session() as session:
            for row in self._saved_of(session, delivery, upload):
                if row.step.reaches == step.reaches:
                    return list(row.step.members)
        return []

    async def save_file(self, delivery: Delivery, upload: Upload, step: FileStep) -> bool:
        """Add a step to what was saved of a file."""
        table = self._database.file_checkpoints
        async with self._database.session() as session:
            if not await self._hold(session, delivery, upload):
                return False
            for key, row in list(session.rows(table, delivery.id)):
                other = row.step.upload.upload_id != step.upload.upload_id
                if row.step.position == step.position and (other or row.step.number >= step.number):
                    session.remove(table, key)
            session.put(
                table,
                (delivery.id, step.position, step.number),
                FileCheckpointRow(delivery_id=delivery.id, step=step),
            )
        return True

    async def kept_uploads(self, delivery: Delivery) -> dict[int, str]:
        """Return the ids of the uploads of files of which something was saved."""
        async with self._database.session() as session:
            return {
                row.step.position: row.step.upload.upload_id
                for row in self._files_of(session, delivery)
            }

    async def file_steps(self, delivery: Delivery, position: int) -> list[FileStep]:
        """Return what was saved of a file."""
        async with self._database.session() as session:
            found = [row.step for row in self._files_of(session, delivery)]
        steps = (step for step in found if step.position == position)
        return sorted(steps, key=lambda step: step.number)

    async def forget_file(self, delivery: Delivery, upload: Upload, position: int) -> bool:
        """Forget what was saved of a file."""
        table = self._database.file_checkpoints
        async with self._database.session() as session:
            if not await self._hold(session, delivery, upload):
                return False
            for key, row in list(session.rows(table, delivery.id)):
                if row.step.position == position:
                    session.remove(table, key)
        return True

    def _files_of(self, session: Session, delivery: Delivery) -> list[FileCheckpointRow]:
        row = session.get(self._database.deliveries, delivery.id)
        if row is None or row.state.ended:
            return []
        return [row for _, row in session.rows(self._database.file_checkpoints, delivery.id)]

    async def _hold(self, session: Session, delivery: Delivery, upload: Upload) -> bool:
        """Whether an attempt has its lease and its upload; it keeps them until the end."""
        held = await deliveries.update(
            self._database, session, delivery.id, lambda row: row, self._holds(delivery, upload)
        )
        return held is not None

    async def keep_contents(
        self, delivery: Delivery, upload: Upload, *, md5: str, first: int, contents: bytes
    ) -> bool:
        """Keep what is known of files behind the last step."""
        async with self._database.session() as session:
            held = await session.lock_row(
                self._database.deliveries, delivery.id, self._holds(delivery, upload)
            )
            if held is None:
                return False
            for key, saved in list(session.rows(self._database.checkpoints, delivery.id)):
                if saved.step.boundary.members > first:
                    session.remove(self._database.checkpoints, key)
            row = ContentsRow(delivery_id=delivery.id, records=contents)
            session.put(self._database.contents, (delivery.id, md5, first), row)
        return True

    async def contents(self, delivery: Delivery, *, md5: str) -> AsyncIterator[bytes]:
        """Iterate over what is known of files, a step at a time; waits while the store is away."""
        after = -1, False
        while True:
            found = await until_answered(partial(self._next, delivery, md5, after))
            if found is None:
                return
            after = found[:2]
            yield found[2]

    async def _next(
        self, delivery: Delivery, md5: str, after: tuple[int, bool]
    ) -> tuple[int, bool, bytes] | None:
        async with self._database.session() as session:
            of = session.get(self._database.deliveries, delivery.id)
            kept = [
                (key[2], True, row.records)
                for key, row in session.rows(self._database.contents, delivery.id)
                if key[1] == md5
            ]
            if of is not None and not of.state.ended and of.delivery.upload is not None:
                kept += [
                    (saved.step.follows_members, False, saved.step.contents)
                    for saved in self._saved_of(session, delivery, of.delivery.upload)
                    if saved.step.contents is not None
                ]
        return min((each for each in kept if each[:2] > after), default=None)

    async def record_tail(
        self, delivery: Delivery, upload: Upload, key: str, *, until: timedelta
    ) -> bool:
        """Note an object before it is put beside the archive."""
        async with self._database.session() as session:
            return await self._note(session, delivery, upload, key, until)

    async def record_files(
        self,
        delivery: Delivery,
        upload: Upload,
        key: str,
        *,
        url: str,
        namespace: str,
        until: timedelta,
    ) -> bool:
        """Note files before they are put beside a manifest."""
        async with self._database.session() as session:
            await session.lock(("object", url, namespace))
            await self._database.trip()
            own = session.get(self._database.deliveries, delivery.id)
            if own is not None and session.where(
                self._database.deliveries,
                lambda other: self._may_put(session, other, own, (url, namespace)),
            ):
                raise files_busy(url)
            await self._database.trip()
            return await self._note(session, delivery, upload, key, until, (url, namespace))

    def _may_put(
        self, session: Session, other: DeliveryRow, own: DeliveryRow, place: tuple[str, str]
    ) -> bool:
        if (other.delivery.tenant, other.delivery.user) == (own.delivery.tenant, own.delivery.user):
            return False
        done_there = other.result is not None and other.result.url == place[0]
        return not done_there and any(
            row.place == place and (not other.state.ended or row.until > session.now)
            for _, row in session.rows(self._database.tails, other.delivery.id)
        )

    async def _note(
        self,
        session: Session,
        delivery: Delivery,
        upload: Upload,
        key: str,
        until: timedelta,
        place: tuple[str, str] | None = None,
    ) -> bool:
        held = await session.lock_row(
            self._database.deliveries, delivery.id, self._holds(delivery, upload)
        )
        if held is None:
            return False
        assert upload.target is not None  # noqa: S101 - NOT NULL
        session.put(
            self._database.tails,
            (delivery.id, key),
            TailRow(
                delivery_id=delivery.id,
                tail=TailObject(
                    key=key,
                    attempt=delivery.attempt,
                    target=upload.target,
                    dropped=False,
                ),
                until=session.now + until,
                place=place,
            ),
        )
        return True

    async def tails(self, delivery: Delivery) -> list[TailObject]:
        """Return the objects that were noted, and may be there."""
        async with self._database.session() as session:
            found = [
                replace(row.tail, may_come=max(row.until - session.now, timedelta()))
                for _, row in session.rows(self._database.tails, delivery.id)
            ]
        return sorted(found, key=lambda tail: (tail.attempt, tail.key))

    async def forget_tails(
        self, delivery: Delivery, keys: Sequence[str], *, took: timedelta
    ) -> None:
        """Note that objects were removed."""
        table = self._database.tails
        async with self._database.session() as session:
            for key in keys:
                if (row := session.get(table, (delivery.id, key))) is None:
                    continue
                if row.until < session.now - took:
                    await session.delete(table, (delivery.id, key))
                else:
                    await session.update(table, (delivery.id, key), _dropped)

    async def is_kept(
        self, delivery: Delivery, upload: Upload, *, for_another: bool = False
    ) -> bool:
        """Whether an attempt may go on with an upload."""
        async with self._database.session() as session:
            row = session.get(self._database.deliveries, delivery.id)
            return (
                row is not None
                and not row.state.ended
                and row.delivery.upload is not None
                and row.delivery.upload.upload_id == upload.upload_id
                and (row.delivery.attempt > delivery.attempt or not for_another)
                and bool(self._saved_of(session, delivery, upload))
            )

    def _saved_of(
        self, session: Session, delivery: Delivery, upload: Upload
    ) -> list[CheckpointRow]:
        rows = session.rows(self._database.checkpoints, delivery.id)
        return [row for _, row in rows if row.upload_id == upload.upload_id]

    def _holds(self, delivery: Delivery, upload: Upload) -> Callable[[DeliveryRow], bool]:
        """Return what tells whether an attempt still has its lease and its upload."""

        def holds(row: DeliveryRow) -> bool:
            return (
                row.delivery.attempt == delivery.attempt
                and row.lease_owner == self._owner
                and row.state is State.TRANSFERRING
                and row.delivery.upload is not None
                and row.delivery.upload.upload_id == upload.upload_id
            )

        return holds


def _dropped(row: TailRow) -> TailRow:
    return replace(row, tail=replace(row.tail, dropped=True))
