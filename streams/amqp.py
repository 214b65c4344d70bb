"""The connection to RabbitMQ, and publishing with confirms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractRobustConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from app import tracing
from app.errors import BrokerUnavailableError, ConfigurationError, NotReachableError
from app.outgoing import Lane, Outgoing
from streams import names
from streams.messages import encode, exchange_of
from streams.properties import accept_any_properties
from streams.topology import REFUSALS, Topology, refused

_CONFIRM_TIMEOUT = 30.0  # seconds
_CLOSE_TIMEOUT = 3.0  # seconds
_DECLARED_HERE = Topology()


class _NoQueueError(BrokerUnavailableError):
    """RabbitMQ can route a message nowhere."""


class AmqpPublisher:
    """Publishes; returns once RabbitMQ has confirmed."""

    def __init__(
        self, responses: AbstractChannel, orders: AbstractChannel, *, topology: Topology
    ) -> None:
        self._responses = responses
        self._orders = orders
        self._topology = topology

    async def publish(self, outgoing: Outgoing) -> None:
        """Publish a message of the outbox. Raises BrokerUnavailableError.

        Orders are mandatory: RabbitMQ would confirm a message that it can route nowhere.
        """
        mandatory = outgoing.lane is Lane.ORDERS
        channel = self._orders if mandatory else self._responses
        name = f"{outgoing.kind.value} publish"
        with tracing.span(name, parent=outgoing.trace, kind=tracing.PRODUCER):
            await self._publish(
                channel, exchange_of(outgoing.kind), encode(outgoing), mandatory=mandatory
            )

    async def bury(self, queue: str, message: aio_pika.Message) -> None:
        """Put a message into a queue's dead-letter queue. Raises BrokerUnavailableError.

        One that somebody has deleted is declared anew.
        """
        try:
            await self._bury(queue, message)
        except _NoQueueError:
            await self.declare_dead_letters(queue)
            await self._bury(queue, message)

    async def _bury(self, queue: str, message: aio_pika.Message) -> None:
        await self._publish(
            self._orders,
            names.DEAD_LETTER_EXCHANGE,
            message,
            routing_key=names.dead_letters_of(queue),
            mandatory=True,
        )

    async def declare_dead_letters(self, queue: str) -> None:
        """Declare a queue's dead-letter queue. Raises BrokerUnavailableError."""
        name = names.dead_letters_of(queue)
        try:
            async with asyncio.timeout(_CONFIRM_TIMEOUT):
                await self._topology.dead_letters(self._orders, name)
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            raise BrokerUnavailableError(
                f"RabbitMQ did not declare queue {name} ({type(error).__name__}: {error}); it is "
                "tried again"
            ) from error

    async def _publish(
        self,
        channel: AbstractChannel,
        exchange: str,
        message: aio_pika.Message,
        *,
        routing_key: str = "",
        mandatory: bool,
    ) -> None:
        try:
            destination = await channel.get_exchange(exchange, ensure=False)
            await destination.publish(
                message, routing_key, mandatory=mandatory, timeout=_CONFIRM_TIMEOUT
            )
        except PublishError as error:
            raise _NoQueueError(
                f"no queue is bound to exchange {exchange}: is the service that reads it set up?"
            ) from error
        except (DeliveryError, TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            raise BrokerUnavailableError(
                f"RabbitMQ did not confirm a message to {exchange} ({type(error).__name__}: "
                f"{error}); it is tried again"
            ) from error


async def give_up_on(closing: Awaitable[object]) -> None:
    """Close something while RabbitMQ may be away: it forgets us anyway, so don't wait for long."""
    with contextlib.suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await closing


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5672}, virtual host {parts.path.lstrip('/') or '/'}"


async def _connection(url: str) -> AbstractRobustConnection:
    connection = aio_pika.RobustConnection(make_url(url))
    try:
        await connection.connect(timeout=10)
    except BaseException:
        # Its task takes a cancellation for a reason to try again: the process would never end.
        await give_up_on(connection.close())
        raise
    return connection


@contextlib.asynccontextmanager
async def connect(url: str, *, start_timeout: float) -> AsyncIterator[AbstractRobustConnection]:
    """Connect, waiting up to `start_timeout` seconds for RabbitMQ to come up.

    Raises ConfigurationError when it doesn't, or refuses user, password or virtual host.
    """
    accept_any_properties()
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((OSError, asyncio.TimeoutError)),
            stop=stop_after_delay(start_timeout),
            wait=wait_exponential(0.2, max=5),
            reraise=True,
        ):
            with attempt:
                connection = await _connection(url)
    except ProbableAuthenticationError:
        raise ConfigurationError(
            f"RabbitMQ at {_place(url)} refuses the user or the password; correct DELIVERY_AMQP_URL"
        ) from None
    except CONNECTION_EXCEPTIONS as error:
        raise NotReachableError(
            f"no RabbitMQ to be used at {_place(url)} ({error}); start it, create the virtual "
            "host, or correct DELIVERY_AMQP_URL"
        ) from None
    try:
        yield connection
    finally:
        await give_up_on(connection.close())


async def open_channel(
    connection: AbstractRobustConnection, *, on_return_raises: bool = False
) -> AbstractChannel:
    """Open a channel. Raises NotReachableError when the connection has just broken."""
    try:
        return await connection.channel(on_return_raises=on_return_raises)
    except (RuntimeError, *CONNECTION_EXCEPTIONS) as error:  # it has no other word for "closed"
        raise NotReachableError(
            f"RabbitMQ went away while this process started ({error}); start it again"
        ) from error


@contextlib.asynccontextmanager
async def open_publisher(
    connection: AbstractRobustConnection, *, topology: Topology = _DECLARED_HERE
) -> AsyncIterator[AmqpPublisher]:
    """Declare the topology and open the channels to publish on. Raises ConfigurationError."""
    orders = await open_channel(connection, on_return_raises=True)
    responses = await open_channel(connection)
    try:
        await topology.all(orders)
        yield AmqpPublisher(responses, orders, topology=topology)
    except REFUSALS as error:
        raise refused(error) from None
    finally:
        await give_up_on(orders.close())
        await give_up_on(responses.close())
