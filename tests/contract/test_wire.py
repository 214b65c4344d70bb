"""What the contract's words decide: declarations, Java's messages, order events of any kind."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.delivery import outgoing
from app.delivery.outgoing import Kind
from app.errors import ConfigurationError, NotSentError
from compose.embedded.rabbitmq import rabbitmq
from compose.embedded.stack import TENANT, USER
from streams.amqp.publisher import connect, open_publisher
from tests.builders import make_delivery, make_outgoing
from tests.client import (
    ORDER_CANCELS,
    ORDER_REQUESTS,
    ORDER_RESPONSES,
    REQUEST_QUEUE,
    REQUESTS,
    Client,
    contents,
    request_for,
)
from tests.contract.peer import (
    ORDER_RESPONSE_TYPE,
    REQUEST_TYPE,
    declare_as_regards,
    java_message,
)
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]


@pytest.fixture(scope="module")
async def empty_broker() -> AsyncIterator[str]:
    """A RabbitMQ that no client has declared anything on."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        async with rabbitmq(Path(folder)) as server:
            yield server.url


async def test_each_side_may_declare_first_and_other_arguments_are_told(empty_broker: str) -> None:
    url = empty_broker
    await declare_as_regards(url)
    async with connect(url, start_timeout=30) as connection, open_publisher(connection):
        await declare_as_regards(url)
    async with connect(url, start_timeout=30) as connection, connection.channel() as channel:
        await channel.queue_delete(REQUEST_QUEUE)
        await channel.declare_queue(REQUEST_QUEUE, durable=True)
    with pytest.raises(ConfigurationError, match="with other arguments"):
        async with connect(url, start_timeout=30) as connection, open_publisher(connection):
            pass
    async with connect(url, start_timeout=30) as connection, connection.channel() as channel:
        await channel.queue_delete(REQUEST_QUEUE)


async def test_an_order_that_reaches_no_queue_stays_owed(empty_broker: str) -> None:
    """RabbitMQ confirms what it can route nowhere; a response may be of interest to no client."""
    delivery = make_delivery()
    async with (
        connect(empty_broker, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
    ):
        await publisher.publish(outgoing.granted(delivery))
        order = outgoing.order(delivery, size_limit=1)
        for owed in (order, outgoing.cancel(delivery, 7)):
            with pytest.raises(NotSentError, match="no queue is bound to exchange"):
                await publisher.publish(owed)
        async with connection.channel() as channel:
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(ORDER_REQUESTS)
            await publisher.publish(order)


async def test_what_there_is_no_connection_for_is_surely_not_sent(empty_broker: str) -> None:
    owed = outgoing.order(make_delivery(), size_limit=1)
    async with (
        connect(empty_broker, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
    ):
        await connection.close()
        with pytest.raises(NotSentError, match="there is no connection to RabbitMQ"):
            await publisher.publish(owed)


async def test_a_stored_message_whose_name_fits_no_property_is_sent_without_it(
    empty_broker: str,
) -> None:
    """`app_id` holds 255 bytes; rows of the version before may have more, and were never sent."""
    stored = make_outgoing(
        kind=Kind.ORDER, correlation_id="€" * 128, origin_app="€" * 128, body={"user": USER}
    )
    async with (
        connect(empty_broker, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
        connection.channel() as channel,
    ):
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(ORDER_REQUESTS)
        await publisher.publish(stored)
        message = await queue.get(timeout=30)
    assert message.app_id is None
    assert json.loads(message.body) == {"user": USER}


async def test_a_request_as_java_publishes_it(
    client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}), targetDelivery=None)
    exchange = await client.channel.get_exchange(REQUESTS, ensure=False)
    await exchange.publish(java_message(body, REQUEST_TYPE, TENANT), "")
    answer = await client.wait_for(body["correlationId"], "DONE", "ERROR", "DENIED")
    assert answer["status"] == "DONE"
    assert {m.priority for m in client.messages(body["correlationId"])} == {1}


async def test_unknown_fields_are_ignored_and_not_passed_on(
    client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}), extra={"deep": [1, {"er": None}]})
    body["order"] |= {"label": "x", "filters": {"dataTypes": ["RAWDATA"], "more": 1}}
    assert (await client.answer(body))["status"] == "DONE"
    (order,) = client.heard(body["correlationId"], ORDER_REQUESTS)
    assert order == {
        "user": USER,
        "queries": body["order"]["queries"],
        "filters": {"dataTypes": ["RAWDATA"]},
        "correlationId": body["correlationId"],
        "sizeLimitInBytes": 1024**4,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": None}, "order must be an object"),
        ({"order": "x"}, "order must be an object"),
        ({"targetDelivery": 5}, "targetDelivery must be a text"),
        ({"order": {}}, "order.user is missing; order.queries is missing"),
        (
            {"order": {"user": " ", "queries": "x"}},
            "order.user must not be blank; order.queries must be a list",
        ),
        (
            {"order": {"user": 7, "queries": [7]}},
            "order.user must be a text; order.queries.0 must be a text",
        ),
        (
            {"order": {"user": "u", "queries": ["x"], "filters": {}}},
            "order.filters.dataTypes is missing",
        ),
        (
            {"order": {"user": "u", "queries": ["x"], "filters": {"dataTypes": []}}},
            "order.filters.dataTypes must have at least one entry",
        ),
        (
            {
                "order": {
                    "user": "u",
                    "queries": ["x"],
                    "filters": {"dataTypes": ["RAWDATA", "X"], "filenameRegExp": 1},
                }
            },
            (
                "order.filters.dataTypes.1 must be RAWDATA or QUICKLOOK; "
                "order.filters.filenameRegExp must be a text"
            ),
        ),
    ],
)
async def test_each_broken_rule_is_named(
    client: Client, change: dict[str, Any], message: str
) -> None:
    body = request_for("P", **change)
    assert await client.answer(body) == {
        "correlationId": body["correlationId"],
        "status": "DENIED",
        "errorType": "INVALID_CONTENT",
        "message": message,
    }


