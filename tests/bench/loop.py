"""How long the event loop is held: the longest callback of what is large, by processor time.

    make bench-loop [ONLY="a request"]

Each case runs in a process of its own, which does nothing else, with what a worker does itself and
servers that cost it nothing. Of every callback on the loop, the processor time of the loop's thread
is taken, and the name of the longest one: what other programs want of the machine does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import aiohttp

from app.delivery.object_store import StoredPart, Upload
from app.delivery.states import Work
from app.store import PostgresStore, PostgresTracking, migrate, open_pool
from app.telemetry.logs import configure_logging
from app.waiting.wakeup import Wakeup
from compose.embedded.postgres import postgres
from sinks.stores.s3 import managed as s3
from sinks.stores.s3.managed import S3Store
from streams.amqp.names import HEADER_TENANT
from streams.amqp.topology import Topology
from streams.bridge import Bridge
from streams.channels import REQUESTS
from streams.kafka.agents import Dependencies, handler_of
from tests.bench import plan
from tests.bench.callbacks import Callbacks
from tests.bench.places import s3_at
from tests.bench.processes import server
from web.feed import Feed

_FILES = 100_000
_PARTS = 10_000
_CHANGES = 1_000
_MESSAGE = 490_000  # bytes
_AT = datetime(2026, 1, 1, tzinfo=UTC)

_BODY = {"correlationId": "c", "targetDelivery": "t", "order": {"user": "u", "queries": ["*:*"]}}
# Bodies by the rules, with what no rule is about.
_BODIES: dict[str, Any] = {
    "one long text": "a" * _MESSAGE,
    "the same, not in ASCII": "ä" * (_MESSAGE // 2),
    "numbers": [1] * (_MESSAGE // 2),
    "objects": [{"a": 1}] * (_MESSAGE // 8),
    "empty objects": [{}] * (_MESSAGE // 3),
    "lists in lists": [[[[[1]]]]] * (_MESSAGE // 12),
}


@dataclass(frozen=True)
class Servers:
    """Where what a case talks to is."""

    source: str
    s3: str
    database: str


Case = Callable[[Servers, Callbacks], Awaitable[None]]


async def _plan(servers: Servers, callbacks: Callbacks) -> None:
    """An order is listed and laid out, its manifest written."""
    await plan.measure(_FILES, 100, callbacks, source=servers.source, database=servers.database)


async def _first_client(servers: Servers, callbacks: Callbacks) -> None:
    """The first request to S3 of a process that has prepared itself, as a worker does."""
    async with s3.open_store() as store:
        await store.prepare()
        callbacks.reset()
        await store.find_bucket(s3_at(servers.s3))


@contextlib.asynccontextmanager
async def _uploaded(
    servers: Servers,
) -> AsyncIterator[tuple[S3Store, Upload, list[StoredPart]]]:
    """Give an upload whose parts are all there: put by less than our store, which takes long."""
    target, md5 = s3_at(servers.s3), hashlib.md5(b"x").digest()
    asked = {"Content-MD5": base64.b64encode(md5).decode()}
    async with s3.open_store() as store, aiohttp.ClientSession(servers.s3, headers=asked) as http:
        upload = await store.create_upload(target, "k")
        for number in range(1, _PARTS + 1):
            query = {"partNumber": str(number), "uploadId": upload.upload_id}
            async with http.put(f"/{target.bucket}/k", params=query, data=b"x"):
                pass
        yield store, upload, [StoredPart(etag=md5.hex(), md5=md5)] * _PARTS


async def _complete(servers: Servers, callbacks: Callbacks) -> None:
    """An upload is completed."""
    async with _uploaded(servers) as (store, upload, parts):
        callbacks.reset()
        await store.complete(s3_at(servers.s3), upload, parts, _PARTS, marks={})


async def _part_etags(servers: Servers, callbacks: Callbacks) -> None:
    """An attempt that goes on looks which parts are there."""
    async with _uploaded(servers) as (store, upload, parts):
        callbacks.reset()
        assert len(await store.part_etags(s3_at(servers.s3), upload)) == len(parts)


class _Carried:
    """Takes what the bridge saves and appends."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    async def save(self, arrival: Any, *, since: float) -> None:
        self.values.append(arrival.value)

    async def carry(self, arrival: Any) -> None:
        pass


