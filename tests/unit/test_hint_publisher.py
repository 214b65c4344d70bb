"""Hints on Kafka: none waits for them, and none is told where they get lost, but a counter."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.delivery.outgoing import Kind, OutgoingMessage
from app.errors import BrokerUnavailableError
from streams.channels import TRANSFERS
from streams.kafka.hints import HintPublisher, publishing_hints
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics
from tests.builders import make_outgoing


class Broker:
    """Confirms what it is sent when it is let; or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.topics = Topics()
        self.error = error
        self.confirms = asyncio.Event()
        self.sent: list[OutgoingMessage] = []
        self.confirmed: list[OutgoingMessage] = []

    async def publish(self, outgoing: OutgoingMessage) -> None:
        self.sent.append(outgoing)
        if self.error is not None:
            raise self.error
        await self.confirms.wait()
        self.confirmed.append(outgoing)


def publisher(broker: Broker, **options: Any) -> HintPublisher:
    return HintPublisher(cast("EventLog", broker), **options)


def hint() -> OutgoingMessage:
    return make_outgoing(kind=Kind.TRANSFER)


def lost() -> float:
    topic = Topics().of(TRANSFERS)
    return REGISTRY.get_sample_value("delivery_hints_lost_total", {"topic": topic}) or 0.0


async def test_who_commits_does_not_wait_for_kafka() -> None:
    broker = Broker()
    hints = publisher(broker)
    hints.send([hint(), hint()])
    broker.confirms.set()
    await hints.close(within=10)
    assert len(broker.confirmed) == 2


async def test_one_that_kafka_does_not_take_is_counted_and_raises_nothing() -> None:
    before = lost()
    hints = publisher(Broker(BrokerUnavailableError("Kafka is away")))
    with capture_logs() as logs:
        hints.send([hint()])
        await hints.close(within=10)
    assert lost() == before + 1
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("hint_not_sent", "debug")


async def test_an_unforeseen_error_stays_there_too() -> None:
    before = lost()
    hints = publisher(Broker(KeyError("x")))
    with capture_logs() as logs:
        hints.send([hint()])
        await hints.close(within=10)
    assert lost() == before + 1
    assert [line["event"] for line in logs] == ["hint_failed", "hint_not_sent"]


async def test_no_more_wait_than_may_while_kafka_is_silent() -> None:
    before = lost()
    broker = Broker()
    hints = publisher(broker, max_unconfirmed=2)
    hints.send([hint() for _ in range(5)])
    assert lost() == before + 3
    broker.confirms.set()
    await hints.close(within=10)
    assert len(broker.confirmed) == 2
    hints.send([hint()])
    await hints.close(within=10)
    assert len(broker.confirmed) == 3, "there is room again"


async def test_a_broker_that_is_silent_does_not_hold_up_a_stop() -> None:
    broker = Broker()
    async with publishing_hints(cast("EventLog", broker)) as hints:
        hints.send([hint()])
        await hints.close(within=0)
    assert broker.confirmed == []
