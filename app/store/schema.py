"""How far the schema of the database is, beside what this program knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files

import asyncpg

from app.errors import ConfigurationError
from app.store.pool import translate_errors
from app.store.rights import lacking
from app.store.sql import load
from app.views.schema import Migration, Schema, SchemaSeen

SQL = load(__name__)


def steps() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of every migration, in order."""
    found = [
        (int(path.name.split("_", 1)[0]), path.name, path.read_text(encoding="utf-8"))
        for path in files("app.store").joinpath("migrations").iterdir()
        if path.name.endswith(".sql")
    ]
    return sorted(found)


async def look(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy,
    known: Sequence[tuple[int, str, str]] | None = None,
) -> Schema:
    """Compare the database with what this program knows, which is `steps()`.

    Needs no right but to read `schema_migration`. Raises ConfigurationError when this role may not
    even see the tables.
    """
    numbers = [number for number, *_ in known or steps()]
    try:
        done = {row["number"] for row in await connection.fetch(*SQL["migrations"]())}
    except asyncpg.UndefinedTableError:
        hidden = await connection.fetchrow(*SQL["hidden_schema"]())
        if hidden is not None:
            raise ConfigurationError(
                f"PostgreSQL shows role {hidden['role']} no table: it has no USAGE on schema "
                f"{hidden['schema']}; the owner grants it by `delivery migrate --grant-to "
                f"{hidden['role']}`"
            ) from None
        done = set()
    except asyncpg.InsufficientPrivilegeError:
        raise ConfigurationError(lacking(["SELECT on schema_migration"])) from None
    return Schema(
        known=numbers[-1],
        count=len(numbers),
        newest=max(done, default=0),
        missing=[number for number in numbers if number not in done],
    )


class PostgresSchema:
    """The schema, as it is looked at while the service runs."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @cached_property
    def _steps(self) -> Sequence[tuple[int, str, str]]:
        return steps()

    async def seen(self) -> SchemaSeen:
        """Return how far it is, with all that is applied.

        Raises StoreUnavailableError, ConfigurationError.
        """
        with translate_errors():
            async with self._pool.acquire() as connection:
                schema = await look(connection, self._steps)
                rows = await connection.fetch(*SQL["applied_migrations"]())
        return SchemaSeen(schema=schema, applied=[Migration(**row) for row in rows])
