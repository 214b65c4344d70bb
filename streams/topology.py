"""Declares exchanges, queues and bindings, the neighbours' too: any may start first."""

from __future__ import annotations

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractQueue

from streams import names


async def declare_queue(
    channel: AbstractChannel, queue: str, exchange: str, kind: names.QueueType = "classic"
) -> AbstractQueue:
    """Declare a queue with its dead-letter queue, and bind it to a fanout exchange."""
    await declare_dead_letters(channel, names.dead_letters_of(queue), kind)
    declared = await channel.declare_queue(
        queue, durable=True, arguments=names.queue_arguments(queue, kind)
    )
    await declared.bind(exchange)
    return declared


async def declare_dead_letters(
    channel: AbstractChannel, name: str, kind: names.QueueType = "classic"
) -> None:
    """Declare a dead-letter queue, and bind it by its name."""
    queue = await channel.declare_queue(
        name, durable=True, arguments=names.dead_letter_arguments(kind)
    )
    await queue.bind(names.DEAD_LETTER_EXCHANGE, routing_key=name)


async def declare_topology(channel: AbstractChannel, kind: names.QueueType = "classic") -> None:
    """Declare everything of contract.md, section 1. Repeating it changes nothing.

    `kind` is that of the queues that only this service reads; what is shared is REGARDS'.
    """
    await channel.declare_exchange(names.DEAD_LETTER_EXCHANGE, ExchangeType.TOPIC, durable=True)
    await declare_dead_letters(channel, names.DEAD_LETTER_QUEUE)
    for exchange in names.EXCHANGES:
        await channel.declare_exchange(exchange, ExchangeType.FANOUT, durable=True)
    misspelt = await channel.get_exchange(names.MISSPELT_DELIVERY_RESPONSES, ensure=False)
    await misspelt.bind(names.DELIVERY_RESPONSES)
    await declare_queue(channel, names.DELIVERY_REQUEST_QUEUE, names.DELIVERY_REQUESTS, kind)
    await declare_queue(channel, names.DELIVERY_CANCEL_QUEUE, names.DELIVERY_CANCELS, kind)
    await declare_queue(channel, names.ORDER_RESPONSE_QUEUE, names.ORDER_RESPONSES, kind)
