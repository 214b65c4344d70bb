"""A REGARDS-like peer: declares and publishes as its services do, word by word of the contract."""

from __future__ import annotations

import json
from typing import Any

import aio_pika
from aio_pika import ExchangeType, Message

from tests.client import (
    ORDER_CANCELS,
    ORDER_QUEUE,
    ORDER_REQUESTS,
    ORDER_RESPONSES,
    REQUEST_QUEUE,
    REQUESTS,
    RESPONSES,
)

_JAVA = "fr.cnes.regards.modules"
REQUEST_TYPE = f"{_JAVA}.delivery.amqp.input.DeliveryRequestDtoEvent"
ORDER_RESPONSE_TYPE = f"{_JAVA}.order.amqp.output.OrderResponseDtoEvent"


async def declare_as_regards(url: str) -> None:
    """Declare every exchange, queue and binding with REGARDS' arguments.

    RabbitMQ refuses (PRECONDITION_FAILED) when what is there differs in one of them.
    """
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        dlx = await channel.declare_exchange("regards.DLX", ExchangeType.TOPIC, durable=True)
        for name in ("regards.DLQ", f"{REQUEST_QUEUE}.DLQ", f"{ORDER_QUEUE}.DLQ"):
            dead = await channel.declare_queue(
                name, durable=True, auto_delete=False, arguments={"x-max-priority": 255}
            )
            await dead.bind(dlx, routing_key=name)
        for name in (REQUESTS, RESPONSES, ORDER_REQUESTS, ORDER_CANCELS, ORDER_RESPONSES):
            await channel.declare_exchange(name, ExchangeType.FANOUT, durable=True)
        for name, exchange in ((REQUEST_QUEUE, REQUESTS), (ORDER_QUEUE, ORDER_RESPONSES)):
            queue = await channel.declare_queue(
                name,
                durable=True,
                auto_delete=False,
                arguments={
                    "x-max-priority": 255,
                    "x-dead-letter-exchange": "regards.DLX",
                    "x-dead-letter-routing-key": f"{name}.DLQ",
                },
            )
            await queue.bind(exchange)


def java_message(body: dict[str, Any], java_type: str, tenant: str, **properties: Any) -> Message:
    """Make a message as Spring AMQP does: class headers, no message id, no timestamp."""
    return Message(
        json.dumps(body).encode(),
        headers={
            "__TypeId__": java_type,
            "regards.type": java_type,
            "regards.converter": "GSON",
            "regards.tenant": tenant,
            "regards.request.id": "3f2b",
            "regards.request.date": "2026-01-01T00:00:00Z",
            "regards.request.owner": "someone",
        },
        content_type="application/json",
        content_encoding="UTF-8",
        delivery_mode=2,
        **{"priority": 0} | properties,
    )
