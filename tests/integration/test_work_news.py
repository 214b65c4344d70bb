"""The line by which PostgreSQL tells of work: quiet, cut, or dead without a word."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery

from app.errors import StoreUnavailableError
from app.run.worker import running_worker
from app.settings import Settings
from app.store.listening import Heard, listening
from tests.client import Client, request_for
from tests.command import delivery
from tests.statements import STATEMENTS

CHANNEL = "a_channel"


async def backend(pool: asyncpg.Pool) -> int:
    """Return the process of PostgreSQL that a line is to."""
    found: int = await pool.fetchval(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND query = $1 AND pid <> pg_backend_pid()",
        f'LISTEN "{CHANNEL}"',
    )
    return found


async def test_a_line_that_is_cut_says_so(pool: asyncpg.Pool) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailableError):
            async with listening(pool, CHANNEL) as heard:
                await pool.fetchval("SELECT pg_terminate_backend($1)", await backend(pool))
                await heard()


async def test_a_quiet_line_that_is_looked_at_is_heard_on_all_the_same(database: str) -> None:
    looked = asyncio.Event()

    def look(query: LoggedQuery) -> None:
        if query.query == STATEMENTS["line_alive"].text:
            looked.set()

    async def watch(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(look)

    async with (
        asyncio.timeout(20),
        asyncpg.create_pool(database, min_size=1, max_size=2, init=watch) as pool,
        listening(pool, CHANNEL, check_interval=0.001) as heard,
        asyncio.TaskGroup() as group,
    ):

        async def hear() -> None:
            assert await heard() == {"a word"}

        group.create_task(hear())
        await looked.wait()
        await pool.execute("SELECT pg_notify($1, 'a word')", CHANNEL)


async def test_a_line_that_is_dead_without_a_word_is_found_out(pool: asyncpg.Pool) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailableError):
            async with listening(pool, CHANNEL, check_interval=0.01, check_timeout=0.2) as heard:
                stopped = await backend(pool)
                os.kill(stopped, signal.SIGSTOP)
                try:
                    await heard()
                finally:
                    os.kill(stopped, signal.SIGCONT)


@pytest.mark.usefixtures("pool")
async def test_a_worker_without_a_line_goes_on_with_what_it_has_let_through_itself(
    settings: Settings,
    database: str,
    client: Client,
    make_product: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the clock it looks so rarely that no test sees it."""

    @contextlib.asynccontextmanager
    async def no_line(_pool: asyncpg.Pool, _channel: str) -> AsyncIterator[Heard]:
        raise StoreUnavailableError("no line for the test")
        yield

    monkeypatch.setattr("app.store.hints.listening", no_line)
    url = type(settings.database_url)(database)
    rarely = settings.model_copy(update={"database_url": url, "claim_poll_interval": 3600.0})
    quota = json.dumps({"user": {"active": 1}})
    changed = await asyncio.to_thread(
        delivery, "settings", "set", "quota", quota, DELIVERY_DATABASE_URL=database
    )
    assert changed.returncode == 0, changed.stderr
    product = make_product({"a": b"a"})
    bodies = [request_for(product) for _ in range(3)]
    async with running_worker(rarely, site=False):
        for body in bodies:
            await client.send(body)
        for body in bodies:
            answer = await client.wait_for(body["correlationId"], "DONE", "ERROR", "DENIED")
            assert answer["status"] == "DONE"
