"""What is sent and fetched again when a worker ends in the midst of a large transfer.

    make bench-handover [SIZE=2048] [FILE=64] [S3=URL]       # MiB: of all files, of each

Two workers on the whole stack; one of them transfers. When 90 % of the bytes are stored it gets
SIGTERM, or SIGKILL, and the other one goes on. What passes is counted between the workers and the
servers: parts that the store has confirmed, bytes and files that rs-order has given. The archive
must be that of a run which nothing disturbs; what is more than it may be ends the program with 1.

The embedded S3 server has all of it in memory, three times: larger ones need another server, that
knows the embedded one's key (`compose.embedded.s3`) and has its bucket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from compose.embedded import s3
from compose.embedded.stack import Stack, running_stack
from compose.rs_order.switches import UNLIMITED
from sinks.stores.s3.target import S3Target
from tests.chaos.workers import Worker, running_workers
from tests.client import Client, request_for
from tests.command import logged
from tests.integration.s3_proxy import S3Proxy, running_proxy

MIB = 1024 * 1024
_PART = 8 * MIB
_AT = 0.9  # of the bytes are stored when a worker ends
_LEASE = 10  # seconds after which a dead worker is missed
_UNSAVED = 256 * MIB  # that a worker sends before it saves a checkpoint
_IN_FLIGHT = 4  # parts that a transfer sends at the same time
_AHEAD = 7  # files that a transfer reads at the same time, beside the one that is archived


@dataclass
class SourceProxy:
    """Counts what rs-order gives of each file."""

    url: str
    bytes: int = 0
    fetched: Counter[str] = field(default_factory=Counter)  # by path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and its answer back as it comes."""
        headers = {k: v for k, v in request.headers.items() if k != "Host"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.url + request.path_qs,
                data=await request.read(),
                headers=headers,
            ) as answer,
        ):
            given = web.StreamResponse(status=answer.status)
            for name in ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges"):
                if name in answer.headers:
                    given.headers[name] = answer.headers[name]
            is_file = request.path.startswith("/orders/files/")
            if is_file:
                self.fetched[request.path] += 1
            await given.prepare(request)
            async for chunk in answer.content.iter_any():
                await given.write(chunk)
                self.bytes += len(chunk) if is_file else 0
            await given.write_eof()
            return given


@contextlib.asynccontextmanager
async def counting(url: str) -> AsyncIterator[tuple[SourceProxy, str]]:
    """Give a proxy before rs-order, and its address."""
    proxy = SourceProxy(url)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    server = TestServer(application)
    await server.start_server()
    try:
        yield proxy, str(server.make_url("")).rstrip("/")
    finally:
        await asyncio.shield(server.close())


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one delivery."""

    md5: str
    parts: int  # of the archive
    parts_again: int  # that were stored more than once
    given: int  # bytes that rs-order gave
    files_again: int  # that were fetched more than once


@dataclass(frozen=True, kw_only=True)
class Most:
    """What may be done again."""

    parts: int
    files: int

    @classmethod
    def after(cls, ends: signal.Signals, file: int) -> Most:
        """Return what holds for files of so many bytes: killed, what was sent since a checkpoint.

        And of those that were read ahead, what was not in the archive yet.

        Stopped in order, a worker puts aside what is in no part, and reads what is open to its end;
        where that takes too long, the file at the seam is read again.
        """
        if ends is signal.SIGTERM:
            return cls(parts=_IN_FLIGHT, files=1)
        parts = _UNSAVED // _PART + _IN_FLIGHT
        return cls(parts=parts, files=-(-parts * _PART // file) + 1 + _AHEAD)


async def _working(workers: list[Worker]) -> Worker:
    """Return the worker that transfers, once one does."""
    while True:
        for worker in workers:
            if '"transfer_began"' in worker.child.log.read_text():
                return worker
        await asyncio.sleep(0.05)


async def deliver(
    stack: Stack,
    client: Client,
    product: str,
    size: int,
    endpoint: str,
    ends: signal.Signals | None,
) -> Figures:
    """Deliver a product to an S3 server; a worker is ended in its midst by a signal."""
    environment = stack.environment
    target = S3Target(
        endpoint=endpoint,
        region=environment["DELIVERY_S3_REGION"],
        key=s3.KEY,
        secret=s3.SECRET,
        bucket=environment["DELIVERY_DELIVERY_BUCKET"],
    )
    store = S3Proxy(target)
    async with (
        counting(stack.rs_order_url) as (source, rs_order),
        running_proxy(target, store) as (
            _,
            proxied,
        ),
    ):
        settings = {
            "DELIVERY_RS_ORDER_URL": rs_order,
            "DELIVERY_S3_ENDPOINT": proxied.endpoint,
            "DELIVERY_LEASE_TTL": str(_LEASE),
            "DELIVERY_PART_SIZE": str(_PART),
        }
        async with running_workers(stack, 2, settings) as workers:
            for worker in workers:
                await logged(worker.child, '"consumer_ready"')
            body = request_for(product)
            await client.send(body)
            if ends is not None:
                worker = await _working(workers)
                while len(store.stored) * _PART < size * _AT:
                    await asyncio.sleep(0.01)
                assert worker.send(ends)
            answer = await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=3600)
        assert answer["status"] == "DONE", answer
    return Figures(
        md5=answer["md5"],
        parts=len(set(store.stored)),
        parts_again=len(store.stored) - len(set(store.stored)),
        given=source.bytes,
        files_again=sum(source.fetched.values()) - len(source.fetched),
    )


async def _main(size: int, file: int, server: str | None) -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        products = Path(name)
        folder = products / "large"
        folder.mkdir()
        first = folder / "0000.bin"
        first.write_bytes(random.Random(0).randbytes(file * MIB))
        for number in range(1, size // file):
            os.link(first, folder / f"{number:04}.bin")  # one of them on disk is enough
        total = size // file * file * MIB

        async def delivered(ends: signal.Signals | None) -> Figures:
            """Deliver on a stack of its own: who ended before is in no group any more."""
            async with (
                running_stack(products, switches=UNLIMITED) as stack,
                Client.connected(stack) as client,
            ):
                endpoint = server or stack.environment["DELIVERY_S3_ENDPOINT"]
                return await deliver(stack, client, "large", total, endpoint, ends)

        undisturbed = await delivered(None)
        print(f"{size} MiB in files of {file}, parts of {_PART // MIB}; again:", flush=True)
        for ends in (signal.SIGTERM, signal.SIGKILL):
            found = await delivered(ends)
            assert found.md5 == undisturbed.md5, "another archive than without a signal"
            most = Most.after(ends, file * MIB)
            held = found.parts_again <= most.parts and found.files_again <= most.files
            missed += not held
            print(
                f"{ends.name}: sent {found.parts_again * _PART // MIB} MiB "
                f"({found.parts_again} of {found.parts} parts; at most {most.parts}), fetched "
                f"{(found.given - undisturbed.given) / MIB:.1f} MiB "
                f"({found.files_again} of {size // file} files; at most {most.files})"
                f"{'' if held else ': TOO MUCH'}",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=2048, help="MiB of all files")
    parser.add_argument("--file", type=int, default=64, help="MiB of each")
    parser.add_argument("--s3", help="URL of another S3 server than the embedded one")
    asked = parser.parse_args()
    sys.exit(asyncio.run(_main(asked.size, asked.file, asked.s3)))
