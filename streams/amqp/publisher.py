"""The connection to RabbitMQ, and publishing with confirms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractRobustChannel, AbstractRobustConnection
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelInvalidStateError,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay

from app.delivery.outgoing import OutgoingMessage
from app.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    NotReachableError,
    NotSentError,
)
from app.network import tls
from app.telemetry import tracing
from app.waiting.backoff import Backoff
from streams.amqp import names
from streams.amqp.messages import encode
from streams.amqp.parameters import AmqpParameters, parameters_to
from streams.amqp.properties import accept_any_properties
from streams.amqp.topology import REFUSALS, Topology, refused
from streams.channels import NOTICES, over_amqp

_CONFIRM_TIMEOUT = 30.0  # seconds
_CLOSE_TIMEOUT = 3.0  # seconds
_BACKOFF = Backoff(first=0.2, longest=5.0)  # between tries to connect, or to open a channel again
_DECLARED_HERE = Topology()

ADVICE = (
    "start it, create the virtual host, or correct DELIVERY_AMQP_URL (amqps:// where it speaks TLS)"
)


class _NoQueueError(NotSentError):
    """RabbitMQ can route a message nowhere."""


class AmqpPublisher:
    """Publishes; returns once RabbitMQ has confirmed."""

    def __init__(
        self,
        responses: AbstractChannel,
        orders: AbstractChannel,
        *,
        topology: Topology,
        notices: AbstractChannel | None = None,
        ready_timeout: float = _CONFIRM_TIMEOUT,
        confirm_timeout: float = _CONFIRM_TIMEOUT,
    ) -> None:
        self._responses = responses
        self._orders = orders
        # Of its own: what RabbitMQ refuses of them closes it, and leaves no response unconfirmed.
        self._notices = notices or responses
        self._topology = topology
        self._ready_timeout = ready_timeout  # seconds that a message waits for its channel
        self._confirm_timeout = confirm_timeout
        # What is written and neither confirmed nor lost with its channel, by message id: such a
        # message is not written again, though it may be asked for.
        self._out: dict[UUID, asyncio.Task[None]] = {}

    async def publish(self, outgoing: OutgoingMessage) -> None:
        """Publish a message of the outbox. Raises BrokerUnavailableError.

        One that is mandatory is not confirmed while RabbitMQ can route it nowhere. Then, and where
        there is no connection, or RabbitMQ blocks it (an alarm: it lacks memory or disk), that is
        NotSentError: RabbitMQ surely does not have it. So it is where the message was written
        before, and is not confirmed yet: it is not written again while that connection lives.
        """
        way = over_amqp(outgoing.kind)
        channel = self._orders if way.mandatory else self._responses
        name = f"{outgoing.kind.value} publish"
        with tracing.span(name, parent=outgoing.trace, kind=tracing.PRODUCER):
            exchange = way.exchange.name
            known = self._out.get(outgoing.message_id)
            if known is not None:
                await self._confirmed_after_all(known, exchange)
                return
            await self._ready(channel, exchange)
            writing = asyncio.create_task(
                write(channel, exchange, encode(outgoing), mandatory=way.mandatory)
            )
            self._out[outgoing.message_id] = writing
            writing.add_done_callback(partial(self._forget, outgoing.message_id))
            await self._confirmed(writing, exchange)

    def _forget(self, message_id: UUID, written: asyncio.Task[None]) -> None:
        self._out.pop(message_id, None)
        if not written.cancelled():
            written.exception()  # heard here, too: none may wait for it any more

    async def _confirmed(self, writing: asyncio.Task[None], exchange: str) -> None:
        """Return once what is being written is confirmed. Raises BrokerUnavailableError."""
        await asyncio.wait([writing], timeout=self._confirm_timeout)
        if not writing.done():
            raise _unconfirmed(exchange, TimeoutError("RabbitMQ has not answered yet"))
        await writing

    async def _confirmed_after_all(self, writing: asyncio.Task[None], exchange: str) -> None:
        """Return once what was written before is confirmed. Raises NotSentError."""
        try:
            await self._confirmed(writing, exchange)
        except BrokerUnavailableError as error:
            raise NotSentError(f"{error}; it was not written again") from error

    async def check(self) -> None:
        """Raise BrokerUnavailableError while RabbitMQ takes no messages."""
        try:
            channel = await self._orders.get_underlay_channel()
            async with asyncio.timeout(0):
                await channel.connection.ready()
        except TimeoutError:
            raise BrokerUnavailableError(
                "RabbitMQ blocks publishers: it lacks memory or disk; what is owed is sent once "
                "its alarm is over (`rabbitmq-diagnostics alarms` tells which)"
            ) from None
        except CONNECTION_EXCEPTIONS as error:
            raise BrokerUnavailableError(
                f"there is no channel to publish on ({type(error).__name__}: {error}); it is "
                "opened again"
            ) from error

    async def tell_operators(self, message: aio_pika.Message) -> None:
        """Publish a notice. Raises BrokerUnavailableError.

        Its exchange is there: `Topology` was told that there are notices.
        """
        await self._publish(self._notices, NOTICES.exchange.name, message, mandatory=False)

    async def dead_letter(self, queue: str, message: aio_pika.Message) -> None:
        """Put a message into a queue's dead-letter queue. Raises BrokerUnavailableError.

        One that another client has deleted is declared again.
        """
        try:
            await self._dead_letter(queue, message)
        except _NoQueueError:
            await self.declare_dead_letters(queue)
            await self._dead_letter(queue, message)

    async def _dead_letter(self, queue: str, message: aio_pika.Message) -> None:
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
        await self._ready(channel, exchange)
        await write(
            channel,
            exchange,
            message,
            routing_key=routing_key,
            mandatory=mandatory,
            timeout=self._confirm_timeout,
        )

    async def _ready(self, channel: AbstractChannel, exchange: str) -> None:
        """Return once a channel can be published on. Raises NotSentError."""
        try:
            async with asyncio.timeout(self._ready_timeout):
                # Before it is open again, `publish` would fail as if it had sent.
                if channel.is_closed:
                    raise ChannelInvalidStateError("the channel is closed")
                opened = await channel.get_underlay_channel()
                # While RabbitMQ blocks the connection, nothing that is written is read: each try
                # would be one message more when the alarm is over.
                await opened.connection.ready()
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            raise NotSentError(
                f"there is no connection to RabbitMQ to send a message to {exchange} by, or it is "
                f"blocked, as RabbitMQ lacks memory or disk "
                f"({type(error).__name__}: {error}); it is tried again"
            ) from error


async def write(
    channel: AbstractChannel,
    exchange: str,
    message: aio_pika.Message,
    *,
    routing_key: str = "",
    mandatory: bool,
    timeout: float | None = None,  # noqa: ASYNC109 - aio-pika's own
) -> None:
    """Write a message; return once it is confirmed. Raises BrokerUnavailableError."""
    try:
        destination = await channel.get_exchange(exchange, ensure=False)
        await destination.publish(message, routing_key, mandatory=mandatory, timeout=timeout)
    except PublishError as error:
        raise _NoQueueError(
            f"no queue is bound to exchange {exchange}: is the service that reads it set up?"
        ) from error
    except (DeliveryError, TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        raise _unconfirmed(exchange, error) from error


def _unconfirmed(exchange: str, error: Exception) -> BrokerUnavailableError:
    return BrokerUnavailableError(
        f"RabbitMQ did not confirm a message to {exchange} ({type(error).__name__}: {error}); it "
        "is tried again"
    )


async def close_quietly(closing: Awaitable[object]) -> None:
    """Close something while RabbitMQ may be away: it forgets us anyway, so don't wait for long."""
    with contextlib.suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await closing


