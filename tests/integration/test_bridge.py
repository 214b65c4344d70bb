"""When an AMQP message is acknowledged, and when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aio_pika import Message
from aio_pika import connect as connect_plainly
from aio_pika.abc import (
    AbstractChannel,
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustConnection,
)
from aio_pika.exceptions import ChannelNotFoundEntity
from aiokafka import AIOKafkaConsumer
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.delivery.ingress import Arrival, ArrivalKind, IncomingMessage
from app.errors import BrokerUnavailableError, StoreUnavailableError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.store import PostgresArrivals
from app.tenants.registry import ConfiguredTenants
from compose.embedded.stack import TENANT
from streams.amqp.messages import read
from streams.amqp.publisher import AmqpPublisher, connect, open_publisher
from streams.amqp.topology import Topology
from streams.bridge import Bridge
from streams.channels import ORDER_RESPONSES, REQUESTS
from streams.events import RequestReceived
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import ensure_topics
from tests.client import REQUEST_QUEUE, Client, request_for
from tests.integration.gate import gate


class HeldLog:
    """The real event log, with Kafka's confirmation held back until it is let go."""

    def __init__(self, log: EventLog, arrivals: PostgresArrivals) -> None:
        self._log = log
        self.arrivals = arrivals
        self.topics = log.topics
        self.arrived = asyncio.Event()
        self.confirmed = asyncio.Event()
        self.failures = 0

    async def carry(self, arrival: Arrival) -> None:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailableError("told to fail")
        await self._log.carry(arrival)
        self.arrived.set()
        await self.confirmed.wait()


@pytest.fixture
async def held(settings: Settings, arrivals: PostgresArrivals) -> AsyncIterator[HeldLog]:
    await ensure_topics(settings)
    url = settings.amqp_url.get_secret_value()
    async with connect(url, start_timeout=30) as connection, open_publisher(connection):
        # What an earlier test gave back waits for the next reader.
        await (await (await connection.channel()).get_queue(REQUEST_QUEUE)).purge()
    async with open_event_log(settings) as log:
        yield HeldLog(log, arrivals)


def made(
    settings: Settings,
    connection: AbstractRobustConnection,
    publisher: AmqpPublisher,
    log: HeldLog,
) -> Bridge:
    return Bridge(
        connection=connection,
        publisher=publisher,
        events=log,  # type: ignore[arg-type]
        arrivals=log.arrivals,
        tenants=ConfiguredTenants(settings, KINDS),
        topology=Topology(),
        prefetch=10,
        max_bytes=4 * 1024 * 1024,
    )


