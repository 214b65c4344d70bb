"""A client of the service, as the contract describes one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from compose.embedded import s3
from compose.embedded.stack import TENANT, USER, Stack
from streams.amqp.properties import accept_any_properties

# By their names on the wire, not those of the rows that the service is made of.
_BROADCAST = "regards.broadcast.fr.cnes.regards.modules"
REQUESTS = f"{_BROADCAST}.delivery.amqp.input.DeliveryRequestDtoEvent"
RESPONSES = f"{_BROADCAST}.delivery.amqp.output.DeliveryResponseDtoEvent"
MISSPELT = f"{_BROADCAST}.ltamanager.amqp.output.DeliveryResponseDtoEvent"
ORDER_REQUESTS = f"{_BROADCAST}.order.amqp.input.OrderRequestDtoEvent"
ORDER_CANCELS = f"{_BROADCAST}.order.amqp.input.OrderCancelRequestDtoEvent"
ORDER_RESPONSES = f"{_BROADCAST}.order.amqp.output.OrderResponseDtoEvent"
REQUEST_QUEUE = (
    "regards.broadcast.rs-delivery.fr.cnes.regards.modules.delivery.service.submission.create."
    "amqp.DeliveryRequestEventHandler"
)
ORDER_QUEUE = (
    "regards.broadcast.rs-delivery.fr.cnes.regards.modules.order.client.amqp."
    "AutoOrderResponseHandler"
)


def request_for(*products: str, **fields: Any) -> dict[str, Any]:
    """Return a good request for some products."""
    return {
        "correlationId": f"d-{uuid4().hex[:12]}",
        "order": {"user": USER, "queries": [f'productId:"{product}"' for product in products]},
    } | fields


class _NoId(str):
    """Is empty, so that it is not sent, and true: aiormq gives an id to a message without one."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


def without_id(message: aio_pika.Message) -> aio_pika.Message:
    """Let a message go out without a message id, as Spring sends it."""
    message.message_id = _NoId()
    return message


def contents(archive: bytes) -> dict[str, bytes]:
    """Unpack an archive; the checksum of each member is checked."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def _correlation_id(body: bytes) -> object:
    """Return what a message is about; some that are sent in tests are no JSON at all."""
    try:
        value = json.loads(body)["correlationId"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


class Client:
    """Publishes; keeps every message that it hears, by exchange and correlation id."""

    def __init__(self, channel: AbstractChannel, stack: Stack) -> None:
        self.channel = channel
        self._environment = stack.environment
        self.amqp_url = stack.environment["DELIVERY_AMQP_URL"]
        self._heard: dict[tuple[str | None, object], list[AbstractIncomingMessage]] = {}
        self._news = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, stack: Stack) -> AsyncIterator[Client]:
        accept_any_properties()  # what some tests publish comes here, too
        connection = await aio_pika.connect(stack.environment["DELIVERY_AMQP_URL"])
        async with connection, connection.channel() as channel:
            client = cls(channel, stack)
            queue = await channel.declare_queue(exclusive=True)
            for name in (RESPONSES, ORDER_REQUESTS, ORDER_CANCELS, REQUESTS):
                exchange = await channel.declare_exchange(
                    name, aio_pika.ExchangeType.FANOUT, durable=True
                )
                await queue.bind(exchange)
            await queue.consume(client._hear, no_ack=True)
            yield client

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        async with self._news:
            key = message.exchange, _correlation_id(message.body)
            self._heard.setdefault(key, []).append(message)
            self._news.notify_all()

    async def send(
        self, body: dict[str, Any] | bytes, *, tenant: str | None = TENANT, **properties: Any
    ) -> None:
        """Publish a delivery request."""
        headers = properties.pop("headers", {}) | ({"regards.tenant": tenant} if tenant else {})
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        exchange = await self.channel.get_exchange(REQUESTS, ensure=False)
        message = aio_pika.Message(raw, headers=headers, **properties)
        if message.message_id is None:
            message = without_id(message)
        await exchange.publish(message, "")

    async def tell(self, event: dict[str, Any], *, tenant: str = TENANT) -> None:
        """Publish an order event, as rs-order would."""
        exchange = await self.channel.get_exchange(ORDER_RESPONSES, ensure=False)
        await exchange.publish(
            aio_pika.Message(json.dumps(event).encode(), headers={"regards.tenant": tenant}), ""
        )

    def heard(self, correlation_id: str, exchange: str = RESPONSES) -> list[dict[str, Any]]:
        """Return all bodies heard so far of one delivery on one exchange."""
        return [json.loads(m.body) for m in self.messages(correlation_id, exchange)]

    def messages(
        self, correlation_id: str, exchange: str = RESPONSES
    ) -> list[AbstractIncomingMessage]:
        """Return all messages heard so far of one delivery on one exchange."""
        return list(self._heard.get((exchange, correlation_id), []))

    async def wait_for(
        self, correlation_id: str, *statuses: str, exchange: str = RESPONSES, seconds: float = 60
    ) -> dict[str, Any]:
        """Return the first message with one of the statuses (or any, if none is named)."""
        async with asyncio.timeout(seconds), self._news:
            while True:
                for body in self.heard(correlation_id, exchange):
                    if not statuses or body.get("status") in statuses:
                        return body
                await self._news.wait()

    def said(self, correlation_id: str) -> list[str]:
        """Return the statuses heard so far; what was said again (same message id) counts once.

        A worker that dies between RabbitMQ's confirmation and its own note says a thing again.
        """
        first = {m.message_id: m.body for m in reversed(self.messages(correlation_id))}
        return [json.loads(body)["status"] for body in reversed(first.values())]

    async def wait_for_said(self, correlation_id: str, *statuses: str, seconds: float = 60) -> None:
        """Return once exactly that was said."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: self.said(correlation_id) == list(statuses))

    async def answer(self, body: dict[str, Any], **properties: Any) -> dict[str, Any]:
        """Send a request and return its terminal response."""
        await self.send(body, **properties)
        return await self.wait_for(body["correlationId"], "DENIED", "DONE", "ERROR")

    async def fetch(self, url: str) -> bytes:
        """Download `s3://bucket/key`."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        async with self._s3() as store:
            answer = await store.get_object(Bucket=bucket, Key=key)
            content: bytes = await answer["Body"].read()
            return content

    async def media_type(self, url: str) -> str:
        """Return the media type that an object is stored with."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        async with self._s3() as store:
            head = await store.head_object(Bucket=bucket, Key=key)
            media_type: str = head["ContentType"]
            return media_type

    async def open_uploads(self, correlation_id: str, name: str = "") -> list[str]:
        """Return the keys of a delivery's multipart uploads that are open, maybe of one name.

        Without, a store tells none that lists the uploads of a whole key alone, as MinIO does.
        """
        async with self._s3() as store:
            answer = await store.list_multipart_uploads(
                Bucket=s3.BUCKET, Prefix=f"{correlation_id}/{name}"
            )
            return [upload["Key"] for upload in answer.get("Uploads", [])]

    async def objects(self, correlation_id: str) -> list[str]:
        """Return what a delivery has at the target, as paths in its folder."""
        prefix = f"{correlation_id}/"
        async with self._s3() as store:
            answer = await store.list_objects_v2(Bucket=s3.BUCKET, Prefix=prefix)
            return sorted(found["Key"].removeprefix(prefix) for found in answer.get("Contents", []))

    def _s3(self) -> Any:
        return s3.client(self._environment["DELIVERY_S3_ENDPOINT"], s3.KEY, s3.SECRET, s3.REGION)
