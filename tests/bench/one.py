"""Run one way on one job, and print what it cost: for `tests.bench.path`, which starts it.

The job is read from the standard input as JSON; the result is one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path

from tests.bench.upload import Job
from tests.bench.ways import WAYS

_STATUS = Path("/proc/self/status")


def _memory(field: str) -> int:
    """Return a figure of the kernel's about this process, in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    asked = json.load(sys.stdin)
    way = WAYS[asked["way"]]
    files = [tuple(file) for file in asked["files"]]
    warm_up = [tuple(file) for file in asked["warm_up"]]
    # What a first transfer loads and keeps (clients, their models) is not the transfer's.
    asyncio.run(way(Job(source=asked["warm_up_source"], sink=asked["sink"], files=warm_up)))
    job = Job(source=asked["source"], sink=asked["sink"], files=files)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
    idle = _memory("VmRSS")
    cpu, began = _processor(), time.perf_counter()
    md5 = asyncio.run(way(job))
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": _processor() - cpu,
                "peak_over_idle": _memory("VmHWM") - idle,
                "bytes": job.size,
                "md5": md5,
            }
        )
    )


if __name__ == "__main__":
    main()
