"""The dead-letter queues, for an operator: look, put back, remove, count."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from aio_pika import Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
    HeadersType,
)
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelClosed, PublishError
from pamqp import encode

from app.codes import Code
from app.errors import (
    BrokerUnavailableError,
    DeliveryError,
    NotPossibleError,
    UnreadableMessageError,
)
from app.telemetry.metrics import DEAD_LETTERS
from streams.amqp import names
from streams.amqp.messages import read_body, read_tenant
from streams.amqp.properties import undecodable
from streams.amqp.publisher import close_quietly
from streams.amqp.topology import REFUSALS, Topology, refused
from streams.channels import INCOMING

QUEUES = {
    **{
        channel.queue.dead_letters: names.dead_letters_of(channel.queue.name)
        for channel in INCOMING
    },
    "global": names.DEAD_LETTER_QUEUE,
}
MAX_PASS = 100_000  # letters of a queue that one pass goes through
_CONFIRM_TIMEOUT = 30.0  # seconds
_COUNT_TIMEOUT = 10.0  # seconds
_WINDOW = 250  # letters that are pushed at once
# Bytes of a body, as many as are taken by default. A larger one may be of any size, another
# service's, too: it is not decoded only to tell its correlation id.
_MAX_DECODED = 512 * 1024
_DIGEST_LENGTH = 32  # hexadecimal, of a digest: no two letters share them
_OF_THE_LOOK = ("x-delivery-count", "x-acquired-count")  # headers that each look changes


class NoSuchDeadLetterError(DeliveryError):
    """No dead letter has this id."""

    code = Code.UNKNOWN_DEAD_LETTER


@dataclass(frozen=True, kw_only=True)
class DeadMessage:
    """A message in a dead-letter queue; held by us until the channel closes."""

    id: str  # its queue, and a digest of its content: the same at each look
    queue: str  # a key of QUEUES
    message: AbstractIncomingMessage
    digest: str = ""  # of the content: copies share it
    is_lacking: bool = False  # its properties are not known: it was kept without them

    @property
    def origin(self) -> str | None:
        """The queue it was in, and goes back to."""
        if self.queue != "global":
            return QUEUES[self.queue].removesuffix(names.DEAD_LETTER_SUFFIX)
        for header in (names.HEADER_ORIGIN_QUEUE, "x-first-death-queue"):
            if isinstance(found := self.message.headers.get(header), str):
                return found
        return None

    @property
    def reason(self) -> str:
        """Why it is here."""
        told = self.message.headers.get(names.HEADER_REASON)
        if isinstance(told, str):
            return told
        if broken := undecodable(self.message):
            return f"its AMQP properties can't be decoded: {broken}"
        if not encodable(copy(self.message, headers=self.message.headers)):
            return "its AMQP properties can't be written again"
        return "not told"

    @property
    def tenant(self) -> str | None:
        """Tenant, where it can be read."""
        with contextlib.suppress(UnreadableMessageError):
            return read_tenant(self.message)
        return None

    @property
    def correlation_id(self) -> str | None:
        """Correlation id, where it can be read, and the body is not larger than what is taken."""
        if len(self.message.body) > _MAX_DECODED:
            return None
        with contextlib.suppress(UnreadableMessageError):
            value = read_body(self.message).get("correlationId")
            return value if isinstance(value, str) else None
        return None


class DeadLetterQueues:
    """Takes dead letters from their queues; those that are neither put back nor removed return.

    All of it raises ConfigurationError where RabbitMQ refuses, BrokerUnavailableError where it goes
    away.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def look(self, queues: Sequence[str], *, limit: int) -> list[DeadMessage]:
        """Return the dead letters of some queues, up to `limit` of each."""
        return [
            dead_letter for name in queues async for dead_letter in self.read(name, limit=limit)
        ]

    async def waiting(self, name: str) -> int:
        """Return how many dead letters a queue has, but for those that are taken."""
        with _asking():
            queue = await self._channel.declare_queue(QUEUES[name], passive=True)
        return queue.declaration_result.message_count or 0

    async def read(self, name: str, *, limit: int) -> AsyncGenerator[DeadMessage, None]:
        """Take up to `limit` letters of a queue, as RabbitMQ hands them over.

        So many at once that their bodies fit into memory; none of those taken comes again before
        the channel closes.
        """
        with _asking():
            queue = await self._channel.get_queue(QUEUES[name], ensure=False)
        seen: dict[str, int] = {}
        left = limit
        # Of all windows: when one is over, one more may have been pushed than was looked at.
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        while left > 0:
            window = min(left, _WINDOW)
            count = 0
            async with contextlib.aclosing(self._pushed(queue, arrived, window)) as messages:
                async for message in messages:
                    count += 1
                    digest = digest_of(message)
                    seen[digest] = number = seen.get(digest, 0) + 1
                    suffix = "" if number == 1 else f"-{number}"
                    yield DeadMessage(
                        id=f"{name}:{digest}{suffix}", queue=name, message=message, digest=digest
                    )
            if count < window:
                return
            left -= count

    async def _pushed(
        self, queue: AbstractQueue, arrived: asyncio.Queue[AbstractIncomingMessage], most: int
    ) -> AsyncGenerator[AbstractIncomingMessage, None]:
        """Take messages that are pushed: to fetch each of thousands is a round trip each."""
        with _asking():
            # It holds for a consumer that begins after it, whatever others of the channel have.
            await self._channel.set_qos(prefetch_count=most)
            consumer = await queue.consume(arrived.put)
        try:
            for _ in range(most):
                with _asking():
                    message = await _next(queue, arrived)
                if message is None:
                    return
                yield message
        finally:
            with _asking():
                await queue.cancel(consumer)

    async def requeue(
        self, dead_letter: DeadMessage, *, body: bytes | None = None, tenant: str | None = None
    ) -> str:
        """Put a letter back, with another body or tenant if given; return the queue it went to.

        It leaves the dead letters once RabbitMQ has confirmed it where it goes. Raises
        NotPossibleError where it can't go back.
        """
        origin = await self.publish_back(dead_letter, body=body, tenant=tenant)
        await self.remove(dead_letter)
        return origin

    async def publish_back(
        self, dead_letter: DeadMessage, *, body: bytes | None = None, tenant: str | None = None
    ) -> str:
        """Publish a letter where it was, with another body or tenant if given; return the queue.

        Raises NotPossibleError where it can't go back.
        """
        origin, back = going_back(dead_letter, body=body, tenant=tenant)
        with _asking():
            try:
                await self._channel.default_exchange.publish(
                    back, origin, mandatory=True, timeout=_CONFIRM_TIMEOUT
                )
            except PublishError:
                raise NotPossibleError(
                    f"{dead_letter.id} can't go back: there is no queue {origin}; start the "
                    "service that reads it once, or publish the message by hand"
                ) from None
        return origin

    async def remove(self, dead_letter: DeadMessage) -> None:
        """Forget a letter for good."""
        with _asking():
            await dead_letter.message.ack()

    async def flush(self) -> None:
        """Return once RabbitMQ has read all acknowledgements: it reads a channel in its order."""
        with _asking():
            await self._channel.set_qos(prefetch_count=_WINDOW)