@pytest.mark.parametrize(
    ("event", "error_type", "cancelled"),
    [
        ({"status": "DENIED", "errorType": "FORBIDDEN"}, "FORBIDDEN", False),
        ({"status": "DENIED", "errorCode": "EMPTY_ORDER"}, "EMPTY_ORDER", False),
        ({"status": "DENIED", "errorType": "INVALID_CONTENT"}, "INVALID_CONTENT", False),
        ({"status": "DENIED"}, "INTERNAL_ERROR", False),
        ({"status": "FAILED", "orderId": 7, "errorType": "EXPIRED_ORDER"}, "INTERNAL_ERROR", True),
        (
            {"status": "FAILED", "orderId": 7, "errorType": "ORDER_LIMIT_REACHED", "errors": None},
            "ORDER_LIMIT_REACHED",
            True,
        ),
        (
            {"status": "SUBORDER_DONE", "orderId": 7, "errors": 2, "errorType": None},
            "INTERNAL_ERROR",
            True,
        ),
        (
            {"status": "DONE", "orderId": 7, "errors": 1, "errorCode": "EMPTY_ORDER"},
            "EMPTY_ORDER",
            True,
        ),
        ({"status": "DONE"}, "INTERNAL_ERROR", False),
    ],
)
async def test_each_end_of_an_order_is_told(
    client: Client,
    standin: StandIn,
    event: dict[str, Any],
    error_type: str,
    cancelled: bool,
) -> None:
    await standin.misbehave(order="silent")
    body = request_for("P")
    correlation_id = body["correlationId"]
    await client.send(body)
    await client.wait_for(correlation_id, exchange=ORDER_REQUESTS)
    exchange = await client.channel.get_exchange(ORDER_RESPONSES, ensure=False)
    told = event | {"correlationId": correlation_id, "message": "because", "unknown": [1]}
    for _ in range(2):
        await exchange.publish(java_message(told, ORDER_RESPONSE_TYPE, TENANT), "")
    answer = await client.wait_for(correlation_id, "ERROR", "DONE")
    assert (answer["status"], answer["errorType"]) == ("ERROR", error_type)
    if cancelled:
        cancel = await client.wait_for(correlation_id, exchange=ORDER_CANCELS)
        assert cancel == {"orderId": 7, "correlationId": correlation_id}
    assert client.said(correlation_id) == ["GRANTED", "ERROR"]
    assert len(client.heard(correlation_id, ORDER_CANCELS)) == int(cancelled)


async def test_good_bad_and_hostile_in_any_order_are_each_answered_once_or_dead_lettered(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    """Nothing is lost, nothing is answered twice. The log has the seed."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    await standin.misbehave(unknown_users=["stranger@example.org"], events_twice=True)
    product = make_product({"a.txt": b"text"})
    expected: dict[str, list[str]] = {}
    sends: list[tuple[dict[str, Any] | bytes, dict[str, Any]]] = []

    def plan(body: dict[str, Any], *statuses: str, **properties: Any) -> None:
        expected[body["correlationId"]] = list(statuses)
        sends.append((body, properties))

    for _ in range(8):
        plan(request_for(product), "GRANTED", "DONE", priority=chance.randrange(256))
        plan(request_for("no such product"), "GRANTED", "ERROR")
        plan(request_for(product, order={}), "DENIED")
        unknown = request_for(product)
        unknown["order"]["user"] = "stranger@example.org"
        plan(unknown, "DENIED")
    unreadable = [f"{{{uuid4().hex}".encode() for _ in range(8)]
    sends += [(body, {"message_id": "m"}) for body in unreadable]
    chance.shuffle(sends)
    events = [
        {"correlationId": "nobody's", "status": status, "orderId": 10**9}
        for status in ("GRANTED", "SUBORDER_DONE", "DONE", "FAILED", "DENIED")
    ]
    logging.getLogger(__name__).warning("seed %s", seed)
    for body, properties in sends:
        await client.send(body, **properties)
        await client.tell(chance.choice(events))

    for correlation_id, statuses in expected.items():
        await client.wait_for_said(correlation_id, *statuses)
    queue = await client.channel.get_queue(f"{REQUEST_QUEUE}.DLQ", ensure=False)
    found = set[bytes]()
    async with asyncio.timeout(30), queue.iterator() as dead_letters:
        async for dead_letter in dead_letters:
            await dead_letter.ack()
            found.add(dead_letter.body)
            if found >= set(unreadable):
                break
    # The last word on each: whatever is still under way would come before this one is done.
    await client.answer(request_for(product))
    assert {c: client.said(c) for c in expected} == expected
    done = [c for c, statuses in expected.items() if statuses[-1] == "DONE"]
    url = json.loads(client.messages(done[0])[-1].body)["url"]
    assert contents(await client.fetch(url)) == {"a.txt": b"text"}
