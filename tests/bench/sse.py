"""What a thousand readers of server-sent events cost the transfers in the same process.

    make bench-sse [READERS=1000]

Two large transfers (stored, not deflated) run in `delivery serve`; their bytes are counted for some
seconds without readers and for as long with them, by turns. The readers follow all deliveries of
the tenant from a process of their own, on the same two cores as everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from compose.embedded.stack import TENANT, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.processes import server
from tests.bench.sse_readers import running_readers
from tests.bench.web import GIB, sparse
from tests.caller import instance_admin
from tests.client import Client, request_for
from tests.command import delivery, logged

_SETTLE = 2.0  # seconds


async def _bytes(session: aiohttp.ClientSession) -> float:
    async with session.get("/metrics") as answer:
        text = await answer.text()
    name = f'delivery_source_bytes_total{{tenant="{TENANT}"}} '
    return float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])


async def _rate(session: aiohttp.ClientSession, seconds: float) -> float:
    await asyncio.sleep(_SETTLE)
    before, began = await _bytes(session), time.monotonic()
    await asyncio.sleep(seconds)
    return (await _bytes(session) - before) / (time.monotonic() - began)


@contextlib.asynccontextmanager
async def _nobody() -> AsyncIterator[None]:
    yield


async def _main(readers: int, seconds: float, rounds: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as name, server("null_s3") as sink:
        products = Path(name)
        for product in ("one", "two"):
            sparse(products / product, size)
        os.environ["DELIVERY_S3_ENDPOINT"] = sink
        os.environ["DELIVERY_WEB_STREAMS"] = "100000"  # one reader has them all
        os.environ["DELIVERY_WEB_STREAMS_TOTAL"] = "100000"
        async with (
            running_stack(products, switches=UNLIMITED) as stack,
            running_service(stack) as (child, url),
            Client.connected(stack) as client,
            aiohttp.ClientSession(url, headers=instance_admin(stack)) as session,
        ):
            await logged(child, "worker_ready")
            token = delivery("token", **stack.environment).stdout.strip()
            for product in ("one", "two"):
                await client.send(request_for(product))
            async with asyncio.timeout(900):  # rs-order reads the files for their checksums
                while child.log.read_text().count("transfer_began") < 2:
                    await asyncio.sleep(_SETTLE)
            without, beside = [], []
            for number in range(rounds):
                without.append(await _rate(session, seconds))
                async with running_readers(f"{url}/deliveries/events", token, readers) as told:
                    beside.append(await _rate(session, seconds))
                print(
                    f"round {number + 1}: {without[-1] / 1e6:.0f} MB/s without readers, "
                    f"{beside[-1] / 1e6:.0f} with {readers}, who heard {told()} bytes",
                    flush=True,
                )
    ratio = statistics.median(beside) / statistics.median(without)
    print(f"with ÷ without, medians: {ratio:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=16, help="GiB of each transfer")
    asked = parser.parse_args()
    asyncio.run(_main(asked.readers, asked.seconds, asked.rounds, asked.size * GIB))
