"""RabbitMQ in memory, with what aio-pika shows of it: channels, consumers, confirms.

It misbehaves as the real one does:

- an acknowledgement, or a confirm, is lost with its connection; what was not acknowledged comes
  again (https://www.rabbitmq.com/docs/confirms#automatic-requeueing);
- a restart may forget that it had been delivered: `redelivered` is false (`make chaos` saw that);
- a message that comes again is not always where it was, so two may change places
  (https://www.rabbitmq.com/docs/queues#message-ordering).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aio_pika import Message
from aio_pika.exceptions import ChannelInvalidStateError

from streams.amqp import names
from tests.simulation.processes import Process
from tests.simulation.weather import Link, Weather, by_nobody

PARTY = "RabbitMQ"
HELD = "messages of RabbitMQ, unsettled"
_DEADLINE = 30.0  # seconds for a confirm
_RECONNECT = 5.0  # seconds until a client has connected again, at most


@dataclass(eq=False, slots=True)
class Stored:
    """A message in a queue."""

    message: Message
    exchange: str
    redelivered: bool = False


@dataclass(eq=False)
class Queue:
    """What waits, and who reads it."""

    name: str
    waiting: deque[Stored] = field(default_factory=deque)
    readers: list[Callable[[], bool]] = field(default_factory=list)  # take one, if they can

    @property
    def is_of_dead_letters(self) -> bool:
        """Whether only an operator reads it."""
        return self.name.endswith(names.DEAD_LETTER_SUFFIX)

    def put(self, stored: Stored) -> None:
        """Take a message in."""
        self.waiting.append(stored)
        self.offer()

    def offer(self) -> None:
        """Give what waits to those who read, by turns."""
        for _ in range(len(self.readers)):
            if not self.waiting:
                return
            reader = self.readers.pop(0)
            self.readers.append(reader)
            while self.waiting and reader():
                pass


def _ignore(*_what: object) -> None:
    """Do nothing."""


class Broker:
    """The server."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.queues: dict[str, Queue] = {}
        self._bound: defaultdict[str, list[Callable[[Stored], object]]] = defaultdict(list)
        self._bindings: set[tuple[str, str]] = set()
        self.connections: list[Connection] = []
        # Who look on: at what is published, before it is routed, and at what is acknowledged.
        self.on_publish: Callable[[str, Message], object] = _ignore
        self.acknowledged: Callable[[Stored], object] = _ignore

    def queue(self, name: str) -> Queue:
        """Return a queue, declared if it is not there."""
        return self.queues.setdefault(name, Queue(name))

    def bind(self, queue: str, exchange: str) -> None:
        """Let a queue have what comes to a fanout exchange."""
        if (queue, exchange) not in self._bindings:
            self._bindings.add((queue, exchange))
            self._bound[exchange].append(self.queue(queue).put)

    def dead_letters(self) -> Iterator[Stored]:
        """Iterate over what lies in queues of dead letters."""
        for queue in self.queues.values():
            if queue.is_of_dead_letters:
                yield from queue.waiting

    def hear(self, exchange: str, act: Callable[[Stored], object]) -> None:
        """Let a neighbour hear of each message, who loses none."""
        self._bound[exchange].append(act)

    def publish(self, exchange: str, message: Message, routing_key: str = "") -> None:
        """Route a message."""
        self.on_publish(exchange, message)
        if exchange == names.DEAD_LETTER_EXCHANGE:
            self.queue(routing_key).put(Stored(message, exchange))
            return
        for put in self._bound[exchange]:
            put(Stored(message, exchange))

    def restart(self, *, forgets: bool) -> None:
        """Break all connections; with `forgets`, also that messages were delivered before."""
        self.weather.note(f"{PARTY} restarts" + (", and forgets deliveries" if forgets else ""))
        for connection in self.connections:
            connection.cut(forgets=forgets)

    def break_one(self) -> None:
        """Break the connection of one process."""
        if self.connections:
            self.weather.draws.of("broken").choice(self.connections).cut()

    def break_of(self, process: Process) -> None:
        """Break the connection of this process."""
        for connection in self.connections:
            if connection.process is process:
                connection.cut()


def _forget(_queue: Queue) -> None:
    """Do nothing: the queue has the message no more."""


