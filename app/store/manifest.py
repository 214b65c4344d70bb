"""The files of a delivery, in their order."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from app.delivery.manifest import Extent, ManifestFile
from app.delivery.missing import MissingFile, MissingSoFar
from app.store.rows import file_of, missing_of
from app.store.sql import load

SQL = load(__name__)


async def files_after(
    pool: asyncpg.Pool, delivery: UUID, position: int, *, limit: int
) -> list[ManifestFile]:
    """Return files of a delivery after a position (-1: from the first)."""
    rows = await pool.fetch(*SQL["files"](delivery=delivery, after=position, limit=limit))
    return [file_of(row) for row in rows]


async def file_named(pool: asyncpg.Pool, delivery: UUID, member: str) -> ManifestFile | None:
    """Return a file of a delivery by its name in the archive."""
    row = await pool.fetchrow(*SQL["file_named"](delivery=delivery, member=member))
    return None if row is None else file_of(row)


async def extent(pool: asyncpg.Pool, delivery: UUID) -> Extent:
    """Measure the manifest of a delivery."""
    row = await pool.fetchrow(*SQL["extent"](delivery=delivery))
    assert row is not None  # noqa: S101 - an aggregate has a row
    return Extent(**row)


async def missing_after(
    pool: asyncpg.Pool, delivery: UUID, number: int, *, limit: int
) -> list[tuple[int, MissingFile]]:
    """Return files that a delivery is without, behind a number (-1: from the first), with theirs.

    Those that were in the manifest come first, by their positions.
    """
    rows = await pool.fetch(*SQL["missing"](delivery=delivery, after=number, limit=limit))
    return [(row["number"], missing_of(row)) for row in rows]


async def missing_so_far(pool: asyncpg.Pool, delivery: UUID) -> MissingSoFar:
    """Tell how many files a delivery is without, why most of them, and how many are left."""
    row = await pool.fetchrow(*SQL["missing_so_far"](delivery=delivery))
    assert row is not None  # noqa: S101 - there is one of any delivery
    return MissingSoFar(**row)


async def missing_count(pool: asyncpg.Pool, delivery: UUID) -> int:
    """Return how many files a delivery is without."""
    files: int = await pool.fetchval(*SQL["missing_count"](delivery=delivery))
    return files
