"""Tries the rights of a user of RabbitMQ, and changes nothing by it.

RabbitMQ looks for a right first, and only then at what is asked for. So what is asked for here is
what it refuses for another reason, or what has no effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Basic

from streams.amqp import names, rights
from streams.amqp.topology import QUEUES, Topology
from streams.channels import MISSPELT_RESPONSES, RESPONSES

_Act = Callable[[AbstractChannel], Awaitable[object]]
_Told = Callable[[str], str]  # what RabbitMQ said to the right that is missing


async def missing_rights(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Return which rights the user of this connection has not, such as "write on regards.DLX".

    Those on what does not exist can't be told.
    """
    acts = [*_used(), *(_declared(topology) if topology.declares else ())]
    return await _missing(connection, acts)


async def _missing(connection: AbstractConnection, acts: Iterable[tuple[_Act, _Told]]) -> list[str]:
    found: dict[str, None] = {}
    for act, told in acts:
        if error := await _is_refused(connection, act):
            found[told(str(error))] = None
    return list(found)


async def missing_optional_rights(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Return the like of exchanges that only what a tenant has switched on needs."""
    return await _missing(connection, _optional(topology))


def _optional(topology: Topology) -> Iterator[tuple[_Act, _Told]]:
    for exchange in names.OPTIONAL_EXCHANGES:
        yield partial(_publish, exchange), _always(f"write on {exchange}")
        if topology.declares:
            yield partial(_declare_exchange, exchange), _always(f"configure on {exchange}")


def _used() -> Iterator[tuple[_Act, _Told]]:
    for exchange in rights.WRITES:
        yield partial(_publish, exchange), _always(f"write on {exchange}")
    for queue in rights.READS:
        yield partial(_consume, queue), _always(f"read on {queue}")


def _declared(topology: Topology) -> Iterator[tuple[_Act, _Told]]:
    for exchange in (names.DEAD_LETTER_EXCHANGE, *names.EXCHANGES):
        yield partial(_declare_exchange, exchange), _always(f"configure on {exchange}")
    for queue in rights.READS:
        yield partial(_declare_queue, queue, topology), _always(f"configure on {queue}")
    for queue, source in (
        *QUEUES,
        *((queue, names.DEAD_LETTER_EXCHANGE) for queue in rights.DEAD_LETTERS),
    ):
        yield partial(_unbind_queue, queue, source), _either(queue, source)
    misspelt, responses = MISSPELT_RESPONSES, RESPONSES.exchange.name
    yield partial(_unbind_exchange, misspelt, responses), _either(misspelt, responses)


def _always(right: str) -> _Told:
    return lambda _error: right


def _either(destination: str, source: str) -> _Told:
    """Return which of the two rights of a binding is refused: RabbitMQ names what it is on."""
    return lambda error: (
        f"write on {destination}" if f"'{destination}'" in error else f"read on {source}"
    )


async def _is_refused(connection: AbstractConnection, act: _Act) -> ChannelAccessRefused | None:
    opened = await connection.channel()
    channel = await opened.get_underlay_channel()
    try:
        await act(channel)
    except ChannelAccessRefused as error:
        return error
    except (ChannelNotFoundEntity, ChannelPreconditionFailed):
        return None
    await opened.close()
    return None


async def _publish(exchange: str, channel: AbstractChannel) -> None:
    """Publish what no broker takes: its time to live is no number, its user another."""
    await channel.basic_publish(
        b"",
        exchange="" if exchange == rights.DEFAULT_EXCHANGE else exchange,
        properties=Basic.Properties(expiration="never", user_id=f"not-{uuid4()}"),
    )


async def _consume(queue: str, channel: AbstractChannel) -> None:
    """Consume with a priority that is no number."""

    async def nothing(_message: DeliveredMessage) -> None:
        """Is never called."""

    await channel.basic_consume(queue, nothing, arguments={"x-priority": "none"})


async def _declare_exchange(exchange: str, channel: AbstractChannel) -> None:
    """Declare an exchange that is there."""
    await channel.exchange_declare(exchange, passive=True)
    kind = "topic" if exchange == names.DEAD_LETTER_EXCHANGE else "fanout"
    await channel.exchange_declare(exchange, exchange_type=kind, durable=True)


async def _declare_queue(queue: str, topology: Topology, channel: AbstractChannel) -> None:
    """Declare a queue that is there; with the arguments that it would be made with."""
    await channel.queue_declare(queue, passive=True)
    await channel.queue_declare(queue, durable=True, arguments=topology.arguments(queue))


async def _unbind_queue(queue: str, exchange: str, channel: AbstractChannel) -> None:
    """End a binding that does not exist."""
    await channel.queue_unbind(queue, exchange, routing_key=f"none-{uuid4()}")


async def _unbind_exchange(destination: str, source: str, channel: AbstractChannel) -> None:
    await channel.exchange_unbind(destination, source, routing_key=f"none-{uuid4()}")
