"""`delivery topology`: RabbitMQ's exchanges and queues, where the service may not make them."""

from __future__ import annotations

import asyncio

import click

from app.settings import Settings, load_settings
from streams.amqp import rights
from streams.amqp.line import line_of
from streams.amqp.publisher import connect, open_publisher
from streams.amqp.topology import Topology


@click.group()
def topology() -> None:
    """RabbitMQ: exchanges, queues, bindings, and the rights that the service needs there."""


@topology.command()
def apply() -> None:
    """Declare what is missing, as the user of DELIVERY_AMQP_URL; the service need not, then.

    Run it with a user that may, and the service with DELIVERY_AMQP_DECLARE=false.
    """
    asyncio.run(_declare(load_settings()))
    click.echo("exchanges, queues and bindings are there")


async def _declare(settings: Settings) -> None:
    made = Topology(kind=settings.amqp_queue_type)
    async with (
        connect(line_of(settings), start_timeout=5) as connection,
        open_publisher(connection, topology=made),
    ):
        pass


@topology.command()
@click.argument("user")
def permissions(user: str) -> None:
    """Print the command that gives USER what the service needs, by DELIVERY_AMQP_DECLARE."""
    settings = load_settings()
    needed = rights.needed(declares=settings.amqp_declare)
    click.echo(rights.command(user, settings.amqp_url.get_secret_value(), needed))
