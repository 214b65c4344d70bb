"""Quorum queues, for deployments that own them: what goes through, and what is buried."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aio_pika
import pytest

from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.store import PostgresArrivals
from app.tenants.registry import ConfiguredTenants
from streams.amqp import names
from streams.amqp.publisher import connect, open_publisher
from streams.amqp.topology import Topology, declare_topology
from streams.bridge import Bridge
from streams.channels import INCOMING
from streams.events import RequestReceived
from streams.kafka.log import open_event_log
from streams.kafka.topics import ensure_topics
from tests.client import Client, request_for
from tests.command import delivery

QUORUM = Topology(kind="quorum")
OURS = [
    queue
    for channel in INCOMING
    for queue in (channel.queue.name, names.dead_letters_of(channel.queue.name))
]


@pytest.fixture
async def quorum(settings: Settings) -> AsyncIterator[Settings]:
    """Settings with quorum queues, and no other queues of these names; they are back after it."""
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        for queue in OURS:
            await channel.queue_delete(queue)
        yield settings.model_copy(update={"amqp_queue_type": "quorum"})
        for queue in OURS:
            await channel.queue_delete(queue)
        await declare_topology(channel)


async def test_requests_go_through_quorum_queues(
    quorum: Settings, client: Client, arrivals: PostgresArrivals
) -> None:
    await ensure_topics(quorum)
    url = quorum.amqp_url.get_secret_value()
    async with (
        connect(url, start_timeout=30) as connection,
        open_publisher(connection, topology=QUORUM) as publisher,
        open_event_log(quorum) as log,
    ):
        appended: asyncio.Queue[bytes] = asyncio.Queue()
        append = log.append

        async def note(topic: str, *, key: bytes, value: bytes) -> None:
            await append(topic, key=key, value=value)
            await appended.put(value)

        log.append = note  # type: ignore[method-assign,assignment]
        bridge = Bridge(
            connection=connection,
            publisher=publisher,
            events=log,
            arrivals=arrivals,
            tenants=ConfiguredTenants(quorum, KINDS),
            topology=QUORUM,
            prefetch=10,
            max_bytes=1000,
        )
        await bridge.start()
        try:
            body = request_for("P")
            await client.send(body, priority=7)
            async with asyncio.timeout(20):
                event = RequestReceived.decode(await appended.get())
            assert event.message.correlation_id == body["correlationId"]
            assert event.message.priority == 7  # it counts from the claim on
            await client.send(b"nonsense", message_id="no-json")
            async with asyncio.timeout(20):
                while not (listed := _listed()):
                    await asyncio.sleep(0.1)
        finally:
            await bridge.stop()
    (dead_letter,) = listed
    assert (dead_letter["queue"], dead_letter["messageId"]) == ("requests", "no-json")


def _listed() -> list[dict[str, str]]:
    told = delivery("dlq", "list", "--json", DELIVERY_AMQP_QUEUE_TYPE="quorum")
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


async def test_a_queue_of_another_type_is_told(quorum: Settings) -> None:
    connection = await aio_pika.connect(quorum.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
    ended = delivery("worker", DELIVERY_AMQP_QUEUE_TYPE="quorum", DELIVERY_LOG_LEVEL="ERROR")
    assert ended.returncode == 2
    assert "DELIVERY_AMQP_QUEUE_TYPE" in ended.stderr
    assert "Traceback" not in ended.stderr
