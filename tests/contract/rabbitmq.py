"""What RabbitMQ does, as aio-pika shows it: what the bridge and the publisher rest on.

Where the real one leaves open what happens, a test allows each of it, and the twin does any.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    PublishError,
)

from streams.amqp import names
from streams.amqp.dead_letters import copied
from streams.amqp.publisher import AmqpPublisher, open_channel
from streams.amqp.topology import Topology

_PATIENCE = 60.0  # seconds, of the loop's clock
_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(kw_only=True)
class Client:
    """A process that is connected, and can lose its connection."""

    connection: Any  # aio-pika's robust one
    cut: Callable[[], object]

    async def channel(self, *, prefetch: int = 0, on_return_raises: bool = False) -> Any:
        channel = await open_channel(self.connection, on_return_raises=on_return_raises)
        await channel.set_qos(prefetch_count=prefetch)
        return channel


@dataclass(kw_only=True)
class Place(ABC):
    """A RabbitMQ, and names there of the test's own."""

    name: str
    topology: Topology
    in_order: bool  # what comes again comes where it was

    @property
    def exchange(self) -> str:
        return f"{self.name}.exchange"

    @property
    def queue(self) -> str:
        return f"{self.name}.queue"

    @property
    def dead_letters(self) -> str:
        return names.dead_letters_of(self.queue)

    @abstractmethod
    def client(self) -> AbstractAsyncContextManager[Client]:
        """Connect."""

    @abstractmethod
    async def restart(self) -> None:
        """End the server, and start it again."""

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[Client]:
        """Connect, with exchange and queue declared as the service declares its own."""
        async with self.client() as client:
            channel = await client.channel()
            for exchange in (names.DEAD_LETTER_EXCHANGE, self.exchange):
                await self.topology.exchange(channel, exchange)
            await self.topology.queue(channel, self.queue, self.exchange)
            await channel.close()
            yield client

    async def publish(self, client: Client, *bodies: bytes, **properties: Any) -> None:
        """Publish one after the other, each once the one before is confirmed."""
        channel = await client.channel(on_return_raises=True)
        exchange = await channel.get_exchange(self.exchange, ensure=False)
        for body in bodies:
            await exchange.publish(persistent(body, **properties), "", mandatory=True)
        await channel.close()

    async def read(self, client: Client, *, prefetch: int = 0, queue: str | None = None) -> Reader:
        """Begin to consume; after a reconnection it ends."""
        channel = await client.channel(prefetch=prefetch)
        return await Reader.of(await channel.get_queue(queue or self.queue, ensure=False))

    async def read_as_the_bridge(self, client: Client, *, prefetch: int = 0) -> Reader:
        """Begin to consume on a channel that has declared the queue: so it goes on for ever."""
        channel = await client.channel(prefetch=prefetch)
        return await Reader.of(await self.topology.queue(channel, self.queue, self.exchange))

    async def waiting(self, client: Client, count: int) -> None:
        """Return once that many are in the queue, but for those that were handed over."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                channel = await client.channel()
                queue = await channel.declare_queue(self.queue, passive=True)
                await channel.close()
                if queue.declaration_result.message_count == count:
                    return
                await asyncio.sleep(0.05)


@dataclass(kw_only=True)
class Reader:
    """A consumer, and what was handed over to it."""

    queue: Any
    tag: str
    arrived: asyncio.Queue[Any]

    @classmethod
    async def of(cls, queue: Any) -> Reader:
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        return cls(queue=queue, tag=await queue.consume(arrived.put), arrived=arrived)

    @property
    def channel(self) -> Any:
        return self.queue.channel

    async def take(self, count: int = 1) -> list[Any]:
        async with asyncio.timeout(_PATIENCE):
            return [await self.arrived.get() for _ in range(count)]

    async def stop(self) -> None:
        """Consume no more; what was handed over stays with the channel."""
        await self.queue.cancel(self.tag)


def persistent(body: bytes, **properties: Any) -> Message:
    return Message(body, **{"delivery_mode": DeliveryMode.PERSISTENT, **properties})


def told(messages: Sequence[Any]) -> list[tuple[bytes, bool]]:
    """Return of each message what is in it, and whether it is said to come again."""
    return [(message.body, message.redelivered) for message in messages]


def bodies(messages: Sequence[Any]) -> list[bytes]:
    return [message.body for message in messages]


async def _outcome(work: Awaitable[object]) -> BaseException | None:
    try:
        await work
    except CONNECTION_EXCEPTIONS as error:
        return error
    return None


class RabbitMqContract:
    """To be subclassed where there is a fixture `place`."""

    # Messages.

    async def test_a_confirmed_message_is_handed_over_as_it_was_sent(self, place: Place) -> None:
        sent = persistent(
            b"\x00\xff body",
            headers={
                "text": "\N{LATIN SMALL LETTER E WITH ACUTE}",
                "yes": True,
                "none": None,
                "small": -1,
                "large": 2**40,
                "half": 0.5,
                "when": _AT,
                "table": {"list": [1, "two", {"three": 3}], "empty": {}},
            },
            content_type="application/json",
            content_encoding="utf-8",
            priority=7,
            correlation_id="c-1",
            reply_to="r",
            message_id="m-1",
            timestamp=_AT.replace(microsecond=999_999),
            type="t",
            app_id="a",
        )
        async with place.ready() as client:
            channel = await client.channel()
            exchange = await channel.get_exchange(place.exchange, ensure=False)
            await exchange.publish(sent, "any.key", mandatory=True)
            (came,) = await (await place.read(client)).take()
        assert came.body == sent.body
        assert came.headers.items() >= sent.headers.items()
        assert {type(came.headers[name]) for name in ("yes", "small", "half")} == {bool, int, float}
        for name in (
            "content_type",
            "content_encoding",
            "delivery_mode",
            "priority",
            "correlation_id",
            "reply_to",
            "message_id",
            "type",
            "app_id",
            "expiration",
            "user_id",
        ):
            assert getattr(came, name) == getattr(sent, name), name
        assert came.timestamp == _AT  # in seconds
        assert (came.exchange, came.routing_key) == (place.exchange, "any.key")
        assert came.redelivered is False

    async def test_what_is_not_given_is_not_there(self, place: Place) -> None:
        async with place.ready() as client:
            await place.publish(client, b"")
            (came,) = await (await place.read(client)).take()
        assert came.body == b""
        assert (came.timestamp, came.correlation_id, came.app_id) == (None, None, None)
        assert came.message_id  # aiormq gives it one

    async def test_messages_come_in_the_order_in_which_they_were_published(
        self, place: Place
    ) -> None:
        sent = [str(number).encode() for number in range(20)]
        async with place.ready() as client:
            await place.publish(client, *sent[:10])
            reader = await place.read(client)
            await place.publish(client, *sent[10:])
            assert told(await reader.take(20)) == [(body, False) for body in sent]

    async def test_messages_that_are_published_at_once_on_a_channel_keep_their_order(
        self, place: Place
    ) -> None:
        sent = [str(number).encode() for number in range(20)]
        async with place.ready() as client:
            channel = await client.channel()
            exchange = await channel.get_exchange(place.exchange, ensure=False)
            await asyncio.gather(
                *(exchange.publish(persistent(body), "", mandatory=True) for body in sent)
            )
            assert bodies(await (await place.read(client)).take(20)) == sent

    async def test_those_of_a_higher_priority_come_first(self, place: Place) -> None:
        async with place.ready() as client:
            for body, priority in ((b"0", 0), (b"5", 5), (b"9", 9), (b"5 again", 5), (b"-", None)):
                await place.publish(client, body, priority=priority)
            came = bodies(await (await place.read(client)).take(5))
        if place.topology.kind == "classic":
            assert came == [b"9", b"5", b"5 again", b"0", b"-"]
        else:
            assert came == [b"0", b"5", b"9", b"5 again", b"-"]

    # Where there is no way for them.

    async def test_a_mandatory_message_that_leads_nowhere_is_returned(self, place: Place) -> None:
        async with place.client() as client:
            channel = await client.channel(on_return_raises=True)
            exchange = await place.topology.exchange(channel, place.exchange)
            with pytest.raises(PublishError):
                await exchange.publish(persistent(b"lost"), "", mandatory=True)
            await exchange.publish(persistent(b"lost, too"), "", mandatory=False)

    async def test_a_return_is_no_error_where_none_is_asked_for(self, place: Place) -> None:
        async with place.client() as client:
            channel = await client.channel()
            exchange = await place.topology.exchange(channel, place.exchange)
            await exchange.publish(persistent(b"lost"), "", mandatory=True)

    async def test_a_message_to_a_missing_exchange_costs_the_channel_which_is_opened_again(
        self, place: Place
    ) -> None:
        async with place.ready() as client:
            reader = await place.read_as_the_bridge(client)
            nowhere = await reader.channel.get_exchange(f"{place.name}.nowhere", ensure=False)
            with pytest.raises(ChannelNotFoundEntity):
                await nowhere.publish(persistent(b"lost"), "", mandatory=False)
            await place.publish(client, b"read")
            assert bodies(await reader.take()) == [b"read"]

    async def test_a_queue_that_is_there_with_other_arguments_is_refused(
        self, place: Place
    ) -> None:
        async with place.ready() as client:
            await place.publish(client, b"kept")
            channel = await client.channel()
            with pytest.raises(ChannelPreconditionFailed):
                await channel.declare_queue(
                    place.queue, durable=True, arguments={"x-max-priority": 3}
                )
            await place.waiting(client, 1)

    async def test_a_queue_outlives_those_who_declared_it(self, place: Place) -> None:
        async with place.ready() as client:
            await place.publish(client, b"kept")
        async with place.ready() as client:
            assert told(await (await place.read(client)).take()) == [(b"kept", False)]

    # Consumers.

    async def test_no_more_is_handed_over_than_the_prefetch_until_it_is_acknowledged(
        self, place: Place
    ) -> None:
        async with place.ready() as client:
            await place.publish(client, *(b"%d" % number for number in range(5)))
            reader = await place.read(client, prefetch=2)
            first, _ = await reader.take(2)
            await place.waiting(client, 3)
            await first.ack()
            assert bodies(await reader.take()) == [b"2"]
            await place.waiting(client, 2)
            assert reader.arrived.empty()

    async def test_the_prefetch_counts_for_each_consumer_of_a_channel(self, place: Place) -> None:
        async with place.ready() as client:
            channel = await client.channel(prefetch=2)
            queue = await channel.get_queue(place.queue, ensure=False)
            readers = [await Reader.of(queue) for _ in range(2)]
            await place.publish(client, *(b"%d" % number for number in range(5)))
            for reader in readers:
                await reader.take(2)
            await place.waiting(client, 1)

    async def test_consumers_take_turns(self, place: Place) -> None:
        async with place.ready() as client:
            readers = [await place.read(client, prefetch=10) for _ in range(2)]
            await place.publish(client, *(b"%d" % number for number in range(6)))
            came = [bodies(await reader.take(3)) for reader in readers]
        assert sorted(came) == [[b"0", b"2", b"4"], [b"1", b"3", b"5"]]

    async def test_an_acknowledged_message_is_gone(self, place: Place) -> None:
        async with place.ready() as client:
            await place.publish(client, b"1", b"2")
            reader = await place.read(client, prefetch=1)
            await (await reader.take())[0].ack()
            assert bodies(await reader.take()) == [b"2"]  # so the first one was heard
            await reader.channel.close()
            assert told(await (await place.read(client)).take()) == [(b"2", True)]

    async def test_a_cancelled_consumer_keeps_what_it_has_and_gets_no_more(
        self, place: Place
    ) -> None:
        async with place.ready() as client:
            await place.publish(client, b"1")
            reader = await place.read(client)
            (held,) = await reader.take()
            await reader.stop()
            await place.publish(client, b"2")
            await place.waiting(client, 1)
            assert reader.arrived.empty()
            await held.ack()
            await reader.channel.close()
            assert told(await (await place.read(client)).take()) == [(b"2", False)]

    # What comes again.

    async def test_a_message_that_is_given_back_comes_again_and_says_so(self, place: Place) -> None:
        async with place.ready() as client:
            await place.publish(client, b"1", b"2")
            reader = await place.read(client, prefetch=1)
            await (await reader.take())[0].nack(requeue=True)
            again = await reader.take()
            await again[0].ack()
            again += await reader.take()
        expected = [(b"1", True), (b"2", False)]
        assert (told(again) if place.in_order else sorted(told(again))) == expected

    async def test_messages_that_are_given_back_in_any_order_are_where_they_were(
        self, place: Place
    ) -> None:
        async with place.ready() as client:
            await place.publish(client, b"1", b"2", b"3", b"4")
            reader = await place.read(client, prefetch=3)
            first, second, third = await reader.take(3)
            await reader.stop()
            for message in (second, third, first):
                await message.nack(requeue=True)
            await place.waiting(client, 4)
            again = told(await (await place.read(client)).take(4))
        expected = [(b"1", True), (b"2", True), (b"3", True), (b"4", False)]
        assert (again if place.in_order else sorted(again)) == expected

    async def test_what_a_closed_channel_had_comes_again(self, place: Place) -> None:
        async with place.ready() as client:
            await place.publish(client, b"1", b"2", b"3")
            reader = await place.read(client, prefetch=2)
            (first, _) = await reader.take(2)
            await reader.channel.close()
            with pytest.raises(CONNECTION_EXCEPTIONS):
                await first.ack()
            again = told(await (await place.read(client)).take(3))
        expected = [(b"1", True), (b"2", True), (b"3", False)]
        assert (again if place.in_order else sorted(again)) == expected

    # A connection that breaks.

    async def test_what_was_not_acknowledged_comes_again_to_another(self, place: Place) -> None:
        async with place.ready() as other, place.client() as client:
            await place.publish(other, b"1", b"2", b"3")
            await (await place.read(client, prefetch=2)).take(2)
            reader = await place.read(other)
            assert told(await reader.take()) == [(b"3", False)]
            client.cut()
            assert sorted(told(await reader.take(2))) == [(b"1", True), (b"2", True)]

    async def test_a_consumer_is_there_again_after_its_connection_broke(self, place: Place) -> None:
        async with place.ready() as client:
            reader = await place.read_as_the_bridge(client, prefetch=1)
            await place.publish(client, b"1", b"2")
            (before,) = await reader.take()
            client.cut()
            (again,) = await reader.take()
            if place.in_order:
                assert told([again]) == [(b"1", True)]
            with pytest.raises(CONNECTION_EXCEPTIONS):
                await before.ack()
            assert reader.tag in (await reader.channel.get_underlay_channel()).consumers
            await again.ack()
            (last,) = await reader.take()
            assert {again.body, last.body} == {b"1", b"2"}

    async def test_a_handler_that_runs_is_cancelled_when_its_connection_breaks(
        self, place: Place
    ) -> None:
        cancelled: asyncio.Queue[bytes] = asyncio.Queue()
        began = asyncio.Event()

        async def handle(message: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.put_nowait(message.body)
                raise

        async with place.ready() as other, place.client() as client:
            channel = await client.channel()
            await (await channel.get_queue(place.queue, ensure=False)).consume(handle)
            await place.publish(other, b"1")
            async with asyncio.timeout(_PATIENCE):
                await began.wait()
                client.cut()
                assert await cancelled.get() == b"1"

    async def test_an_acknowledgement_on_its_way_is_heard_or_lost(self, place: Place) -> None:
        async with place.ready() as other, place.client() as client:
            await place.publish(other, b"1", b"2")
            (first, second) = await (await place.read(client)).take(2)
            await first.ack()
            await second.ack()
            client.cut()
            reader = await place.read(other)
            await place.publish(other, b"3")
            came = await reader.take()
            while came[-1].body != b"3":
                came += await reader.take()
            again = [each for each in told(came) if each[0] != b"3"]
            # What is heard of two that were sent is the first, if it is not both, or none.
            assert again in ([], [(b"2", True)], [(b"1", True), (b"2", True)]) or (
                not place.in_order
            )

    async def test_what_was_acknowledged_before_a_question_was_answered_is_gone(
        self, place: Place
    ) -> None:
        """AMQP answers no acknowledgement; but a channel does in order what it is asked."""
        async with place.ready() as other, place.client() as client:
            await place.publish(other, b"1", b"2")
            reader = await place.read(client)
            for message in await reader.take(2):
                await message.ack()
            await reader.channel.set_qos(prefetch_count=7)
            client.cut()
            await place.publish(other, b"3")
            assert bodies(await (await place.read(other)).take()) == [b"3"]

    async def test_who_has_a_channel_is_told_that_its_connection_broke(self, place: Place) -> None:
        async with place.ready() as client:
            channel, closed = await client.channel(), asyncio.Event()
            channel.close_callbacks.add(lambda *_: closed.set())
            client.cut()
            async with asyncio.timeout(_PATIENCE):
                await closed.wait()

    async def test_a_message_that_was_confirmed_is_there_and_another_may_be(
        self, place: Place
    ) -> None:
        sent = [b"%d" % number for number in range(50)]
        async with place.ready() as other, place.client() as client:
            channel = await client.channel()
            exchange = await channel.get_exchange(place.exchange, ensure=False)
            publishing = [
                asyncio.ensure_future(
                    _outcome(exchange.publish(persistent(body), "", mandatory=True, timeout=30))
                )
                for body in sent
            ]
            async with asyncio.timeout(_PATIENCE):
                await asyncio.wait(publishing, return_when=asyncio.FIRST_COMPLETED)
                client.cut()
                outcomes = await asyncio.gather(*publishing)
            confirmed = {body for body, error in zip(sent, outcomes, strict=True) if error is None}
            assert confirmed
            reader = await place.read(other)
            await place.publish(other, b"end")
            came = bodies(await reader.take())
            while came[-1] != b"end":
                came += bodies(await reader.take())
        assert confirmed <= set(came)
        # What came is the beginning of what was sent, each once.
        assert came[:-1] == sent[: len(came) - 1]

    async def test_nothing_is_published_without_a_connection(self, place: Place) -> None:
        async with place.ready() as other, place.client() as client:
            channel = await client.channel()
            exchange = await channel.get_exchange(place.exchange, ensure=False)
            reader = await place.read(other)
            client.cut()
            async with asyncio.timeout(_PATIENCE):
                while not channel.is_closed:  # until it has noticed
                    await asyncio.sleep(0)
            with pytest.raises(CONNECTION_EXCEPTIONS):
                await exchange.publish(persistent(b"lost"), "", mandatory=True, timeout=30)
            await place.publish(other, b"end")
            assert bodies(await reader.take()) == [b"end"]

    # Dead letters.

    @pytest.mark.parametrize("how", ["reject", "nack"])
    async def test_a_rejected_message_is_moved_to_the_dead_letters(
        self, place: Place, how: str
    ) -> None:
        async with place.ready() as client:
            sent: dict[str, Any] = {
                "headers": {"h": 1},
                "message_id": "m",
                "timestamp": _AT,
                "priority": 3,
            }
            await place.publish(client, b"bad", **sent)
            (bad,) = await (await place.read(client)).take()
            await getattr(bad, how)(requeue=False)
            (dead,) = await (await place.read(client, queue=place.dead_letters)).take()
        assert (dead.body, dead.redelivered) == (b"bad", False)
        assert (dead.message_id, dead.timestamp, dead.priority) == ("m", _AT, 3)
        assert (dead.exchange, dead.routing_key) == (
            names.DEAD_LETTER_EXCHANGE,
            place.dead_letters,
        )
        assert dead.headers["h"] == 1
        assert dead.headers["x-first-death-queue"] == place.queue
        (death,) = dead.headers["x-death"]
        assert isinstance(death.pop("time"), datetime)
        assert death == {
            "count": 1,
            "exchange": place.exchange,
            "queue": place.queue,
            "reason": "rejected",
            "routing-keys": [""],
        }

    async def test_rejected_messages_keep_their_order(self, place: Place) -> None:
        async with place.ready() as client:
            await place.publish(client, b"1", b"2", b"3")
            for message in await (await place.read(client)).take(3):
                await message.reject(requeue=False)
            dead = await (await place.read(client, queue=place.dead_letters)).take(3)
        assert bodies(dead) == [b"1", b"2", b"3"]

    async def test_a_copy_finds_the_dead_letters_also_where_their_queue_was_deleted(
        self, place: Place
    ) -> None:
        async with place.ready() as client:
            publisher = AmqpPublisher(
                await client.channel(),
                await client.channel(on_return_raises=True),
                topology=place.topology,
            )
            await place.publish(client, b"bad", headers={"h": 1})
            (bad,) = await (await place.read(client)).take()
            copy = copied(bad, headers=bad.headers)
            assert copy is not None
            await publisher.dead_letter(place.queue, copy)
            await (await client.channel()).queue_delete(place.dead_letters)
            await publisher.dead_letter(place.queue, copy)
            (dead,) = await (await place.read(client, queue=place.dead_letters)).take()
        assert (dead.body, dead.headers["h"]) == (b"bad", 1)


class RabbitMqRestartContract:
    """Of one that the test alone uses."""

    async def test_a_restart_keeps_what_is_persistent(self, place: Place) -> None:
        """That a message had been handed over may be forgotten; its place in the queue is not."""
        async with place.ready() as client:
            await place.publish(client, b"1", b"2")
            await place.publish(client, b"transient", delivery_mode=DeliveryMode.NOT_PERSISTENT)
            await place.publish(client, b"3")
            await (await place.read(client, prefetch=2)).take(2)
            await place.restart()
        async with place.client() as client:
            reader = await place.read(client)
            await place.publish(client, b"end")
            came = await reader.take()
            while came[-1].body != b"end":
                came += await reader.take()
        kept = [b"1", b"2", b"3", b"end"]
        if place.topology.kind == "quorum":  # all that it has is persistent
            kept.insert(2, b"transient")
        if place.in_order:
            assert bodies(came) == kept
        else:
            assert sorted(bodies(came)) == sorted(kept)
        untouched = [message for message in came if message.body in (b"3", b"end")]
        assert not any(message.redelivered for message in untouched)
