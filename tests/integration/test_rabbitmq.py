"""RabbitMQ itself, with classic and with quorum queues, does what its twin in memory does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from compose.embedded.rabbitmq import rabbitmq
from compose.embedded.stack import Stack
from streams.amqp.names import QueueType
from streams.amqp.publisher import connect
from streams.amqp.topology import Topology
from tests.contract.rabbitmq import Client, Place, RabbitMqContract, RabbitMqRestartContract
from tests.integration.gate import gate


@dataclass(kw_only=True)
class RealPlace(Place):
    """Names on a server; each client has a way to it that can be cut."""

    url: str
    restarted: Callable[[], Awaitable[None]] | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        # aio-pika waits that long between its attempts to connect.
        async with (
            gate(self.url) as way,
            connect(f"{way.url}?reconnect_interval=0.1", start_timeout=30) as connection,
        ):
            yield Client(connection=connection, cut=way.cut)

    async def restart(self) -> None:
        assert self.restarted is not None
        await self.restarted()


@asynccontextmanager
async def cleaned(place: RealPlace) -> AsyncIterator[RealPlace]:
    """Delete what was declared."""
    yield place
    async with await aio_pika.connect(place.url) as connection, connection.channel() as channel:
        await channel.queue_delete(place.queue)
        await channel.queue_delete(place.dead_letters)
        await channel.exchange_delete(place.exchange)


def made(url: str, kind: QueueType) -> RealPlace:
    return RealPlace(
        name=f"t{uuid4().hex[:8]}",
        topology=Topology(kind=kind),
        in_order=kind == "classic",
        url=url,
    )


class TestRabbitMq(RabbitMqContract):
    """All that is asked of RabbitMQ."""

    @pytest.fixture(params=["classic", "quorum"])
    async def place(self, request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[RealPlace]:
        async with cleaned(made(stack.environment["DELIVERY_AMQP_URL"], request.param)) as place:
            yield place


class TestRabbitMqRestarted(RabbitMqRestartContract):
    """What is asked of one that is restarted."""

    @pytest.fixture(params=["classic", "quorum"])
    async def place(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> AsyncIterator[RealPlace]:
        async with AsyncExitStack() as running:
            server = await running.enter_async_context(rabbitmq(tmp_path))
            place = made(server.url, request.param)
            place.restarted = server.restart
            yield place
