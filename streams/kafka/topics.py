"""The Kafka topics, and how they are made: by `ensure_topics` alone.

Brokers make a topic that a client asks for by its name: with other partitions than it should have,
and without a word that what was in it is lost. So no client asks for that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from aiokafka import TopicPartition
from aiokafka import client as aiokafka_client
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin import client as aiokafka_admin
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay

from app.errors import ConfigurationError
from app.settings import Settings
from app.waiting.backoff import Backoff
from streams.channels import KAFKA, IncomingChannel, InternalChannel, Topic
from streams.kafka.brokers import RIGHTS, client_arguments, not_reached
from streams.kafka.refusals import REFUSALS

_BACKOFF = Backoff(first=0.2, longest=5.0)  # between tries to reach Kafka
_WEEK = str(7 * 24 * 3600 * 1000)  # milliseconds; longer than any reader is away
_FOR_EVER = "-1"  # until an operator has looked

# aiokafka's clients have no argument for the flag.
for _module in (aiokafka_client, aiokafka_admin):
    _module.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Names, with the deployment's prefix."""

    prefix: str = ""

    def of(self, channel: IncomingChannel | InternalChannel) -> str:
        """Return the topic that a channel goes through."""
        return self.prefix + channel.topic.name

    def named(self, name: str) -> Topic:
        """Return what is known of one of them."""
        return next(channel.topic for channel in KAFKA if self.of(channel) == name)

    @property
    def consumed(self) -> tuple[str, ...]:
        """The topics that agents read."""
        return tuple(self.of(channel) for channel in KAFKA if channel.agent is not None)

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic."""
        return tuple(self.of(channel) for channel in KAFKA)


async def partitions_of(settings: Settings) -> dict[str, list[TopicPartition]]:
    """Return all topics that there are, each with its partitions. Raises KafkaError.

    (A consumer's `partitions_for_topic` knows those only of topics that it reads already.)
    """
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    try:
        await admin.start()
        # All: to ask for one by its name may create it.
        described = await admin.describe_topics()
    finally:
        await admin.close()
    return {
        topic["topic"]: [
            TopicPartition(topic["topic"], partition["partition"])
            for partition in topic["partitions"]
        ]
        for topic in described
    }


def configs_of(name: str, settings: Settings) -> dict[str, str]:
    """Return what a topic is configured with, beside partitions and replicas."""
    topic = Topics(prefix=settings.kafka_topic_prefix).named(name)
    return {
        # One replica may be away, and what was confirmed (acks=all) is still kept twice.
        "min.insync.replicas": str(max(1, settings.kafka_replication - 1)),
        # If compacted: the last report of each delivery, until it is no longer looked at.
        "cleanup.policy": "compact,delete" if topic.compacted else "delete",
        "retention.ms": _FOR_EVER if topic.for_ever else _WEEK,
    }


async def _ignore_missing(_missing: Sequence[str]) -> None:
    """Do nothing."""


async def ensure_topics(
    settings: Settings,
    *,
    alone: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    lost: Callable[[Sequence[str]], Awaitable[None]] = _ignore_missing,
) -> list[str]:
    """Create the topics that are missing; return their names.

    `alone` is entered while topics are created, and may wait for others who do the same. `lost` is
    awaited before, with the names of those that are missing: the process that creates them may not
    live to tell. Waits up to `start_timeout` seconds for Kafka to come up, but not when it refuses
    this service. Raises ConfigurationError.
    """
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(settings.start_timeout),
            wait=_BACKOFF.between_attempts,
            reraise=True,
        ):
            with attempt:
                return await _create_missing(settings, alone, lost)
    except KafkaError as error:
        raise not_reached(settings, error) from None
    raise AssertionError("unreachable: the last attempt returns or raises")


def _may_pass(error: BaseException) -> bool:
    away = isinstance(error, KafkaConnectionError | NodeNotReadyError)
    return away and not any(refusal.stays for refusal in REFUSALS.now())


async def _create_missing(
    settings: Settings,
    alone: Callable[[], AbstractAsyncContextManager[None]],
    lost: Callable[[Sequence[str]], Awaitable[None]],
) -> list[str]:
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    try:
        await admin.start()
        if not await missing_topics(admin, settings):
            return []
        async with alone():
            missing = await missing_topics(admin, settings)  # another may have created them by now
            if missing:
                await lost([topic.name for topic in missing])
                await _create(admin, missing)
        return [topic.name for topic in missing]
    finally:
        await admin.close()


async def missing_topics(admin: AIOKafkaAdminClient, settings: Settings) -> list[NewTopic]:
    """Return the topics that are not there, as they are to be made."""
    existing = set(await admin.list_topics())
    return [
        NewTopic(
            name,
            settings.kafka_partitions,
            settings.kafka_replication,
            topic_configs=configs_of(name, settings),
        )
        for name in Topics(prefix=settings.kafka_topic_prefix).all
        if name not in existing
    ]


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic]) -> None:
    response = await admin.create_topics(missing)
    for name, code, *_ in response.topic_errors:
        if code == TopicAuthorizationFailedError.errno:
            raise ConfigurationError(
                f"Kafka shows no topic {name}, and this user may not create it: `delivery topics "
                f"apply` as one who may, or let this one describe it; {RIGHTS}"
            )
        if code not in (0, TopicAlreadyExistsError.errno):
            raise ConfigurationError(
                f"Kafka does not create topic {name} ({for_code(code).__name__}); "
                "create it by hand, or correct DELIVERY_KAFKA_REPLICATION"
            )