def _may_come_up(error: BaseException) -> bool:
    return isinstance(error, OSError | TimeoutError) and not tls.stays(error)


async def _connection(parameters: AmqpParameters) -> AbstractRobustConnection:
    connection = aio_pika.RobustConnection(**parameters.arguments)
    try:
        await connection.connect(timeout=10)
    except BaseException:
        # Its task takes a cancellation for a reason to try again: the process would never end.
        await close_quietly(connection.close())
        raise
    return connection


@contextlib.asynccontextmanager
async def connect(
    where: AmqpParameters | str, *, start_timeout: float
) -> AsyncIterator[AbstractRobustConnection]:
    """Connect, waiting up to `start_timeout` seconds for RabbitMQ to come up.

    `where` may be a URL alone. Raises ConfigurationError when RabbitMQ doesn't come up, shows a
    certificate that is not good, or refuses certificate, user, password or virtual host.
    """
    accept_any_properties()
    parameters = where if isinstance(where, AmqpParameters) else parameters_to(where)
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_may_come_up),
            stop=stop_after_delay(start_timeout),
            wait=_BACKOFF.between_attempts,
            reraise=True,
        ):
            with attempt:
                connection = await _connection(parameters)
    except ProbableAuthenticationError:
        raise ConfigurationError(
            f"RabbitMQ at {parameters.place} refuses the user or the password; "
            "correct DELIVERY_AMQP_URL"
        ) from None
    except CONNECTION_EXCEPTIONS as error:
        raise NotReachableError(
            f"no RabbitMQ to be used at {parameters.place} ({parameters.explain(error)})"
            + ("" if tls.stays(error) else f"; {ADVICE}")
        ) from None
    try:
        yield connection
    finally:
        await close_quietly(connection.close())