async def _bridged(body: bytes) -> bytes:
    """Let the bridge handle a request; return the event it becomes."""
    carried: Any = _Carried()
    consumed = AsyncMock()
    channel = AsyncMock(close_callbacks=Mock(), get_queue=AsyncMock(return_value=consumed))
    topology: Any = Mock(spec=Topology, queue=AsyncMock(return_value=consumed))
    bridge = Bridge(
        connection=Mock(channel=AsyncMock(return_value=channel)),
        publisher=AsyncMock(),
        events=carried,
        arrivals=carried,
        tenants=Mock(known=lambda _: True),
        topology=topology,
        prefetch=10,
        max_bytes=512 * 1024,
    )
    await bridge.on_start()
    handle = consumed.consume.await_args_list[0].args[0]
    message = Mock(
        body=body,
        headers={HEADER_TENANT: "t"},
        properties=None,
        message_id=None,
        timestamp=_AT,
        app_id="a",
        priority=1,
        redelivered=False,
        delivery_mode=2,
        ack=AsyncMock(),
    )
    await asyncio.create_task(handle(message), name="bridge")
    (value,) = carried.values
    return bytes(value)


class _StoredError(Exception):
    """The request was read, judged, and would be stored now."""


async def _message(inner: Any, _: Servers, callbacks: Callbacks) -> None:
    """A request becomes an event, which an agent reads and judges."""
    store: Any = Mock(transaction=Mock(side_effect=_StoredError))
    to = Dependencies(
        store=store,
        tenants=Mock(known=lambda _: True),
        users=Mock(),
        wake={work: Wakeup() for work in Work},
    )
    body = json.dumps(_BODY | {"x": inner}, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(body) <= 512 * 1024
    callbacks.reset()
    value = await _bridged(body)
    with contextlib.suppress(_StoredError):
        await asyncio.create_task(_agent(handler_of(REQUESTS, to), value))


async def _agent(handle: Callable[[Sequence[bytes]], Awaitable[None]], value: bytes) -> None:
    await handle([value])


async def _feed(servers: Servers, callbacks: Callbacks) -> None:
    """A tick of what readers of events are told."""
    async with open_pool(servers.database, size=4, start_timeout=5) as pool:
        await migrate(pool)
        await pool.execute("TRUNCATE delivery CASCADE")
        feed = Feed(PostgresTracking(pool), lambda: ())
        async with feed.watching("t") as subscriber:
            store = PostgresStore(pool, Wakeup())
            await plan.grant(store, *(f"c-{number}" for number in range(_CHANGES)))
            callbacks.reset()
            await asyncio.create_task(feed.tick())
            told = await subscriber.frames()
            assert told is not None
            assert len(told) == _CHANGES


CASES: dict[str, Case] = {
    f"{_FILES:,} files laid out": _plan,
    "the first S3 client": _first_client,
    f"a completion of {_PARTS:,} parts": _complete,
    f"a list of {_PARTS:,} parts": _part_etags,
    **{f"a request: {name}": partial(_message, inner) for name, inner in _BODIES.items()},
    f"{_CHANGES:,} changes in a tick": _feed,
}


async def _measure(case: str, servers: Servers) -> None:
    callbacks = Callbacks()
    callbacks.watch()
    gc.collect()
    gc.freeze()  # as a worker does
    configure_logging(level="WARNING", fmt="console")
    await CASES[case](servers, callbacks)
    longest = callbacks.longest * 1000
    print(f"| {case} | {longest:.1f} ms | `{callbacks.offender}` |", flush=True)


async def _main(part: str) -> None:
    print("| case | longest callback | which |\n| --- | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        async with postgres(folder) as database:
            with server("listing", str(_FILES)) as source, server("null_s3") as store:
                servers = Servers(source=source, s3=store, database=database.url)
                for case in CASES:
                    if part in case:
                        arguments = ["--case", case, *astuple(servers)]
                        subprocess.run(
                            [sys.executable, "-m", "tests.bench.loop", *arguments], check=True
                        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--case", help="of the process that measures")
    parser.add_argument("servers", nargs="*", help="of the process that measures")
    given = parser.parse_args()
    if given.case:
        asyncio.run(_measure(given.case, Servers(*given.servers)))
    else:
        asyncio.run(_main(given.only))
