"""What could not be handled, in RabbitMQ's dead-letter queues and on Kafka's dead-letter topic."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from app.run.wiring.amqp import open_connection
from app.settings import Settings
from app.views.dead_letters import DeadLetterStore
from streams.amqp.dead_letters import DeadLetterQueues, open_dead_letter_queues
from streams.amqp.topology import topology_of
from streams.operators.dead_letters import BrokerDeadLetters


def dead_letter_store(settings: Settings, *, known: Callable[[str], bool]) -> DeadLetterStore:
    """Return both kinds together; `known` tells which tenants are served here."""
    return BrokerDeadLetters(settings, known=known)


@contextlib.asynccontextmanager
async def open_queues(settings: Settings) -> AsyncIterator[DeadLetterQueues]:
    """Open RabbitMQ's dead-letter queues, for one command. Raises ConfigurationError."""
    async with (
        open_connection(settings) as connection,
        open_dead_letter_queues(connection, topology=topology_of(settings)) as dead_letters,
    ):
        yield dead_letters
