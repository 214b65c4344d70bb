"""RabbitMQ in memory does what the real one does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from streams.amqp.names import QueueType
from streams.amqp.topology import Topology
from tests.contract.rabbitmq import Client, Place, RabbitMqContract, RabbitMqRestartContract
from tests.simulation.draws import Draws
from tests.simulation.on_loop import simulated
from tests.simulation.processes import Process
from tests.simulation.rabbitmq import Broker, Connection
from tests.simulation.weather import Weather


@dataclass(kw_only=True)
class MemoryPlace(Place):
    """A broker of the test's own."""

    broker: Broker

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        connection = Connection(self.broker, Process("a client"))
        yield Client(connection=connection, cut=connection.cut)
        await connection.close()

    async def restart(self) -> None:
        self.broker.restart(forgets=True)


@pytest.fixture(params=["classic", "quorum"])
def place(request: pytest.FixtureRequest) -> Callable[[int], Place]:
    """Of a queue that keeps its order, or one that does not; what is left open is drawn."""
    kind: QueueType = request.param
    faults = {"RabbitMQ forgets deliveries": 0.5}
    if kind == "quorum":
        faults["RabbitMQ loses its order"] = 0.5

    def make(seed: int) -> Place:
        weather = Weather(Draws(seed), faults, lambda *_: None)
        return MemoryPlace(
            name="t",
            topology=Topology(kind=kind),
            in_order=kind == "classic",
            broker=Broker(weather),
        )

    return make


@simulated("place")
class TestMemory(RabbitMqContract):
    """All that is asked of RabbitMQ."""


@simulated("place")
class TestMemoryRestarted(RabbitMqRestartContract):
    """What is asked of one that is restarted."""
