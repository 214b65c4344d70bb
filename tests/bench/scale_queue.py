"""Ten thousand requests at once: how fast they are taken in, and what they cost until they are due.

    make bench-queue [REQUESTS=10000]

rs-order keeps silent, so that all of them are there at the end, granted and ordered. Told are the
rates, the memory of the service before and after, and the size of the database.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil

from compose.embedded.processes import Child
from compose.embedded.stack import Stack, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.burst import BUSY, publish_burst
from tests.client import Client, request_for
from tests.standin import StandIn

_MIB = 1024**2
_LOOK = 0.2  # seconds between looks at the memory


class _Memory:
    """Resident memory of the service, and its peak."""

    def __init__(self, child: Child) -> None:
        (self._service,) = psutil.Process(child.process.pid).children()
        self.peak = self.now()

    def now(self) -> float:
        """Return MiB."""
        return float(self._service.memory_info().rss) / _MIB

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.peak = max(self.peak, self.now())
            await asyncio.sleep(_LOOK)


async def _size(stack: Stack) -> float:
    connection = await asyncpg.connect(stack.environment["DELIVERY_DATABASE_URL"])
    try:
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        return float(size) / _MIB
    finally:
        await connection.close()


async def _main(requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running_stack(Path(folder), switches=UNLIMITED) as stack,
            running_service(stack, extra={"DELIVERY_TENANTS": BUSY}) as (child, _),
            Client.connected(stack) as client,
            StandIn.connected(stack.rs_order_url) as standin,
        ):
            await standin.misbehave(order="silent")
            first = request_for("P")
            await client.send(first, tenant=BUSY)
            await client.wait_for(first["correlationId"], "GRANTED")
            memory = _Memory(child)
            before, size_before = memory.now(), await _size(stack)
            watching = asyncio.create_task(memory.watch())
            began = time.monotonic()
            await publish_burst(client, requests)
            published = time.monotonic() - began
            for number in range(requests):
                await client.wait_for(f"burst-{number}", "GRANTED", seconds=600)
            granted = time.monotonic() - began
            watching.cancel()
            size = await _size(stack)
            print(f"{requests} requests published in {published:.1f} s")
            print(f"granted, {requests / granted:.0f} a second, after {granted:.1f} s")
            print(
                f"memory {before:.0f} MiB before, {memory.peak:.0f} at the peak, "
                f"{memory.now():.0f} after"
            )
            print(
                f"database {size_before:.0f} MiB before, {size:.0f} after: "
                f"{(size - size_before) * 1024 / requests:.1f} KiB a request"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=10_000)
    asyncio.run(_main(parser.parse_args().requests))
