"""`delivery topology`: RabbitMQ's exchanges and queues, where the service may not make them."""

from __future__ import annotations

import asyncio

import click

from app.run.wiring.amqp import declare_topology
from app.settings import load_settings
from streams.amqp import rights


@click.group()
def topology() -> None:
    """RabbitMQ: exchanges, queues, bindings, and the rights that the service needs there."""


@topology.command()
def apply() -> None:
    """Declare what is missing, as the user of DELIVERY_AMQP_URL; the service need not, then.

    Run it with a user that may, and the service with DELIVERY_AMQP_DECLARE=false.
    """
    asyncio.run(declare_topology(load_settings()))
    click.echo("exchanges, queues and bindings are there")


@topology.command()
@click.argument("user")
def permissions(user: str) -> None:
    """Print the command that gives USER what the service needs, by DELIVERY_AMQP_DECLARE."""
    settings = load_settings()
    needed = rights.needed(declares=settings.amqp_declare, notices=bool(settings.notice_roles))
    click.echo(rights.command(user, settings.amqp_url.get_secret_value(), needed))
