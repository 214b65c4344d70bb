"""Whether commits that notify hold each other up: many at once, with a NOTIFY and without.

    make bench-notify [SECONDS=3]

PostgreSQL has those that notify commit one after the other, the disk's confirmation included. Each
transaction here is as large as one that makes a delivery due; some workers listen. The disk is
waited for, as in production.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app.store import PostgresWorkNews, open_pool
from compose.embedded.postgres import postgres
from tests.statements import STATEMENTS

_COMMITTERS = (1, 8, 32)
_LISTENERS = 8
_ROUNDS = 3

_TABLE = "CREATE TABLE due (id int PRIMARY KEY, state text NOT NULL, changed int NOT NULL)"
_CHANGE = "UPDATE due SET state = $2, changed = changed + 1 WHERE id = $1"
_NOTE = "INSERT INTO step (of, state) VALUES ($1, $2)"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How commits notify."""

    name: str
    every: int = 0  # one of so many does; 0: none
    inside: bool = True  # the transaction; else in a statement of its own after it


_WAYS = (
    Way(name="none notifies, a second (p99)"),
    Way(name="one in five", every=5),  # two of a delivery's ten do
    Way(name="each", every=1),
    Way(name="one in five, after the commit", every=5, inside=False),
    Way(name="each, after the commit", every=1, inside=False),
)


async def _commit(pool: asyncpg.Pool, number: int, until: float, way: Way) -> list[float]:
    """Commit until that time; return the seconds that each took."""
    hint = STATEMENTS["hint"](works=["transfer"])
    took: list[float] = []
    async with pool.acquire() as connection:
        while (began := time.monotonic()) < until:
            async with connection.transaction():
                await connection.execute(_CHANGE, number, "READY")
                await connection.execute(_NOTE, number, "READY")
                notifies = bool(way.every) and (len(took) + number) % way.every == 0
                if notifies and way.inside:
                    await connection.execute(*hint)
            if notifies and not way.inside:
                await connection.execute(*hint)
            took.append(time.monotonic() - began)
    return took


@contextlib.asynccontextmanager
async def _listening(pool: asyncpg.Pool) -> AsyncIterator[None]:
    """Listen, as that many workers do."""

    async def listen() -> None:
        async with PostgresWorkNews(pool).listening() as due:
            while True:
                await due()

    listeners = [asyncio.create_task(listen()) for _ in range(_LISTENERS)]
    try:
        yield
    finally:
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)


async def _round(
    pool: asyncpg.Pool, committers: int, seconds: float, way: Way
) -> tuple[float, float]:
    """Return commits a second, and the 99th percentile of the milliseconds that one took."""
    until = time.monotonic() + seconds
    tasks = [_commit(pool, number, until, way) for number in range(committers)]
    took: Sequence[float] = list(itertools.chain(*await asyncio.gather(*tasks)))
    return len(took) / seconds, statistics.quantiles(took, n=100)[98] * 1000


async def main(seconds: float) -> None:
    """Print a line for each number of committers; the ways take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        async with (
            postgres(folder) as database,
            open_pool(database.url, size=max(_COMMITTERS) + _LISTENERS, start_timeout=30) as pool,
        ):
            await pool.execute(_TABLE)
            await pool.execute("CREATE TABLE step (of int NOT NULL, state text NOT NULL)")
            await pool.execute(
                "INSERT INTO due SELECT n, '', 0 FROM generate_series(0, $1) n", max(_COMMITTERS)
            )
            print(f"| committers | {' | '.join(way.name for way in _WAYS)} |")
            print("| ---: " * (len(_WAYS) + 1) + "|")
            async with _listening(pool):
                for committers in _COMMITTERS:
                    found: dict[Way, list[tuple[float, float]]] = {way: [] for way in _WAYS}
                    for _, way in itertools.product(range(_ROUNDS), _WAYS):
                        found[way].append(await _round(pool, committers, seconds, way))
                    medians = [
                        [statistics.median(figures) for figures in zip(*rounds, strict=True)]
                        for rounds in found.values()
                    ]
                    cells = [f"{rate:.0f} ({p99:.0f} ms)" for rate, p99 in medians]
                    print(f"| {committers} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    asyncio.run(main(parser.parse_args().seconds))
