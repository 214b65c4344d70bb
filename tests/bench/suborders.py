"""An order of many suborders, two restored at a time: how much longer than rs-order it takes.

    make bench-suborders [SUBORDERS=40]

One file of 1 MB each, two seconds to restore a suborder; what rs-order needs alone is the half of
its suborders times that. RabbitMQ, Kafka protocol broker, PostgreSQL, S3 server and rs-order run on
the same machine and share its cores with the one worker.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from compose.embedded.stack import running_service, running_stack
from compose.rs_order.switches import Switches
from tests.client import Client, request_for
from tests.conftest import noise
from tests.standin import StandIn

_RESTORE = 2.0  # seconds of a suborder
_PLACES = 2
_SIZE = 1_000_000  # bytes of a file


async def _main(suborders: int) -> None:
    switches = Switches(suborder_files=1, restore_seconds=_RESTORE, user_places=_PLACES)
    with tempfile.TemporaryDirectory() as name:
        product = Path(name) / "P"
        product.mkdir()
        for number in range(suborders):
            (product / f"f{number:03}.bin").write_bytes(noise(_SIZE, str(number)))
        async with (
            running_stack(Path(name), switches=switches) as stack,
            running_service(stack),
            Client.connected(stack) as client,
            StandIn.connected(stack.environment["DELIVERY_RS_ORDER_URL"]) as standin,
        ):
            body = request_for("P")
            began = time.monotonic()
            await client.send(body)
            answer = await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=600)
            took = time.monotonic() - began
            assert answer["status"] == "DONE", answer
            (order,) = await standin.orders(body["correlationId"])
            begun = [file["begun"] for file in await standin.files(order["orderId"])]
    least = -(-suborders // _PLACES) * _RESTORE
    print(
        f"{suborders} suborders: {took:.1f} s, {took / least:.2f} × the {least:.0f} s that "
        f"rs-order needs; {sum(begun)} downloads of {len(begun)} files"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--suborders", type=int, default=40)
    asyncio.run(_main(parser.parse_args().suborders))
