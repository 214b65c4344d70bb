"""Writing to Kafka: an event counts once all in-sync replicas have it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from app.delivery.ingress import Arrival, event_key
from app.delivery.outgoing import OutgoingMessage
from app.delivery.progress import Progress
from app.encoding import dumps
from app.errors import BrokerUnavailableError, UnreadableMessageError
from app.settings import Settings
from app.telemetry import tracing
from app.telemetry.logs import get_logger
from streams.channels import PROGRESS, of_arrival, over_kafka
from streams.events import TransferProgressed
from streams.kafka.brokers import cause_of, client_arguments, not_reached
from streams.kafka.topics import Topics

log = get_logger(__name__)

CONFIRM_TIMEOUT = 30.0  # seconds
_CHECK_TIMEOUT = 4.0  # seconds


class EventLog:
    """Writes events. No idempotent producer: a repeated event changes nothing downstream."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topics: Topics,
        *,
        confirm_timeout: float = CONFIRM_TIMEOUT,
    ) -> None:
        self._producer = producer
        self._confirm_timeout = confirm_timeout
        self.topics = topics

    async def append(
        self,
        topic: str,
        *,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> str:
        """Return where it is, as partition:offset, once Kafka has confirmed (acks=all).

        Raises BrokerUnavailableError, or UnreadableMessageError when the event is too large to ever
        be taken.
        """
        trace = tracing.current()
        if trace is not None:
            headers = [*(headers or []), (tracing.HEADER, trace.encode())]
        try:
            async with asyncio.timeout(self._confirm_timeout):
                where = await self._producer.send_and_wait(
                    topic, value=value, key=key, headers=headers
                )
        except MessageSizeTooLargeError:
            raise UnreadableMessageError(
                f"the event of {len(value)} bytes is larger than Kafka takes; lower "
                "DELIVERY_MAX_MESSAGE_BYTES, or raise message.max.bytes of the brokers"
            ) from None
        except (KafkaError, TimeoutError, OSError) as error:
            raise BrokerUnavailableError(
                f"Kafka did not confirm an event on {topic} ({cause_of(error)}); it is tried again"
            ) from error
        return f"{where.partition}:{where.offset}"

    async def carry(self, arrival: Arrival) -> None:
        """Append what arrived over AMQP to its topic. Raises like `append`."""
        await self.append(
            self.topics.of(of_arrival(arrival.kind)), key=arrival.key, value=arrival.value
        )

    async def publish(self, outgoing: OutgoingMessage) -> None:
        """Publish a hint: of a commit of this process, or one that an older version owes."""
        topic = self.topics.of(over_kafka(outgoing.kind))
        key = event_key(outgoing.tenant, outgoing.correlation_id)
        with tracing.span(f"{topic} send", parent=outgoing.trace, kind=tracing.PRODUCER):
            await self.append(topic, key=key, value=dumps(outgoing.body))

    async def check(self) -> None:
        """Raise BrokerUnavailableError unless a broker answers."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT):
                await self._producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError) as error:
            raise BrokerUnavailableError(
                f"no Kafka broker answers ({cause_of(error)}); it is tried again"
            ) from error

    async def report(self, progress: Progress) -> None:
        """Publish progress; no caller waits for it, and losing it costs nothing but a look."""
        event = TransferProgressed.of(progress)
        try:
            confirmed = await self._producer.send(
                self.topics.of(PROGRESS), value=event.encode(), key=event.key
            )
        except KafkaError as error:
            log.debug("progress_not_sent", error=repr(error))
        else:
            confirmed.add_done_callback(_look_at_report)


def _look_at_report(confirmed: asyncio.Future[object]) -> None:
    if not confirmed.cancelled() and (error := confirmed.exception()) is not None:
        log.debug("progress_not_sent", error=repr(error))


@contextlib.asynccontextmanager
async def open_event_log(
    settings: Settings, *, confirm_timeout: float = CONFIRM_TIMEOUT
) -> AsyncIterator[EventLog]:
    """Connect to Kafka. Raises ConfigurationError when no broker answers, or it refuses."""
    producer = AIOKafkaProducer(acks="all", request_timeout_ms=20_000, **client_arguments(settings))
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise not_reached(settings, error) from None
    try:
        topics = Topics(prefix=settings.kafka_topic_prefix)
        yield EventLog(producer, topics, confirm_timeout=confirm_timeout)
    finally:
        await producer.stop()