@contextlib.asynccontextmanager
async def bridging(
    settings: Settings,
    log: HeldLog,
    *,
    before_dead_letter: Callable[[], None] = lambda: None,
    url: str | None = None,
) -> AsyncIterator[AbstractRobustConnection]:
    """Run a bridge; `before_dead_letter` is called before each message that it can't carry."""
    url = url or settings.amqp_url.get_secret_value()
    async with (
        connect(url, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
    ):
        dead_letter = publisher.dead_letter

        async def told(queue: str, message: Message) -> None:
            before_dead_letter()
            await dead_letter(queue, message)

        publisher.dead_letter = told  # type: ignore[method-assign]
        bridge = made(settings, connection, publisher, log)
        await bridge.start()
        try:
            yield connection
        finally:
            log.confirmed.set()
            await bridge.stop()


async def waiting(client: Client) -> int:
    """Return how many messages no consumer has taken or acknowledged."""
    queue = await client.channel.declare_queue(REQUEST_QUEUE, passive=True)
    return queue.declaration_result.message_count or 0


async def written(settings: Settings, topic: str, count: int) -> list[RequestReceived]:
    """Read the first events of a topic."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [RequestReceived.decode((await consumer.getone()).value) for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_message_is_not_acknowledged_before_kafka_has_confirmed(
    settings: Settings, held: HeldLog, client: Client, pool: asyncpg.Pool
) -> None:
    """Its connection is cut while the confirmation is held back: RabbitMQ still has the message."""
    body = request_for("P")
    async with bridging(settings, held) as connection:
        await client.send(body, delivery_mode=2)
        await held.arrived.wait()
        assert await waiting(client) == 0  # taken, but
        await connection.close()
    assert await waiting(client) == 1

    async with bridging(settings, held):
        first, second = await written(settings, held.topics.of(REQUESTS), 2)
    assert await waiting(client) == 0
    assert second.redelivered
    assert first.digest == second.digest
    assert first.ingress_id != second.ingress_id
    noted = await pool.fetch("SELECT id FROM arrival WHERE returned_at IS NOT NULL")
    assert [row["id"] for row in noted] == [first.ingress_id]


async def test_a_message_is_acknowledged_once_kafka_has_confirmed(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    held.confirmed.set()
    body = request_for("P", targetDelivery="é")
    async with bridging(settings, held):
        await client.send(body, app_id="a", priority=9)
        (event,) = await written(settings, held.topics.of(REQUESTS), 1)
    assert await waiting(client) == 0
    assert event.body == body
    assert (event.message.tenant, event.message.origin_app, event.message.priority) == (
        TENANT,
        "a",
        9,
    )


async def test_a_message_waits_while_kafka_is_away_and_counts_once(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    held.failures = 2
    held.confirmed.set()
    async with bridging(settings, held):
        await client.send(request_for("P"))
        (event,) = await written(settings, held.topics.of(REQUESTS), 1)
    assert [arrival.ingress_id for arrival in await held.arrivals.overdue(9)] == [event.ingress_id]
    assert await waiting(client) == 0


async def test_a_message_that_waits_goes_back_when_the_bridge_is_stopped(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    held.failures = 1_000_000
    async with bridging(settings, held):
        await client.send(request_for("P"))
        async with asyncio.timeout(20):
            while held.failures == 1_000_000:
                await asyncio.sleep(0.01)
    assert await waiting(client) == 1
    held.failures = 0
    async with bridging(settings, held):
        (event,) = await written(settings, held.topics.of(REQUESTS), 1)
    assert event.redelivered


async def test_a_message_that_rabbitmq_took_back_is_not_handed_on(
    settings: Settings, held: HeldLog, client: Client, pool: asyncpg.Pool
) -> None:
    """Another worker may have it by now."""
    returned = "SELECT returned_at FROM arrival"
    held.failures = 1_000_000
    async with bridging(settings, held) as connection:
        await client.send(request_for("P"), delivery_mode=2)
        async with asyncio.timeout(20):
            while held.failures == 1_000_000:
                await asyncio.sleep(0.01)
        await connection.close()
        async with asyncio.timeout(20):
            while not await pool.fetchval(returned):
                await asyncio.sleep(0.01)
        assert not held.arrived.is_set()
    assert await waiting(client) == 1
    held.failures = 0
    async with bridging(settings, held):
        (event,) = await written(settings, held.topics.of(REQUESTS), 1)
    assert event.redelivered


async def noted_as_returned(pool: asyncpg.Pool) -> None:
    """Return once it is noted that the one message comes again."""
    async with asyncio.timeout(20):
        while not await pool.fetchval("SELECT returned_at FROM arrival"):
            await asyncio.sleep(0.01)


async def test_a_redelivery_is_noted_once_postgresql_answers(
    settings: Settings,
    held: HeldLog,
    client: Client,
    pool: asyncpg.Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RabbitMQ and PostgreSQL may be away together."""
    returned, failures = held.arrivals.returned, [StoreUnavailableError("away")] * 2

    async def failing(ids: Sequence[UUID]) -> None:
        if failures:
            raise failures.pop()
        await returned(ids)

    monkeypatch.setattr(held.arrivals, "returned", failing)
    async with bridging(settings, held) as connection:
        await client.send(request_for("P"), delivery_mode=2)
        await held.arrived.wait()
        await connection.close()
        await noted_as_returned(pool)


async def test_what_comes_again_is_not_handed_on_before_that_is_noted(
    settings: Settings, held: HeldLog, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a flag or a message id nothing else tells that it is a copy."""
    returned, save = held.arrivals.returned, held.arrivals.save
    came: list[UUID] = []
    done: list[str] = []
    twice, noted = asyncio.Event(), asyncio.Event()

    def reading(message: AbstractIncomingMessage, kind: ArrivalKind) -> IncomingMessage:
        arrived = read(message, kind)
        came.append(arrived.ingress.id)
        if len(came) > 1:
            twice.set()
        return arrived

    async def noting(ids: Sequence[UUID]) -> None:
        if not twice.is_set():
            raise StoreUnavailableError("away")
        await returned(ids)
        done.append("noted")
        noted.set()

    async def saving(arrival: Arrival, *, since: float | None = None) -> None:
        done.append("saved")
        await save(arrival, since=since)

    monkeypatch.setattr("streams.bridge.read", reading)
    monkeypatch.setattr(held.arrivals, "returned", noting)
    monkeypatch.setattr(held.arrivals, "save", saving)
    url = settings.amqp_url.get_secret_value()
    async with gate(url) as way, bridging(settings, held, url=way.url):
        await client.send(request_for("P"), delivery_mode=2)
        await held.arrived.wait()
        held.arrived.clear()
        way.cut()
        await twice.wait()
        await noted.wait()
        await held.arrived.wait()
    assert done == ["saved", "noted", "saved"]


async def test_an_acknowledgement_that_may_not_have_been_read_is_noted(
    settings: Settings, held: HeldLog, client: Client, pool: asyncpg.Pool
) -> None:
    held.confirmed.set()
    url = settings.amqp_url.get_secret_value()
    async with gate(url) as way, bridging(settings, held, url=way.url):
        await client.send(request_for("P"), delivery_mode=2)
        await written(settings, held.topics.of(REQUESTS), 1)
        way.cut()
        await noted_as_returned(pool)


async def test_what_was_acknowledged_before_a_stop_was_read(
    settings: Settings, held: HeldLog, client: Client, pool: asyncpg.Pool
) -> None:
    held.confirmed.set()
    async with bridging(settings, held):
        await client.send(request_for("P"), delivery_mode=2)
        await written(settings, held.topics.of(REQUESTS), 1)
    assert await waiting(client) == 0
    (arrival,) = await pool.fetch("SELECT returned_at FROM arrival")
    assert arrival["returned_at"] is None


async def test_nothing_reaches_kafka_before_it_is_saved(
    settings: Settings, held: HeldLog, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, failures = held.arrivals.save, [StoreUnavailableError("away")] * 2

    async def failing(arrival: Arrival, *, since: float | None = None) -> None:
        if failures:
            assert not held.arrived.is_set()
            raise failures.pop()
        await note(arrival, since=since)

    monkeypatch.setattr(held.arrivals, "save", failing)
    held.confirmed.set()
    async with bridging(settings, held):
        await client.send(request_for("P"))
        (event,) = await written(settings, held.topics.of(REQUESTS), 1)
    assert [arrival.ingress_id for arrival in await held.arrivals.overdue(9)] == [event.ingress_id]


async def test_a_message_does_not_overtake_an_earlier_one_of_its_key_that_waits(
    settings: Settings, held: HeldLog, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrived first is saved first, also where PostgreSQL was away for it alone."""
    first = request_for("P")
    second = {**first, "order": request_for("Q")["order"]}
    save, failures = held.arrivals.save, [StoreUnavailableError("away")] * 3
    failed = asyncio.Event()

    async def failing(arrival: Arrival, *, since: float | None = None) -> None:
        if failures and RequestReceived.decode(arrival.value).body == first:
            failed.set()
            raise failures.pop()
        await save(arrival, since=since)

    monkeypatch.setattr(held.arrivals, "save", failing)
    held.confirmed.set()
    async with bridging(settings, held):
        await client.send(first)
        await failed.wait()
        await client.send(second)
        events = await written(settings, held.topics.of(REQUESTS), 2)
    assert [event.body for event in events] == [first, second]


async def test_an_event_carries_the_key_of_its_delivery(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    held.confirmed.set()
    body = request_for("P")
    async with bridging(settings, held):
        await client.send(body)
        await held.arrived.wait()
    consumer = AIOKafkaConsumer(
        held.topics.of(REQUESTS),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    assert record.key.decode() == f"{TENANT}/{body['correlationId']}"
    assert json.loads(record.value)["body"] == body


async def test_a_message_that_kafka_never_takes_goes_to_the_dead_letters(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    """Given back, it would come again for ever."""
    held.confirmed.set()
    body = json.dumps(request_for("P", filler="x" * 1_500_000)).encode()
    async with bridging(settings, held):
        await client.send(body)
        dead_letters = await client.channel.get_queue(f"{REQUEST_QUEUE}.DLQ", ensure=False)
        async with dead_letters.iterator(timeout=20) as arriving:
            async for dead_letter in arriving:
                await dead_letter.ack()
                if dead_letter.body == body:
                    break
    assert "is larger than Kafka takes" in str(dead_letter.headers["x-exception-message"])
    assert await waiting(client) == 0
    assert await held.arrivals.overdue(9) == []


async def dead_letter_of(client: Client, body: bytes) -> AbstractIncomingMessage:
    """Take letters from the dead-letter queue of requests, up to the one with that body.

    Asked over a connection of its own: a look at a queue that is gone costs the channel.
    """
    async with asyncio.timeout(20), await connect_plainly(client.amqp_url) as connection:
        while True:
            channel = await connection.channel()
            with contextlib.suppress(ChannelNotFoundEntity):
                queue = await channel.declare_queue(f"{REQUEST_QUEUE}.DLQ", passive=True)
                while (dead_letter := await queue.get(no_ack=True, fail=False)) is not None:
                    if dead_letter.body == body:
                        return dead_letter
            await asyncio.sleep(0.05)


def dead_lettered() -> float:
    """Return how many requests this process has moved to the dead letters."""
    return (
        REGISTRY.get_sample_value("delivery_messages_buried_total", {"queue": REQUEST_QUEUE}) or 0
    )


async def test_what_can_not_go_to_the_dead_letters_yet_waits_and_counts_once(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    """Given back, it would come again at once, hundreds of times a second."""
    failures, before = [BrokerUnavailableError("told to fail")] * 3, dead_lettered()

    def fail() -> None:
        if failures:
            raise failures.pop()

    with capture_logs() as logs:
        async with bridging(settings, held, before_dead_letter=fail):
            await client.send(b"no JSON at all")
            await dead_letter_of(client, b"no JSON at all")
    assert dead_lettered() - before == 1
    events = [entry["event"] for entry in logs]
    assert (events.count("message_buried"), events.count("message_returned")) == (1, 0)
    assert "messages_wait" in events
    assert await waiting(client) == 0


async def test_a_dead_letter_queue_that_was_deleted_is_declared_again(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    async with bridging(settings, held):
        await client.channel.queue_delete(f"{REQUEST_QUEUE}.DLQ")
        await client.send(b"no JSON either")
        await dead_letter_of(client, b"no JSON either")
    assert await waiting(client) == 0


async def test_each_queue_gives_a_third_of_the_prefetch_while_kafka_is_away(
    settings: Settings, held: HeldLog, client: Client
) -> None:
    """RabbitMQ counts for each consumer, and there are three: memory holds ten in all."""
    held.failures = 1_000_000
    async with bridging(settings, held):
        for _ in range(9):
            await client.send(request_for("P"))
        async with asyncio.timeout(20):
            while await waiting(client) > 6:
                await asyncio.sleep(0.01)
        assert await waiting(client) == 6
    queue = await client.channel.get_queue(REQUEST_QUEUE, ensure=False)
    await queue.purge()


async def test_a_bridge_that_does_not_read_its_queues_yet_says_so(
    settings: Settings, held: HeldLog
) -> None:
    """Whether a process is ready may be asked before its bridge has begun."""
    url = settings.amqp_url.get_secret_value()
    async with (
        connect(url, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
    ):
        bridge = made(settings, connection, publisher, held)
        with pytest.raises(BrokerUnavailableError, match="not read yet"):
            await bridge.check()
        await bridge.start()
        await bridge.check()
        await bridge.stop()


async def trouble(bridge: Bridge) -> str:
    """Return why a bridge is not ready; nothing when it is."""
    try:
        await bridge.check()
    except BrokerUnavailableError as error:
        return str(error)
    return ""


async def test_a_bridge_that_reads_some_of_its_queues_is_not_ready(
    settings: Settings, held: HeldLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = settings.amqp_url.get_secret_value()
    declare, third, let = Topology.queue, asyncio.Event(), asyncio.Event()

    async def slow(
        self: Topology, channel: AbstractChannel, queue: str, exchange: str
    ) -> AbstractQueue:
        if queue == ORDER_RESPONSES.queue.name:
            third.set()
            await let.wait()
        return await declare(self, channel, queue, exchange)

    async with (
        connect(url, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
    ):
        monkeypatch.setattr(Topology, "queue", slow)
        bridge = made(settings, connection, publisher, held)
        starting = asyncio.create_task(bridge.start())
        try:
            async with asyncio.timeout(30):
                await third.wait()
            assert "not read yet" in await trouble(bridge)
        finally:
            let.set()
            await starting
        await bridge.check()
        await bridge.stop()


async def test_a_channel_that_can_not_be_opened_again_is_tried_until_it_can(
    settings: Settings, held: HeldLog, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ has closed it, and what its queue is bound to is not there for a while."""
    held.confirmed.set()
    url = settings.amqp_url.get_secret_value()
    async with (
        connect(url, start_timeout=30) as connection,
        open_publisher(connection) as publisher,
    ):
        opened = []
        channel = connection.channel

        def noted(**options: Any) -> AbstractChannel:
            opened.append(channel(**options))
            return opened[-1]

        monkeypatch.setattr(connection, "channel", noted)
        bridge = made(settings, connection, publisher, held)
        await bridge.start()
        await bridge.check()
        await client.channel.exchange_delete(REQUESTS.exchange.name)
        (reading,) = opened
        closed = await reading.get_underlay_channel()
        await closed.basic_ack(999)  # which RabbitMQ does not know
        async with asyncio.timeout(30):
            while "opened again" not in await trouble(bridge):
                await asyncio.sleep(0.02)
            await Topology().exchange(client.channel, REQUESTS.exchange.name)
            while await trouble(bridge):
                await asyncio.sleep(0.02)
        await client.send(request_for("P"))
        async with asyncio.timeout(20):
            await held.arrived.wait()
        await bridge.stop()
