"""What planning a large order costs: processor time on the event loop in one go, memory, time.

    make bench-plan [FILES="100000 1000000"] [PAGE=100]

The listing is served by a process of its own, the manifest goes into a PostgreSQL of the bench's
own; each size is planned in a process of its own. Of every callback on the loop, the processor time
of the loop's thread is taken: what no other work of the worker can use.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from app.delivery.ingress import DeliveryRequest, Opening
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.states import State, Work
from app.store import PostgresLeases, PostgresStore, migrate, open_pool
from app.usecases.laying_out import MEMORY_A_FILE, Room
from app.usecases.order_progress import order_progressed
from app.usecases.plan import Planning
from app.waiting.backoff import Backoff
from app.waiting.wakeup import Wakeup
from compose.embedded.postgres import postgres
from sinks import formats
from sinks.pipeline.budget import Budget
from streams.regards.orders import RsOrder, open_session
from streams.regards.resume import Resumption
from streams.regards.tokens import TokenSigner
from tests.bench.callbacks import Callbacks
from tests.bench.processes import server

MIB = 1024 * 1024


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def grant(store: PostgresStore, *names: str) -> None:
    """Let there be a granted delivery of each correlation id."""
    async with store.transaction() as tx:
        await tx.open_deliveries([_opening(name) for name in names])


def _opening(name: str) -> Opening:
    request = DeliveryRequest(
        id=uuid4(),
        tenant="t",
        correlation_id=name,
        origin_app=None,
        priority=1,
        target="t",
        user="u@example.org",
        order={"queries": ["*:*"]},
    )
    return Opening(
        request=request,
        state=State.GRANTED,
        requested_at=None,
        ttl=timedelta(hours=12),
    )


async def _available(store: PostgresStore) -> None:
    await grant(store, "c")
    event = OrderEvent(tenant="t", correlation_id="c", status=OrderStatus.DONE, order_id=1)
    await order_progressed(event, store=store)


async def measure(
    files: int, page: int, callbacks: Callbacks, *, source: str, database: str
) -> tuple[float, float]:
    """Plan an order of so many files; return the seconds it took, and its peak in MiB over idle."""
    async with (
        open_pool(database, size=4, start_timeout=5) as pool,
        open_session(stall_timeout=30) as session,
    ):
        await migrate(pool)
        await pool.execute("TRUNCATE delivery CASCADE")
        store = PostgresStore(pool, Wakeup())
        await _available(store)
        leases = PostgresLeases(pool, owner="bench", ttl=timedelta(hours=1))
        delivery = await leases.claim(Work.PLAN)
        assert delivery is not None
        order = RsOrder(
            session,
            TokenSigner("s" * 64, ttl=300),
            url=source,
            page_size=page,
            stall_timeout=30,
            resumption=Resumption(tries=0, backoff=Backoff(first=0, longest=0)),
        )
        gc.collect()
        gc.freeze()  # as a worker does
        memory = Budget(1280 * MIB)
        callbacks.reset()
        idle, began = _peak(), time.monotonic()
        room = Room(memory=memory.size, reserve=memory.reserve, most_files=1_000_000)
        planning = Planning(source=order, store=store, room=room, suffix_of=formats.suffix_of)
        await planning.plan(delivery)
        took = time.monotonic() - began
        assert await pool.fetchval("SELECT count(*) FROM delivery_file") == files
    return took, (_peak() - idle) / MIB


async def _measure(files: int, page: int, *, source: str, database: str) -> None:
    callbacks = Callbacks()
    callbacks.watch()
    took, peak = await measure(files, page, callbacks, source=source, database=database)
    print(
        f"{files:8} files   longest on the loop {callbacks.longest * 1000:5.1f} ms "
        f"({callbacks.offender})   "
        f"on the loop in all {callbacks.total:5.1f} s of {took:6.1f} s   "
        f"peak over idle {peak:4.0f} MiB (reserved: {files * MEMORY_A_FILE / MIB:.0f})",
        flush=True,
    )


async def _main(sizes: list[int], page: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        async with postgres(folder) as database:
            for files in sizes:
                with server("listing", str(files)) as source:
                    arguments = [str(files), "--page", str(page)]
                    places = ["--source", source, "--database", database.url]
                    subprocess.run(
                        [sys.executable, "-m", "tests.bench.plan", *arguments, *places], check=True
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", type=int, nargs="+")
    parser.add_argument("--page", type=int, default=100)
    parser.add_argument("--source", help="of the process that measures")
    parser.add_argument("--database", help="of the process that measures")
    given = parser.parse_args()
    if given.source:
        asyncio.run(
            _measure(given.files[0], given.page, source=given.source, database=given.database)
        )
    else:
        asyncio.run(_main(given.files, given.page))
