"""How many statements one tiny delivery costs PostgreSQL, from its request to DONE, and which.

    make bench-round-trips [DELIVERIES=20]

The whole service on the embedded stack, one delivery of one file of 100 bytes after the other, and
nothing else to do. PostgreSQL tells each statement in its log (BEGIN and COMMIT, too), so that no
client of it is left out. Looks that are due by the clock are counted in as long a time without
deliveries, and taken off; those at the outbox and for work are made rare, as what wakes is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import asyncpg

from compose.embedded.stack import Stack, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.latency import Clock
from tests.client import Client
from tests.statements import STATEMENTS

_ENTRY = "@@entry "
_SAID = re.compile(r"LOG: +(?:execute [^:]+|statement): (.*)", re.DOTALL)
_LITERALS = re.compile(r"ARRAY\[[-0-9,]*\]|'[0-9a-f]*'")  # of what BEGIN and COMMIT take along
_RARELY = {"DELIVERY_OUTBOX_POLL_INTERVAL": "600", "DELIVERY_CLAIM_POLL_INTERVAL": "600"}
_SETTLING = 2.0  # seconds in which what a delivery has left to say is said


def _squeezed(text: str) -> str:
    return " ".join(re.sub(r"--[^\n]*", "", text).split()).rstrip("; ")


_NAMES = {_squeezed(statement.text): name for name, statement in STATEMENTS.items()}


class Told:
    """What PostgreSQL's log tells of statements."""

    def __init__(self, stack: Stack) -> None:
        self._log = stack.folder / "postgres.log"
        self._url = stack.environment["DELIVERY_DATABASE_URL"]
        self._read = 0

    async def begin(self) -> None:
        """Let PostgreSQL tell every statement."""
        connection = await asyncpg.connect(self._url)
        for setting in (f"log_line_prefix = '{_ENTRY}'", "log_statement = 'all'"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()

    def since(self) -> Counter[str]:
        """Return which statements there were since this was asked last, by name."""
        text = self._log.read_text(errors="replace")
        new, self._read = text[self._read :], len(text)
        said = (_SAID.match(entry) for entry in new.split(_ENTRY))
        texts = [_squeezed(match[1]) for match in said if match]
        return Counter(_NAMES.get(text) or _LITERALS.sub("…", text)[:60] for text in texts)


async def count(deliveries: int) -> dict[str, float]:
    """Return how many statements of which name a delivery costs."""
    with tempfile.TemporaryDirectory() as name:
        products = Path(name)
        (products / "tiny").mkdir()
        (products / "tiny" / "tiny.bin").write_bytes(b"x" * 100)
        async with (
            running_stack(products, switches=UNLIMITED) as stack,
            running_service(stack, extra=_RARELY),
            Client.connected(stack) as client,
        ):
            clock = Clock(client)
            await clock.listen()
            for _ in range(5):  # connections, caches
                await clock.one()
            told = Told(stack)
            await told.begin()
            await asyncio.sleep(_SETTLING)
            told.since()
            began = time.monotonic()
            for _ in range(deliveries):
                await clock.one()
            await asyncio.sleep(_SETTLING)
            took, made = time.monotonic() - began, told.since()
            await asyncio.sleep(took)
            made.subtract(told.since())
    return {name: times / deliveries for name, times in made.items() if abs(times) > deliveries / 4}


async def main(deliveries: int) -> None:
    """Print what a delivery costs."""
    counted = await count(deliveries)
    for name, times in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        print(f"{times:7.1f}  {name}")
    print(f"{sum(counted.values()):7.1f}  statements a delivery")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=20)
    asyncio.run(main(parser.parse_args().deliveries))
