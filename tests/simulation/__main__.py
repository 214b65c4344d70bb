"""Play nights: `make simulate SEEDS=… TIME=…`, or one again, `make simulate SEED=n`."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from sinks.pipeline.digest import without_checkpoints
from tests.simulation import found
from tests.simulation.drawing import draw as drawing
from tests.simulation.night import Night, play
from tests.simulation.plan import KINDS, draw
from tests.simulation.shrink import shrink

_BATCH = 10  # nights that a process plays before it tells


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this night alone, and tell all of it")
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("--kind", choices=KINDS, default="", help="play nights of this kind alone")
    parser.add_argument("--time", type=float, help="begin no night after so many seconds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--keep", type=Path, help="write the plan of a failure to this file")
    parser.add_argument("--found", action="store_true", help="play what was found before")
    parser.add_argument("--plain", action="store_true", help="leave a failure as it is found")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _play_some(seeds: range, kind: str, until: float) -> tuple[int, int | None]:
    """Play nights up to a moment; return how many there were, and the seed of one that failed."""
    warnings.simplefilter("ignore")
    for played, seed in enumerate(seeds):
        if time.time() > until:
            return played, None
        if play(draw(seed, of=kind), to_the_end=False).wrong:
            return played + 1, seed
    return len(seeds), None


def _batches(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, _BATCH):
        yield range(start, min(start + _BATCH, first + count))


def _search(options: argparse.Namespace) -> int:
    """Play until a night fails, or all are played; return the exit code."""
    began = time.time()
    until = began + options.time if options.time else float("inf")
    played, failed = 0, None
    with ProcessPoolExecutor(options.jobs) as pool:
        batches = list(_batches(options.first, options.seeds))
        for count, seed in pool.map(_play_some, batches, repeat(options.kind), repeat(until)):
            played += count
            if seed is not None:
                failed = seed
                break
        pool.shutdown(cancel_futures=True)
    rate = played / (time.time() - began) * 60
    _say(f"{played} nights, {rate:.0f} a minute")
    if failed is None:
        return 0
    night = play(draw(failed, of=options.kind), to_the_end=not options.plain)
    named = f" KIND={options.kind}" if options.kind else ""
    _say(f"\nSEED={failed}{named} fails:")
    if not options.plain:
        night = shrink(night)
    _tell(night)
    if options.keep:
        found.keep(night.plan, options.keep)
    return 1


def _found() -> int:
    """Play what was found before; return the exit code."""
    failed = 0
    for name, plan in found.plans().items():
        night = play(plan)
        _say(f"{name}: {'; '.join(night.wrong) or 'well'}")
        failed += bool(night.wrong)
    return 1 if failed else 0


def _tell(night: Night) -> None:
    """Tell what was wrong in a night, what it needs, and how it went."""
    for what in night.wrong:
        _say(f"  {what}")
    plan = night.plan
    _say("\nIt needs:")
    for wish in plan.wishes:
        _say(f"  {wish}")
    for event in (*plan.disasters, *plan.ambushes, *plan.steps):
        _say(f"  {event}")
    for fault, often in sorted(plan.faults.items()):
        _say(f"  {fault}: {often:.3f}")
    _say(
        f"  disorder {plan.disorder}, ttl {plan.ttl:g} s, clocks {plan.clocks}, pace {plan.pace}\n"
    )
    for line in drawing(night):
        _say(line)


def main() -> int:
    """Play what is asked for."""
    warnings.simplefilter("ignore")
    options = _options()
    if without := without_checkpoints():
        _say(f"{without}\nSeeds give other nights here than where it is.\n")
    if options.found:
        return _found()
    if options.seed is None:
        return _search(options)
    night = play(draw(options.seed, of=options.kind))
    for line in night.lines:
        _say(str(line))
    for what in night.wrong:
        _say(f"WRONG: {what}")
    _say(f"{night.steps} steps, {night.seconds:.1f} seconds of the night")
    return 1 if night.wrong else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # so that sets have the same order everywhere
        os.execve(  # noqa: S606 - itself
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