class Incoming:
    """A message as aio-pika hands it over."""

    def __init__(self, stored: Stored, channel: Channel, generation: int) -> None:
        self._stored, self._channel, self._generation = stored, channel, generation
        message = stored.message
        self.body = message.body
        self.headers = message.headers
        self.message_id = message.message_id
        self.timestamp = message.timestamp
        self.app_id = message.app_id
        self.priority = message.priority
        self.delivery_mode = message.delivery_mode
        self.content_type = message.content_type
        self.content_encoding = message.content_encoding
        self.correlation_id = message.correlation_id
        self.reply_to = message.reply_to
        self.type = message.type
        self.exchange = stored.exchange
        self.redelivered = stored.redelivered

    async def ack(self) -> None:
        """Acknowledge. That it was heard is not told."""
        process = self._channel.connection.process
        self._channel.connection.broker.acknowledged(self._stored)
        if self._channel.connection.broker.weather.step("before acknowledge", process, None):
            self._channel.connection.cut()  # so the message comes again
        self._settle(_forget)
        self._channel.connection.broker.weather.step("after acknowledge", process, None)

    async def nack(self, *, requeue: bool) -> None:
        """Give it back."""
        assert requeue
        self._settle(self._requeue)

    async def reject(self, *, requeue: bool) -> None:
        """Have it moved to the dead-letter queue."""
        assert not requeue
        self._settle(self._bury)

    def _requeue(self, queue: Queue) -> None:
        self._stored.redelivered = True
        queue.waiting.appendleft(self._stored)

    def _bury(self, queue: Queue) -> None:
        self._channel.connection.broker.queue(names.dead_letters_of(queue.name)).put(self._stored)

    def _settle(self, act: Callable[[Queue], object]) -> None:
        channel = self._channel
        if channel.generation != self._generation:
            raise ChannelInvalidStateError("the channel was closed")
        weather = channel.connection.broker.weather
        by_nobody(
            weather.later(PARTY), partial(channel.settle, self._stored, self._generation, act)
        )