async def open_channel(
    connection: AbstractRobustConnection, *, on_return_raises: bool = False
) -> AbstractChannel:
    """Open a channel. Raises NotReachableError when the connection has just broken.

    One that RabbitMQ closes is opened again, for as long as that takes. aio-pika tries once, and
    leaves it at that where a queue or an exchange is missing, until the connection breaks.
    """
    try:
        channel = await connection.channel(on_return_raises=on_return_raises)
    except (RuntimeError, *CONNECTION_EXCEPTIONS) as error:  # it has no other word for "closed"
        raise NotReachableError(
            f"RabbitMQ went away while this process started ({error}); start it again"
        ) from error
    channel.close_callbacks.add(_Reopening(channel).begin)
    return channel


class _Reopening:
    """Opens a channel again whenever RabbitMQ has closed it.

    Not left to the task that reconnects: it would wait here for the connection that it makes.
    """

    def __init__(self, channel: AbstractRobustChannel) -> None:
        self._channel = channel
        self._task: asyncio.Task[None] | None = None

    def begin(self, *_: object) -> None:
        """Begin, unless it is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._reopen(), name="reopening a channel")

    async def _reopen(self) -> None:
        """Return once the channel is open again, or was closed on purpose."""
        async for attempt in AsyncRetrying(wait=_BACKOFF.between_attempts):
            with attempt:
                await self._channel.restore()


@contextlib.asynccontextmanager
async def open_publisher(
    connection: AbstractRobustConnection, *, topology: Topology = _DECLARED_HERE
) -> AsyncIterator[AmqpPublisher]:
    """Declare the topology and open the channels to publish on. Raises ConfigurationError."""
    async with contextlib.AsyncExitStack() as stack:

        async def channel(*, on_return_raises: bool = False) -> AbstractChannel:
            opened = await open_channel(connection, on_return_raises=on_return_raises)
            stack.push_async_callback(lambda: close_quietly(opened.close()))
            return opened

        orders = await channel(on_return_raises=True)
        responses = await channel()
        notices = await channel() if topology.notices else None
        try:
            await topology.all(orders)
            yield AmqpPublisher(responses, orders, topology=topology, notices=notices)
        except REFUSALS as error:
            raise refused(error) from None
