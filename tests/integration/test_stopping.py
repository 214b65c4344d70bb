"""Workers that are told to stop: one after the other, and at once when told twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from compose.embedded.stack import Stack
from tests.chaos.workers import Worker, running_workers
from tests.client import Client, contents, request_for
from tests.command import logged
from tests.conftest import noise
from tests.service import running_service
from tests.standin import StandIn

DELIVERIES = 30


@pytest.fixture
def patient(apart: dict[str, str]) -> dict[str, str]:
    """Settings of workers that let a transfer end when they are stopped."""
    return apart | {"DELIVERY_LEASE_TTL": "4", "DELIVERY_SHUTDOWN_GRACE": "30"}


async def restarted(worker: Worker) -> None:
    """Tell a worker to stop, and return once its supervisor has it working again."""
    assert worker.send(signal.SIGTERM)
    async with asyncio.timeout(60):
        while worker.child.log.read_text().count('"worker_ready"') < 2:
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
            await logged(worker.child, '"worker_ready"')
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
        assert '"stopped_at_once"' in child.log.read_text()
    await standin.behave()
    async with running_service(stack, command="worker", extra=patient):
        done = await client.wait_for(name, "DONE", "ERROR")
    assert contents(await client.fetch(done["url"])) == files
    assert client.said(name) == ["GRANTED", "DONE"]
    assert await client.open_uploads(name) == []
