"""RabbitMQ."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from aio_pika.abc import AbstractRobustConnection

from app.settings import Settings
from streams.amqp.parameters import parameters_of
from streams.amqp.publisher import AmqpPublisher, connect, open_channel, open_publisher
from streams.amqp.topology import REFUSALS, refused, topology_of

_COMMAND_TIMEOUT = 5.0  # seconds that a command waits for RabbitMQ to come up


@contextlib.asynccontextmanager
async def open_amqp(
    settings: Settings,
) -> AsyncIterator[tuple[AbstractRobustConnection, AmqpPublisher]]:
    """Connect, and declare the topology where that is allowed. Raises ConfigurationError."""
    async with (
        connect(parameters_of(settings), start_timeout=settings.start_timeout) as connection,
        open_publisher(connection, topology=topology_of(settings)) as publisher,
    ):
        yield connection, publisher


def open_connection(settings: Settings) -> AbstractAsyncContextManager[AbstractRobustConnection]:
    """Connect for one command. Raises ConfigurationError."""
    return connect(parameters_of(settings), start_timeout=_COMMAND_TIMEOUT)


async def declare_topology(settings: Settings) -> None:
    """Declare exchanges, queues and bindings, also where the service need not.

    Raises ConfigurationError.
    """
    topology = replace(topology_of(settings), declares=True)
    async with (
        open_connection(settings) as connection,
        open_publisher(connection, topology=topology),
    ):
        channel = await open_channel(connection)
        try:
            await topology.optional(channel)
        except REFUSALS as error:
            raise refused(error) from None
