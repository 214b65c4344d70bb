"""How long `GET /settings` takes while the same process transfers, and in a process of its own.

    make bench-web [SECONDS=20]

Requests come at a fixed rate whether or not earlier ones were answered (so that a stall is seen by
all that it held up), while two transfers of large files run in the same worker. rs-order's
stand-in, the S3 sink, brokers, database and this program share the machine's cores with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from compose.embedded.stack import running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.processes import server
from tests.client import Client, request_for
from tests.command import delivery, logged

GIB = 1024**3


def sparse(folder: Path, size: int) -> None:
    folder.mkdir()
    # The name says that it is compressed: it is stored, which is the fastest way.
    with (folder / "data.jp2").open("wb") as file:
        file.truncate(size)


async def _ask(session: aiohttp.ClientSession, due: float, took: list[float]) -> None:
    async with session.get("/settings") as answer:
        await answer.read()
        assert answer.status == 200, answer.status
    took.append(time.monotonic() - due)


async def _load(session: aiohttp.ClientSession, rate: float, seconds: float) -> list[float]:
    took: list[float] = []
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(_ask(session, due, took))
    return took


def _tell(what: str, took: list[float]) -> None:
    cuts = [cut * 1000 for cut in statistics.quantiles(took, n=1000, method="inclusive")]
    print(
        f"{what:<24} {len(took):6} requests   p50 {cuts[499]:6.1f} ms   p99 {cuts[989]:6.1f} ms   "
        f"p99.9 {cuts[998]:6.1f} ms"
    )


async def _main(rate: float, seconds: float, size: int) -> None:
    with tempfile.TemporaryDirectory() as name, server("null_s3") as sink:
        products = Path(name)
        for product in ("one", "two"):
            sparse(products / product, size)
        os.environ["DELIVERY_S3_ENDPOINT"] = sink
        os.environ["DELIVERY_WEB_REQUESTS_PER_SECOND"] = str(2 * rate)  # one caller has them all
        os.environ["DELIVERY_WEB_REQUESTS_AT_ONCE"] = "100"
        async with (
            running_stack(products, switches=UNLIMITED) as stack,
            running_service(stack) as (child, together),
            running_service(stack, command="web") as (_, apart),
            Client.connected(stack) as client,
        ):
            await logged(child, "worker_ready")
            token = delivery("token", **stack.environment).stdout.strip()
            headers = {"Authorization": f"Bearer {token}"}
            async with (
                aiohttp.ClientSession(together, headers=headers) as inside,
                aiohttp.ClientSession(apart, headers=headers) as outside,
            ):
                for session in (inside, outside):
                    await _load(session, rate, 2)  # connections, caches
                _tell("no transfer", await _load(inside, rate, seconds))
                bodies = [request_for(product) for product in ("one", "two")]
                for body in bodies:
                    await client.send(body)
                await logged(child, "transfer_began", count=2)
                _tell("two transfers in it", await _load(inside, rate, seconds))
                _tell("delivery web, beside it", await _load(outside, rate, seconds))
                if any(client.said(body["correlationId"])[1:] for body in bodies):
                    print("a transfer ended meanwhile: take a larger --size")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=8, help="GiB of each transfer")
    asked = parser.parse_args()
    asyncio.run(_main(asked.rate, asked.seconds, asked.size * GIB))
