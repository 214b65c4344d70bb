"""RabbitMQ, PostgreSQL, S3 and rs-order go away in the middle, and come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import aiohttp
import pytest

from compose.embedded.stack import Stack, running_service
from tests.client import Client, contents, request_for
from tests.conftest import noise
from tests.integration.gate import Gate, gate
from tests.standin import StandIn

NAMES = {
    "DELIVERY_AMQP_URL": "rabbitmq",
    "DELIVERY_DATABASE_URL": "postgresql",
    "DELIVERY_S3_ENDPOINT": "s3",
    "DELIVERY_RS_ORDER_URL": "rs-order",
}


@pytest.fixture
async def gates(stack: Stack, database: str) -> AsyncIterator[dict[str, Gate]]:
    """A gate before each dependency, by the name that readiness has for it."""
    addresses = {**stack.environment, "DELIVERY_DATABASE_URL": database}
    async with contextlib.AsyncExitStack() as opened:
        yield {
            name: await opened.enter_async_context(gate(addresses[setting]))
            for setting, name in NAMES.items()
        }


def behind(gates: dict[str, Gate]) -> dict[str, str]:
    """Return settings of a service that knows its dependencies through gates only."""
    name = uuid4().hex[:8]
    return {setting: gates[part].url for setting, part in NAMES.items()} | {
        "DELIVERY_RS_ADMIN_URL": gates["rs-order"].url,
        "DELIVERY_KAFKA_TOPIC_PREFIX": f"{name}.",
        "DELIVERY_KAFKA_GROUP": name,
        "DELIVERY_LEASE_TTL": "6",
        "DELIVERY_TRANSFER_ATTEMPTS": "20",
        "DELIVERY_RETRY_BACKOFF_MAX": "2",
        "DELIVERY_EVENT_ALLOWANCE": "5",
        "DELIVERY_RECONCILE_INTERVAL": "1",
    }


async def down(url: str) -> dict[str, str]:
    """Return the components that readiness calls down, each with the reason."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/health/ready") as response:
        components = (await response.json())["components"]
        assert (response.status == 200) == all(c["status"] == "UP" for c in components.values())
        return {n: c["error"] for n, c in components.items() if c["status"] != "UP"}


@pytest.mark.parametrize(
    "away",
    [{"rabbitmq"}, {"postgresql"}, {"s3"}, {"rs-order"}, set(NAMES.values())],
    ids=["rabbitmq", "postgresql", "s3", "rs-order", "all"],
)
async def test_work_goes_on_after_an_outage(
    away: set[str],
    stack: Stack,
    gates: dict[str, Gate],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    """One delivery is in its transfer then, one is requested while they are away."""
    await standin.misbehave(bytes_per_second=3_000_000)
    files = {"a.bin": noise(20 * 2**20), "b.txt": b"b"}
    first, second = request_for(make_product(files)), request_for(make_product({"c": b"c"}))
    ids = first["correlationId"], second["correlationId"]
    async with running_service(stack, extra=behind(gates)) as (child, url):
        await client.send(first)
        async with asyncio.timeout(60):
            while not await client.open_uploads(ids[0]):
                await asyncio.sleep(0.1)
        for name in away:
            await gates[name].shut()
        await client.send(second)
        async with asyncio.timeout(60):
            while not away <= (reasons := await down(url)).keys():
                await asyncio.sleep(0.2)
        assert all(reasons.values()), reasons
        for name in away:
            await gates[name].let()
        for one in ids:
            await client.wait_for(one, "DONE", "ERROR", seconds=120)
        assert child.running
        async with asyncio.timeout(60):
            while await down(url):
                await asyncio.sleep(0.2)
    assert [client.said(one) for one in ids] == [["GRANTED", "DONE"]] * 2, child.tail(60)
    done = await client.wait_for(ids[0], "DONE")
    assert contents(await client.fetch(done["url"])) == files
    assert await client.open_uploads(ids[0]) == []