class Connection:
    """The connection of one process, which comes back by itself: aio-pika's robust one."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self.link = Link(party=PARTY, weather=broker.weather, deadline=_DEADLINE)
        self.connected = asyncio.Event()
        self.connected.set()
        self._channels: list[Channel] = []
        broker.connections.append(self)
        process.while_alive(self, self._end)

    async def channel(self, *, on_return_raises: bool = False) -> Channel:
        """Open a channel."""
        del on_return_raises
        channel = Channel(self)
        self._channels.append(channel)
        return channel

    def cut(self, *, forgets: bool = False) -> None:
        """Lose the connection: it is made again after a while, with its consumers."""
        if not self.connected.is_set():
            return
        self.connected.clear()
        for channel in self._channels:
            channel.lose(forgets=forgets)
        by_nobody(self.broker.weather.later(PARTY, longest=_RECONNECT), self._restore)

    def _restore(self) -> None:
        if not self.process.alive:
            return
        if PARTY in self.broker.weather.down:
            by_nobody(1.0, self._restore)
            return
        self.connected.set()
        for channel in self._channels:
            channel.restore()

    def _end(self) -> None:
        self.broker.connections.remove(self)
        for channel in self._channels:
            channel.lose(forgets=False)


class Channel:
    """A channel: what was handed over on it, and who reads through it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.generation = 0
        self.close_callbacks: set[Any] = set()
        self.consumers: dict[str, tuple[Queue, Callable[[], bool]]] = {}
        self._prefetch = 0
        self._tags = itertools.count(1)
        self._unsettled: dict[Stored, Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent on it now."""
        return not self.connection.connected.is_set()

    async def set_qos(self, *, prefetch_count: int) -> None:
        """Limit what is handed over to each consumer; 0 is no limit."""
        self._prefetch = prefetch_count

    async def declare_queue(self, name: str, **_arguments: Any) -> DeclaredQueue:
        """Declare a queue."""
        await asyncio.sleep(self.connection.broker.weather.later(PARTY))
        self.connection.broker.queue(name)
        return DeclaredQueue(name, self)

    async def get_exchange(self, name: str, *, ensure: bool = True) -> Exchange:
        """Return an exchange."""
        del ensure
        return Exchange(name, self)

    async def get_underlay_channel(self) -> Channel:
        """Return what knows the consumers."""
        return self

    async def close(self) -> None:
        """Close it: what was handed over and is not settled comes again."""
        self._open = False
        self.lose(forgets=False)

    def read(self, queue: Queue, handler: Callable[[Any], Awaitable[None]]) -> str:
        """Let a handler have the messages of a queue."""
        tag = f"ctag{next(self._tags)}"
        busy: set[Stored] = set()

        def take() -> bool:
            held = sum(1 for stored in busy if stored in self._unsettled)
            if not self._open or not self.connection.connected.is_set():
                return False
            if self._prefetch and held >= self._prefetch:
                return False
            stored = queue.waiting.popleft()
            busy.intersection_update(self._unsettled)
            busy.add(stored)
            self._unsettled[stored] = queue
            self.connection.process.take(HELD)
            message = Incoming(stored, self, self.generation)
            by_nobody(
                self.connection.broker.weather.later(PARTY),
                partial(self._hand_over, handler, message, self.generation),
            )
            return True

        self.consumers[tag] = (queue, take)
        queue.readers.append(take)
        queue.offer()
        return tag

    def _hand_over(
        self, handler: Callable[[Any], Awaitable[None]], message: Any, generation: int
    ) -> None:
        if generation == self.generation and self.connection.process.alive:
            task = self.connection.process.start(_call(handler, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def settle(self, stored: Stored, generation: int, act: Callable[[Queue], object]) -> None:
        """Hear what became of a message, unless the connection has gone."""
        if generation != self.generation or stored not in self._unsettled:
            return
        queue = self._unsettled.pop(stored)
        self.connection.process.give(HELD)
        act(queue)
        queue.offer()

    def stop(self, tag: str) -> None:
        """Hand nothing more over to a consumer."""
        queue, take = self.consumers.pop(tag)
        if take in queue.readers:
            queue.readers.remove(take)

    def lose(self, *, forgets: bool) -> None:
        """Be gone on the side of the server."""
        weather = self.connection.broker.weather
        self.generation += 1
        for queue, take in self.consumers.values():
            if take in queue.readers:
                queue.readers.remove(take)
        lost, self._unsettled = self._unsettled, {}
        self.connection.process.give(HELD, len(lost))
        for stored, queue in reversed(lost.items()):
            if not (forgets and weather.strikes(f"{PARTY} forgets deliveries")):
                stored.redelivered = True
            if weather.strikes(f"{PARTY} loses its order"):
                queue.waiting.append(stored)
            else:
                queue.waiting.appendleft(stored)
        for queue in dict.fromkeys(lost.values()):
            queue.offer()
        for task in list(self._tasks):  # aio-pika ends what it called
            task.cancel()

    def restore(self) -> None:
        """Be there again, with the consumers."""
        for queue, take in self.consumers.values():
            if take not in queue.readers:  # one that began to read while it was down
                queue.readers.append(take)
            queue.offer()


async def _call(handler: Callable[[Any], Awaitable[None]], message: Any) -> None:
    await handler(message)


@dataclass(frozen=True)
class DeclaredQueue:
    """A queue, as a channel sees it."""

    name: str
    channel: Channel

    async def bind(self, exchange: str, routing_key: str = "") -> None:
        """Bind it to a fanout exchange; those of dead letters are found by their names."""
        del routing_key
        if exchange != names.DEAD_LETTER_EXCHANGE:
            self.channel.connection.broker.bind(self.name, exchange)

    async def consume(self, handler: Callable[[Any], Awaitable[None]]) -> str:
        """Begin to read."""
        await asyncio.sleep(self.channel.connection.broker.weather.later(PARTY))
        return self.channel.read(self.channel.connection.broker.queue(self.name), handler)

    async def cancel(self, tag: str) -> None:
        """Stop reading."""
        self.channel.stop(tag)


@dataclass(frozen=True)
class Exchange:
    """An exchange, as a channel sees it."""

    name: str
    channel: Channel

    async def publish(
        self,
        message: Message,
        routing_key: str,
        *,
        mandatory: bool,
        timeout: float,  # noqa: ASYNC109
    ) -> None:
        """Publish; return once it is confirmed."""
        del mandatory, timeout
        connection = self.channel.connection
        if not connection.connected.is_set():
            raise ConnectionError("the connection is down")
        generation = self.channel.generation
        put = partial(connection.broker.publish, self.name, message, routing_key)
        what = f"publish to {self.name.rpartition('.')[2]}"
        about = None
        if message.correlation_id is not None:
            about = str(message.headers[names.HEADER_TENANT]), message.correlation_id
        await connection.link.ask(what, put, away=ConnectionError, about=about)
        if generation != self.channel.generation:
            raise ConnectionError("the connection broke before the confirm")
