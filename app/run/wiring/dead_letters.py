"""What could not be handled, in RabbitMQ's dead-letter queues and on Kafka's dead-letter topic."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from app.run.wiring.amqp import open_connection
from app.settings import Settings
from app.views.dead_letters import LetterBox
from streams.amqp.dead_letters import DeadLetters, open_dead_letters
from streams.amqp.topology import topology_of
from streams.dead_letters import Letters


def letter_box(settings: Settings, *, known: Callable[[str], bool]) -> LetterBox:
    """Return both kinds together; `known` tells which tenants are served here."""
    return Letters(settings, known=known)


@contextlib.asynccontextmanager
async def open_queues(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Open RabbitMQ's dead-letter queues, for one command. Raises ConfigurationError."""
    async with (
        open_connection(settings) as connection,
        open_dead_letters(connection, topology=topology_of(settings)) as letters,
    ):
        yield letters