@contextlib.asynccontextmanager
async def open_dead_letter_queues(
    connection: AbstractConnection, *, topology: Topology
) -> AsyncIterator[DeadLetterQueues]:
    """Open a channel for one look; when it closes, what was only looked at is back.

    Raises ConfigurationError where RabbitMQ refuses it, BrokerUnavailableError where it goes away.
    """
    with _asking():
        channel = await connection.channel(on_return_raises=True)
    try:
        with _asking():
            for queue in QUEUES.values():
                await topology.dead_letters(channel, queue)
        yield DeadLetterQueues(channel)
    finally:
        await close_quietly(channel.close())


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Sort what RabbitMQ, and its driver, answer; nothing else has to be in the block."""
    try:
        yield
    except REFUSALS as error:
        raise refused(error) from None
    except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        raise BrokerUnavailableError(
            f"RabbitMQ does not hand over the dead letters ({type(error).__name__}: {error})"
        ) from error


def going_back(
    dead_letter: DeadMessage, *, body: bytes | None = None, tenant: str | None = None
) -> tuple[str, Message]:
    """Return the queue that a letter goes back to, and what goes there. Raises NotPossibleError."""
    origin = dead_letter.origin
    if origin is None:
        raise NotPossibleError(
            f"{dead_letter.id} does not say which queue it was in; publish it by hand"
        )
    message = dead_letter.message
    headers = {k: v for k, v in message.headers.items() if not _of_death(k)}
    back = copy(message, headers=headers, body=body)
    # A digest so that one that is put back twice is known as a repeat.
    back.message_id = _own_id(message) or dead_letter.digest or None
    if undecodable(message) or dead_letter.is_lacking or not encodable(back):
        if body is None or tenant is None:
            raise NotPossibleError(
                f"{dead_letter.id} can't go back as it is ({dead_letter.reason}); give --tenant "
                "and --body to `delivery dlq requeue` (`delivery dlq show --body` prints it), or "
                "mend both, to make it again"
            )
        back = Message(body, delivery_mode=2)
    if tenant is not None:
        back.headers[names.HEADER_TENANT] = tenant
    return origin, back


async def count_dead_letters(connection: AbstractConnection) -> dict[str, int]:
    """Ask RabbitMQ how many wait in each queue, without declaring it, and set the gauge.

    An alert lasts for as long as some do. Where that can't be told, the gauge tells nothing: an old
    figure would be taken for a new one. Return what was found, by queue.
    """
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(_COUNT_TIMEOUT):
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
    return found


async def _next(
    queue: AbstractQueue, arrived: asyncio.Queue[AbstractIncomingMessage]
) -> AbstractIncomingMessage | None:
    """Return the next message; None when there is none.

    What was pushed before RabbitMQ says that the queue is empty has arrived by then.
    """
    if arrived.empty():
        fetched = await queue.get(no_ack=False, fail=False)
        if fetched is not None or arrived.empty():
            return fetched
    return arrived.get_nowait()


def copied(message: AbstractIncomingMessage, *, headers: HeadersType) -> Message | None:
    """Copy a message with other headers; None when that can't be done without a change."""
    if undecodable(message):
        return None
    made = copy(message, headers=headers)
    if not message.message_id:
        # What RabbitMQ returns, as it has no queue for it, is known by its id alone: without one it
        # would seem to be there. But one without an id is one letter, however often it is buried.
        made.message_id = uuid4().hex
        made.headers[names.HEADER_WITHOUT_ID] = True
    return made if encodable(made) else None


