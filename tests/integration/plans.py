"""How statements are read: by which rows, and how many of them."""

from __future__ import annotations

import re
from typing import cast

import asyncpg

# For the arguments that are given; and for any, which PostgreSQL may take after five times.
MODES = ["force_custom_plan", "force_generic_plan"]


def most_read(plan: str) -> int:
    """Return the most rows that a step read, or passed over."""
    counts = re.findall(r"actual rows=(\d+)|Rows Removed by .*: (\d+)", plan)
    return max(int(read or passed_over) for read, passed_over in counts)


def written(argument: object) -> str:
    """Return an argument as it is written in a statement."""
    match argument:
        case None:
            return "NULL"
        case int():
            return str(argument)
        case list():
            return f"ARRAY[{', '.join(map(written, argument))}]"
        case _:
            return f"'{argument}'"


class Explaining:
    """A pool that tells how a statement was read, in place of what it found."""

    def __init__(self, pool: asyncpg.Pool, mode: str) -> None:
        self._pool = pool
        self._mode = mode
        self.plan = ""

    def as_pool(self) -> asyncpg.Pool:
        """Return itself, for what asks by `fetch` alone."""
        return cast("asyncpg.Pool", self)

    async def fetch(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        """Explain it, and find nothing."""
        given = ", ".join(map(written, arguments))
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL plan_cache_mode = {self._mode}")
            await connection.execute(f"PREPARE looked AS {text}")
            rows = await connection.fetch(
                f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE looked ({given})"
            )
            await connection.execute("DEALLOCATE looked")
        self.plan = "\n".join(row[0] for row in rows)
        return []
