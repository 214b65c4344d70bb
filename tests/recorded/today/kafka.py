"""Kafka: topics, the events on them, and who reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, MagicMock

from app.delivery.ingress import Arrival, ArrivalKind, Cancel
from app.delivery.orders import OrderEvent
from app.delivery.outgoing import Lane
from app.delivery.states import Work
from app.settings import Settings
from app.waiting.wakeup import Wakeup
from streams import channels
from streams.channels import CANCELS, ORDER_RESPONSES, REQUESTS
from streams.events import (
    Arrived,
    CancelRequested,
    OrderProgressed,
    RequestReceived,
    TransferProgressed,
)
from streams.kafka.agents import publish_dead_letter
from streams.kafka.dead_letters import DeadEvent, put_back
from streams.kafka.dispatch import PendingEvent
from streams.kafka.faust_app import create_app
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics, missing_topics
from tests.recorded.today.examples import (
    AT,
    CANCEL,
    CORRELATION,
    EVENT,
    MESSAGE,
    ORDER_EVENT,
    OWED,
    PROGRESS,
    TENANT,
)


class _Form(NamedTuple):
    value: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _arrived(event: type[Arrived], value: Cancel | OrderEvent) -> bytes:
    said = {field.name: getattr(value, field.name) for field in fields(value)}
    ingress = said.pop("ingress")
    return event(
        **said,
        ingress_id=ingress.id,
        digest=ingress.digest,
        redelivered=ingress.redelivered,
        received_at=ingress.received_at,
    ).encode()


FORMS = {
    REQUESTS.topic.name: _Form(
        MESSAGE,
        lambda value: RequestReceived.read(value).encode(),
        lambda value: RequestReceived.decode(value).message,
    ),
    ORDER_RESPONSES.topic.name: _Form(
        ORDER_EVENT,
        lambda value: _arrived(OrderProgressed, value),
        lambda value: OrderProgressed.decode(value).order_event,
    ),
    CANCELS.topic.name: _Form(
        CANCEL,
        lambda value: _arrived(CancelRequested, value),
        lambda value: CancelRequested.decode(value).cancel,
    ),
    channels.PROGRESS.topic.name: _Form(
        PROGRESS,
        lambda value: TransferProgressed.of(value).encode(),
        lambda value: TransferProgressed.decode(value).progress,
    ),
}


async def topics() -> Any:
    """Names, partitions, replicas, configuration: by default, and with a prefix and replicas."""
    empty = AsyncMock(list_topics=AsyncMock(return_value=[]))
    return {
        name: {
            topic.name: {
                "partitions": topic.num_partitions,
                "replicas": topic.replication_factor,
                "config": topic.topic_configs,
            }
            for topic in await missing_topics(empty, settings)
        }
        for name, settings in (
            ("by default", Settings()),
            (
                "with other settings",
                Settings(kafka_topic_prefix="x.", kafka_partitions=3, kafka_replication=3),
            ),
        )
    }


def events() -> Any:
    """An example of each event."""
    return {topic: json.loads(form.encode(form.value)) for topic, form in FORMS.items()}


def read(topic: str, event: Any) -> tuple[Any, Any]:
    """Return what an event that was recorded is read as today, and what it should be."""
    form = FORMS[topic]
    return form.decode(json.dumps(event).encode()), form.value


class _Producer:
    """Writes down what is appended."""

    def __init__(self) -> None:
        self.appended: list[dict[str, Any]] = []

    async def send_and_wait(self, topic: str, *, value: bytes, key: bytes, headers: Any) -> Any:
        self.appended.append(
            {
                "topic": topic,
                "key": key.decode(),
                "value": json.loads(value) if value else "",
                "headers": {name: content.decode() for name, content in headers or ()},
            }
        )
        return SimpleNamespace(partition=0, offset=len(self.appended) - 1)

    async def send(self, topic: str, *, value: bytes, key: bytes) -> asyncio.Future[None]:
        await self.send_and_wait(topic, value=value, key=key, headers=None)
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed


async def appended() -> Any:
    """Each kind of record: topic, key, value, headers."""
    producer, made = _Producer(), {}
    log = EventLog(producer, Topics())
    key = f"{TENANT}/{CORRELATION}".encode()
    for name, owed in OWED.items():
        if owed.lane is Lane.EVENTS:
            await log.publish(owed)
            made[name] = producer.appended.pop()
    for kind in ArrivalKind:
        await log.carry(Arrival(ingress_id=EVENT, kind=kind, key=key, value=b'"as it arrived"'))
        made[f"arrival: {kind.value}"] = producer.appended.pop()
    await log.report(PROGRESS)
    made["progress"] = producer.appended.pop()
    event = PendingEvent(key=key, value=b'"an event"', partition=0, acknowledge=lambda: None)
    await publish_dead_letter(event, topic="delivery.requests", reason="a reason", events=log)
    made["dead letter"] = producer.appended.pop()
    dead = DeadEvent(
        id="1:2", topic="delivery.requests", reason="a reason", key=key, value=b'"it"', at=AT
    )
    await put_back(dead, log)
    made["dead letter put back, its mark"] = producer.appended.pop()
    made["dead letter put back"] = producer.appended.pop()
    return made


def consumed() -> Any:
    """The consumer group, and the topics that it reads."""
    settings = Settings()
    app = create_app(
        settings,
        store=MagicMock(),
        arrivals=MagicMock(),
        tenants=MagicMock(),
        users=MagicMock(),
        events=MagicMock(topics=Topics()),
        wake={work: Wakeup() for work in Work},
    )
    return {
        "group": app.conf.id,
        "topics": sorted(name for agent in app.agents.values() for name in agent.channel.topics),
        "begins at": app.conf.consumer_auto_offset_reset,
    }
