"""How much memory a worker takes for archives of growing size.

    make bench-memory [SIZES="64 512 2048"]

For each size (MiB, one file of noise) prints the resident memory of the service before, its peak
while it delivers, and the rate. Constant memory means: the peak does not follow the size.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import psutil

from compose.embedded.stack import running_service, running_stack
from tests.client import Client, request_for

MIB = 1024 * 1024
_EVERY = 0.05  # seconds between samples


class Watch:
    """Samples the resident memory of a process."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.peak = 0

    def now(self) -> int:
        """Bytes."""
        resident: int = self._process.memory_info().rss
        return resident

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.peak = max(self.peak, self.now())
            await asyncio.sleep(_EVERY)


def _product(folder: Path, size: int) -> str:
    product = f"P{size}"
    (folder / product).mkdir()
    with (folder / product / "noise.bin").open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
    return product


async def _main(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        products = [await asyncio.to_thread(_product, folder, size) for size in sizes]
        async with (
            running_stack(folder) as stack,
            running_service(stack) as (child, _),
            Client.connected(stack) as client,
        ):
            (worker,) = psutil.Process(child.process.pid).children()
            watch = Watch(worker)
            for size, product in zip(sizes, products, strict=True):
                before, watch.peak = watch.now(), 0
                watching = asyncio.create_task(watch.run())
                began = time.monotonic()
                body = request_for(product)
                await client.send(body)
                answer = await client.wait_for(
                    body["correlationId"], "DONE", "ERROR", "DENIED", seconds=3600
                )
                took = time.monotonic() - began
                watching.cancel()
                print(
                    f"{size:6} MiB  {answer['status']}  before {before / MIB:6.0f} MiB  "
                    f"peak {watch.peak / MIB:6.0f} MiB  {size / took:6.0f} MiB/s, all in all"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sizes", type=int, nargs="+", help="MiB")
    asyncio.run(_main(parser.parse_args().sizes))
