"""What statements cost PostgreSQL itself, by its own count (`pg_stat_statements`)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import asyncpg

from tests.statements import STATEMENTS

# What a server needs to count.
SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "5000"}

# PostgreSQL shows a number or a text of a statement as one more argument.
_COMMENT = re.compile(r"--[^\n]*")
_VALUE = re.compile(
    r"'(?:[^']|'')*'|\$\d+|\b\d+(?:\.\d+)?\b|\b(?:null|true|false)\b", re.IGNORECASE
)


def _shape(text: str) -> str:
    """Return a statement without its values, as it is the same however they are told."""
    return " ".join(_VALUE.sub("?", _COMMENT.sub("", text)).split()).rstrip(" ;")


_NAMES = {_shape(statement.text): name for name, statement in STATEMENTS.items()}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What was done for some statements."""

    buffers: Counter[str] = field(
        default_factory=Counter
    )  # pages of 8 KiB that were looked at, by statement
    milliseconds: float  # in the server


class Costs:
    """Counts what all others send while it does not."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def prepare(self) -> None:
        """Let this database be counted."""
        await self._connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    async def begin(self) -> None:
        """Count from here on."""
        await self._connection.execute("SELECT pg_stat_statements_reset()")

    async def end(self) -> Cost:
        """Return what was done since."""
        rows = await self._connection.fetch(
            "SELECT query, shared_blks_hit + shared_blks_read AS buffers, total_exec_time "
            "FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'"
        )
        buffers: Counter[str] = Counter()
        for row in rows:
            buffers[_NAMES.get(_shape(row["query"]), "other")] += row["buffers"]
        return Cost(buffers=buffers, milliseconds=sum(row["total_exec_time"] for row in rows))
