"""A client that misses no response, however often RabbitMQ restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from tests.client import REQUESTS, RESPONSES, without_id

TERMINAL = ("DENIED", "DONE", "ERROR")
_QUEUE = "chaos-responses"


class Listener:
    """Publishes requests, and keeps what is said of them: message ids and bodies."""

    def __init__(self, channel: AbstractRobustChannel) -> None:
        self._channel = channel
        self.heard: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self._news = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Listener]:
        connection = await aio_pika.connect_robust(url, reconnect_interval=0.5)
        async with connection:
            channel = await connection.channel()
            assert isinstance(channel, AbstractRobustChannel)
            listener = cls(channel)
            # Durable, and acknowledged one by one: nothing is lost with a connection.
            exchange = await channel.declare_exchange(RESPONSES, "fanout", durable=True)
            queue = await channel.declare_queue(_QUEUE, durable=True)
            await queue.bind(exchange)
            await queue.consume(listener._hear)
            yield listener

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        async with self._news:
            body = json.loads(message.body)
            self.heard[body["correlationId"]].append((message.message_id or "", body))
            self._news.notify_all()
        with contextlib.suppress(*CONNECTION_EXCEPTIONS):
            await message.ack()

    async def send(self, body: dict[str, Any], *, tenant: str, priority: int, named: bool) -> None:
        """Publish a request, with a message id if `named`.

        Once: the caller sees to it that RabbitMQ stays up meanwhile.
        """
        # A connection that broke is only used again when it is whole.
        await self._channel.declare_queue(_QUEUE, durable=True, passive=True)
        exchange = await self._channel.get_exchange(REQUESTS, ensure=False)
        message = aio_pika.Message(
            json.dumps(body).encode(),
            headers={"regards.tenant": tenant},
            message_id=body["correlationId"] if named else None,
            priority=priority,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        if not named:
            message = without_id(message)
        await exchange.publish(message, "", mandatory=True, timeout=30)

    def terminal(self, correlation_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the responses that end a request, repeats included."""
        return [
            response for response in self.heard[correlation_id] if response[1]["status"] in TERMINAL
        ]

    async def wait_for_all(self, correlation_ids: list[str], *, seconds: float) -> None:
        """Return once each has ended, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: all(map(self.terminal, correlation_ids)))
