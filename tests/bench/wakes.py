"""How long a delivery waits where one worker is full and another is free.

    make bench-wakes [DELIVERIES=20]

An event on Kafka goes to one worker, which may be full; the notification of PostgreSQL wakes each
that has a free slot. Both workers look by themselves once a minute only, so that a delivery which
wakes none would take that long. First with both free, then with one that has a slow download.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

import asyncpg

from compose.embedded.stack import Stack, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.latency import Clock
from tests.client import Client, request_for
from tests.standin import StandIn

_ONE_SLOT = {"DELIVERY_MAX_TRANSFERS": "1", "DELIVERY_CLAIM_POLL_INTERVAL": "60"}
_SLOW = 10_000_000  # bytes of the file that holds a worker
_RATE = _SLOW // 600  # a second; a tiny file waits for milliseconds


async def _is_held(stack: Stack) -> None:
    """Return once a worker transfers."""
    database = await asyncpg.connect(stack.environment["DELIVERY_DATABASE_URL"])
    try:
        while not await database.fetchval("SELECT 1 FROM delivery WHERE state = 'TRANSFERRING'"):
            await asyncio.sleep(0.1)
    finally:
        await database.close()


async def _tell(clock: Clock, deliveries: int, what: str) -> None:
    took = [await clock.one() for _ in range(deliveries)]
    print(
        f"{what}: p50 {statistics.median(took) * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms",
        flush=True,
    )


async def _main(deliveries: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        products = Path(name)
        for product, size in (("tiny", 100), ("slow", _SLOW)):
            (products / product).mkdir()
            (products / product / f"{product}.bin").write_bytes(bytes(size))
        async with (
            running_stack(products, switches=UNLIMITED) as stack,
            running_service(stack, extra=_ONE_SLOT),
            running_service(stack, extra=_ONE_SLOT),
            Client.connected(stack) as client,
            StandIn.connected(stack.rs_order_url) as standin,
        ):
            clock = Clock(client)
            await clock.listen()
            for _ in range(10):  # connections, caches
                await clock.one()
            await standin.misbehave(bytes_per_second=_RATE)
            await _tell(clock, deliveries, "two workers, both free")
            await client.send(request_for("slow"))
            await _is_held(stack)
            await _tell(clock, deliveries, "two workers, one full")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=20)
    asyncio.run(_main(parser.parse_args().deliveries))
