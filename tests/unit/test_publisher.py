"""What is surely not sent, and why: the publisher before a channel that can't be used."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelInvalidStateError

from app.errors import BrokerUnavailableError, NotSentError
from streams.amqp.publisher import AmqpPublisher
from streams.amqp.topology import Topology
from tests.builders import make_outgoing


class Channel:
    """A channel that is closed for good, or is being opened again: for ever, until it is let."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.is_closed = is_closed
        self.opened = asyncio.Event()
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.confirmed = asyncio.Event()
        self.confirmed.set()
        self.breaks = False
        self.sent: list[Any] = []

    @property
    def connection(self) -> Channel:
        """As aiormq has it."""
        return self

    async def ready(self) -> None:
        await self.unblocked.wait()

    async def get_underlay_channel(self) -> Channel:
        await self.opened.wait()
        return self

    async def get_exchange(self, name: str, *, ensure: bool) -> Channel:
        return self

    async def publish(self, message: object, *_: object, **options: object) -> None:
        self.sent.append(message)
        await self.confirmed.wait()
        if self.breaks:
            raise ChannelInvalidStateError("the channel was closed")


def publisher(channel: Channel, **options: Any) -> AmqpPublisher:
    """Return one that has this channel alone."""
    only = cast("AbstractChannel", channel)
    return AmqpPublisher(only, only, topology=Topology(), **options)


async def test_a_message_that_finds_its_channel_closed_is_surely_not_sent() -> None:
    channel = Channel(is_closed=True)
    with pytest.raises(NotSentError, match=r"the channel is closed.*tried again"):
        await publisher(channel).publish(make_outgoing())
    assert channel.sent == []


async def test_a_message_whose_channel_does_not_open_in_time_is_surely_not_sent() -> None:
    channel = Channel()
    with pytest.raises(NotSentError, match="no connection to RabbitMQ"):
        await publisher(channel, ready_timeout=0).publish(make_outgoing())
    channel.opened.set()
    assert channel.sent == []


async def test_a_message_waits_for_its_channel_to_be_opened_again() -> None:
    channel = Channel()
    publishing = asyncio.create_task(publisher(channel).publish(make_outgoing()))
    await asyncio.sleep(0)
    assert channel.sent == []
    channel.opened.set()
    await publishing
    assert len(channel.sent) == 1


async def test_a_message_that_an_alarm_of_rabbitmq_blocks_is_surely_not_sent() -> None:
    """It would be read once the alarm is over, and so would each one that is written after it."""
    channel = Channel()
    channel.opened.set()
    channel.unblocked.clear()
    publishing = publisher(channel, ready_timeout=0)
    with pytest.raises(NotSentError, match="lacks memory or disk"):
        await publishing.publish(make_outgoing())
    with pytest.raises(BrokerUnavailableError, match="blocks publishers"):
        await publishing.check()
    assert channel.sent == []
    channel.unblocked.set()
    await publishing.check()


async def test_a_message_that_is_not_confirmed_yet_is_not_written_again() -> None:
    """An alarm began after it was written: RabbitMQ has not read it, and will."""
    channel = Channel()
    channel.opened.set()
    channel.confirmed.clear()
    publishing = publisher(channel, confirm_timeout=0.01)
    message = make_outgoing()
    with pytest.raises(BrokerUnavailableError, match="not answered yet") as told:
        await publishing.publish(message)
    assert not isinstance(told.value, NotSentError)
    with pytest.raises(NotSentError, match="not written again"):
        await publishing.publish(message)
    channel.confirmed.set()
    await publishing.publish(message)
    assert len(channel.sent) == 1
    await asyncio.sleep(0)
    await publishing.publish(message)  # it is asked for again, of an earlier state
    assert len(channel.sent) == 2


async def test_a_message_whose_connection_breaks_is_written_again() -> None:
    channel = Channel()
    channel.opened.set()
    channel.confirmed.clear()
    publishing = publisher(channel, confirm_timeout=0.01)
    message = make_outgoing()
    with pytest.raises(BrokerUnavailableError):
        await publishing.publish(message)
    channel.breaks = True
    channel.confirmed.set()
    with pytest.raises(NotSentError):
        await publishing.publish(message)
    channel.breaks = False
    await publishing.publish(message)
    assert len(channel.sent) == 2
