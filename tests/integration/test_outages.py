"""RabbitMQ, Kafka, PostgreSQL, S3 and rs-order go away, in the middle or at start, and come back.

They come back at once after readiness has noticed; `make test-outages` lets them stay away for a
minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from compose.embedded.kafka import kafka
from compose.embedded.processes import Server, free_port, running
from compose.embedded.stack import ROOT, Stack
from tests import nursery
from tests.caller import instance_admin
from tests.client import REQUEST_QUEUE, Client, contents, request_for
from tests.command import logged
from tests.conftest import noise
from tests.integration.gate import gate
from tests.service import running_service
from tests.standin import StandIn

NAMES = {
    "DELIVERY_AMQP_URL": "rabbitmq",
    "DELIVERY_DATABASE_URL": "postgresql",
    "DELIVERY_S3_ENDPOINT": "s3",
    "DELIVERY_RS_ORDER_URL": "rs-order",
    "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": "kafka",
}
OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "0"))  # at least, after it was noticed
AWAY = [{name} for name in NAMES.values()] + [set(NAMES.values())]
IDS = [*NAMES.values(), "all"]


class Switch(Protocol):
    """Something that can be away."""

    @property
    def url(self) -> str: ...
    async def shut(self) -> None: ...
    async def let(self) -> None: ...


class Broker:
    """Kafka tells clients where it is, so no gate can stand before it: it is stopped for real."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url

    async def shut(self) -> None:
        await self._server.child.stop()

    async def let(self) -> None:
        await self._server.restart()


@pytest.fixture
async def gates(stack: Stack, database: str, tmp_path: Path) -> AsyncIterator[dict[str, Switch]]:
    """A switch for each dependency, by the name that readiness has for it."""
    addresses = {**stack.environment, "DELIVERY_DATABASE_URL": database}
    async with contextlib.AsyncExitStack() as opened:
        switches: dict[str, Switch] = {
            name: await opened.enter_async_context(gate(addresses[setting]))
            for setting, name in NAMES.items()
            if name != "kafka"
        }
        broker = await opened.enter_async_context(kafka(tmp_path))
        yield switches | {"kafka": Broker(broker)}


def behind(gates: dict[str, Switch]) -> dict[str, str]:
    """Return settings of a service that knows its dependencies through gates only."""
    name = uuid4().hex[:8]
    return {setting: gates[part].url for setting, part in NAMES.items()} | {
        "DELIVERY_RS_ADMIN_URL": gates["rs-order"].url,
        "DELIVERY_KAFKA_TOPIC_PREFIX": f"{name}.",
        "DELIVERY_KAFKA_GROUP": name,
        "DELIVERY_LEASE_TTL": "6",
        "DELIVERY_TRANSFER_ATTEMPTS": "20",
        "DELIVERY_RETRY_BACKOFF_MAX": "2",
        "DELIVERY_KAFKA_STUCK_AFTER": "8",
        "DELIVERY_EVENT_ALLOWANCE": "5",
        "DELIVERY_RECONCILE_INTERVAL": "1",
    }


async def down(url: str, stack: Stack) -> dict[str, str]:
    """Return the components that readiness calls down, each with the reason; and S3, by its gauge.

    (Readiness asks no tenant's target.)
    """
    async with aiohttp.ClientSession(headers=instance_admin(stack)) as http:
        async with http.get(f"{url}/health/ready") as response:
            components = (await response.json())["components"]
            assert (response.status == 200) == all(c["status"] == "UP" for c in components.values())
            found = {n: c["error"] for n, c in components.items() if c["status"] != "UP"}
        async with http.get(f"{url}/metrics") as response:
            figures = await response.text()
    if re.search(r"^delivery_target_up\{.*\} 0", figures, re.MULTILINE):
        found["s3"] = "it does not answer"
    return found


@pytest.mark.timeout(300 + OUTAGE)
@pytest.mark.parametrize("away", AWAY, ids=IDS)
async def test_work_goes_on_after_an_outage(
    away: set[str],
    stack: Stack,
    gates: dict[str, Switch],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    """One delivery is in its transfer then, one is requested while they are away."""
    await standin.misbehave(bytes_per_second=200_000)  # it takes minutes, until they are away
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
        await standin.behave()
        await client.send(second)
        async with asyncio.timeout(60):
            # Without PostgreSQL, nothing is sent to S3 by which it would be missed.
            noticed = away if away == {"s3"} else away - {"s3"}
            while not noticed <= (reasons := await down(url, stack)).keys():
                await asyncio.sleep(0.2)
        assert all(reasons.values()), reasons
        await asyncio.sleep(OUTAGE)
        for name in away:
            await gates[name].let()
        for correlation_id in ids:
            await client.wait_for(correlation_id, "DONE", "ERROR", seconds=120)
        assert child.running
        async with asyncio.timeout(60):
            while await down(url, stack):
                await asyncio.sleep(0.2)
    assert [client.said(correlation_id) for correlation_id in ids] == [["GRANTED", "DONE"]] * 2, (
        child.tail(60)
    )
    done = await client.wait_for(ids[0], "DONE")
    assert contents(await client.fetch(done["url"])) == files
    assert await client.open_uploads(ids[0]) == []


@pytest.mark.timeout(300 + OUTAGE)
@pytest.mark.parametrize(
    "away",
    [{"rabbitmq"}, {"kafka"}, {"postgresql"}, set(NAMES.values())],
    ids=["rabbitmq", "kafka", "postgresql", "all"],
)
async def test_a_service_that_starts_in_an_outage_waits_and_works_then(
    away: set[str],
    stack: Stack,
    gates: dict[str, Switch],
    client: Client,
    make_product: Callable[..., str],
    tmp_path: Path,
) -> None:
    files = {"a.txt": b"a"}
    body = request_for(make_product(files))
    for name in away:
        await gates[name].shut()
    child = nursery.start(
        "the service",
        [sys.executable, "-m", "app.cli", "worker"],
        log=tmp_path / "log",
        environment={
            **stack.environment,
            **behind(gates),
            "DELIVERY_START_TIMEOUT": str(60 + OUTAGE),
        },
        cwd=ROOT,
    )
    async with running(child):
        await client.send(body)
        await asyncio.sleep(OUTAGE or 3)  # long enough for several vain attempts
        assert child.running, child.tail()
        for name in away:
            await gates[name].let()
        done = await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=90)
        assert contents(await client.fetch(done["url"])) == files
        assert child.running


