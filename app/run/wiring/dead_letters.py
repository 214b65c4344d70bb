"""What could not be handled, in RabbitMQ's dead-letter queues and on Kafka's dead-letter topic."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from app.run.wiring.amqp import open_connection
from app.run.wiring.database import PostgresDatabase
from app.settings import Settings
from app.tenants.registry import ConfiguredTenants
from streams.amqp.dead_letters import DeadLetterQueues, open_dead_letter_queues
from streams.amqp.topology import topology_of
from streams.operators.dead_letter_sweep import DeadLetterSweep
from streams.operators.dead_letters import BrokerDesk


def dead_letter_desk(database: PostgresDatabase, tenants: ConfiguredTenants) -> BrokerDesk:
    """Return where letters of both kinds are looked for, mended, put back and removed."""
    return BrokerDesk(
        database.settings,
        table=database.dead_letters,
        leading=database.leader.leading,
        tenants=tenants,
    )


def dead_letter_sweep(database: PostgresDatabase) -> DeadLetterSweep:
    """Return what keeps letters that were buried without being kept."""
    return DeadLetterSweep(
        database.settings, table=database.dead_letters, leading=database.leader.leading
    )


@contextlib.asynccontextmanager
async def open_queues(settings: Settings) -> AsyncIterator[DeadLetterQueues]:
    """Open RabbitMQ's dead-letter queues, for one command. Raises ConfigurationError."""
    async with (
        open_connection(settings) as connection,
        open_dead_letter_queues(connection, topology=topology_of(settings)) as dead_letters,
    ):
        yield dead_letters
