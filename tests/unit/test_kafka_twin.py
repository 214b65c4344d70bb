"""Kafka in memory does what its brokers do, with Faust before them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from streams.channels import KAFKA
from streams.kafka.agents import agent
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics
from tests.contract.kafka import KafkaContract, Place, Positions, Reader, Worker
from tests.simulation.draws import Draws
from tests.simulation.kafka import Consumer, Log, Producer
from tests.simulation.on_loop import simulated
from tests.simulation.processes import Process
from tests.simulation.weather import Weather, by_no_process

_TEND = 2.0  # seconds until silent members are looked for


@dataclass(kw_only=True)
class MemoryPlace(Place):
    """Brokers of the test's own."""

    log: Log
    _numbers: Any = field(default_factory=itertools.count)

    @asynccontextmanager
    async def worker(self, reader: Reader | None = None) -> AsyncIterator[Worker]:
        process = Process(f"w{next(self._numbers)}")
        reads = reader or Reader()
        no_arrivals: Any = None

        def agents(crash: Any) -> dict[str, Any]:
            return {
                self.events.topics.of(channel): agent(
                    reads,
                    events=self.events,
                    arrivals=no_arrivals,
                    register=lambda _dispatcher: None,
                    crash=crash,
                    concurrency=channel.agent.concurrency,
                    batch=channel.agent.batch,
                )
                for channel in KAFKA
                if channel.agent is not None
            }

        async def lost(_missing: object) -> None:
            """It is not looked at."""

        self._tend()
        consumer = Consumer(self.log, process, agents, lost=lost, taken=_ignore)
        await process.start(consumer.start())
        try:
            yield Worker(freeze=process.freeze, thaw=process.thaw, reader=reads)
        finally:
            process.thaw()
            await process.start(consumer.stop())

    def _tend(self) -> None:
        self.log.group.expel()
        by_no_process(_TEND, self._tend)

    async def committed(self) -> Positions:
        return {where: self.log.group.committed.get(where, 0) for where in self.log.records}

    async def commit(self, offset: int) -> None:
        self.log.group.committed = dict.fromkeys(self.log.records, offset)

    async def delete_topics(self) -> None:
        self.log.lose_topics()


@pytest.fixture
def place() -> Callable[[int], Place]:
    """Brokers without a fault: what they may do in any way is drawn."""

    def make(seed: int) -> Place:
        log = Log(Weather(Draws(seed), {}, lambda *_: None))
        producer: Any = Producer(log)
        return MemoryPlace(events=EventLog(producer, Topics()), log=log)

    return make


@simulated("place")
class TestMemory(KafkaContract):
    """All that is asked of Kafka."""


def _ignore() -> None:
    """Look at nothing."""
