"""What checkpoints cost a transfer that nothing disturbs.

    make bench-checkpoints [SIZE=2048] [ROUNDS=9]        # SIZE: MiB, in files of 64

Without: no CRC of what is before a boundary, no state of the MD5, nothing saved. With: all of it,
saved in a PostgreSQL beside. In turn, each run in a process of its own; the ratios are those of the
medians, and of the best runs, which others on the machine disturb least.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from pathlib import Path

from app.store import migrate, open_pool
from compose.embedded.postgres import postgres
from tests.bench.ours import DATABASE
from tests.bench.path import CHECKPOINTS, MIB, Figures, Payload, Servers, run
from tests.bench.processes import server

_FILE = 64  # MiB


def measure(payload: Payload, rounds: int, at: Servers) -> dict[str, list[Figures]]:
    """Return the runs of each way; every round turns their order round."""
    files = payload.files()
    runs: dict[str, list[Figures]] = {way: [] for way in CHECKPOINTS}
    for number in range(rounds):
        for way in CHECKPOINTS[:: -1 if number % 2 else 1]:
            runs[way].append(run(way, payload, files, at))
    return runs


def report(runs: dict[str, list[Figures]]) -> None:
    """Print figures and ratios."""
    seconds = {way: [figures["seconds"] for figures in found] for way, found in runs.items()}
    cpu = {way: [figures["cpu_seconds"] for figures in found] for way, found in runs.items()}
    for way, found in runs.items():
        rates = [figures["bytes"] / figures["seconds"] / 1e6 for figures in found]
        print(
            f"{way:20} {statistics.median(rates):5.0f} MB/s, best {max(rates):5.0f}; "
            f"{statistics.median(cpu[way]) / found[0]['bytes'] * 1e9:5.2f} CPU s/GB"
        )
    without, with_ = CHECKPOINTS
    for what, of in (("time", seconds), ("CPU", cpu)):
        medians = statistics.median(of[with_]) / statistics.median(of[without])
        best = min(of[with_]) / min(of[without])
        print(f"{what}, with ÷ without: {medians:.3f} (medians), {best:.3f} (best)")


async def _migrated(url: str) -> None:
    async with open_pool(url, size=2, start_timeout=10) as pool:
        await migrate(pool)


async def _main(size: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, and finds its own in it
        async with postgres(folder) as database:
            await _migrated(database.url)
            os.environ[DATABASE] = database.url
            payload = Payload(
                f"{size} MiB", "incompressible", max(1, size // _FILE), _FILE * MIB, []
            )
            with server("source") as source, server("null_s3") as sink:
                measured = await asyncio.to_thread(measure, payload, rounds, Servers(source, sink))
    report(measured)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=2048, help="MiB")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    asyncio.run(_main(asked.size, asked.rounds))
