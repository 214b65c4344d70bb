"""How many messages wait in the dead-letter queues: an alert lasts for as long as they do."""

from __future__ import annotations

import asyncio

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelClosed

from app.telemetry.metrics import DEAD_LETTERS
from streams.amqp.dead_letters import QUEUES

_TIMEOUT = 10.0  # seconds


async def count_waiting(connection: AbstractConnection) -> None:
    """Ask RabbitMQ for each queue, without declaring it, and set the gauge.

    Where that can't be told, the gauge tells nothing: an old figure would be taken for a new one.
    """
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(_TIMEOUT):
            for queue in QUEUES.values():
                try:
                    # A queue that is not there costs the channel.
                    async with connection.channel() as channel:
                        declared = await channel.declare_queue(queue, passive=True)
                        found[queue] = declared.declaration_result.message_count or 0
                except ChannelClosed:
                    continue
    finally:
        DEAD_LETTERS.clear()
        for queue, waiting in found.items():
            DEAD_LETTERS.labels(queue).set(waiting)
