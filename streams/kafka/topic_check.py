"""Whether the topics are as this service needs them, and making them so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code

from app.errors import BrokerUnavailableError
from app.settings import Settings
from app.telemetry.logs import get_logger
from streams.kafka.brokers import cause_of, client_arguments
from streams.kafka.topics import Topics, configs_of

log = get_logger(__name__)

_LOOKS, _PAUSE = 20, 0.25  # seconds between looks
_SET_ON_TOPIC = 1  # source of a configuration entry: it was set on this topic


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something about a topic that is not as it should be."""

    topic: str
    what: str  # "partitions", "replicas", or the name of a configuration entry
    found: str
    wanted: str
    advice: str


async def differences(settings: Settings) -> list[Difference]:
    """Compare the topics that are there. Raises BrokerUnavailableError.

    More partitions or replicas than asked for are fine.
    """
    async with _admin(settings) as admin:
        return await _compare(admin, settings)


async def warn_of_differences(settings: Settings) -> None:
    """Log what is not as the settings ask for; work goes on meanwhile."""
    try:
        found = await differences(settings)
    except BrokerUnavailableError as error:
        log.warning("topics_not_checked", cause=str(error))
        return
    for difference in found:
        log.warning("topic_differs", **asdict(difference))


async def apply(settings: Settings) -> list[Difference]:
    """Add partitions, change configurations; return what is left for an operator.

    What others set on a topic stays. Raises BrokerUnavailableError.
    """
    async with _admin(settings) as admin:
        found = await _compare(admin, settings)
        if any(difference.what == "partitions" for difference in found):
            wanted = {
                difference.topic: NewPartitions(int(difference.wanted))
                for difference in found
                if difference.what == "partitions"
            }
            answer = await admin.create_partitions(wanted)
            _raise_first(code for _, code, *_ in answer.topic_errors)
        for topic in {
            difference.topic
            for difference in found
            if difference.what not in ("partitions", "replicas")
        }:
            # The request replaces all that is set on a topic, so the rest of it goes along.
            have = await _configs(admin, topic)
            kept = {name: value for name, (value, set_here) in have.items() if set_here}
            changed = ConfigResource(
                ConfigResourceType.TOPIC, topic, kept | configs_of(topic, settings)
            )
            answers = await admin.alter_configs([changed])
            _raise_first(resource[0] for answer in answers for resource in answer.resources)
        for _ in range(_LOOKS):  # brokers hear of a change a moment after it was confirmed
            found = await _compare(admin, settings)
            if all(difference.what == "replicas" for difference in found):
                break
            await asyncio.sleep(_PAUSE)
        return found


@contextlib.asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailableError(
            f"Kafka at {settings.kafka_bootstrap_servers} can't describe or change its topics "
            f"({cause_of(error)}); see whether its brokers are up, and whether this user may"
        ) from error
    finally:
        await admin.close()


async def _compare(admin: AIOKafkaAdminClient, settings: Settings) -> list[Difference]:
    found: list[Difference] = []
    names = Topics(prefix=settings.kafka_topic_prefix).all
    for described in await admin.describe_topics(list(names)):
        topic = described["topic"]
        if described["error_code"]:
            raise for_code(described["error_code"])(topic)
        partitions = described["partitions"]
        replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
        if len(partitions) < settings.kafka_partitions:
            found.append(
                Difference(
                    topic=topic,
                    what="partitions",
                    found=str(len(partitions)),
                    wanted=str(settings.kafka_partitions),
                    advice="`delivery topics apply` adds them",
                )
            )
        if replicas < settings.kafka_replication:
            found.append(
                Difference(
                    topic=topic,
                    what="replicas",
                    found=str(replicas),
                    wanted=str(settings.kafka_replication),
                    advice="Kafka's own kafka-reassign-partitions.sh adds them",
                )
            )
        have = await _configs(admin, topic)
        found += [
            Difference(
                topic=topic,
                what=name,
                found=have[name][0],
                wanted=value,
                advice="`delivery topics apply` sets it",
            )
            for name, value in configs_of(topic, settings).items()
            if name in have and _words(have[name][0]) != _words(value)
        ]
    return found


def _words(value: str) -> set[str]:
    return set(value.split(","))


async def _configs(admin: AIOKafkaAdminClient, topic: str) -> dict[str, tuple[str, bool]]:
    """Return a topic's configuration, and whether each was set on the topic itself."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    try:
        answers: list[Any] = await admin.describe_configs(asked)
    except IncompatibleBrokerVersion:
        return {}  # not every Kafka-protocol broker tells
    resources = [resource for answer in answers for resource in answer.resources]
    _raise_first(resource[0] for resource in resources)
    entries = [entry for resource in resources for entry in resource[4]]
    return {entry[0]: (entry[1] or "", entry[3] == _SET_ON_TOPIC) for entry in entries}


def _raise_first(codes: Iterable[int]) -> None:
    for code in codes:
        if code:
            raise for_code(code)
