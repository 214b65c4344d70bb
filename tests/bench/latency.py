"""Tiny deliveries through the whole service: how long one takes, and how many a second.

    make bench-latency [DELIVERIES=500]

One file of 100 bytes each; from the moment that the request is published over AMQP to the moment
that DONE comes in. First one after the other, then all at once. RabbitMQ, Kafka protocol broker,
PostgreSQL, S3 server and rs-order run on the same machine and share its cores with the one worker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from aio_pika.abc import AbstractIncomingMessage

from compose.embedded.processes import Child
from compose.embedded.stack import running_service, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.client import RESPONSES, Client, request_for


class Clock:
    """Times deliveries with little work of its own: the service needs the cores."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ended: dict[str, asyncio.Future[float]] = {}

    async def listen(self) -> None:
        """Hear every response."""
        queue = await self._client.channel.declare_queue(exclusive=True)
        await queue.bind(RESPONSES)
        await queue.consume(self._hear, no_ack=True)

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        body = json.loads(message.body)
        if body["status"] == "GRANTED":
            return
        assert body["status"] == "DONE", body
        self._ended[body["correlationId"]].set_result(time.monotonic())

    async def one(self) -> float:
        """Return the seconds that one delivery takes."""
        body = request_for("tiny")
        ended = self._ended[body["correlationId"]] = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        await self._client.send(body)
        async with asyncio.timeout(600):
            ended_at: float = await ended
            return ended_at - began


def _tell(what: str, took: list[float], seconds: float) -> None:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    print(
        f"{len(took):5} {what:<22} p50 {cuts[49] * 1000:7.0f} ms   p99 {cuts[98] * 1000:7.0f} ms   "
        f"{len(took) / seconds:6.1f} a second"
    )


class Cpu:
    """Seconds of processor time: of the service, and of the whole machine."""

    def __init__(self, child: Child) -> None:
        (self._service,) = psutil.Process(child.process.pid).children()
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        times, machine = self._service.cpu_times(), psutil.cpu_times()
        return times.user + times.system, sum(machine) - machine.idle - machine.iowait

    def tell(self, deliveries: int, seconds: float) -> None:
        """Print what each delivery took since this was made."""
        used = [
            (after - before) / deliveries * 1000
            for before, after in zip(self._before, self._now(), strict=True)
        ]
        cores = psutil.cpu_count() or 1
        print(
            f"      processor time each: the service {used[0]:.0f} ms, all processes together "
            f"{used[1]:.0f} ms, of {cores * seconds / deliveries * 1000:.0f} ms that there were"
        )


async def _main(count: int, transfers: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        products = Path(name)
        (products / "tiny").mkdir()
        (products / "tiny" / "tiny.bin").write_bytes(b"x" * 100)
        async with (
            running_stack(products, switches=UNLIMITED) as stack,
            running_service(stack, extra={"DELIVERY_MAX_TRANSFERS": str(transfers)}) as (child, _),
            Client.connected(stack) as client,
        ):
            clock = Clock(client)
            await clock.listen()
            for _ in range(10):  # connections, caches
                await clock.one()
            began = time.monotonic()
            alone = [await clock.one() for _ in range(max(count // 5, 2))]
            _tell("one after the other", alone, time.monotonic() - began)
            cpu = Cpu(child)
            began = time.monotonic()
            at_once = await asyncio.gather(*(clock.one() for _ in range(count)))
            seconds = time.monotonic() - began
            _tell("all at once", at_once, seconds)
            cpu.tell(count, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=500)
    parser.add_argument("--transfers", type=int, default=2, help="DELIVERY_MAX_TRANSFERS")
    asked = parser.parse_args()
    asyncio.run(_main(asked.deliveries, asked.transfers))
