"""A request counts once, whenever a worker dies: real processes, real kills, in each window."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import asyncpg
import psutil
import pytest

from compose.embedded.processes import Child
from compose.embedded.stack import Stack
from streams.amqp.publisher import connect, open_publisher
from streams.channels import INCOMING
from tests.client import ORDER_REQUESTS, Client, request_for
from tests.command import logged
from tests.service import running_service
from tests.standin import StandIn

REPEATED = '"request_repeated"'


@pytest.fixture
async def apart(stack: Stack, apart: dict[str, str]) -> dict[str, str]:
    """A database, topics and a group of the test's own, and queues that hold nothing."""
    url = stack.environment["DELIVERY_AMQP_URL"]
    async with connect(url, start_timeout=30) as connection, open_publisher(connection):
        channel = await connection.channel()
        for way in INCOMING:
            # What an earlier test gave back would end a worker that dies of its first message.
            await (await channel.get_queue(way.queue.name)).purge()
    return apart


def kill(child: Child) -> None:
    """Kill the worker itself, which runs under a guard."""
    (worker,) = psutil.Process(child.process.pid).children()
    worker.send_signal(signal.SIGKILL)


async def delivered_once(client: Client, body: dict[str, object]) -> None:
    correlation_id = str(body["correlationId"])
    await client.wait_for_said(correlation_id, "GRANTED", "DONE")
    assert len({m.message_id for m in client.messages(correlation_id, ORDER_REQUESTS)}) == 1


async def test_a_worker_killed_between_kafkas_confirmation_and_the_acknowledgement_delivers_once(
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    make_product: Callable[..., str],
) -> None:
    """RabbitMQ gives the message again; what became of it is on Kafka already."""
    body = request_for(make_product({"a": b"a"}))
    dying = ("tests.integration.crash", "at-ack")
    async with running_service(stack, extra=apart, program=dying) as (child, _):
        await client.send(body)
        assert await asyncio.to_thread(child.process.wait) != 0
    async with running_service(stack, extra=apart) as (child, _):
        await logged(child, REPEATED)
        await delivered_once(client, body)


async def test_an_original_appended_after_its_copy_was_answered_is_ignored(
    stack: Stack, apart: dict[str, str], client: Client
) -> None:
    """RabbitMQ gives the message again, which has no id; the original is appended after its end."""
    body = request_for("P", order={"user": " "})
    correlation_id = str(body["correlationId"])
    dying = ("tests.integration.crash", "at-append")
    async with running_service(stack, extra=apart, program=dying) as (child, _):
        await client.send(body)
        assert await asyncio.to_thread(child.process.wait) != 0
    soon = apart | {"DELIVERY_RECONCILE_INTERVAL": "0.2"}
    async with running_service(stack, extra=soon) as (child, _):
        await client.wait_for_said(correlation_id, "DENIED")
        connection = await asyncpg.connect(apart["DELIVERY_DATABASE_URL"])
        assert await connection.execute("UPDATE arrival SET due_at = now()") == "UPDATE 1"
        await connection.close()
        await logged(child, REPEATED)
        # The same on purpose is answered; so whatever was owed before it was sent.
        await client.send(body)
        await client.wait_for_said(correlation_id, "DENIED", "DENIED")
    # Who sends a copy on purpose has its answer: the one that there was, told again.
    answer, again, _ = client.messages(correlation_id)
    assert (answer.message_id, answer.body) == (again.message_id, again.body)


async def test_redelivery_after_a_finished_delivery_is_ignored(
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    make_product: Callable[..., str],
) -> None:
    body = request_for(make_product({"a": b"a"}))
    dying = ("tests.integration.crash", "before-ack")
    async with running_service(stack, extra=apart, program=dying) as (child, _):
        await client.send(body)
        await delivered_once(client, body)
        kill(child)
    async with running_service(stack, extra=apart) as (child, _):
        await logged(child, REPEATED)
        await delivered_once(client, body)


async def test_a_worker_killed_before_the_offset_is_committed_answers_once(
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    await standin.misbehave(events_late=2)
    body = request_for(make_product({"a": b"a"}))
    dying = ("tests.integration.crash", "before-commit")
    async with running_service(stack, extra=apart, program=dying) as (child, _):
        await client.send(body)
        await client.wait_for(str(body["correlationId"]), "GRANTED")
        kill(child)
    async with running_service(stack, extra=apart) as (child, _):
        await logged(child, REPEATED)
        await delivered_once(client, body)


async def test_an_event_read_again_after_a_finished_delivery_is_ignored(
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    make_product: Callable[..., str],
) -> None:
    body = request_for(make_product({"a": b"a"}))
    dying = ("tests.integration.crash", "before-commit")
    async with running_service(stack, extra=apart, program=dying) as (child, _):
        await client.send(body)
        await delivered_once(client, body)
        kill(child)
    async with running_service(stack, extra=apart) as (child, _):
        await logged(child, REPEATED)
        await delivered_once(client, body)
        # The same identifier, on purpose: a new delivery.
        await client.send(body)
        await client.wait_for_said(str(body["correlationId"]), "GRANTED", "DONE", "GRANTED", "DONE")
