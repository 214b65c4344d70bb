"""Topics that were made again, or lost their end: where the group was says nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from structlog.testing import capture_logs

from app.errors import BrokerUnavailableError
from app.run.worker import running_worker
from app.settings import Settings
from app.store import PostgresArrivals
from streams.channels import ORDER_RESPONSES, REQUESTS
from streams.kafka.faust_transport import seek_to_committed
from streams.kafka.lag import ConsumerLag, positions
from streams.kafka.log import open_event_log
from streams.kafka.topics import Topics, ensure_topics, partitions_of
from tests.builders import make_arrival
from tests.client import Client, request_for
from tests.command import delivery

FAR = 1000  # events, more than any test appends


@pytest.fixture
def changed(settings: Settings, pool: object, database: str) -> Settings:
    """Settings of a worker whose consumer is never replaced for being stuck."""
    url = type(settings.database_url)(database)
    return settings.model_copy(update={"database_url": url, "kafka_stuck_after": 3600})


async def commit_far_ahead(settings: Settings) -> None:
    """Let the group be where no log is any more."""
    found = await partitions_of(settings)
    topics = Topics(prefix=settings.kafka_topic_prefix).consumed
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.kafka_group,
        enable_auto_commit=False,
    )
    await consumer.start()
    consumer.assign([partition for topic in topics for partition in found[topic]])
    await consumer.commit(dict.fromkeys(consumer.assignment(), FAR))
    await consumer.stop()


async def committed(settings: Settings) -> dict[TopicPartition, int]:
    """Return what the group has committed, and where."""
    lag = await ConsumerLag(settings).measure()
    return {partition: position for partition, (position, _) in lag.behind.items()}


async def test_a_group_that_is_beyond_the_end_reads_from_the_beginning(
    changed: Settings, client: Client, make_product: Callable[..., str]
) -> None:
    """As after an outage in which the brokers lost their logs, and were told old offsets again."""
    await ensure_topics(changed)
    await commit_far_ahead(changed)
    with capture_logs() as logs:
        async with running_worker(changed, site=False):
            answer = await client.answer(request_for(make_product({"a": b"a"})))
    assert answer["status"] == "DONE"
    assert "events_read_from_beginning" in {entry["event"] for entry in logs}
    # Nor is it far ahead for the worker that reads next.
    assert max((await committed(changed)).values()) < FAR


async def test_a_group_at_the_end_of_a_batch_is_not_beyond_the_end(changed: Settings) -> None:
    """The embedded broker tells the first event of the last batch for the last one."""
    await ensure_topics(changed)
    here = TopicPartition(Topics(prefix=changed.kafka_topic_prefix).of(ORDER_RESPONSES), 0)
    servers = changed.kafka_bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batch = producer.create_batch()
        for number in range(5):
            assert batch.append(key=None, value=str(number).encode(), timestamp=None)
        sent = await producer.send_batch(batch, here.topic, partition=here.partition)
        await sent
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=changed.kafka_group, enable_auto_commit=False
    )
    async with consumer:
        consumer.assign([here])
        await consumer.commit({here: 5})
        assert await positions(consumer, [here]) == {here: (5, 5)}
        await consumer.commit({here: 6})
        group, end = (await positions(consumer, [here]))[here]
        assert end < group == 6


async def test_what_was_dropped_is_read_again_where_nothing_is_committed(
    changed: Settings,
) -> None:
    """Faust drops what it has read in a rebalance, and seeks; aiokafka seeks to what is committed.

    A stopped worker's successor passed over what came meanwhile in partitions that were new.
    """
    await ensure_topics(changed)
    here = TopicPartition(Topics(prefix=changed.kafka_topic_prefix).of(ORDER_RESPONSES), 0)
    servers = changed.kafka_bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for number in range(3):
            await producer.send_and_wait(here.topic, str(number).encode(), partition=here.partition)
    async with AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=changed.kafka_group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    ) as consumer:
        consumer.assign([here])
        async with asyncio.timeout(30):
            for offset in (0, 1, 2, 0, 1, 2):
                if offset == 0:
                    await seek_to_committed(consumer)
                assert (await consumer.getone()).offset == offset


async def test_writing_to_a_missing_topic_does_not_make_it(changed: Settings) -> None:
    """Made by accident, it has other partitions, and no worker learns that its events are lost."""
    async with open_event_log(changed, confirm_timeout=0.5) as events:
        with pytest.raises(BrokerUnavailableError):
            await events.append(events.topics.of(REQUESTS), key=b"t/c", value=b"{}")
    topics = await partitions_of(changed)
    assert Topics(prefix=changed.kafka_topic_prefix).of(REQUESTS) not in topics


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """What deletes topics."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await client.start()
    yield client
    await client.close()


async def test_topics_that_are_deleted_under_a_worker_are_made_and_read(
    changed: Settings,
    admin: AIOKafkaAdminClient,
    client: Client,
    make_product: Callable[..., str],
) -> None:
    """The group is still there, and so is where it was in the topics of before.

    An event that is appended where the group believes to have been already is not read: it is
    appended again after its time, which is what a request may wait for at most.
    """
    quick = changed.model_copy(
        update={"kafka_stuck_after": 30, "event_allowance": 15, "reconcile_interval": 5}
    )
    product = make_product({"a": b"a"})
    async with running_worker(quick, site=False):
        for _ in range(5):
            assert (await client.answer(request_for(product)))["status"] == "DONE"
        await admin.delete_topics(list(Topics(prefix=quick.kafka_topic_prefix).all))
        bodies = [request_for(product) for _ in range(3)]
        for body in bodies:
            await client.send(body)
        for body in bodies:
            await client.wait_for(body["correlationId"], "DONE", seconds=90)
        for _ in range(5):
            assert (await client.answer(request_for(product)))["status"] == "DONE"


async def test_lost_events_are_due_before_topics_are_made_again(changed: Settings) -> None:
    """The worker that makes them may die in between; no other would know that they were lost."""

    class DiedError(Exception):
        pass

    async def dies(missing: object) -> None:
        raise DiedError

    with pytest.raises(DiedError):
        await ensure_topics(changed, lost=dies)
    topics = await partitions_of(changed)
    assert not set(topics) & set(Topics(prefix=changed.kafka_topic_prefix).all)
    async with asyncio.timeout(30):
        assert await ensure_topics(changed)


async def test_topics_that_an_operator_makes_again_lose_nothing(
    changed: Settings, pool: asyncpg.Pool, database: str
) -> None:
    arrivals = PostgresArrivals(pool, allowance=timedelta(hours=1))
    lost = make_arrival()
    await arrivals.save(lost)
    assert await arrivals.overdue(9) == []
    made = await asyncio.to_thread(
        partial(
            delivery,
            "topics",
            "apply",
            DELIVERY_DATABASE_URL=database,
            DELIVERY_KAFKA_TOPIC_PREFIX=changed.kafka_topic_prefix,
        )
    )
    assert f"created {Topics(prefix=changed.kafka_topic_prefix).of(REQUESTS)}" in made.stdout, made
    assert await arrivals.overdue(9) == [lost]
