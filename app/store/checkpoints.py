"""Checkpoints on PostgreSQL: how far half-made archives are."""

from __future__ import annotations

import asyncpg

from app.delivery.checkpoint import Boundary, FinishedMember, Step
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart, Upload
from app.store.pool import translate_errors
from app.store.sql import load

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
                held = await connection.fetchval(
                    *SQL["hold_attempt"](
                        id=delivery.id,
                        attempt=delivery.attempt,
                        owner=self._owner,
                        upload_id=upload.upload_id,
                    )
                )
                if held is None:
                    return False
                await connection.execute(
                    *SQL["discard"](
                        id=delivery.id, upload_id=upload.upload_id, follows=step.follows
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
                    )
                )
        return True

    async def steps(self, delivery: Delivery, upload: Upload) -> list[Step]:
        """Return what was saved of an upload."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["steps"](id=delivery.id, upload_id=upload.upload_id))
        return [_step_of(row) for row in rows]


def _step_of(row: asyncpg.Record) -> Step:
    return Step(
        follows=row["follows"],
        part_size=row["part_size"],
        boundary=Boundary(
            parts=row["parts"],
            md5_state=row["md5_state"],
            members=row["members"],
            crc=row["crc"],
        ),
        parts=[
            StoredPart(etag=etag, md5=md5)
            for etag, md5 in zip(row["part_etags"], row["part_md5s"], strict=True)
        ],
        members=[
            FinishedMember(size, record)
            for size, record in zip(row["member_sizes"], row["member_records"], strict=True)
        ],
    )
