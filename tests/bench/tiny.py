"""What the thread of a tiny archive costs, of all that making and sending it does.

    make bench-tiny

One file of 100 bytes, source and store in memory, so that there is nothing but the service's own
work; then the thread alone: begun, three hand-overs to the loop, joined. Processor time of the
process, which other programs on the machine change little.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from app.delivery.manifest import ManifestFile, Seam
from app.delivery.object_store import StoredObject
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.transfer import StreamingArchiver
from tests.builders import (
    OpenFolder,
    make_lease,
    make_transfer,
    name_bytes,
    never_put,
    not_saved,
)
from tests.twins.rs_order import Source

MIB = 1024 * 1024
_TARGET = MemoryTarget(container="archives")
_HAND_OVERS = 3  # of a tiny archive: its part, its end, and the end of its thread


async def _archive() -> None:
    source, store = Source({"product.nc": b"x" * 100}), MemoryObjectStore()
    delivery = make_transfer(archive_name="P.zip", file_count=1, total_bytes=100)
    upload = await store.create_upload(_TARGET, "P.zip", {}, media_type="application/zip")

    async def files() -> AsyncIterator[ManifestFile | Seam]:
        for file in source.manifest():
            yield file

    async def allowed(_result: StoredObject) -> bool:
        return True

    archiver = StreamingArchiver(
        source,
        store,
        lambda _progress: None,
        compression="store",
        part_size=5 * MIB,
        memory=32 * MIB,
        worker_memory=Budget(64 * MIB),
        max_object_size=1024**4,
        connections=4,
        patience=Patience(limit=20, backoff=Backoff(first=0.02, longest=0.1), in_slot=0.05),
    )
    made = await archiver.run(
        delivery,
        files(),
        _TARGET,
        upload,
        at_most=100,
        name_bytes=name_bytes(source.files),
        lease=make_lease(),
        may_complete=allowed,
        save=not_saved,
        put_aside=never_put,
        folder=OpenFolder(),
    )
    if made is None or made.files != 1:
        sys.exit("no archive was made")


async def _thread() -> None:
    loop, came = asyncio.get_running_loop(), asyncio.Queue[int]()

    def run() -> None:
        for number in range(_HAND_OVERS):
            loop.call_soon_threadsafe(came.put_nowait, number)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(_HAND_OVERS):
        await came.get()
    await asyncio.to_thread(thread.join)


async def _cost(what: Callable[[], Awaitable[None]], times: int) -> float:
    """Return milliseconds of processor time that one takes."""
    began = time.process_time()
    for _ in range(times):
        await what()
    return (time.process_time() - began) / times * 1000


async def _measure(rounds: int, times: int) -> None:
    for what in (_archive, _thread):
        await _cost(what, times // 4)  # imports, caches, the executor's own threads
    archives, threads = [], []
    for _ in range(rounds):  # in turn: what disturbs one disturbs the other
        archives.append(await _cost(_archive, times))
        threads.append(await _cost(_thread, times))
    whole, thread = statistics.median(archives), statistics.median(threads)
    sys.stdout.write(
        f"a tiny archive: {whole:.2f} ms of processor time; its thread alone: {thread:.2f} ms "
        f"({thread / whole:.0%}); medians of {rounds} rounds of {times}\n"
    )


def main() -> None:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tiny", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--times", type=int, default=300, help="a round (%(default)s)")
    options = parser.parse_args()
    asyncio.run(_measure(options.rounds, options.times))


if __name__ == "__main__":
    main()
