"""RabbitMQ in memory, with what aio-pika shows of it: channels, consumers, confirms.

It keeps `tests/contract/rabbitmq.py`, which the real one keeps, too. Of what the real one leaves
open it does any, as it is drawn:

- a connection that breaks takes along what is on its way: of what was sent to the server the first
  may have arrived, of what it sent nothing has. What was not acknowledged comes again
  (https://www.rabbitmq.com/docs/confirms#automatic-requeueing);
- a restart may forget that a message had been delivered: `redelivered` is a hint
  (https://www.rabbitmq.com/amqp-0-9-1-reference#basic.deliver.redelivered), and is false then;
- a message that comes again is not always where it was
  (https://www.rabbitmq.com/docs/queues#message-ordering): always in a classic queue with one
  reader, behind others in a quorum queue (https://github.com/rabbitmq/rabbitmq-server/issues/10499).

In one thing it is kinder: a declaration that breaks off is made again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
from bisect import insort
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

from aio_pika import DeliveryMode, ExchangeType, IncomingMessage, Message
from aio_pika.exceptions import ChannelInvalidStateError, PublishError
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import (
    AMQPChannelError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from streams.amqp import names
from tests.simulation.processes import Process
from tests.simulation.weather import About, Weather, about_now, by_no_process

T = TypeVar("T")
Handler = Callable[[Any], Awaitable[Any]]
Take = Callable[["Stored"], bool]  # True once it is in a queue

PARTY = "RabbitMQ"
HELD = "messages of RabbitMQ, unsettled"
_RECONNECT = 5.0  # seconds until a client has connected again, at most
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_DEFAULT = ""  # the exchange that leads to each queue by its name


async def _ready() -> None:
    """No alarm blocks a connection."""


_CAPABILITIES: Any = SimpleNamespace(basic_nack=True, ready=_ready)  # of a connection


@dataclass(eq=False, kw_only=True, slots=True)
class Stored:
    """A message in a queue: encoded, as it came over the wire."""

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    message_id: str | None  # of its properties: what most look at
    persistent: bool
    asked: int  # priority
    rank: tuple[int, int] = (0, 0)  # in its queue: by priority, then as it came
    redelivered: bool = False
    _seen: IncomingMessage | None = field(default=None, init=False)  # as it was decoded last

    @classmethod
    def of(cls, exchange: str, routing_key: str, message: Message) -> Stored:
        """Encode a message."""
        return cls(
            exchange=exchange,
            routing_key=routing_key,
            header=ContentHeader(
                body_size=len(message.body), properties=message.properties
            ).marshal(),
            body=message.body,
            message_id=message.message_id,
            persistent=message.delivery_mode is DeliveryMode.PERSISTENT,
            asked=message.priority or 0,
        )

    def decoded(self) -> ContentHeader:
        """Return its properties."""
        header = ContentHeader()
        header.unmarshal(self.header)
        return header

    def delivered(self, channel: Any, *, consumer: str = "", tag: int = 0) -> IncomingMessage:
        """Return it as aio-pika hands it over."""
        delivery = Basic.Deliver(
            consumer_tag=consumer,
            delivery_tag=tag,
            redelivered=self.redelivered,
            exchange=self.exchange,
            routing_key=self.routing_key,
        )
        self._seen = IncomingMessage(
            DeliveredMessage(
                delivery=delivery, header=self.decoded(), body=self.body, channel=channel
            )
        )
        return self._seen

    @property
    def message(self) -> IncomingMessage:
        """What a neighbour hears, or who looks on sees: it is theirs to read alone."""
        return self._seen or self.delivered(None)


@dataclass(eq=False)
class Queue:
    """What waits, and who reads it."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    waiting: list[Stored] = field(default_factory=list)  # by rank
    readers: deque[Consumer] = field(default_factory=deque)  # the one whose turn it is first
    _places: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def is_of_dead_letters(self) -> bool:
        """Whether only an operator reads it."""
        return self.name.endswith(names.DEAD_LETTER_SUFFIX)

    def take(self, stored: Stored) -> bool:
        """Take a message in."""
        priority = min(stored.asked, self.arguments.get("x-max-priority", 0))
        self._insert(replace(stored, rank=(-priority, next(self._places))))
        return True

    def take_back(self, stored: Stored, *, behind: bool = False) -> None:
        """Take one back that was handed over: to where it was, or behind all others."""
        if behind:
            stored.rank = (stored.rank[0], next(self._places))
        self._insert(stored)

    def keeps(self, stored: Stored) -> bool:
        """Whether a message outlives the server."""
        return stored.persistent or self.arguments.get("x-queue-type") == "quorum"

    def _insert(self, stored: Stored) -> None:
        insort(self.waiting, stored, key=operator.attrgetter("rank"))
        self.offer()

    def offer(self) -> None:
        """Give what waits to those who read, a message each by turns."""
        while self.waiting:
            for _ in range(len(self.readers)):
                reader = self.readers[0]
                self.readers.rotate(-1)
                if reader.has_room():
                    reader.take(self.waiting.pop(0))
                    break
            else:
                return


