"""How long one tenant's request takes right behind another tenant's burst.

    make bench-burst [REQUESTS=10000]

RabbitMQ itself hands out about 1,000 messages a second of a queue with 255 priorities (REGARDS'
declaration) on two cores, so most of a wait behind a burst is spent there, unless the request has a
higher priority.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import aio_pika

from compose.embedded.stack import Stack, running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.client import ORDER_REQUESTS, REQUESTS, Client, request_for
from tests.standin import StandIn

BUSY, QUIET = "busy", "quiet"


async def _answer(client: Client, what: str, **properties: Any) -> None:
    body = request_for("P")
    began = time.monotonic()
    await client.send(body, tenant=QUIET, **properties)
    await client.wait_for(body["correlationId"], "GRANTED", seconds=300)
    granted = time.monotonic() - began
    await client.wait_for(body["correlationId"], exchange=ORDER_REQUESTS, seconds=300)
    ordered = time.monotonic() - began
    print(f"{what:<40} granted after {granted:6.2f} s, ordered after {ordered:6.2f} s")


async def publish_burst(client: Client, count: int) -> None:
    """Publish as fast as RabbitMQ takes it; not awaiting each, and without confirms."""
    connection = await aio_pika.connect(client.amqp_url)
    async with connection, connection.channel(publisher_confirms=False) as channel:
        exchange = await channel.get_exchange(REQUESTS, ensure=False)
        for number in range(count):
            body: dict[str, Any] = request_for("P", correlationId=f"burst-{number}")
            message = aio_pika.Message(
                json.dumps(body).encode(), headers={"regards.tenant": BUSY}, delivery_mode=2
            )
            await exchange.publish(message, "")


async def measure(stack: Stack, requests: int) -> None:
    """Run the service on a stack, and print."""
    extra = {"DELIVERY_TENANTS": f"{BUSY},{QUIET}"}
    async with (
        running_service(stack, extra=extra),
        Client.connected(stack) as client,
        StandIn.connected(stack.rs_order_url) as standin,
    ):
        # rs-order's own queue is not what is measured.
        await standin.misbehave(order="silent")
        await _answer(client, "the first of all")
        await _answer(client, "alone")
        began = time.monotonic()
        await publish_burst(client, requests)
        took = time.monotonic() - began
        print(f"{requests} requests of another tenant, published in {took:.2f} s")
        await asyncio.gather(
            _answer(client, "right behind them"),
            _answer(client, "right behind them, with priority 5", priority=5),
        )
        for number in range(requests):
            await client.wait_for(f"burst-{number}", "GRANTED", seconds=300)
        print(f"all of them granted after {time.monotonic() - began:.2f} s")


async def _main(requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running_stack(Path(folder), switches=UNLIMITED) as stack:
            await measure(stack, requests)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=10_000)
    asyncio.run(_main(parser.parse_args().requests))
