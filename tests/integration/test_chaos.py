"""Faults at random points, at the source and at S3: the archive is that of an undisturbed run.

Each seed is one course of faults. A seed that ever failed stays in the list.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from app.errors import RetryableError, WrongFileError, WrongObjectError
from app.waiting.backoff import Backoff
from sinks.formats.zip import Zip
from sinks.pipeline.rechunk import rechunk
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from streams.regards.orders import RsOrder, open_session
from streams.regards.resume import Resumption
from tests.builders import archive_blocks
from tests.client import Client
from tests.conftest import noise
from tests.integration.conftest import abort_all
from tests.integration.s3_proxy import S3Proxy, running_proxy
from tests.integration.transfers import MIB, Bench
from tests.servers import rs_order_at, serving
from tests.twins.rs_order import Source

FILES = {
    "large": noise(11 * MIB, "large"),
    "text.csv": b"".join(b"%d;%d\n" % (n, n * n) for n in range(200_000)),
    "empty": b"",
    **{f"s{n}": noise(n * 997, str(n)) for n in range(40)},
    "last": noise(5 * MIB, "last"),
}
SEEDS = range(8)


@dataclass
class FaultySource:
    """Serves the files; a good part of the answers goes wrong."""

    chance: random.Random
    rate: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    faults: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        content = list(FILES.values())[int(request.path.rpartition("/")[2])]
        wrong = self.chance.random() < self.rate
        self.faults += wrong
        if wrong and self.chance.random() < 0.3:
            return web.Response(status=self.chance.choice([202, 429, 500, 503]))
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if self.chance.random() < 0.3:
            start = 0  # a server that ignores ranges
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            end = len(content)
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{end}"
        response.content_length = len(content) - start
        await response.prepare(request)
        if not wrong:
            await response.write(content[start:])
            return response
        await response.write(content[start : self.chance.randint(start, len(content))])
        match self.chance.choice(["drop", "close", "stall"]):
            case "stall":
                await self.ended.wait()
            case "close":
                assert request.transport is not None
                request.transport.close()
            case _:
                assert request.transport is not None
                request.transport.abort()
        return response


class RandomProxy(S3Proxy):
    """Before S3: slow, broken, lost and doubtful answers."""

    chance: random.Random

    def _use(self, counter: str) -> bool:
        rates = {"slow_down": 0.1, "resets": 0.1, "errors_in_200": 0.2, "lost_completions": 0.3}
        return self.chance.random() < rates.get(counter, 0)


def undisturbed() -> tuple[str, int]:
    """Return MD5 and size of the archive, made without a network."""
    members = ((file, rechunk([FILES[file.member]])) for file in Source(FILES).manifest())
    archive = b"".join(archive_blocks(Zip(), members))
    return hashlib.md5(archive).hexdigest(), len(archive)


@pytest.mark.parametrize("seed", SEEDS)
async def test_faults_leave_no_trace_in_the_archive(
    seed: int, sink: S3ObjectStore, target: S3Target, client: Client
) -> None:
    chance = random.Random(seed)
    faulty = FaultySource(chance, rate=0.25)
    proxy = RandomProxy(target)
    proxy.chance = chance
    try:
        async with (
            serving(faulty.handle) as port,
            running_proxy(target, proxy) as (_, through),
            open_session(stall_timeout=0.5) as session,
        ):
            bench = Bench(sink, through, Source(FILES))
            source = rs_order_at(
                port,
                session,
                stall_timeout=0.5,
                resumption=Resumption(tries=5, backoff=Backoff(first=0.01, longest=0.1)),
            )
            delivered = await _delivered(bench, source)
    finally:
        faulty.ended.set()
    assert faulty.faults > 0
    content = await client.fetch(f"s3://{target.bucket}/{bench.key}")
    assert (hashlib.md5(content).hexdigest(), len(content)) == delivered == undisturbed()
    assert await client.open_uploads(bench.key.split("/")[0]) == []


async def _delivered(bench: Bench, source: RsOrder) -> tuple[str, int]:
    """Try as the service does: an attempt that failed is begun again."""
    for _ in range(10):
        try:
            md5, size, _ = await bench.run(source=source)
        except (RetryableError, WrongFileError, WrongObjectError):
            await abort_all(bench.sink, bench.target, bench.key)
        else:
            return md5, size
    raise AssertionError("never delivered")
