"""Writing to Kafka: what is not waited for is looked at nevertheless."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from aiokafka.errors import NotEnoughReplicasError

from streams.kafka.log import EventLog
from streams.kafka.topics import Topics
from tests.builders import make_progress


class Producer:
    """Takes what is sent, and tells what became of it when it is told."""

    def __init__(self) -> None:
        self.confirmed: list[asyncio.Future[None]] = []

    async def send(self, _topic: str, **_event: Any) -> asyncio.Future[None]:
        self.confirmed.append(asyncio.get_running_loop().create_future())
        return self.confirmed[-1]


async def test_progress_that_kafka_refuses_raises_no_error(unheard: list[dict[str, Any]]) -> None:
    producer = Producer()
    events = EventLog(producer, Topics())
    for _ in range(3):
        await events.report(make_progress())
    refused, stopped, taken = producer.confirmed
    refused.set_exception(NotEnoughReplicasError())
    stopped.cancel()  # the producer was closed
    taken.set_result(None)
    await asyncio.sleep(0)
    producer.confirmed.clear()
    del refused, stopped, taken
    gc.collect()
    assert unheard == []
