"""Workers that are told to stop: one after the other, and at once when told twice."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import pytest

from compose.embedded.stack import Stack
from tests.chaos.workers import Worker, running_workers
from tests.client import Client, contents, request_for
from tests.command import logged
from tests.conftest import noise
from tests.service import running_service
from tests.standin import StandIn
from tests.unit.test_assembler import goes_on

DELIVERIES = 30
MIB = 1024 * 1024


@pytest.fixture
def patient(apart: dict[str, str]) -> dict[str, str]:
    """Settings of workers that let a transfer end when they are stopped."""
    return apart | {"DELIVERY_LEASE_TTL": "4", "DELIVERY_SHUTDOWN_GRACE": "30"}


async def restarted(worker: Worker) -> None:
    """Tell a worker to stop, and return once its supervisor has it ready again, as a site waits.

    That is when it reads events. (Tansu answers no member of a group any more whose leader leaves
    while it lets another in; Apache Kafka does.)
    """
    assert worker.send(signal.SIGTERM)
    async with asyncio.timeout(60):
        while worker.child.output().count('"consumer_ready"') < 2:
            await asyncio.sleep(0.1)


async def test_a_rolling_restart_loses_nothing_and_repeats_nothing(
    stack: Stack,
    patient: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    await standin.misbehave(bytes_per_second=400_000)
    files = {"a.bin": noise(400_000), "b.txt": b"b"}
    product = make_product(files)
    bodies = [request_for(product) for _ in range(DELIVERIES)]
    ids = [body["correlationId"] for body in bodies]
    async with running_workers(stack, 2, patient) as workers:
        for worker in workers:
            await logged(worker.child, '"consumer_ready"')
        for body in bodies[::2]:
            await client.send(body)
        await client.wait_for(ids[0], "DONE")  # transfers are under way
        await restarted(workers[0])
        for body in bodies[1::2]:
            await client.send(body)
        await restarted(workers[1])
        for name in ids:
            await client.wait_for(name, "DONE", "ERROR", seconds=120)
        # Their own end, not a fault's: transfers ended in the grace, or were handed back.
        assert [worker.exits for worker in workers] == [Counter({0: 1})] * 2
    for name in ids:
        assert [message.message_id for message in client.messages(name)] == [
            *dict.fromkeys(message.message_id for message in client.messages(name))
        ]
        assert client.said(name) == ["GRANTED", "DONE"]
    done = await client.wait_for(ids[-1], "DONE")
    assert contents(await client.fetch(done["url"])) == files


def said(workers: Sequence[Worker], event: str) -> list[dict[str, Any]]:
    """Return what workers have logged of a kind."""
    lines = [line for worker in workers for line in worker.child.output().splitlines()]
    return [json.loads(line) for line in lines if f'"{event}"' in line]


@goes_on
async def test_a_rolling_restart_hands_transfers_over_and_fetches_nothing_again(
    stack: Stack,
    patient: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    """Each file is larger than a part: so behind the last part's end is what was read of one."""
    files = {f"{number:02}.bin": random.Random(number).randbytes(6 * MIB) for number in range(12)}
    product = make_product(files)
    bodies = [request_for(product) for _ in range(8)]
    ids = [body["correlationId"] for body in bodies]
    await standin.misbehave(bytes_per_second=6 * MIB)
    extra = patient | {
        "DELIVERY_LEASE_TTL": "30",  # none is to be taken over instead
        "DELIVERY_PART_SIZE": str(5 * MIB),
        "DELIVERY_MAX_TRANSFERS": "2",
    }
    async with running_workers(stack, 2, extra) as workers:
        for worker in workers:
            await logged(worker.child, '"consumer_ready"')
        for number, worker in enumerate(workers):
            begun = len(said([worker], "transfer_began")) + len(said([worker], "transfer_resumed"))
            for body in bodies[number * 4 : number * 4 + 4]:  # the other one takes two of them
                await client.send(body)
            await logged(worker.child, "transfer_", begun + 1)
            await restarted(worker)
        done = [await client.wait_for(name, "DONE", "ERROR", seconds=120) for name in ids]
        assert [worker.exits for worker in workers] == [Counter({0: 1})] * 2
        resumed = Counter(line["correlation_id"] for line in said(workers, "transfer_resumed"))
        handed_over = said(workers, "work_handed_over")
    assert {line["cause"] for line in handed_over} == {"the worker was stopped"}
    assert {line["correlation_id"] for line in handed_over} >= resumed.keys() != set()
    again = Counter[str]()
    for name in ids:
        (order,) = await standin.orders(name)
        reads = [file["begun"] for file in await standin.files(order["orderId"])]
        again[name] = sum(reads) - len(files)
    assert not +again, "each takes a second, and there are ten"
    assert len({answer["md5"] for answer in done}) == 1  # as if no worker had been stopped
    assert contents(await client.fetch(done[0]["url"])) == files
    assert [client.said(name) for name in ids] == [["GRANTED", "DONE"]] * len(ids)


async def test_a_second_signal_ends_a_worker_at_once_and_another_goes_on(
    stack: Stack,
    patient: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    await standin.misbehave(bytes_per_second=500_000)
    files = {"a.bin": noise(20_000_000)}
    body = request_for(make_product(files))
    name = body["correlationId"]
    async with running_service(stack, command="worker", extra=patient) as (child, _):
        await client.send(body)
        async with asyncio.timeout(60):
            while not await client.open_uploads(name):
                await asyncio.sleep(0.1)
        (program,) = psutil.Process(child.process.pid).children()
        program.send_signal(signal.SIGTERM)
        await logged(child, '"stopping"')
        assert child.running  # it has 30 seconds, and a transfer that takes longer
        program.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.process.wait) != 0
        assert '"stopped_at_once"' in child.output()
    await standin.behave()
    async with running_service(stack, command="worker", extra=patient):
        done = await client.wait_for(name, "DONE", "ERROR")
    assert contents(await client.fetch(done["url"])) == files
    assert client.said(name) == ["GRANTED", "DONE"]
    assert await client.open_uploads(name) == []
