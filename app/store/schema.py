"""How far the schema of the database is, beside what this program knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from app.errors import ConfigurationError
from app.store.rights import lacking
from app.store.sql import load

SQL = load(__name__)


def steps() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of every migration, in order."""
    found = [
        (int(path.name.split("_", 1)[0]), path.name, path.read_text(encoding="utf-8"))
        for path in files("app.store").joinpath("migrations").iterdir()
        if path.name.endswith(".sql")
    ]
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What is in the database, and what is not."""

    known: int  # the newest migration of this program
    newest: int  # the newest that is applied, of whatever version; 0 if there is none
    missing: Sequence[int]  # of this program's, those that are not applied, in order

    @property
    def is_newer(self) -> bool:
        """Whether a newer version than this one has migrated it."""
        return self.newest > self.known

    def behind(self) -> str:
        """Say what is missing, and what to do."""
        one = len(self.missing) == 1
        numbers = ", ".join(map(str, self.missing))
        return (
            f"the database lacks migration{'' if one else 's'} {numbers} of this program: run "
            "`delivery migrate`, as the role that owns the tables"
        )


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
        newest=max(done, default=0),
        missing=[number for number in numbers if number not in done],
    )
