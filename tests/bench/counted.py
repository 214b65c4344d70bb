"""The service, whose work is counted: statements, records, requests, tasks, hand-overs.

It is run as the service is (`python -m tests.bench.counted worker`), and tells what it counted so
far to each that connects to the socket that BENCH_COUNTS names.
"""

from __future__ import annotations

import asyncio
import json
import os
import socketserver
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from aiokafka import AIOKafkaProducer

from app.cli import main

SOCKET = "BENCH_COUNTS"

SQL = "SQL statements"
RECORDS = "Kafka records"
S3 = "S3 requests"
SOURCE = "requests to rs-order"
TASKS = "tasks"
HAND_OVERS = "hand-overs between threads"
NAMES = (SQL, RECORDS, S3, SOURCE, TASKS, HAND_OVERS)

counts: Counter[str] = Counter()


def _before(owner: Any, method: str, count: Callable[..., object]) -> None:
    """Call `count` with the arguments of a method, each time before it."""
    original = getattr(owner, method)

    @wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        count(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, method, counted)


def _statements() -> None:
    create_pool: Any = asyncpg.create_pool

    def logged(_query: object) -> None:
        counts[SQL] += 1

    def counted_pool(*args: Any, init: Callable[..., Any], **options: Any) -> Any:
        async def set_up(connection: asyncpg.Connection) -> None:
            await init(connection)
            connection.add_query_logger(logged)

        return create_pool(*args, init=set_up, **options)

    setattr(asyncpg, "create_pool", counted_pool)  # noqa: B010 - its type is overloaded
    _before(asyncpg.Connection, "copy_records_to_table", lambda *_, **__: counts.update([SQL]))


def _requests() -> None:
    store = urlsplit(os.environ["DELIVERY_S3_ENDPOINT"]).port

    def count(_session: object, _method: str, url: object, **_: object) -> None:
        counts[S3 if urlsplit(str(url)).port == store else SOURCE] += 1

    _before(aiohttp.ClientSession, "_request", count)


def _turns() -> None:
    """Count tasks of the loop that works, and what other threads hand over to it, or take from it.

    Faust reads in a thread and a loop of its own, by the clock: those tasks are not counted.
    """
    main_thread = threading.main_thread().ident

    def task(*_: object, **__: object) -> None:
        if threading.get_ident() == main_thread:
            counts[TASKS] += 1

    def hand_over(*_: object, **__: object) -> None:
        counts[HAND_OVERS] += 1

    _before(asyncio.base_events.BaseEventLoop, "create_task", task)
    _before(asyncio.base_events.BaseEventLoop, "call_soon_threadsafe", hand_over)


class _Teller(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(json.dumps({name: counts[name] for name in NAMES}).encode())


def count() -> None:
    """Count from now on, and tell."""
    _statements()
    _before(AIOKafkaProducer, "send", lambda *_, **__: counts.update([RECORDS]))
    _requests()
    _turns()
    server = socketserver.UnixStreamServer(os.environ[SOCKET], _Teller)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    count()
    main()
