"""How long a start takes, on a stack that is up: until messages are taken, until events are read.

    make bench-start [ROUNDS=9]

The service is `delivery serve`, which has all parts; times are those at which its log tells. Beside
it: how long an operator waits for `delivery --help`, and for `delivery list`. Medians, with the
fastest and the slowest; a first round, which fills caches and migrates the database, does not
count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from compose.embedded.processes import free_port
from compose.embedded.stack import ROOT, Stack, running_stack

_EVENTS = {"worker_ready": "takes messages", "consumer_ready": "reads events"}
_LONGEST = 60.0  # seconds


async def _process(stack: Stack, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "app.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={
            **os.environ,
            **stack.environment,
            "DELIVERY_LOG_FORMAT": "json",
            "DELIVERY_WEB_PORT": str(free_port()),
        },
    )


async def _command(stack: Stack, *arguments: str) -> float:
    """Run a command to its end; return seconds."""
    began = time.perf_counter()
    process = await _process(stack, *arguments)
    told, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"delivery {' '.join(arguments)} failed:\n{told.decode()}")
    return time.perf_counter() - began


async def _service(stack: Stack) -> dict[str, float]:
    """Start the service and stop it; return the seconds until each event, and to stop."""
    times: dict[str, float] = {}
    began = time.perf_counter()
    process = await _process(stack, "serve")
    assert process.stdout is not None
    seen: list[str] = []
    async with asyncio.timeout(_LONGEST):
        while len(times) < len(_EVENTS):
            line = (await process.stdout.readline()).decode()
            if not line:
                raise SystemExit("the service ended in its start:\n" + "".join(seen))
            seen.append(line)
            for event, meaning in _EVENTS.items():
                if f'"{event}"' in line:
                    times[f"start → {meaning}"] = time.perf_counter() - began
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    return times | {"stop": time.perf_counter() - began}


async def _round(stack: Stack) -> dict[str, float]:
    return await _service(stack) | {
        "delivery --help": await _command(stack, "--help"),
        "delivery list": await _command(stack, "list"),
    }


async def _main(rounds: int) -> None:
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        async with running_stack(Path(folder)) as stack:
            for number in range(rounds + 1):
                times = await _round(stack)
                for name, seconds in times.items() if number else ():
                    found[name].append(seconds)
    print(f"| {rounds} rounds, seconds | median | fastest | slowest |")
    print("| --- | ---: | ---: | ---: |")
    for name, all_of_it in found.items():
        middle = statistics.median(all_of_it)
        print(f"| {name} | {middle:.2f} | {min(all_of_it):.2f} | {max(all_of_it):.2f} |")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    asyncio.run(_main(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
