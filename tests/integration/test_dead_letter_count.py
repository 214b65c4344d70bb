"""The gauge of dead letters: what RabbitMQ has, or nothing at all."""

from __future__ import annotations

import aio_pika
import pytest
from prometheus_client import REGISTRY

from app.settings import Settings
from streams.amqp import names
from streams.amqp.dead_letters import QUEUES, count_dead_letters
from streams.amqp.topology import declare_topology
from streams.channels import CANCELS, ORDER_RESPONSES

QUEUE = names.dead_letters_of(CANCELS.queue.name)


def waiting(queue: str = QUEUE) -> float | None:
    return REGISTRY.get_sample_value("delivery_dead_letters", {"queue": queue})


async def test_the_figure_tells_how_many_letters_wait_and_takes_none(settings: Settings) -> None:
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
        await (await channel.get_queue(QUEUE)).purge()
        await count_dead_letters(connection)
        assert {queue for queue in QUEUES.values() if waiting(queue) is not None} == set(
            QUEUES.values()
        )
        assert waiting() == 0
        for body in (b"a", b"b"):
            await channel.default_exchange.publish(aio_pika.Message(body), QUEUE)
        for _ in range(2):
            await count_dead_letters(connection)
            assert waiting() == 2
        await (await channel.get_queue(QUEUE)).purge()


async def test_a_queue_that_is_not_there_is_not_told_and_not_made(settings: Settings) -> None:
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
        await channel.queue_delete(QUEUE)
        await count_dead_letters(connection)
        assert waiting() is None
        assert waiting(names.dead_letters_of(ORDER_RESPONSES.queue.name)) is not None
        assert waiting(names.DEAD_LETTER_QUEUE) is not None
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            async with connection.channel() as other:
                await other.declare_queue(QUEUE, passive=True)
        await declare_topology(channel)


async def test_no_old_figure_is_told_while_rabbitmq_is_away(settings: Settings) -> None:
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    async with connection.channel() as channel:
        await declare_topology(channel)
        await count_dead_letters(connection)
    assert waiting() is not None
    await connection.close()
    with pytest.raises(RuntimeError):  # aio_pika's
        await count_dead_letters(connection)
    assert waiting() is None
