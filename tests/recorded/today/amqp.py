"""RabbitMQ: what is declared there, sent to it, read from it, and put aside."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import aio_pika

from app.delivery.ingress import Arrival
from app.delivery.outgoing import Lane
from app.delivery.states import State
from app.views.progress import Underway, progress_told
from streams.amqp.progress import ProgressPublisher
from streams.amqp.publisher import AmqpPublisher
from streams.amqp.topology import Topology
from streams.bridge import Bridge
from streams.channels import of_arrival
from streams.kafka.topics import Topics
from tests.recorded.today.examples import APP, ARRIVING, AT, DELIVERY, OWED, PROGRESS, TENANT


@dataclass
class _Place:
    """An exchange or queue; what is bound to it or published on it is written down."""

    name: str
    broker: _Channel

    async def bind(self, source: Any, routing_key: str = "") -> None:
        source = source if isinstance(source, str) else source.name
        self.broker.bindings.append(f"{source} --{routing_key}--> {self.name}")

    async def consume(self, handle: Callable[[Any], Awaitable[None]]) -> str:
        self.broker.consumers[self.name] = handle
        return self.name

    async def publish(
        self, message: aio_pika.Message, routing_key: str, *, mandatory: bool, **_: Any
    ) -> None:
        self.broker.published.append(
            {
                "exchange": self.name,
                "routing_key": routing_key,
                "mandatory": mandatory,
                "body": json.loads(message.body),
                "headers": dict(message.headers),
                "properties": {
                    "content_type": message.content_type,
                    "content_encoding": message.content_encoding,
                    "delivery_mode": int(message.delivery_mode),
                    "priority": message.priority,
                    "correlation_id": message.correlation_id,
                    "reply_to": message.reply_to,
                    "expiration": message.expiration,
                    "message_id": message.message_id,
                    "timestamp": None if message.timestamp is None else "a time",
                    "type": message.type,
                    "user_id": message.user_id,
                    "app_id": message.app_id,
                },
            }
        )


@dataclass
class _Channel:
    """A channel that writes down what it is told, defaults of the library included."""

    exchanges: dict[str, Any] = field(default_factory=dict)
    queues: dict[str, Any] = field(default_factory=dict)
    bindings: list[str] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)
    is_closed: bool = False
    consumers: dict[str, Callable[[Any], Awaitable[None]]] = field(default_factory=dict)
    close_callbacks: set[Any] = field(default_factory=set)

    async def set_qos(self, *, prefetch_count: int) -> None:
        """Nothing is sent without being asked for here."""

    async def declare_exchange(self, *args: Any, **kwargs: Any) -> _Place:
        return self._declared(self.exchanges, aio_pika.Channel.declare_exchange, args, kwargs)

    async def declare_queue(self, *args: Any, **kwargs: Any) -> _Place:
        return self._declared(self.queues, aio_pika.Channel.declare_queue, args, kwargs)

    async def get_underlay_channel(self) -> Any:
        """It is open, and no alarm blocks it."""
        return Mock(connection=Mock(ready=AsyncMock()))

    async def get_exchange(self, name: str, *, ensure: bool) -> _Place:
        if ensure:
            self.exchanges[name] = "looked for"
        return _Place(name, self)

    def _declared(self, where: dict[str, Any], by: Any, args: Any, kwargs: Any) -> _Place:
        given = inspect.signature(by).bind(self, *args, **kwargs)
        given.apply_defaults()
        said = {k: v for k, v in given.arguments.items() if k not in ("self", "name", "timeout")}
        name = given.arguments["name"]
        # Declared again with other arguments, it would be refused.
        assert where.setdefault(name, said) == said
        return _Place(name, self)


def _publisher(channel: _Channel) -> AmqpPublisher:
    line = cast("aio_pika.abc.AbstractChannel", channel)
    return AmqpPublisher(line, line, topology=Topology())


async def declared() -> Any:
    """Exchanges, queues, arguments, bindings: of classic queues, of quorum queues, of another."""
    made = {}
    for name, topology in (
        ("classic", Topology(kind="classic")),
        ("quorum", Topology(kind="quorum")),
        ("declared by another", Topology(declares=False)),
    ):
        channel = _Channel()
        await topology.all(cast("aio_pika.abc.AbstractChannel", channel))
        made[name] = {
            "exchanges": channel.exchanges,
            "queues": channel.queues,
            "bindings": sorted(set(channel.bindings)),
        }
        channel = _Channel()
        await topology.optional(cast("aio_pika.abc.AbstractChannel", channel))
        made[name]["when something is sent there"] = channel.exchanges
    return made


async def published() -> Any:
    """Each message that goes out over AMQP: where to, headers, properties, body."""
    channel = _Channel()
    sent = {}
    for name, message in OWED.items():
        if message.lane is not Lane.EVENTS:
            await _publisher(channel).publish(message)
            sent[name] = channel.published.pop()
    sent["progress"] = await _progress()
    return sent


async def _progress() -> dict[str, Any]:
    """What tells how far a delivery is; it is owed to none, and has a new id each time."""
    channel = _Channel()
    connection = Mock(channel=AsyncMock(return_value=channel))
    publisher = ProgressPublisher(connection, topology=Topology())
    at_work = replace(DELIVERY, state=State.TRANSFERRING, attempt=PROGRESS.attempt, announced=2)
    underway = Underway(delivery=at_work, told=True, segments=((1, 1), (2, 1)))
    event = progress_told(PROGRESS, underway, at=AT)
    assert event is not None
    await publisher.ready()
    await publisher.send(at_work, event)
    (sent,) = channel.published
    sent["properties"]["message_id"] = "a new id"
    return sent


@dataclass
class _Incoming:
    """A message as aio-pika hands it over."""

    body: bytes
    headers: dict[str, Any]
    app_id: str | None = APP
    priority: int | None = 7
    message_id: str | None = "m-1"
    timestamp: Any = AT
    redelivered: bool = False
    exchange: str = "an-exchange"
    content_type: str = "application/json"
    content_encoding: str = "UTF-8"
    delivery_mode: int = 2
    correlation_id: str | None = "c-1"
    reply_to: str | None = "r-1"
    type: str | None = "t-1"
    ack: AsyncMock = field(default_factory=AsyncMock)
    reject: AsyncMock = field(default_factory=AsyncMock)


class _Carried:
    """Takes what the bridge saves and appends."""

    def __init__(self) -> None:
        self.noted: list[Arrival] = []

    async def save(self, arrival: Arrival, *, since: float) -> None:
        self.noted.append(arrival)

    async def carry(self, arrival: Arrival) -> None:
        assert self.noted[-1] is arrival


async def _through_the_bridge(queue: str, message: _Incoming) -> tuple[_Channel, list[Arrival]]:
    """Let the bridge handle a message; return what it published and what it carried on."""
    channel, carried = _Channel(), _Carried()
    bridge = Bridge(
        connection=Mock(channel=AsyncMock(return_value=channel)),
        publisher=_publisher(channel),
        events=cast("Any", carried),
        arrivals=cast("Any", carried),
        tenants=Mock(known=lambda tenant: tenant == TENANT),
        topology=Topology(),
        prefetch=10,
        max_bytes=1_000_000,
    )
    await bridge.on_start()
    await channel.consumers[queue](message)
    message.ack.assert_awaited_once()
    return channel, carried.noted


async def received() -> Any:
    """Each message that arrives: the queue it is read from, and the event that it becomes."""
    made = {}
    for name, (kind, body) in ARRIVING.items():
        queue = of_arrival(kind).queue.name
        message = _Incoming(json.dumps(body).encode(), {"regards.tenant": TENANT})
        _, (arrival,) = await _through_the_bridge(queue, message)
        event = json.loads(arrival.value)
        identity = "ingressId" if "ingressId" in event else "eventId"
        assert event[identity] == str(arrival.ingress_id)
        made[name] = {
            "queue": queue,
            "kind": arrival.kind.value,
            "topic": Topics().of(of_arrival(arrival.kind)),
            "key": arrival.key.decode(),
            "value": event | {identity: "a new id", "receivedAt": "a time"},
        }
    return made


async def dead_lettered() -> Any:
    """What can't be answered: the copy in the dead-letter queue."""
    made = {}
    for name, (kind, _) in ARRIVING.items():
        message = _Incoming(b"{}", {"regards.tenant": TENANT, "x-other": "kept"})
        channel, carried = await _through_the_bridge(of_arrival(kind).queue.name, message)
        assert not carried
        made[name] = channel.published.pop()
    return made