@dataclass(eq=False)
class _Exchange:
    kind: str
    # By what is bound, and its routing key.
    bindings: dict[tuple[str, str, str], Take] = field(default_factory=dict)


def _ignore(*_what: object) -> None:
    """Do nothing."""


def _never() -> bool:
    return False


class Broker:
    """The server."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.queues: dict[str, Queue] = {}
        self.connections: list[Connection] = []
        # Who look on: at what is published, before it is routed, at what is acknowledged, and at
        # what comes again without its flag.
        self.on_publish: Callable[[Stored], object] = _ignore
        self.acknowledged: Callable[[Stored], object] = _ignore
        self.forgotten: Callable[[Stored, Process], object] = _ignore  # that a process had it
        self._exchanges: dict[str, _Exchange] = {}

    def dead_letters(self) -> Iterator[Stored]:
        """Iterate over what lies in queues of dead letters."""
        for queue in self.queues.values():
            if queue.is_of_dead_letters:
                yield from queue.waiting

    # What neighbours ask, who lose nothing.

    def hear(self, exchange: str, act: Callable[[Stored], object]) -> None:
        """Let a neighbour hear of each message."""

        def take(stored: Stored) -> bool:
            act(stored)
            return True

        bindings = self._fanout(exchange).bindings
        bindings["neighbour", str(len(bindings)), ""] = take

    def publish(self, exchange: str, message: Message, routing_key: str = "") -> None:
        """Publish as a neighbour, who has declared the exchange."""
        self._fanout(exchange)
        self.route(Stored.of(exchange, routing_key, message))

    def _fanout(self, exchange: str) -> _Exchange:
        return self._exchanges.setdefault(exchange, _Exchange(ExchangeType.FANOUT))

    # What channels ask. What it refuses closes them.

    def declare_exchange(self, name: str, kind: str, *, passive: bool) -> None:
        """Make an exchange, unless it is there."""
        if passive:
            self._exchange(name)
        elif self._exchanges.setdefault(name, _Exchange(kind)).kind != kind:
            raise ChannelPreconditionFailed(
                f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{name}'"
            )

    def declare_queue(self, name: str, arguments: dict[str, Any], *, passive: bool) -> Queue:
        """Make a queue, unless it is there."""
        if passive:
            return self._queue(name)
        queue = self.queues.setdefault(name, Queue(name, arguments))
        if queue.arguments != arguments:
            raise ChannelPreconditionFailed(
                f"PRECONDITION_FAILED - inequivalent arg for queue '{name}'"
            )
        return queue

    def delete_queue(self, name: str) -> None:
        """Delete a queue with what is in it, and its bindings."""
        if self.queues.pop(name, None) is not None:
            for exchange in self._exchanges.values():
                for bound in [bound for bound in exchange.bindings if bound[:2] == ("queue", name)]:
                    del exchange.bindings[bound]

    def bind_queue(self, name: str, exchange: str, routing_key: str) -> None:
        """Let a queue have what comes to an exchange."""
        self._exchange(exchange).bindings["queue", name, routing_key] = self._queue(name).take

    def bind_exchange(self, name: str, exchange: str, routing_key: str) -> None:
        """Let an exchange have what comes to another."""
        self._exchange(name)

        def take(stored: Stored) -> bool:
            return self._to(name, stored)

        self._exchange(exchange).bindings["exchange", name, routing_key] = take

    def route(self, stored: Stored) -> bool:
        """Put a message into each queue that it leads to; False when there is none."""
        self.on_publish(stored)
        return self._to(stored.exchange, stored)

    def _to(self, name: str, stored: Stored) -> bool:
        if name == _DEFAULT:
            queue = self.queues.get(stored.routing_key)
            return queue is not None and queue.take(stored)
        exchange = self._exchange(name)
        fanout = exchange.kind == ExchangeType.FANOUT
        taken = [  # by all of them
            take(stored)
            for (_, _, key), take in list(exchange.bindings.items())
            if fanout or key == stored.routing_key
        ]
        return any(taken)

    def bury(self, queue: Queue, stored: Stored) -> None:
        """Move a message to where its queue leads to, with what RabbitMQ says of it."""
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return
        now = _EPOCH + timedelta(seconds=int(asyncio.get_running_loop().time()))
        header = stored.decoded()
        header.properties.headers = {
            "x-first-death-exchange": stored.exchange,
            "x-first-death-queue": queue.name,
            "x-first-death-reason": "rejected",
            **(header.properties.headers or {}),
            "x-death": [
                {
                    "count": 1,
                    "exchange": stored.exchange,
                    "queue": queue.name,
                    "reason": "rejected",
                    "routing-keys": [stored.routing_key],
                    "time": now,
                }
            ],
        }
        dead = replace(
            stored,
            exchange=exchange,
            routing_key=queue.arguments.get("x-dead-letter-routing-key", stored.routing_key),
            header=header.marshal(),
            redelivered=False,
        )
        self._to(dead.exchange, dead)

    def _exchange(self, name: str) -> _Exchange:
        if name not in self._exchanges:
            raise ChannelNotFoundEntity(f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        return self._exchanges[name]

    def _queue(self, name: str) -> Queue:
        if name not in self.queues:
            raise ChannelNotFoundEntity(f"NOT_FOUND - no queue '{name}' in vhost '/'")
        return self.queues[name]

    # What befalls it.

    def restart(self, *, forgets: bool) -> None:
        """Break all connections.

        With `forgets`, also the server has ended: what is not persistent is gone, and it may have
        forgotten that messages were delivered before.
        """
        self.weather.note(f"{PARTY} restarts" + (", and forgets deliveries" if forgets else ""))
        for queue in self.queues.values():
            queue.readers.clear()  # what comes back meanwhile waits for those who come later
        for connection in list(self.connections):
            connection.cut(forgets=forgets)
        if forgets:
            for queue in self.queues.values():
                queue.waiting = [stored for stored in queue.waiting if queue.keeps(stored)]

    def break_one(self) -> None:
        """Break the connection of one process."""
        if self.connections:
            self.weather.draws.of("broken").choice(self.connections).cut()

    def break_of(self, process: Process) -> None:
        """Break the connection of this process."""
        for connection in self.connections:
            if connection.process is process:
                connection.cut()


class _Way:
    """One direction of a connection: what is sent arrives in its order, or is lost with it."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._sent: deque[Callable[[], object]] = deque()
        self._last = 0.0  # when the last of them arrives
        self._broken = 0  # times

    def send(self, act: Callable[[], object]) -> None:
        """Have something done on the other side."""
        now = asyncio.get_running_loop().time()
        self._last = max(self._last, now + self._weather.later(PARTY))
        self._sent.append(act)
        by_no_process(self._last - now, partial(self._arrive, self._broken))

    def _arrive(self, broken: int) -> None:
        if broken == self._broken:
            self._sent.popleft()()

    def cut(self) -> list[Callable[[], object]]:
        """Lose what is on its way; return it."""
        self._broken += 1
        self._last = 0.0
        lost, self._sent = list(self._sent), deque()
        return lost


