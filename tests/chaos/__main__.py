"""Deliveries under faults, and what became of them.

    make chaos [DELIVERIES=200] [SEED=…] [SECONDS=…]

The figures go to standard output. Exit code 0 only when nothing was lost, wrong, conflicting or
left behind. The seed draws requests and faults, their times and targets: the same seed, the same
course (which event meets which fault is up to the machine).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
from pathlib import Path

from tests.chaos.plan import draw
from tests.chaos.run import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=200)
    parser.add_argument("--seed", type=int, help="by default a new one, which is printed")
    parser.add_argument("--seconds", type=float, help="of faults; by default, by the deliveries")
    parser.add_argument("--only", default="", help="faults whose names have this in them")
    parser.add_argument("--logs", type=Path, help="file that the workers' logs are kept in")
    asked = parser.parse_args()
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    seconds = asked.seconds or max(45.0, asked.deliveries * 0.5)
    print(f"seed {seed}: {asked.deliveries} deliveries, {seconds:.0f} s of faults", flush=True)
    # A stack of its own: servers that run already are not there to be restarted.
    for name in [name for name in os.environ if name.startswith("DELIVERY_")]:
        del os.environ[name]
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)  # RabbitMQ is away on purpose
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    plan = draw(seed=seed, deliveries=asked.deliveries, seconds=seconds, only=asked.only)
    report = asyncio.run(run(plan))
    print("\n".join(report.lines()))
    if asked.logs is not None:
        asked.logs.write_text(report.logs)
    if report.findings.clean:
        return 0
    print(f"not clean; again with: make chaos DELIVERIES={asked.deliveries} SEED={seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
