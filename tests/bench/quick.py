"""What a tiny delivery costs, and a file of a larger one: counts, not times.

    make bench-quick [KEEP=1]

A machine that is slow, or shared, counts the same. It fails when a count is more than the kept one
(`counts.json`, which KEEP=1 writes), and says which can be lowered.

A tiny delivery has one file of 100 bytes; they are made one after the other, of which the median is
told, and what the service does meanwhile by its clock is taken off. A file is of 20 KB: what a
delivery of many costs more than one of few, over the files between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from compose.embedded.stack import ROOT, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.bench.counted import HAND_OVERS, SOCKET, SQL, TASKS
from tests.client import Client, request_for

KEPT = Path(__file__).with_name("counts.json")

Counts = Mapping[str, float]
Table = Mapping[str, Counts]  # by what is counted for

DELIVERY, FILE = "a tiny delivery", "a file of 20 KB"
_IDLE = 4.0  # seconds in which it is counted what is done by the clock
_REST = 0.2  # seconds without a statement, after which a delivery is over
_DELIVERIES = 25
_FEW, _MANY = 20, 220
# Passes that find more at once are fewer; how often that is so, is chance. It is more so of what
# the driver of Kafka does for each batch, which a busy machine makes smaller.
_TOLERANCE = 0.04
_TOLERANCES = {TASKS: 0.15, HAND_OVERS: 0.15}
_SLACK = {DELIVERY: 0.5, FILE: 0.1}
# Nothing is to be found by looks: what is woken is woken by events.
_ENVIRONMENT = {
    "DELIVERY_OUTBOX_POLL_INTERVAL": "3600",
    "DELIVERY_CLAIM_POLL_INTERVAL": "60",
    "DELIVERY_RECONCILE_INTERVAL": "3600",
    "DELIVERY_EXPIRY_INTERVAL": "3600",
    "DELIVERY_MAX_TRANSFERS": "2",
}


def allowed(what: str, name: str, kept: float) -> float:
    """Return the most that a count may be that is kept."""
    return kept * (1 + _TOLERANCES.get(name, _TOLERANCE)) + _SLACK[what]


def grown(kept: Table, found: Table) -> Iterator[str]:
    """Iterate over the counts that are more than the kept ones, or are not kept."""
    for what, counts in found.items():
        for name, count in counts.items():
            before = kept.get(what, {}).get(name)
            if before is None:
                yield f"{name} of {what}: {count:g}, and none is kept"
            elif count > allowed(what, name, before):
                yield f"{name} of {what}: {count:g} now, {before:g} kept"


def shrunk(kept: Table, found: Table) -> Iterator[str]:
    """Iterate over the counts whose kept ones can be lowered."""
    for what, counts in found.items():
        for name, count in counts.items():
            before = kept.get(what, {}).get(name)
            if before is not None and before > allowed(what, name, count):
                yield f"{name} of {what}: {count:g} now, {before:g} kept"


class Service:
    """What the service has counted."""

    def __init__(self, address: Path) -> None:
        self._address = address

    def counts(self) -> dict[str, int]:
        """Ask for the counts so far."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self._address))
            told = b"".join(iter(lambda: line.recv(4096), b""))
        found: dict[str, int] = json.loads(told)
        return found


def _more(after: Counts, before: Counts, over: float) -> dict[str, float]:
    return {name: (after[name] - before[name]) / over for name in after}


def _make_products(folder: Path) -> None:
    for name, files, size in (("tiny", 1, 100), ("few", _FEW, 20_000), ("many", _MANY, 20_000)):
        (folder / name).mkdir()
        for number in range(files):
            (folder / name / f"{number:04}.bin").write_bytes(bytes([number]) * size)


async def _deliver(client: Client, product: str) -> None:
    body = request_for(product)
    await client.send(body)
    await client.wait_for(body["correlationId"], "DONE", seconds=60)


async def _at_rest(service: Service) -> dict[str, int]:
    """Wait until what follows the answer is done; return the counts then."""
    before: dict[str, int] = {}
    while (now := service.counts())[SQL] != before.get(SQL):
        before = now
        await asyncio.sleep(_REST)
    return now


async def _count(service: Service, client: Client) -> dict[str, dict[str, float]]:
    for product in ("tiny", "few", "many", *["tiny"] * 10):  # connections, caches
        await _deliver(client, product)
    await _at_rest(service)
    began, before = time.monotonic(), service.counts()
    await asyncio.sleep(_IDLE)
    idle = _more(service.counts(), before, time.monotonic() - began)

    async def cost(product: str, times: int) -> dict[str, float]:
        """Return the median: a delivery that met what is done now and then is not like others."""
        found: list[dict[str, float]] = []
        for _ in range(times):
            began, before = time.monotonic(), service.counts()
            await _deliver(client, product)
            after = await _at_rest(service)
            seconds = time.monotonic() - began
            more = _more(after, before, 1)
            found.append({name: count - idle[name] * seconds for name, count in more.items()})
        return {name: statistics.median(each[name] for each in found) for name in idle}

    tiny = await cost("tiny", _DELIVERIES)
    few, many = await cost("few", 3), await cost("many", 3)
    return {
        DELIVERY: {name: round(count, 1) for name, count in tiny.items()},
        FILE: {n: round(c, 2) for n, c in _more(many, few, _MANY - _FEW).items()},
    }


async def measure() -> dict[str, dict[str, float]]:
    """Count on a stack of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        products, address = folder / "products", folder / "counts"
        products.mkdir()
        _make_products(products)
        extra = _ENVIRONMENT | {SOCKET: str(address), "PYTHONPATH": str(ROOT)}
        async with (
            running_stack(products, durable=False, switches=UNLIMITED) as stack,
            running_service(stack, command="worker", extra=extra, program=("tests.bench.counted",)),
            Client.connected(stack) as client,
        ):
            return await _count(Service(address), client)


def main(*, keep: bool) -> int:
    """Print what was counted; return how the process ends."""
    found = asyncio.run(measure())
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for what, counts in found.items():
        print(what)
        for name, count in counts.items():
            print(f"{count:9}  {name} (kept: {kept.get(what, {}).get(name, 'none')})")
    if keep:
        KEPT.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    for line in shrunk(kept, found):
        print(f"can be lowered (KEEP=1): {line}")
    more = list(grown(kept, found))
    for line in more:
        print(f"has grown: {line}")
    return 1 if more else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keep", action="store_true", help="write what is found as what is kept")
    raise SystemExit(main(keep=parser.parse_args().keep))
