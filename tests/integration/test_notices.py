"""Notices reach what listens at REGARDS' exchange; there is none unless they are wanted."""

from __future__ import annotations

import asyncio
import json

import aio_pika
import pytest

from app.delivery.notices import Notice
from app.errors import BrokerUnavailableError
from app.settings import Settings
from streams.amqp.notices import publish
from streams.amqp.publisher import connect, open_publisher
from streams.amqp.topology import topology_of
from streams.channels import NOTICES
from tests.builders import make_outgoing

_EXCHANGE = NOTICES.exchange.name


async def test_a_notice_reaches_who_listens_and_one_that_none_hears_is_no_error(
    settings: Settings,
) -> None:
    wanted = settings.model_copy(update={"notice_roles": ("EXPLOIT",)})
    notice = Notice(tenant="t", about="rs-order", title="No right", message="it answered 401")
    async with (
        connect(settings.amqp_url.get_secret_value(), start_timeout=30) as connection,
        connection.channel() as channel,
    ):
        await channel.exchange_delete(_EXCHANGE)
        async with open_publisher(connection, topology=topology_of(settings)):
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                async with connection.channel() as other:
                    await other.get_exchange(_EXCHANGE, ensure=True)
        async with open_publisher(connection, topology=topology_of(wanted)) as publisher:
            await publish(notice, publisher=publisher, roles=wanted.notice_roles)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(_EXCHANGE)
            await publish(notice, publisher=publisher, roles=wanted.notice_roles)
            message = await queue.get(timeout=30, fail=True)
            await message.ack()
        await channel.exchange_delete(_EXCHANGE)
    assert message.headers["regards.tenant"] == "t"
    body = json.loads(message.body)
    assert (body["message"], body["level"]) == ("it answered 401", "ERROR")
    assert (body["roleRecipients"], body["projectUserRecipients"]) == (["EXPLOIT"], [])


async def test_an_exchange_that_is_gone_leaves_no_response_unconfirmed(
    settings: Settings,
) -> None:
    """RabbitMQ closes the channel then, and confirms nothing that is written on it."""
    wanted = settings.model_copy(update={"notice_roles": ("EXPLOIT",)})
    notice = Notice(tenant="t", about="rs-order", title="No right", message="it answered 401")
    async with (
        connect(settings.amqp_url.get_secret_value(), start_timeout=30) as connection,
        open_publisher(connection, topology=topology_of(wanted)) as publisher,
    ):
        async with connection.channel() as channel:
            await channel.exchange_delete(_EXCHANGE)
        refused, *confirmed = await asyncio.gather(
            publish(notice, publisher=publisher, roles=wanted.notice_roles),
            *(publisher.publish(make_outgoing()) for _ in range(50)),
            return_exceptions=True,
        )
    assert isinstance(refused, BrokerUnavailableError)
    assert confirmed == [None] * 50
