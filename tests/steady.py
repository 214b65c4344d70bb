"""All tests, in a drawn order, beside a process that keeps a core busy.

    python -m tests.steady [SEED]    # the same seed, the same order

What passes here rests on no other test, and on no time that only an idle machine keeps.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

from compose.embedded.processes import running, start
from compose.embedded.stack import ROOT


async def _run(seed: int) -> int:
    command = [sys.executable, "-m", "pytest", "-n", "auto", "--drawn", str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        busy = start(
            "the busy core",
            [sys.executable, "-c", "while True: pass"],
            log=Path(folder) / "log",
        )
        async with running(busy):
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
            code = await process.wait()
    print(f"the order was drawn: make steady SEED={seed}")
    return code


def main() -> int:
    """Run them; the exit code is pytest's."""
    given = sys.argv[1:]
    return asyncio.run(_run(int(given[0]) if given else random.SystemRandom().randrange(10**6)))


if __name__ == "__main__":
    sys.exit(main())