class Connection:
    """The connection of one process, which comes back by itself: aio-pika's robust one."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self.connected = asyncio.Event()
        self.connected.set()
        self.to_server = _Way(broker.weather)
        self.to_client = _Way(broker.weather)
        self._channels: list[Channel] = []
        self._ends = False  # it was closed on purpose
        broker.connections.append(self)
        process.while_alive(self, self._end)

    async def channel(self, *, on_return_raises: bool = False) -> Channel:
        """Open a channel."""
        channel = Channel(self, on_return_raises=on_return_raises)
        self._channels.append(channel)
        return channel

    async def close(self) -> None:
        """Close it, for good, once all is heard that was sent."""
        self._ends = True
        for channel in self._channels:
            await channel.close()
        self.process.forget(self)
        self._end()

    def cut(self, *, forgets: bool = False) -> None:
        """Lose the connection: it is made again after a while, with its consumers."""
        if not self.connected.is_set():
            return
        self._break(forgets=forgets)
        by_no_process(self.broker.weather.later(PARTY, longest=_RECONNECT), self._restore)

    def _break(self, *, forgets: bool) -> None:
        self.connected.clear()
        self.to_client.cut()
        under_way = self.to_server.cut()
        arrived = self.broker.weather.draws.of("broken").randint(0, len(under_way))
        for act in under_way[:arrived]:
            act()
        self.to_client.cut()  # what was answered to them
        for channel in self._channels:
            channel.lose(ConnectionError("the connection broke"), forgets=forgets)

    def _restore(self) -> None:
        if not self.process.alive or self._ends:
            return
        if PARTY in self.broker.weather.down:
            by_no_process(1.0, self._restore)
            return
        self.connected.set()
        for channel in self._channels:
            channel.reopen()

    def _end(self) -> None:
        if self in self.broker.connections:
            self.broker.connections.remove(self)
        if self.connected.is_set():
            self._break(forgets=False)


class Callbacks(dict[Callable[..., object], None]):
    """See aio-pika's `CallbackCollection`: a set, but of an order that is the same each time."""

    def add(self, callback: Callable[..., object]) -> None:
        """Have something called, too."""
        self[callback] = None


