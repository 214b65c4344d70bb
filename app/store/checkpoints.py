"""Checkpoints on PostgreSQL: how far half-made archives are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg

from app.delivery.checkpoint import (
    Boundary,
    FinishedMember,
    SavedStep,
    Step,
    Tail,
    TailObject,
    files_busy,
)
from app.delivery.kept_files import FileStep, SentPart
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart, Upload
from app.store.objects import lock_object
from app.store.pool import translate_errors
from app.store.sql import load
from app.waiting.patience import until_answered

SQL = load(__name__)


class PostgresCheckpoints:
    """See `ports.Checkpoints`: those of one worker, the `owner`."""

    def __init__(self, pool: asyncpg.Pool, *, owner: str) -> None:
        self._pool = pool
        self._owner = owner

    async def save(self, delivery: Delivery, upload: Upload, step: Step) -> bool:
        """Add a step to what was saved of an upload."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if not await self._holds(connection, delivery, upload):
                    return False
                await connection.execute(
                    *SQL["discard"](
                        id=delivery.id,
                        upload_id=upload.upload_id,
                        follows=step.follows,
                        follows_members=step.follows_members,
                    )
                )
                await connection.execute(
                    *SQL["save"](
                        id=delivery.id,
                        upload_id=upload.upload_id,
                        parts=step.boundary.parts,
                        follows=step.follows,
                        part_size=step.part_size,
                        md5_state=step.boundary.md5_state,
                        members=step.boundary.members,
                        crc=step.boundary.crc,
                        part_etags=[part.etag for part in step.parts],
                        part_md5s=[part.md5 for part in step.parts],
                        member_sizes=[member.size for member in step.members],
                        member_records=[member.record for member in step.members],
                        tail_key=step.tail.key if step.tail else None,
                        tail_size=step.tail.size if step.tail else None,
                        tail_md5=step.tail.md5 if step.tail else None,
                        made_by=step.made_by,
                        contents=step.contents,
                        sha256_state=step.boundary.sha256_state,
                    )
                )
        return True

    async def steps(self, delivery: Delivery, upload: Upload) -> list[SavedStep]:
        """Return what was saved of an upload, without the members."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["steps"](id=delivery.id, upload_id=upload.upload_id))
        return [_step_of(row) for row in rows]

    async def members(
        self, delivery: Delivery, upload: Upload, step: SavedStep
    ) -> list[FinishedMember]:
        """Return the members of a step."""
        parts, members = step.reaches
        asked = SQL["members"](
            id=delivery.id, upload_id=upload.upload_id, parts=parts, members=members
        )
        with translate_errors():
            row = await self._pool.fetchrow(*asked)
        if row is None:
            return []
        return [
            FinishedMember(size, record)
            for size, record in zip(row["member_sizes"], row["member_records"], strict=True)
        ]

    async def save_file(self, delivery: Delivery, upload: Upload, step: FileStep) -> bool:
        """Add a step to what was saved of a file."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if not await self._holds(connection, delivery, upload):
                    return False
                await connection.execute(
                    *SQL["discard_file"](
                        id=delivery.id,
                        position=step.position,
                        file_upload_id=step.upload.upload_id,
                        step=step.number,
                    )
                )
                await connection.execute(
                    *SQL["save_file"](
                        id=delivery.id,
                        position=step.position,
                        step=step.number,
                        file_upload_id=step.upload.upload_id,
                        bucket=step.upload.container,
                        key=step.upload.key,
                        target=step.upload.target,
                        file_id=step.file_id,
                        size=step.size,
                        md5=step.md5,
                        part_size=step.part_size,
                        numbers=[part.number for part in step.parts],
                        part_etags=[part.stored.etag for part in step.parts],
                        part_md5s=[part.md5 for part in step.parts],
                        part_shown=[part.stored.md5 is not None for part in step.parts],
                    )
                )
        return True

    async def kept_uploads(self, delivery: Delivery) -> dict[int, str]:
        """Return the ids of the uploads of files of which something was saved."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["kept_uploads"](id=delivery.id))
        return {row["position"]: row["upload_id"] for row in rows}

    async def file_steps(self, delivery: Delivery, position: int) -> list[FileStep]:
        """Return what was saved of a file."""
        asked = SQL["file_steps"](id=delivery.id, position=position)
        with translate_errors():
            rows = await self._pool.fetch(*asked)
        return [_file_step_of(row) for row in rows]

    async def forget_file(self, delivery: Delivery, upload: Upload, position: int) -> bool:
        """Forget what was saved of a file."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if not await self._holds(connection, delivery, upload):
                    return False
                await connection.execute(*SQL["forget_file"](id=delivery.id, position=position))
        return True

    async def _holds(
        self,
        connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
        delivery: Delivery,
        upload: Upload,
    ) -> bool:
        """Whether an attempt has its lease and its upload; it keeps them until the end."""
        held = await connection.fetchval(
            *SQL["hold_attempt"](
                id=delivery.id,
                attempt=delivery.attempt,
                owner=self._owner,
                upload_id=upload.upload_id,
            )
        )
        return held is not None

    async def keep_contents(
        self, delivery: Delivery, upload: Upload, *, md5: str, first: int, contents: bytes
    ) -> bool:
        """Keep what is known of files behind the last step."""
        kept = SQL["keep_contents"](
            id=delivery.id,
            attempt=delivery.attempt,
            owner=self._owner,
            upload_id=upload.upload_id,
            md5=md5,
            first=first,
            records=contents,
        )
        with translate_errors():
            return await self._pool.fetchval(*kept) is not None

    async def contents(self, delivery: Delivery, *, md5: str) -> AsyncIterator[bytes]:
        """Iterate over what is known of files, a step at a time; waits while the store is away."""
        after, beside = -1, False
        while True:
            asked = SQL["contents"](id=delivery.id, md5=md5, after=after, after_beside=beside)
            if (row := await until_answered(partial(self._next, asked))) is None:
                return
            after, beside = row["first"], row["beside"]
            yield row["records"]

    async def _next(self, asked: tuple[Any, ...]) -> asyncpg.Record | None:
        with translate_errors():
            return await self._pool.fetchrow(*asked)

    async def record_tail(
        self, delivery: Delivery, upload: Upload, key: str, *, until: timedelta
    ) -> bool:
        """Note an object before it is put beside the archive."""
        with translate_errors():
            async with self._pool.acquire() as connection:
                return await self._note(connection, delivery, upload, key, until)

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
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_object(connection, url, namespace)
                others = SQL["others_put_files"](id=delivery.id, url=url, namespace=namespace)
                if await connection.fetchval(*others):
                    raise files_busy(url)
                place = url, namespace
                return await self._note(connection, delivery, upload, key, until, place)

    async def _note(
        self,
        connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
        delivery: Delivery,
        upload: Upload,
        key: str,
        until: timedelta,
        place: tuple[str, str] | tuple[None, None] = (None, None),
    ) -> bool:
        url, namespace = place
        noted = await connection.fetchval(
            *SQL["record_tail"](
                id=delivery.id,
                attempt=delivery.attempt,
                owner=self._owner,
                upload_id=upload.upload_id,
                key=key,
                target=upload.target,
                until=until,
                url=url,
                namespace=namespace,
            )
        )
        return noted is not None

    async def tails(self, delivery: Delivery) -> list[TailObject]:
        """Return the objects that were noted, and may be there."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["tails"](id=delivery.id))
        return [TailObject(**row) for row in rows]

    async def forget_tails(
        self, delivery: Delivery, keys: Sequence[str], *, took: timedelta
    ) -> None:
        """Note that objects were removed."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    *SQL["forget_tails"](id=delivery.id, keys=list(keys), took=took)
                )
                await connection.execute(*SQL["drop_tails"](id=delivery.id, keys=list(keys)))

    async def is_kept(
        self, delivery: Delivery, upload: Upload, *, for_another: bool = False
    ) -> bool:
        """Whether an attempt may go on with an upload."""
        asked = SQL["is_kept"](
            id=delivery.id,
            upload_id=upload.upload_id,
            attempt=delivery.attempt,
            for_another=for_another,
        )
        with translate_errors():
            return bool(await self._pool.fetchval(*asked))


