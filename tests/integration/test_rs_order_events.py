"""What the stand-in rs-order says over AMQP, as a process: sentences of the contract, section 2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import aio_pika
import aiohttp
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from compose.embedded.stack import TENANT, Stack
from streams.regards.tokens import TokenSigner
from tests.client import ORDER_CANCELS, ORDER_REQUESTS, ORDER_RESPONSES
from tests.standin import StandIn

_ENDS = {"DONE", "FAILED", "DENIED"}


class Orderer:
    """A user of their own, who orders, hears what is said of it, and downloads."""

    def __init__(
        self, channel: AbstractChannel, session: aiohttp.ClientSession, standin: StandIn
    ) -> None:
        self.user = f"{uuid4().hex[:8]}@example.org"
        self.standin = standin
        self._channel = channel
        self._session = session
        self._heard: list[AbstractIncomingMessage] = []
        self._news = asyncio.Condition()

    async def hear(self, message: AbstractIncomingMessage) -> None:
        async with self._news:
            self._heard.append(message)
            self._news.notify_all()

    async def publish(self, exchange: str, body: dict[str, Any], **properties: Any) -> None:
        to = await self._channel.get_exchange(exchange)
        message = aio_pika.Message(
            json.dumps(body).encode(), headers={"regards.tenant": TENANT}, **properties
        )
        await to.publish(message, "")

    async def order(self, *products: str) -> str:
        """Order products; return the correlation id."""
        correlation_id = uuid4().hex
        queries = [f'providerId:"{product}"' for product in products]
        body = {"correlationId": correlation_id, "user": self.user, "queries": queries}
        await self.publish(ORDER_REQUESTS, body)
        return correlation_id

    def messages(self, correlation_id: str) -> list[AbstractIncomingMessage]:
        return [m for m in self._heard if json.loads(m.body)["correlationId"] == correlation_id]

    def said(self, correlation_id: str) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in self.messages(correlation_id)]

    async def until(
        self, correlation_id: str, reached: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        """Return what was said of an order, once that is enough."""
        async with self._news:
            await self._news.wait_for(lambda: reached(self.said(correlation_id)))
        return self.said(correlation_id)

    async def until_end(self, correlation_id: str) -> list[dict[str, Any]]:
        return await self.until(correlation_id, _ended)

    async def download(self, order_id: int, suborder: int) -> None:
        """Read each file of a suborder to its end."""
        for file in await self.standin.files(order_id):
            if file["subOrderId"] == suborder:
                async with self._session.get(f"/orders/files/{file['id']}") as response:
                    await response.read()


def _ended(said: list[dict[str, Any]]) -> bool:
    return any(event["status"] in _ENDS for event in said)


def _is_done(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda said: [event["status"] for event in said].count("SUBORDER_DONE") == count


@pytest.fixture
async def orderer(stack: Stack, standin: StandIn) -> AsyncIterator[Orderer]:
    signer = TokenSigner(stack.environment["DELIVERY_RS_ORDER_TOKEN_SECRET"], ttl=300)
    connection = await aio_pika.connect(stack.environment["DELIVERY_AMQP_URL"])
    async with (
        connection,
        connection.channel() as channel,
        aiohttp.ClientSession(stack.rs_order_url, raise_for_status=True) as session,
    ):
        made = Orderer(channel, session, standin)
        token = signer.token(TENANT, made.user)
        session.headers["Authorization"] = f"Bearer {token}"
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(ORDER_RESPONSES)
        await queue.consume(made.hear, no_ack=True)
        await standin.switch(user_places=2, suborder_files=1)
        yield made


MakeProduct = Callable[..., str]


async def test_an_order_of_several_suborders_goes_on_as_it_is_downloaded(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    order = await orderer.order(make_product(dict.fromkeys("abcde", b"x")))
    for count in (2, 3, 4, 5):
        said = await orderer.until(order, _is_done(count))
        assert count == 5 or not _ended(said)
        done = [event for event in said if event["status"] == "SUBORDER_DONE"]
        await orderer.download(done[count - 2]["orderId"], done[count - 2]["subOrderId"])
    said = await orderer.until_end(order)
    assert [event["status"] for event in said] == ["GRANTED", *["SUBORDER_DONE"] * 5, "DONE"]
    assert "totalSubOrders" not in said[0]
    totals = [event["totalSubOrders"] for event in said[1:]]
    assert totals == [2, 2, 3, 4, 5, 5]
    assert len({event["orderId"] for event in said}) == 1


async def test_two_users_have_places_of_their_own(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    product = make_product(dict.fromkeys("abc", b"x"))
    first = await orderer.order(product)
    await orderer.until(first, _is_done(2))
    orderer.user = f"other-{orderer.user}"
    second = await orderer.order(product)
    await orderer.until(second, _is_done(2))


async def test_a_cancel_frees_the_places_of_an_order(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    product = make_product(dict.fromkeys("abc", b"x"))
    first = await orderer.order(product)
    order_id = (await orderer.until(first, _is_done(2)))[0]["orderId"]
    second = await orderer.order(product)
    await orderer.until(second, lambda said: len(said) == 1)
    await orderer.publish(ORDER_CANCELS, {"orderId": order_id, "correlationId": first})
    await orderer.until(second, _is_done(2))
    (cancelled,) = await orderer.standin.orders(first)
    assert (cancelled["cancelled"], cancelled["status"]) == (True, "DELETED")


async def test_an_order_whose_files_failed_in_part_ends_in_failed_with_a_link(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    await orderer.standin.switch(suborder_files=0, unrestorable="^lost$")
    order = await orderer.order(make_product({"a": b"a", "lost": b"b"}))
    failed = (await orderer.until_end(order))[-1]
    assert (failed["status"], failed["errors"]) == ("FAILED", 1)
    assert failed["downloadLink"]


async def test_events_have_the_headers_of_regards(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    order = await orderer.order(make_product({"a": b"a"}))
    await orderer.until_end(order)
    assert {message.headers["regards.tenant"] for message in orderer.messages(order)} == {TENANT}
    assert {message.headers["__TypeId__"] for message in orderer.messages(order)} == {
        "fr.cnes.regards.modules.order.amqp.output.OrderResponseDtoEvent"
    }


async def test_events_come_twice_and_last_first_when_told_to(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    await orderer.standin.misbehave(events_twice=True, events_reversed=True)
    order = await orderer.order(make_product({"a": b"a"}))
    said = await orderer.until(order, lambda said: len(said) == 6)
    assert [event["status"] for event in said] == [
        *("DONE", "DONE", "SUBORDER_DONE", "SUBORDER_DONE", "GRANTED", "GRANTED")
    ]


async def test_a_request_that_is_sent_again_is_another_order(
    orderer: Orderer, make_product: MakeProduct
) -> None:
    product = make_product({"a": b"a"})
    again = uuid4().hex
    body = {"correlationId": again, "user": orderer.user, "queries": [f'id:"{product}"']}
    for _ in range(2):
        await orderer.publish(ORDER_REQUESTS, body, message_id=f"m-{again}")
    await orderer.until(again, lambda said: sum(event["status"] == "DONE" for event in said) == 2)
    assert len(await orderer.standin.orders(again)) == 2


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        ({"queries": ["id:none"]}, "EMPTY_ORDER"),
        ({"queries": ["id:("]}, "INVALID_CONTENT"),
        ({"queries": ["*:*"], "sizeLimitInBytes": 1}, "ORDER_LIMIT_REACHED"),
    ],
)
async def test_an_order_that_can_not_be_is_denied(
    orderer: Orderer, body: dict[str, Any], error_type: str
) -> None:
    order = {"correlationId": uuid4().hex, "user": orderer.user, **body}
    await orderer.publish(ORDER_REQUESTS, order)
    (denied,) = await orderer.until_end(order["correlationId"])
    assert (denied["status"], denied["errorType"]) == ("DENIED", error_type)