class Channel:
    """A channel as a client has it: open again, with its consumers, whenever that is possible."""

    def __init__(self, connection: Connection, *, on_return_raises: bool) -> None:
        self.connection = connection
        self.on_return_raises = on_return_raises
        self.close_callbacks = Callbacks()
        self.prefetch = 0
        self.ends = False  # it was closed on purpose
        self.consumers: dict[str, tuple[str, Handler]] = {}  # queue and handler, by tag
        self.opened = OpenChannel(self)
        self._tags = itertools.count(1)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent on it now."""
        return self.opened.is_closed

    async def set_qos(self, *, prefetch_count: int) -> None:
        """Limit what is handed over to each consumer that begins after that."""
        self.prefetch = prefetch_count
        await self.ask(_ignore)

    async def declare_exchange(
        self,
        name: str,
        type: str = ExchangeType.DIRECT,  # noqa: A002 - aio-pika's word
        *,
        durable: bool = False,
        passive: bool = False,
    ) -> Exchange:
        """Declare an exchange. Only durable ones are known here."""
        assert durable or passive
        await self.ask(lambda: self.connection.broker.declare_exchange(name, type, passive=passive))
        return Exchange(name, self)

    async def get_exchange(self, name: str, *, ensure: bool = True) -> Exchange:
        """Return an exchange."""
        if ensure:
            return await self.declare_exchange(name, passive=True)
        return Exchange(name, self)

    async def declare_queue(
        self,
        name: str,
        *,
        durable: bool = False,
        passive: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> DeclaredQueue:
        """Declare a queue. Only durable ones that are not exclusive are known here."""
        assert durable or passive
        broker = self.connection.broker

        def declare() -> DeclaredQueue:
            queue = broker.declare_queue(name, arguments or {}, passive=passive)
            counts = SimpleNamespace(
                message_count=len(queue.waiting), consumer_count=len(queue.readers)
            )
            return DeclaredQueue(name, self, counts)

        return await self.ask(declare)

    async def get_queue(self, name: str, *, ensure: bool = True) -> DeclaredQueue:
        """Return a queue."""
        if ensure:
            return await self.declare_queue(name, passive=True)
        return DeclaredQueue(name, self, None)

    async def queue_delete(self, name: str) -> None:
        """Delete a queue."""
        await self.ask(lambda: self.connection.broker.delete_queue(name))

    async def get_underlay_channel(self) -> OpenChannel:
        """Return what knows the consumers, once there is a connection."""
        await self.connection.connected.wait()
        return self.opened

    async def ask(self, act: Callable[[], T]) -> T:
        """Have the server do something."""
        while True:
            opened = await self.get_underlay_channel()
            try:
                return await opened.ask(act)
            except ConnectionError:
                continue

    async def consume(self, queue: str, handler: Handler, *, robust: bool) -> str:
        """Let a handler have the messages of a queue; if `robust`, also after a reconnection."""
        tag = f"ctag{next(self._tags)}"
        await self.ask(lambda: self.opened.consume(tag, queue, handler))
        if robust:
            self.consumers[tag] = queue, handler
        return tag

    async def cancel(self, tag: str) -> None:
        """Hand nothing more over to a consumer; what it has stays its."""
        self.consumers.pop(tag, None)
        await self.opened.ask(lambda: self.opened.cancel(tag))

    async def close(self) -> None:
        """Close it: what was handed over and is not settled comes again."""
        self.ends = True
        self.consumers = {}
        closed = ChannelInvalidStateError("the channel was closed")
        with contextlib.suppress(ChannelInvalidStateError, ConnectionError):
            await self.opened.ask(partial(self.lose, closed))

    def lose(self, error: Exception, *, forgets: bool = False) -> None:
        """Be gone, and tell so at the client."""
        if self.opened.is_closed:
            return
        self.opened.close(error, forgets=forgets)
        if self.connection.process.alive:
            for act in list(self.close_callbacks):
                self.connection.process.start(_call(act, self, error))

    def refused(self, error: Exception) -> None:
        """Be closed by the server: aio-pika opens it again, and so do we."""
        self.lose(error)
        self.reopen()

    async def restore(self) -> None:
        """Open it again, if it is not open."""
        self.reopen()

    def reopen(self) -> None:
        """Be there again, with the consumers, unless it was closed on purpose."""
        if self.ends or not self.opened.is_closed or not self.connection.connected.is_set():
            return
        self.opened = OpenChannel(self)
        for tag, (queue, handler) in self.consumers.items():
            self.opened.consume(tag, queue, handler)


async def _call(act: Callable[..., object], *arguments: Any) -> None:
    act(*arguments)


class OpenChannel:
    """One life of a channel, on the server and at the client: aiormq's."""

    connection = _CAPABILITIES

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.is_closed = False
        self.consumers: dict[str, Consumer] = {}
        self.unsettled: dict[int, tuple[Stored, Consumer]] = {}  # by delivery tag
        self._delivery_tags = itertools.count(1)
        # In an order that is the same in each process, which that of a set is not.
        self._answers: dict[asyncio.Future[Any], None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    # What the client does.

    async def ask(self, act: Callable[[], T], *, unheard: Callable[[], bool] = _never) -> T:
        """Have the server do something; if it is `unheard`, the connection breaks right after."""
        if self.is_closed:
            raise ChannelInvalidStateError("the channel is closed")
        connection = self._channel.connection
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._answers[answer] = None

        def arrives() -> None:
            try:
                done = act()
            except AMQPChannelError as error:
                connection.to_client.send(partial(self._refuse, error))
                return
            if unheard():
                connection.broker.weather.note(f"{PARTY} was not heard to confirm")
                connection.cut()
            else:
                connection.to_client.send(partial(_tell, answer, done))

        connection.to_server.send(arrives)
        try:
            return await answer
        finally:
            self._answers.pop(answer, None)

    def _refuse(self, error: AMQPChannelError) -> None:
        if not self.is_closed:
            self._channel.refused(error)

    async def publish(self, stored: Stored, *, mandatory: bool, about: About | None) -> None:
        """Publish; return once it is confirmed."""
        connection = self._channel.connection
        broker, weather, process = connection.broker, connection.broker.weather, connection.process
        what = f"publish to {stored.exchange.rpartition('.')[2]}"
        if weather.on_step is not None:
            about = about or about_now()
            if weather.step(f"before {what}", process, about):
                connection.cut()
            await asyncio.sleep(0)  # a process that was stopped there goes no further
        if weather.strikes(f"{PARTY} loses requests"):
            weather.note(f"{PARTY} never hears of a message to {stored.exchange}")
            connection.cut()
        lost = weather.strikes(f"{PARTY} loses answers")

        def unheard() -> bool:
            return weather.step(f"after {what}", process, about) or lost

        routed = await self.ask(lambda: broker.route(stored), unheard=unheard)
        if mandatory and not routed and self._channel.on_return_raises:
            returned = DeliveredMessage(
                delivery=Basic.Return(
                    reply_code=312,
                    reply_text="NO_ROUTE",
                    exchange=stored.exchange,
                    routing_key=stored.routing_key,
                ),
                header=stored.decoded(),
                body=stored.body,
                channel=self,  # type: ignore[arg-type]
            )
            raise PublishError(returned, returned.delivery)

    async def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge. That it was heard is not told."""
        assert not multiple
        connection = self._channel.connection
        weather = connection.broker.weather
        if delivery_tag in self.unsettled:
            stored, _ = self.unsettled[delivery_tag]
            connection.broker.acknowledged(stored)
        if weather.step("before acknowledge", connection.process, None):
            connection.cut()  # so the message comes again
        self._send_settlement(delivery_tag, _ignore)
        weather.step("after acknowledge", connection.process, None)

    async def basic_nack(
        self, delivery_tag: int, multiple: bool = False, requeue: bool = True
    ) -> None:
        """Give a message back, or have it buried."""
        assert not multiple
        await self.basic_reject(delivery_tag, requeue=requeue)

    async def basic_reject(self, delivery_tag: int, *, requeue: bool) -> None:
        """Give a message back, or have it buried."""
        if requeue:
            self._send_settlement(delivery_tag, self._take_back)
        else:
            self._send_settlement(
                delivery_tag,
                lambda stored, queue: self._channel.connection.broker.bury(queue, stored),
            )

    def _send_settlement(self, tag: int, act: Callable[[Stored, Queue], object]) -> None:
        if self.is_closed:
            raise ChannelInvalidStateError("the channel was closed")
        self._channel.connection.to_server.send(partial(self._settle, tag, act))

    # What the server does.

    def consume(self, tag: str, name: str, handler: Handler) -> None:
        """Read a queue."""
        queue = self._channel.connection.broker.declare_queue(name, {}, passive=True)
        consumer = Consumer(self, tag, queue, handler, self._channel.prefetch)
        self.consumers[tag] = consumer
        queue.readers.append(consumer)
        queue.offer()

    def cancel(self, tag: str) -> None:
        """Read no more."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None and consumer in consumer.queue.readers:  # none, once it restarts
            consumer.queue.readers.remove(consumer)

    def deliver(self, stored: Stored, consumer: Consumer) -> None:
        """Hand a message over."""
        tag = next(self._delivery_tags)
        self.unsettled[tag] = stored, consumer
        self._channel.connection.process.take(HELD)
        message = stored.delivered(self, consumer=consumer.tag, tag=tag)
        self._channel.connection.to_client.send(partial(self._hand_over, consumer, message))

    def _hand_over(self, consumer: Consumer, message: IncomingMessage) -> None:
        process = self._channel.connection.process
        if not self.is_closed and process.alive:
            task = process.start(_handle(consumer.handler, message))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _settle(self, tag: int, act: Callable[[Stored, Queue], object]) -> None:
        if tag in self.unsettled:
            stored, consumer = self.unsettled.pop(tag)
            self._channel.connection.process.give(HELD)
            consumer.held -= 1
            act(stored, consumer.queue)
            consumer.queue.offer()

    def _take_back(self, stored: Stored, queue: Queue, *, redelivered: bool = True) -> None:
        stored.redelivered |= redelivered
        weather = self._channel.connection.broker.weather
        queue.take_back(stored, behind=weather.strikes(f"{PARTY} loses its order"))

    def close(self, error: Exception, *, forgets: bool) -> None:
        """End: what is not settled comes again, what runs is ended, who waits is told."""
        if self.is_closed:
            return
        self.is_closed = True
        weather = self._channel.connection.broker.weather
        for consumer in self.consumers.values():
            if consumer in consumer.queue.readers:
                consumer.queue.readers.remove(consumer)
        unsettled, self.unsettled = self.unsettled, {}
        process = self._channel.connection.process
        process.give(HELD, len(unsettled))
        for stored, consumer in unsettled.values():
            if forgets and not consumer.queue.keeps(stored):
                continue
            forgotten = forgets and weather.strikes(f"{PARTY} forgets deliveries")
            if forgotten:
                self._channel.connection.broker.forgotten(stored, process)
            self._take_back(stored, consumer.queue, redelivered=not forgotten)
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)
        for task in list(self._tasks):  # aiormq ends what it called
            task.cancel()


