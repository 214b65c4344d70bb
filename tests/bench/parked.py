"""Many archives that are parked at once: what they hold of a worker.

    make bench-parked [DELIVERIES=100]

Each is an order of its own user, of two suborders, of which rs-order never sees that the first was
downloaded: so the second is not restored, and the archive waits. Told are the leases, threads and
memory of the worker before and while they are parked, and how long a delivery of one suborder takes
that comes then, with one slot for all.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from compose.embedded.processes import Child
from compose.embedded.stack import running_service, running_stack
from compose.rs_order.switches import Switches
from tests.client import Client, request_for
from tests.conftest import noise

MIB = 1024 * 1024
_SIZE = 3 * MIB  # bytes of a file: a tail is put aside for each
_SWITCHES = Switches(suborder_files=1, user_places=1, external="^f")
_PATIENCE = 600.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a worker has."""

    leases: int
    threads: int
    memory: int  # bytes that are resident

    @classmethod
    async def by(cls, child: Child, pool: asyncpg.Pool) -> Held:
        """Look at a worker under its guard."""
        guard = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children")
        (pid,) = (await asyncio.to_thread(guard.read_text)).split()
        status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return cls(
            leases=await pool.fetchval(
                "SELECT count(*) FROM delivery WHERE lease_until > now() AND work IS NOT NULL"
            ),
            threads=int(fields["Threads"]),
            memory=int(fields["VmRSS"].split()[0]) * 1024,
        )

    def __str__(self) -> str:
        return f"{self.leases} leases, {self.threads} threads, {self.memory / MIB:.0f} MiB"


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await holds():
            await asyncio.sleep(0.2)


async def _deliver(client: Client, product: str) -> float:
    """Return the seconds that a delivery takes."""
    body = request_for(product)
    began = time.monotonic()
    await client.send(body)
    answer = await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=_PATIENCE)
    assert answer["status"] == "DONE", answer
    return time.monotonic() - began


async def _main(deliveries: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        for product, files in (("two", ("f1", "f2")), ("one", ("g1",))):
            folder = Path(name) / product
            folder.mkdir()
            for file in files:
                (folder / f"{file}.bin").write_bytes(noise(_SIZE, file))
        extra = {"DELIVERY_MAX_TRANSFERS": "1"}
        async with (
            running_stack(Path(name), switches=_SWITCHES) as stack,
            running_service(stack, extra=extra) as (child, _),
            Client.connected(stack) as client,
            asyncpg.create_pool(
                stack.environment["DELIVERY_DATABASE_URL"], min_size=1, max_size=1
            ) as pool,
        ):
            # What is kept of transfers that were is no matter of parking.
            for _ in range(deliveries):
                alone = await _deliver(client, "one")
            before = await Held.by(child, pool)
            for number in range(deliveries):
                order = request_for("two")["order"] | {"user": f"user{number}@example.org"}
                await client.send(request_for("two", order=order))

            async def all_are_parked() -> bool:
                query = "SELECT count(*) FROM delivery WHERE parked"
                return bool(await pool.fetchval(query) == deliveries)

            await _until(all_are_parked)
            parked = await Held.by(child, pool)
            beside = await _deliver(client, "one")
    print(f"before: {before}; {deliveries} parked: {parked}")
    print(f"one delivery, one slot: {alone:.2f} s before, {beside:.2f} s beside them")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=100)
    asyncio.run(_main(parser.parse_args().deliveries))