def _own_id(message: AbstractIncomingMessage) -> str | None:
    """Return the id that a message came with, before it was buried."""
    return None if names.HEADER_WITHOUT_ID in message.headers else message.message_id


def copy(
    message: AbstractIncomingMessage, *, headers: HeadersType, body: bytes | None = None
) -> Message:
    """Copy a message with other headers, to be kept on disk and without an expiry."""
    return Message(
        message.body if body is None else body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=2,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )


def encodable(message: Message) -> bool:
    """Whether it can be sent: some headers can be read and not written."""
    try:
        message.properties.marshal()
    except (TypeError, ValueError, OverflowError, struct.error):
        return False
    return True


def _of_death(header: str) -> bool:
    return header == names.HEADER_REASON or header.startswith(
        ("x-death", "x-first-death", "x-last-death", "x-undecodable")
    )


def digest_of(message: AbstractIncomingMessage) -> str:
    """Return a digest of all that a message is, but why and how often it was buried."""
    headers = {
        name: value
        for name, value in sorted(message.headers.items())
        if name not in _OF_THE_LOOK and not _of_death(name)
    }
    written: object = headers
    with contextlib.suppress(TypeError, ValueError, OverflowError, struct.error):
        # What a copy has is what this is read as, and then written the same.
        written = encode.field_table(headers)
    known = [
        *(_own_id(message), message.timestamp, message.correlation_id, message.app_id),
        *(message.type, message.reply_to, message.priority),
        *(message.content_type, message.content_encoding),
        written,
    ]
    digest = hashlib.sha256(repr(known).encode(errors="surrogatepass"))
    digest.update(message.body)
    return digest.hexdigest()[:_DIGEST_LENGTH]
