"""Three brokers of Apache Kafka; one of them is killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from app.settings import Settings
from compose.embedded.apache_kafka import apache_kafka, missing
from compose.embedded.stack import Stack
from streams.channels import DEAD_LETTERS, PROGRESS, REQUESTS
from streams.kafka.dead_letters import look
from streams.kafka.lag import ConsumerLag
from streams.kafka.log import open_event_log
from streams.kafka.topic_check import differences, warn_of_differences
from streams.kafka.topics import Topics, ensure_topics
from tests.client import Client, request_for
from tests.command import delivery
from tests.service import running_service

DELIVERIES = 30

with_kafka = pytest.mark.skipif(bool(missing()), reason=missing() or "")


@with_kafka
@pytest.mark.timeout(400)
async def test_deliveries_go_on_when_one_of_three_brokers_is_killed(
    stack: Stack,
    database: str,
    client: Client,
    make_product: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Every event has two more copies: acks=all, and two replicas in sync are enough."""
    product = make_product({"a.txt": b"a", "b.txt": b"b"})
    bodies = [request_for(product) for _ in range(DELIVERIES)]
    ids = [str(body["correlationId"]) for body in bodies]
    async with apache_kafka(tmp_path, brokers=3) as brokers:
        extra = {
            "DELIVERY_DATABASE_URL": database,
            "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": ",".join(broker.url for broker in brokers),
            "DELIVERY_KAFKA_REPLICATION": "3",
            "DELIVERY_KAFKA_PARTITIONS": "3",
            "DELIVERY_KAFKA_GROUP": uuid4().hex[:8],
        }
        async with running_service(stack, extra=extra) as (child, _):
            await _topics_are_as_they_should_be(brokers[0].url)
            for body in bodies[: DELIVERIES // 2]:
                await client.send(body)
            await client.wait_for(ids[0], "GRANTED")
            (broker,) = psutil.Process(brokers[0].child.process.pid).children()
            broker.send_signal(signal.SIGKILL)
            for body in bodies[DELIVERIES // 2 :]:
                await client.send(body)
            for correlation_id in ids:
                await client.wait_for(correlation_id, "DONE", "ERROR", seconds=120)
            assert child.running
    assert all(client.said(correlation_id) == ["GRANTED", "DONE"] for correlation_id in ids)


@with_kafka
async def test_topics_are_brought_to_what_the_settings_ask_for(
    tmp_path: Path, database: str
) -> None:
    """What an operator set on a topic stays; what only an operator can change is told."""
    async with apache_kafka(tmp_path) as (broker,):
        address = {
            "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": broker.url,
            "DELIVERY_DATABASE_URL": database,
        }
        assert delivery("migrate", **address).returncode == 0
        made = delivery("topics", "apply", DELIVERY_KAFKA_PARTITIONS="2", **address)
        assert made.returncode == 0, made.stderr
        assert made.stdout.count("created delivery.") == len(Topics().all)
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.url)
        await admin.start()
        wrong = {"retention.ms": "1000", "max.message.bytes": "2000000"}
        resource = ConfigResource(ConfigResourceType.TOPIC, Topics().of(REQUESTS), wrong)
        await admin.alter_configs([resource])

        wanted = {"DELIVERY_KAFKA_PARTITIONS": "3", "DELIVERY_KAFKA_REPLICATION": "2"} | address
        told = delivery("topics", "check", "--json", **wanted)
        assert told.returncode == 1
        differences = [json.loads(line) for line in told.stdout.splitlines()]
        assert len(differences) == 2 * len(Topics().all) + 1
        assert f"delivery: {len(differences)} differences are left" in told.stderr

        left = delivery("topics", "apply", "--json", **wanted)
        assert left.returncode == 1
        entries = [json.loads(line) for line in left.stdout.splitlines()]
        assert {entry["what"] for entry in entries} == {"replicas"}
        assert "kafka-reassign-partitions.sh" in entries[0]["advice"]
        answers = await admin.describe_configs([resource])
        await admin.close()
        found = {entry[0]: entry[1] for entry in answers[0].resources[0][4]}
        assert found["max.message.bytes"] == "2000000"
        assert delivery("topics", "check", DELIVERY_KAFKA_PARTITIONS="3", **address).returncode == 0


@with_kafka
async def test_readers_without_a_group_find_the_partitions(
    settings: Settings, tmp_path: Path
) -> None:
    """Apache Kafka tells a consumer of topics that it reads; the embedded broker of all."""
    async with apache_kafka(tmp_path) as (broker,):
        here = settings.model_copy(update={"kafka_bootstrap_servers": broker.url})
        await ensure_topics(here)
        async with open_event_log(here) as events:
            await events.append(events.topics.of(DEAD_LETTERS), key=b"t/c", value=b"event")
            (dead,) = await look(here)
        assert (dead.key, dead.value) == (b"t/c", b"event")
        found = await ConsumerLag(here).measure()
        assert {behind.topic for behind in found.behind} == set(events.topics.consumed)
        assert len(found.behind) == 2 * len(events.topics.consumed)


async def test_the_embedded_broker_has_the_topics_that_are_asked_for(settings: Settings) -> None:
    await ensure_topics(settings)
    assert await differences(settings) == []
    more = settings.model_copy(update={"kafka_partitions": 9})
    assert {difference.what for difference in await differences(more)} == {"partitions"}


async def test_each_difference_between_topics_and_settings_is_logged(settings: Settings) -> None:
    """A worker goes on with the topics that are there."""
    await ensure_topics(settings)
    with capture_logs() as logs:
        await warn_of_differences(settings)
    assert logs == []
    wanted = str(settings.kafka_partitions + 1)
    more = settings.model_copy(update={"kafka_partitions": int(wanted)})
    with capture_logs() as logs:
        await warn_of_differences(more)
    assert {entry["topic"] for entry in logs} == {*Topics(prefix=more.kafka_topic_prefix).all}
    assert {
        (entry["event"], entry["log_level"], entry["what"], entry["found"], entry["wanted"])
        for entry in logs
    } == {("topic_differs", "warning", "partitions", str(settings.kafka_partitions), wanted)}
    assert all("delivery topics apply" in entry["advice"] for entry in logs)


async def test_topics_that_cannot_be_looked_at_are_told_and_hold_up_no_start(
    settings: Settings,
) -> None:
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with capture_logs() as logs:
        await warn_of_differences(away)
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("topics_not_checked", "warning")
    assert "127.0.0.1:1" in entry["cause"]


async def _topics_are_as_they_should_be(broker: str) -> None:
    topics = Topics()
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        for found in await admin.describe_topics(list(topics.all)):
            assert len(found["partitions"]) == 3
            assert all(len(partition["replicas"]) == 3 for partition in found["partitions"])
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics.all]
        answers = await admin.describe_configs(asked)
    finally:
        await admin.close()
    configs = {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _, _, _, name, entries in answer.resources
    }
    assert all(configs[name]["min.insync.replicas"] == "2" for name in topics.all)
    assert "compact" in configs[topics.of(PROGRESS)]["cleanup.policy"]
    assert configs[topics.of(DEAD_LETTERS)]["retention.ms"] == "-1"
