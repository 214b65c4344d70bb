"""How long a broker may hold a fetch back: what it costs a delivery, and spares a worker at rest.

    make bench-fetch-wait [DELIVERIES=15]

On the embedded broker, which holds an answer back for all of that time, and on Apache Kafka, which
ends it as soon as there is an event. Each wait has a worker of its own, one after the other and by
turns, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import psutil

from compose.embedded.processes import Child
from compose.embedded.stack import Stack, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.latency import Clock
from tests.client import Client

_WAIT = "DELIVERY_KAFKA_FETCH_MAX_WAIT_MS"
_SETTLING = 5.0  # seconds in which the last delivery's receipts and offsets are noted


def _used(child: Child) -> float:
    """Return the seconds of processor time that the service has had."""
    (service,) = psutil.Process(child.process.pid).children()
    times = service.cpu_times()
    return times.user + times.system


async def _measured(
    stack: Stack, wait: int, deliveries: int, idle: float
) -> tuple[list[float], float]:
    """Return how long each delivery took, and processor seconds a second of a worker at rest."""
    async with (
        running_service(stack, extra={_WAIT: str(wait)}) as (child, _),
        Client.connected(stack) as client,
    ):
        clock = Clock(client)
        await clock.listen()
        for _ in range(5):  # connections, caches
            await clock.one()
        took = [await clock.one() for _ in range(deliveries)]
        await asyncio.sleep(_SETTLING)
        before = _used(child)
        await asyncio.sleep(idle)
        return took, (_used(child) - before) / idle


async def _main(options: argparse.Namespace) -> None:
    took: defaultdict[int, list[float]] = defaultdict(list)
    idle: defaultdict[int, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        products = Path(name)
        (products / "tiny").mkdir()
        (products / "tiny" / "tiny.bin").write_bytes(b"x" * 100)
        async with running_stack(products, switches=UNLIMITED) as stack:
            for _ in range(options.rounds):
                for wait in options.waits:
                    times, used = await _measured(stack, wait, options.deliveries, options.idle)
                    took[wait] += times
                    idle[wait].append(used)
    broker = "Apache Kafka" if "DELIVERY_KAFKA_BOOTSTRAP_SERVERS" in os.environ else "embedded"
    for wait, times in took.items():
        print(
            f"{broker}: {wait:4} ms: p50 {statistics.median(times) * 1000:4.0f} ms, least "
            f"{min(times) * 1000:4.0f}; at rest {statistics.median(idle[wait]) * 1000:5.1f} ms of "
            "the processor a second"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=15, help="of each wait and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=15, help="seconds of rest that are measured")
    parser.add_argument("waits", nargs="*", type=int, default=[250, 50, 25])
    asyncio.run(_main(parser.parse_args()))
