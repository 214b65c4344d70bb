"""Progress on AMQP: an exchange that is declared when there is something to tell, and a channel.

The channel is its own: what RabbitMQ refuses here closes it, and disturbs no response.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aio_pika.abc import AbstractChannel, AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from app.delivery.messages import DeliveryProgressDtoEvent
from app.delivery.model import Delivery
from app.errors import BrokerUnavailableError, DeliveryError, NotSentError
from app.telemetry.logs import get_logger
from streams.amqp.messages import encode_progress
from streams.amqp.publisher import open_channel, write
from streams.amqp.topology import REFUSALS, Topology, refused
from streams.channels import PROGRESS_EVENTS

log = get_logger(__name__)

_EXCHANGE = PROGRESS_EVENTS.exchange.name
_TIMEOUT = 5.0  # seconds for each answer of RabbitMQ
_REFUSED_FOR = 300.0  # seconds until what RabbitMQ has refused is tried again


class ProgressPublisher:
    """See `app.usecases.tell_progress.Listeners`."""

    def __init__(
        self,
        connection: AbstractRobustConnection,
        *,
        topology: Topology,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._clock = clock
        self._opened: AbstractChannel | None = None
        self._refused_until = -1.0

    async def ready(self) -> None:
        """Return once the exchange is there, and RabbitMQ reads what is sent. Raises NotSentError.

        Its refusal is told in the log, and not asked for again for some minutes.
        """
        if self._clock() < self._refused_until:
            raise NotSentError(f"RabbitMQ has refused exchange {_EXCHANGE}")
        if not self._connection.connected.is_set():
            raise NotSentError("there is no connection to RabbitMQ")
        try:
            async with asyncio.timeout(_TIMEOUT):
                channel = await self._channel()
                opened = await channel.get_underlay_channel()
                # While RabbitMQ blocks the connection, what is written is read when it is over.
                await opened.connection.ready()
                await self._topology.exchange(channel, _EXCHANGE)
        except REFUSALS as error:
            self._pause(error)
            raise NotSentError(f"RabbitMQ refuses exchange {_EXCHANGE} ({error})") from error
        except (DeliveryError, TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            raise NotSentError(f"RabbitMQ takes no progress now ({error!r})") from error

    def _pause(self, refusal: Exception) -> None:
        self._refused_until = self._clock() + _REFUSED_FOR
        log.warning("progress_refused", exchange=_EXCHANGE, cause=str(refused(refusal)))

    async def _channel(self) -> AbstractChannel:
        if self._opened is None:
            self._opened = await open_channel(self._connection)
        return self._opened

    async def send(self, delivery: Delivery, event: DeliveryProgressDtoEvent) -> None:
        """Publish once; return when RabbitMQ has confirmed. Raises BrokerUnavailableError."""
        assert self._opened is not None  # noqa: S101 - `ready` was called
        message = encode_progress(delivery, event)
        try:
            await write(self._opened, _EXCHANGE, message, mandatory=False, timeout=_TIMEOUT)
        except BrokerUnavailableError as error:
            if isinstance(error.__cause__, REFUSALS):
                self._pause(error.__cause__)
            raise
