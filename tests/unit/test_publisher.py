"""What is surely not sent, and why: the publisher before a channel that can't be used."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractChannel

from app.errors import NotSentError
from streams.amqp.publisher import AmqpPublisher
from streams.amqp.topology import Topology
from tests.builders import make_outgoing


class Channel:
    """A channel that is closed for good, or is being opened again: for ever, until it is let."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.is_closed = is_closed
        self.opened = asyncio.Event()
        self.sent: list[Any] = []

    async def get_underlay_channel(self) -> object:
        await self.opened.wait()
        return object()

    async def get_exchange(self, name: str, *, ensure: bool) -> Channel:
        return self

    async def publish(self, message: object, *_: object, **options: object) -> None:
        self.sent.append(message)


def publisher(channel: Channel, **options: float) -> AmqpPublisher:
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
