"""Declares exchanges, queues and bindings, the neighbours' too: any may start first.

Where another user of RabbitMQ has declared them, this service has no right to: then it looks
whether they are there, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aio_pika import ExchangeType
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from app.errors import ConfigurationError
from streams.amqp import names
from streams.channels import INCOMING, MISSPELT_RESPONSES, NOTICES, RESPONSES

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue
    from aiormq.abc import FieldTable

    from app.settings import Settings

# (queue, exchange) of each that this service reads.
QUEUES = tuple((channel.queue.name, channel.exchange.name) for channel in INCOMING)
# What RabbitMQ says where a declaration can't be made.
REFUSALS = (ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed)


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How this service finds its exchanges and queues."""

    kind: names.QueueType = "classic"  # of queues that it alone reads; what is shared is REGARDS'
    declares: bool = True  # if not, another user has
    notices: bool = False  # operators are told what they must act on

    def arguments(self, queue: str) -> FieldTable:
        """Return what a queue is declared with."""
        if queue == names.DEAD_LETTER_QUEUE:
            return names.dead_letter_arguments()
        if queue.endswith(names.DEAD_LETTER_SUFFIX):
            return names.dead_letter_arguments(self.kind)
        return names.queue_arguments(queue, self.kind)

    async def queue(self, channel: AbstractChannel, queue: str, exchange: str) -> AbstractQueue:
        """Declare a queue with its dead-letter queue, and bind it to a fanout exchange."""
        await self.dead_letters(channel, names.dead_letters_of(queue))
        if not self.declares:
            return await channel.declare_queue(queue, passive=True)
        declared = await channel.declare_queue(queue, durable=True, arguments=self.arguments(queue))
        await declared.bind(exchange)
        return declared

    async def dead_letters(self, channel: AbstractChannel, name: str) -> AbstractQueue:
        """Declare a dead-letter queue, and bind it by its name."""
        if not self.declares:
            return await channel.declare_queue(name, passive=True)
        queue = await channel.declare_queue(name, durable=True, arguments=self.arguments(name))
        await queue.bind(names.DEAD_LETTER_EXCHANGE, routing_key=name)
        return queue

    async def all(self, channel: AbstractChannel) -> None:
        """Declare everything that the service can't do without. Repeating it changes nothing."""
        for exchange in (names.DEAD_LETTER_EXCHANGE, *names.EXCHANGES):
            await self.exchange(channel, exchange)
        if self.declares:
            misspelt = await channel.get_exchange(MISSPELT_RESPONSES, ensure=False)
            await misspelt.bind(RESPONSES.exchange.name)
        if self.notices:
            await self.exchange(channel, NOTICES.exchange.name)
        await self.dead_letters(channel, names.DEAD_LETTER_QUEUE)
        for queue, exchange in QUEUES:
            await self.queue(channel, queue, exchange)

    async def optional(self, channel: AbstractChannel) -> None:
        """Declare what `all` leaves to those who send there first. Repeating it changes nothing."""
        for exchange in names.OPTIONAL_EXCHANGES:
            await self.exchange(channel, exchange)

    async def exchange(self, channel: AbstractChannel, name: str) -> AbstractExchange:
        """Declare an exchange."""
        if not self.declares:
            return await channel.get_exchange(name, ensure=True)
        dead = name == names.DEAD_LETTER_EXCHANGE
        kind = ExchangeType.TOPIC if dead else ExchangeType.FANOUT
        return await channel.declare_exchange(name, kind, durable=True)


def topology_of(settings: Settings) -> Topology:
    """Return what the settings say."""
    return Topology(
        kind=settings.amqp_queue_type,
        declares=settings.amqp_declare,
        notices=bool(settings.notice_roles),
    )


def refused(error: Exception) -> ConfigurationError:
    """Say what of `REFUSALS` means, and what to do."""
    match error:
        case ChannelPreconditionFailed():
            return ConfigurationError(
                f"RabbitMQ has an exchange or queue with other arguments: {error}; delete it (it "
                "is made again), use another virtual host, or correct DELIVERY_AMQP_QUEUE_TYPE"
            )
        case ChannelNotFoundEntity():
            return ConfigurationError(
                f"RabbitMQ lacks an exchange or queue: {error}; let a user that may declare it "
                "(`delivery topology apply`), or set DELIVERY_AMQP_DECLARE"
            )
    return ConfigurationError(
        f"RabbitMQ's user of DELIVERY_AMQP_URL lacks a right: {error}; grant it as in "
        "docs/least-rights.md. Where another user has declared exchanges and queues, set "
        "DELIVERY_AMQP_DECLARE=false"
    )


async def declare_queue(
    channel: AbstractChannel, queue: str, exchange: str, kind: names.QueueType = "classic"
) -> AbstractQueue:
    """Declare a queue with its dead-letter queue, and bind it to a fanout exchange."""
    return await Topology(kind=kind).queue(channel, queue, exchange)


async def declare_topology(channel: AbstractChannel, kind: names.QueueType = "classic") -> None:
    """Declare everything. Repeating it changes nothing."""
    await Topology(kind=kind).all(channel)
