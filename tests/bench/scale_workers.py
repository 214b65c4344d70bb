"""What a second, third and fourth worker add, where the source and not this machine is the limit.

    make bench-workers [WORKERS="1 2 4"]

rs-order hands out each file at a fixed, slow rate, so that a worker's slots wait for it most of the
time, as they do for a tape library. All workers run on this machine, beside the whole stack.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from compose.embedded.processes import running, start
from compose.embedded.stack import ROOT, Stack, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.client import Client, request_for
from tests.command import logged
from tests.standin import StandIn

_SIZE = 1_000_000  # bytes of each file
_SECONDS = 8  # that its download takes
_EACH = 24  # deliveries for each worker: twelve rounds of its two slots


async def _ready(stack: Stack, number: int, opened: contextlib.AsyncExitStack) -> None:
    child = start(
        f"worker {number}",
        [sys.executable, "-m", "app.cli", "worker"],
        log=stack.folder / f"worker-{number}.log",
        environment=stack.environment,
        cwd=ROOT,
    )
    await opened.enter_async_context(running(child))
    await logged(child, "worker_ready")


async def measure(stack: Stack, client: Client, workers: int) -> float:
    """Return deliveries a second of so many workers."""
    async with contextlib.AsyncExitStack() as opened:
        for number in range(workers):
            await _ready(stack, number, opened)
        bodies = [request_for("slow") for _ in range(_EACH * workers)]
        began = time.monotonic()
        for body in bodies:
            await client.send(body)
        for body in bodies:
            await client.wait_for(body["correlationId"], "DONE", seconds=600)
        return len(bodies) / (time.monotonic() - began)


async def _main(counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        products = Path(name)
        (products / "slow").mkdir()
        (products / "slow" / "slow.bin").write_bytes(bytes(_SIZE))
        async with (
            running_stack(products, switches=UNLIMITED) as stack,
            Client.connected(stack) as client,
            StandIn.connected(stack.rs_order_url) as standin,
        ):
            await standin.misbehave(bytes_per_second=_SIZE // _SECONDS)
            first = 0.0
            for count in counts:
                rate = await measure(stack, client, count)
                first = first or rate / count
                print(
                    f"{count} workers: {rate:5.2f} deliveries a second, {rate / count / first:.2f} "
                    "for each worker, the first run's being 1",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("workers", type=int, nargs="*", default=[1, 2, 4])
    asyncio.run(_main(parser.parse_args().workers))