def _step_of(row: asyncpg.Record) -> SavedStep:
    return SavedStep(
        follows=row["follows"],
        part_size=row["part_size"],
        boundary=Boundary(
            parts=row["parts"],
            md5_state=row["md5_state"],
            members=row["members"],
            crc=row["crc"],
            sha256_state=row["sha256_state"],
        ),
        parts=[
            StoredPart(etag=etag, md5=md5)
            for etag, md5 in zip(row["part_etags"], row["part_md5s"], strict=True)
        ],
        members=row["count"],
        finished=row["finished"],
        tail=None
        if row["tail_key"] is None
        else Tail(key=row["tail_key"], size=row["tail_size"], md5=row["tail_md5"]),
        made_by=row["made_by"],
    )


def _file_step_of(row: asyncpg.Record) -> FileStep:
    told = zip(row["numbers"], row["part_etags"], row["part_md5s"], row["part_shown"], strict=True)
    return FileStep(
        position=row["position"],
        file_id=row["file_id"],
        size=row["size"],
        md5=row["md5"],
        upload=Upload(
            container=row["bucket"],
            key=row["key"],
            upload_id=row["upload_id"],
            target=row["target"],
        ),
        part_size=row["part_size"],
        number=row["step"],
        parts=[
            SentPart(
                number=number,
                stored=StoredPart(etag=etag, md5=md5 if shown else None),
                md5=md5,
            )
            for number, etag, md5, shown in told
        ],
    )
