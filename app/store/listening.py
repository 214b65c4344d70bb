"""A line to PostgreSQL on which its notifications come, with the commits that they are about."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg

from app.errors import StoreUnavailableError
from app.store.pool import translate_errors
from app.store.sql import load

SQL = load(__name__)

_CHECK_INTERVAL = 20.0  # seconds between looks whether a silent line is dead
_CHECK_TIMEOUT = 10.0  # seconds for an answer on it

Heard = Callable[[], Awaitable[frozenset[str]]]


@contextlib.asynccontextmanager
async def listening(
    pool: asyncpg.Pool,
    channel: str,
    *,
    check_interval: float = _CHECK_INTERVAL,
    check_timeout: float = _CHECK_TIMEOUT,
) -> AsyncIterator[Heard]:
    """Give what waits for the next notifications of a channel, and returns what they say.

    It raises StoreUnavailableError once the line is cut: some may have been missed then.
    """
    told: set[str] = set()
    news = asyncio.Event()

    def hear(_connection: object, _process: int, _channel: str, payload: object) -> None:
        told.add(str(payload))
        news.set()

    def end(_connection: object) -> None:
        news.set()

    with translate_errors():
        async with pool.acquire() as connection:

            async def check() -> None:
                try:
                    await connection.fetchval(*SQL["line_alive"](), timeout=check_timeout)
                except TimeoutError:
                    connection.terminate()  # nothing more is asked on it, not even UNLISTEN
                    raise

            async def heard() -> frozenset[str]:
                while not told:
                    if connection.is_closed():
                        raise StoreUnavailableError("PostgreSQL cut the line that news come by")
                    try:
                        async with asyncio.timeout(check_interval):
                            await news.wait()
                    except TimeoutError:
                        await check()
                    news.clear()
                found = frozenset(told)
                told.clear()
                return found

            connection.add_termination_listener(end)
            await connection.add_listener(channel, hear)
            try:
                yield heard
            finally:
                connection.remove_termination_listener(end)
                if not connection.is_closed():
                    await connection.remove_listener(channel, hear)
