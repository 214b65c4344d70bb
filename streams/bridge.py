"""AMQP in, Kafka out.

A message is acknowledged at one of two moments, and at no other: after the event made of it is
saved (until an agent has handled it) and Kafka has confirmed it, too; or after RabbitMQ has
confirmed its copy in the dead-letter queue (and it is kept beside it, too, if PostgreSQL answers:
else it is found there later). One that can't even be copied is rejected, which lets RabbitMQ move
it there as it is.

RabbitMQ does not tell that it has read an acknowledgement. Where it may not have, as the connection
has broken, that is noted: it gives the message again, and does not always say so. What comes
afterwards waits until it is: it may be that copy.

While Kafka or PostgreSQL is away, messages wait here unacknowledged, no more than the prefetch; the
rest waits in its queue. So does one whose dead-letter queue takes nothing. When one of them gets
through, all are tried at once. None overtakes an earlier one of its kind and key that waits here:
what came first is saved first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from aio_pika import Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustConnection,
    DeliveryMode,
)
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError
from mode import Service

from app.delivery.ingress import Arrival
from app.delivery.ports import Arrivals
from app.encoding import is_crowded
from app.errors import (
    UNFORESEEN,
    BrokerUnavailableError,
    DeliveryError,
    RetryableError,
    UnreadableMessageError,
    as_cause,
)
from app.telemetry import tracing
from app.telemetry.logs import get_logger
from app.telemetry.metrics import MESSAGES_DEAD_LETTERED
from app.tenants.registry import ConfiguredTenants
from app.usecases.bury import Keep, keep_nowhere
from app.waiting.backoff import Backoff
from app.waiting.turns import Turns
from streams.amqp import names
from streams.amqp.acknowledgements import Unheard, is_answered
from streams.amqp.dead_letters import copied
from streams.amqp.kept_letters import buried_copy, read_kept
from streams.amqp.messages import read
from streams.amqp.parameters import AmqpParameters
from streams.amqp.properties import undecodable
from streams.amqp.publisher import AmqpPublisher, close_quietly, open_channel
from streams.amqp.topology import REFUSALS, Topology, refused
from streams.channels import INCOMING, IncomingChannel
from streams.events import check_tenant
from streams.kafka.log import EventLog

log = get_logger(__name__)

_BACKOFF = Backoff(first=0.2, longest=10.0)
# Seconds; RabbitMQ closes the channel when one is not acknowledged for 30 minutes.
_MAX_HOLD = 600.0
_MAX_BYTES = 256 * 1024 * 1024  # of bodies; each is held as it came and as an event
_QUESTION_INTERVAL = 1.0  # seconds between two questions whether acknowledgements were read
_ANSWER = 5.0  # seconds that one is waited for
_WARNING_INTERVAL = 5.0  # seconds between two warnings: many messages wait for the same thing


class Bridge(Service):
    """Carries delivery requests, cancels and order responses from RabbitMQ to Kafka."""

    def __init__(
        self,
        *,
        connection: AbstractRobustConnection,
        publisher: AmqpPublisher,
        events: EventLog,
        arrivals: Arrivals,
        tenants: ConfiguredTenants,
        topology: Topology,
        prefetch: int,
        max_bytes: int,
        parameters: AmqpParameters | None = None,
        keep: Keep = keep_nowhere,
    ) -> None:
        super().__init__()
        # Those of the connection: what is wrong with it is looked for there.
        self._parameters = parameters
        self._connection = connection
        self._publisher = publisher
        self._events = events
        self._arrivals = arrivals
        self._tenants = tenants
        self._topology = topology
        self._prefetch = prefetch
        self._max_bytes = max_bytes
        self._keep = keep
        self._busy: set[asyncio.Task[None]] = set()
        self._turns = Turns()
        self._reading = asyncio.Lock()  # none overtakes another before its key is known
        self._unheard = Unheard()
        self._returned: list[UUID] = []  # arrivals whose message may come again: to be noted
        self._noting: asyncio.Task[None] | None = None
        self._warned_at = -_WARNING_INTERVAL
        self._channel: AbstractChannel | None = None
        self._consuming: list[tuple[AbstractQueue, str]] = []
        self._began = False  # all queues were read

    async def on_start(self) -> None:
        """Begin to consume. Raises ConfigurationError where RabbitMQ refuses it."""
        channel = await open_channel(self._connection)
        # RabbitMQ counts for each consumer. (For a whole channel it does not, of quorum queues.)
        most = min(self._prefetch, _MAX_BYTES // self._max_bytes)
        self._per_consumer = max(1, most // len(INCOMING))
        await channel.set_qos(prefetch_count=self._per_consumer)
        channel.close_callbacks.add(self._closed)
        self._channel = channel
        for way in INCOMING:
            name = way.queue.name
            try:
                # Declared on this channel, too: it is made, bound and consumed again after a
                # reconnection, and after another client has deleted it.
                queue = await self._topology.queue(channel, name, way.exchange.name)
                tag = await queue.consume(self._handler(way))
            except REFUSALS as error:
                raise refused(error) from None
            self._consuming.append((queue, tag))
        self._began = True
        self.add_future(self._ask_what_was_read())

    async def _ask_what_was_read(self) -> None:
        while not self.should_stop:
            await self.sleep(_QUESTION_INTERVAL)
            if self._unheard and await self._all_was_read():
                self._unheard.answered()

    async def _all_was_read(self) -> bool:
        """Ask for what changes nothing: once that is answered, what was acknowledged was read."""
        assert self._channel is not None  # noqa: S101 - else nothing was
        return await is_answered(self._channel.set_qos(prefetch_count=self._per_consumer))

    def _closed(self, *_: object) -> None:
        """Note what was acknowledged in vain, perhaps, on the channel that is gone."""
        self._come_again(self._unheard.lost())

    async def check(self) -> None:
        """Raise BrokerUnavailableError unless all its queues are being read."""
        if not self._connection.connected.is_set():
            trouble = await self._parameters.trouble() if self._parameters is not None else None
            told = f" ({trouble})" if trouble else ""
            raise BrokerUnavailableError(
                f"the connection to RabbitMQ is down{told}; it is tried again"
            )
        if self._channel is None or not self._began:
            raise BrokerUnavailableError("the queues are not read yet: this process is starting")
        try:
            channel = await self._channel.get_underlay_channel()
        except ChannelInvalidStateError as error:
            raise BrokerUnavailableError(
                "RabbitMQ has closed the channel that the queues are read on; it is opened again "
                "as soon as they and their exchanges are there"
            ) from error
        await self._publisher.check()
        for queue, tag in self._consuming:
            if tag not in channel.consumers:  # type: ignore[attr-defined]
                raise BrokerUnavailableError(
                    f"queue {queue.name} is not read: RabbitMQ has ended its consumer (was the "
                    "queue deleted?); it is declared and read again"
                )

    async def on_stop(self) -> None:
        """Stop consuming, finish what was taken, leave the rest to the queue."""
        self._turns.notify()  # what does not get through now is given back
        for queue, tag in self._consuming:
            await close_quietly(queue.cancel(tag))
        await self._finished()
        if self._channel is not None:
            await self._forget_what_was_read()
            await close_quietly(self._channel.close())
        await self._finished()

    async def _forget_what_was_read(self) -> None:
        """Have what was acknowledged before a stop not count as lost when the channel closes."""
        if self._unheard and self._connection.connected.is_set():
            asked = asyncio.create_task(self._all_was_read())
            await asyncio.wait([asked], timeout=_ANSWER)
            if asked.done() and asked.result():
                self._unheard.lost()
            asked.cancel()

    async def _finished(self) -> None:
        if self._busy:
            await asyncio.wait(self._busy, timeout=10)

    def _handler(
        self, channel: IncomingChannel
    ) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        queue = channel.queue.name

        async def handle(message: AbstractIncomingMessage) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - aio-pika calls from a task
            self._busy.add(task)
            try:
                with tracing.span(
                    f"{queue.rpartition('.')[2]} receive",
                    parent=tracing.of_headers(message.headers),
                    kind=tracing.CONSUMER,
                    attributes={
                        "messaging.system": "rabbitmq",
                        "messaging.destination.name": queue,
                        "messaging.message.id": message.message_id,
                    },
                ):
                    await self._process(channel, message)
            finally:
                self._busy.discard(task)

        return handle

    async def _process(self, channel: IncomingChannel, message: AbstractIncomingMessage) -> None:
        queue, came = channel.queue.name, time.monotonic()
        arrival = None
        try:
            try:
                arrival = await self._read(channel, message)
                await self._save_and_publish(arrival, came)
            except UnreadableMessageError as error:
                await self._dead_letter(queue, message, str(error))
            except DeliveryError:
                raise
            except Exception as error:
                log.exception("message_failed", queue=queue, message_id=message.message_id)
                await self._dead_letter(queue, message, f"{UNFORESEEN}: {error!r}")
            else:
                if message.delivery_mode == DeliveryMode.PERSISTENT:
                    self._unheard.sent(arrival.ingress_id)
                await message.ack()
        except RetryableError as error:
            log.warning("message_returned", queue=queue, cause=str(error))
            await _give_back(message)
            self._comes_again(arrival, message)
        except asyncio.CancelledError:
            # So aio-pika ends what it called when the channel of its message is closed.
            self._comes_again(arrival, message)
            raise
        except CONNECTION_EXCEPTIONS as error:
            # RabbitMQ gives an unacknowledged message again; what it became is recognised.
            log.warning("acknowledgement_lost", queue=queue, cause=repr(error))
            self._comes_again(arrival, message)

    def _comes_again(self, arrival: Arrival | None, message: AbstractIncomingMessage) -> None:
        if arrival is not None and message.delivery_mode == DeliveryMode.PERSISTENT:
            self._come_again([arrival.ingress_id])

    def _come_again(self, ingress_ids: list[UUID]) -> None:
        """Note that RabbitMQ gives messages again: it forgets to tell so when it has restarted."""
        self._returned += ingress_ids
        if self._returned and (self._noting is None or self._noting.done()):
            self._noting = asyncio.create_task(self._note_returned())
            self._busy.add(self._noting)
            self._noting.add_done_callback(self._busy.discard)

    async def _note_returned(self) -> None:
        while self._returned:
            returned, self._returned = self._returned, []
            note = partial(self._arrivals.returned, returned)
            try:
                # RabbitMQ and PostgreSQL may be away together; the copies wait for both, too.
                await self._insist(note, example="messages that RabbitMQ gives again")
            except RetryableError as error:
                if self.should_stop:
                    log.warning("return_not_noted", messages=len(returned), cause=str(error))
                    return
                self._returned = [*returned, *self._returned]
            except Exception as error:
                log.exception("return_not_noted", messages=len(returned), cause=repr(error))

    async def _all_is_noted(self, until: float) -> None:
        """Let it be noted first what RabbitMQ gives again; that ends at `until`, as `_insist`."""
        while self._noting is not None and not self._noting.done():
            left = until - time.monotonic()
            if left <= 0:
                return
            await asyncio.wait([self._noting], timeout=left)

    def _check(self, message: AbstractIncomingMessage) -> None:
        broken = undecodable(message)
        if broken:
            raise UnreadableMessageError(f"its AMQP properties can't be decoded: {broken}")
        if len(message.body) > self._max_bytes:
            raise UnreadableMessageError(
                f"the body has {len(message.body)} bytes, more than DELIVERY_MAX_MESSAGE_BYTES "
                f"({self._max_bytes}) allows"
            )

    async def _dead_letter(self, queue: str, message: AbstractIncomingMessage, reason: str) -> None:
        """Move a message to its dead-letter queue, with the reason if it can be copied.

        Raises RetryableError when that was not possible for long, or this service is stopped.
        """
        reason = as_cause(reason)
        origin = {
            names.HEADER_REASON: reason,
            names.HEADER_ORIGIN_QUEUE: queue,
            names.HEADER_ORIGIN_EXCHANGE: message.exchange or "",
        }
        dead_letter = copied(message, headers={**message.headers, **origin})
        copy_it = partial(self._copy_to_dead_letters, queue, dead_letter)
        await self._insist(copy_it, example=f"{queue}, to be buried: {reason}")
        if dead_letter is None:
            await message.reject(requeue=False)
        else:
            # After its copy, and before its acknowledgement: what is cut short in between comes
            # again, and is the same letter.
            await self._keep_beside(queue, dead_letter)
            await message.ack()
        MESSAGES_DEAD_LETTERED.labels(queue).inc()
        log.warning("message_buried", queue=queue, reason=reason, message_id=message.message_id)

    async def _keep_beside(self, queue: str, dead_letter: Message) -> None:
        try:
            letter = await read_kept(buried_copy(queue, dead_letter))
        except Exception as error:
            log.exception("dead_letter_not_kept", queue=queue, cause=repr(error))
        else:
            await self._keep(letter)

    async def _copy_to_dead_letters(self, queue: str, dead_letter: Message | None) -> None:
        """Publish a copy. Where there can be none, see to it that RabbitMQ finds the queue."""
        if dead_letter is None:
            await self._publisher.declare_dead_letters(queue)
        else:
            await self._publisher.dead_letter(queue, dead_letter)

    async def _read(self, channel: IncomingChannel, message: AbstractIncomingMessage) -> Arrival:
        """Read a message; what comes while one is read in a thread is read after it."""
        async with self._reading:
            self._check(message)
            if is_crowded(message.body):
                return await asyncio.to_thread(self._event_of, channel, message)
            return self._event_of(channel, message)

    def _event_of(self, channel: IncomingChannel, message: AbstractIncomingMessage) -> Arrival:
        arrived = read(message, channel.kind)
        event = channel.event.read(arrived)
        check_tenant(event, self._tenants, requeue="delivery dlq requeue")
        return Arrival(
            ingress_id=arrived.ingress.id,
            kind=channel.kind,
            key=event.key,
            value=event.encode(),
        )

    async def _save_and_publish(self, arrival: Arrival, came: float) -> None:
        """Save the event, which came at that monotonic time, then append it to its topic.

        Raises RetryableError when that was not possible for long, or this service is stopped.
        """
        until = came + _MAX_HOLD

        async def hand_on() -> None:
            await self._all_is_noted(until)
            await self._arrivals.save(arrival, since=came)
            await self._append(arrival)

        async with self._turns.turn((arrival.kind, arrival.key)) as turn:
            await self._insist(hand_on, example=arrival.key.decode(), until=until, pause=turn.pause)
        self._turns.notify()

    async def _insist(
        self,
        act: Callable[[], Awaitable[None]],
        *,
        example: str,
        until: float | None = None,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """Do something, again and again with growing pauses while what it needs is away.

        That ends at `until` by the monotonic clock, or after `_MAX_HOLD`. `pause` pauses.
        """
        if until is None:
            until = time.monotonic() + _MAX_HOLD
        for seconds in _BACKOFF.pauses():
            try:
                await act()
            except RetryableError as error:
                if self.should_stop or time.monotonic() > until:
                    raise
                self._warn(example, error)
            else:
                return
            await (pause or self.sleep)(seconds)

    async def _append(self, arrival: Arrival) -> None:
        try:
            await self._events.carry(arrival)
        except UnreadableMessageError:
            await self._arrivals.forget([arrival.ingress_id])
            raise

    def _warn(self, example: str, error: RetryableError) -> None:
        if time.monotonic() - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = time.monotonic()
            log.warning(
                "messages_wait",
                messages=len(self._busy),
                example=example,
                cause=str(error),
            )


async def _give_back(message: AbstractIncomingMessage) -> None:
    try:
        await message.nack(requeue=True)
    except CONNECTION_EXCEPTIONS as error:
        log.debug("message_not_returned", cause=repr(error))