@pytest.mark.parametrize("away", ["rabbitmq", "postgresql", "kafka"])
async def test_a_dependency_that_stays_away_ends_the_start_with_a_sentence_and_code_69(
    away: str, stack: Stack, gates: dict[str, Switch], tmp_path: Path
) -> None:
    """A supervisor starts it again; S3 and rs-order are not needed for a start."""
    await gates[away].shut()
    child = nursery.start(
        "the service",
        [sys.executable, "-m", "app.cli", "serve"],
        log=tmp_path / "log",
        environment={
            **stack.environment,
            **behind(gates),
            "DELIVERY_START_TIMEOUT": "2",
            "DELIVERY_WEB_PORT": str(free_port()),
        },
        cwd=ROOT,
    )
    async with running(child), asyncio.timeout(60):
        assert await asyncio.to_thread(child.process.wait) == 69, child.tail()
    assert child.last_words().startswith("delivery: no ")
    assert "Traceback" not in child.log.read_text()


async def test_a_queue_that_is_deleted_is_declared_and_read_again(
    stack: Stack, gates: dict[str, Switch], client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    async with running_service(stack, extra=behind(gates)) as (_, url):
        await client.channel.queue_delete(REQUEST_QUEUE)
        async with asyncio.timeout(60):
            while not await readers(client) or await down(url, stack):
                await asyncio.sleep(0.2)
        answer = await client.answer(body)
        assert answer["status"] == "DONE"


async def readers(client: Client) -> int:
    """Return how many read the requests; a look at a queue that is gone costs its channel."""
    async with await aio_pika.connect(client.amqp_url) as connection:
        channel = await connection.channel()
        try:
            queue = await channel.declare_queue(REQUEST_QUEUE, passive=True)
        except ChannelNotFoundEntity:
            return 0
        return queue.declaration_result.consumer_count or 0


@contextlib.asynccontextmanager
async def read_only(url: str) -> AsyncIterator[None]:
    """Let the server refuse to write, in sessions that are open, too."""
    admin = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    try:
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        yield
    finally:
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()


@pytest.mark.timeout(300)
async def test_a_database_that_is_read_only_for_a_while_delays(
    stack: Stack, gates: dict[str, Switch], client: Client, make_product: Callable[..., str]
) -> None:
    """A failover does that. Nothing is buried, and the process goes on."""
    product = make_product({"a.txt": b"a"})
    bodies = [request_for(product) for _ in range(20)]
    extra = behind(gates)
    queue = await client.channel.get_queue(f"{REQUEST_QUEUE}.DLQ", ensure=False)
    async with running_service(stack, extra=extra) as (child, url):
        await queue.purge()
        await client.answer(request_for(product))
        async with read_only(stack.environment["DELIVERY_DATABASE_URL"]):
            for body in bodies:
                await client.send(body)
            async with asyncio.timeout(60):
                while not await down(url, stack):
                    await asyncio.sleep(0.2)
                await logged(child, '"messages_wait"', 3)  # again and again: none is given up
        for body in bodies:
            await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=90)
        assert child.running
    said = [client.said(body["correlationId"]) for body in bodies]
    assert said == [["GRANTED", "DONE"]] * len(bodies), child.tail(60)
    assert await queue.get(fail=False) is None


async def test_a_service_that_starts_on_a_read_only_database_waits(
    stack: Stack, gates: dict[str, Switch], client: Client, tmp_path: Path
) -> None:
    environment = {**stack.environment, **behind(gates), "DELIVERY_START_TIMEOUT": "60"}
    async with contextlib.AsyncExitStack() as refusing:
        await refusing.enter_async_context(read_only(stack.environment["DELIVERY_DATABASE_URL"]))
        child = nursery.start(
            "the service",
            [sys.executable, "-m", "app.cli", "worker"],
            log=tmp_path / "log",
            environment=environment,
            cwd=ROOT,
        )
        async with running(child):
            await logged(child, '"postgresql_awaited"', 5)
            await refusing.aclose()
            await logged(child, '"worker_ready"')