def _tell(answer: asyncio.Future[T], done: T) -> None:
    if not answer.done():
        answer.set_result(done)


async def _handle(handler: Handler, message: IncomingMessage) -> None:
    await handler(message)


@dataclass(eq=False)
class Consumer:
    """A reader of a queue, on the server."""

    channel: OpenChannel
    tag: str
    queue: Queue
    handler: Handler
    prefetch: int  # 0: without a limit
    held: int = 0

    def has_room(self) -> bool:
        """Whether it may have another message."""
        return not self.prefetch or self.held < self.prefetch

    def take(self, stored: Stored) -> None:
        """Have a message."""
        self.held += 1
        self.channel.deliver(stored, self)


@dataclass(frozen=True)
class DeclaredQueue:
    """A queue, as a channel sees it."""

    name: str
    channel: Channel
    declaration_result: Any  # with message_count and consumer_count; None: not declared here

    async def bind(self, exchange: Exchange | str, routing_key: str = "") -> None:
        """Bind it to an exchange."""
        broker = self.channel.connection.broker
        await self.channel.ask(lambda: broker.bind_queue(self.name, str(exchange), routing_key))

    async def consume(self, handler: Handler) -> str:
        """Begin to read."""
        robust = self.declaration_result is not None
        return await self.channel.consume(self.name, handler, robust=robust)

    async def cancel(self, tag: str) -> None:
        """Stop reading."""
        await self.channel.cancel(tag)


@dataclass(frozen=True)
class Exchange:
    """An exchange, as a channel sees it."""

    name: str
    channel: Channel

    def __str__(self) -> str:
        return self.name

    async def bind(self, exchange: Exchange | str, routing_key: str = "") -> None:
        """Bind it to another exchange."""
        broker = self.channel.connection.broker
        await self.channel.ask(lambda: broker.bind_exchange(self.name, str(exchange), routing_key))

    async def publish(
        self,
        message: Message,
        routing_key: str,
        *,
        mandatory: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - aio-pika's
    ) -> None:
        """Publish; return once it is confirmed."""
        channel = self.channel
        if channel.is_closed:
            raise ChannelInvalidStateError("the channel is closed")
        if not message.message_id:  # aiormq gives it one
            bits = channel.connection.broker.weather.draws.of("message ids").getrandbits(128)
            message.message_id = f"{bits:032x}"
        stored = Stored.of(self.name, routing_key, message)
        about = None
        if message.correlation_id is not None and names.HEADER_TENANT in message.headers:
            about = str(message.headers[names.HEADER_TENANT]), message.correlation_id
        async with asyncio.timeout(timeout):
            await channel.opened.publish(stored, mandatory=mandatory, about=about)
