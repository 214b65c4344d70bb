"""Acknowledgements that RabbitMQ may not have read: AMQP has no answer to one.

What breaks a connection takes along what is on its way, and RabbitMQ gives those messages again,
after its own restart perhaps without the flag that says so. But a channel does what it is asked in
order: when it answers a later question, it has read all that was sent before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from uuid import UUID

from aio_pika.exceptions import CONNECTION_EXCEPTIONS


class Unheard:
    """Arrivals whose acknowledgement was sent and may not have been read."""

    def __init__(self) -> None:
        self._before: list[UUID] = []  # the last question
        self._since: list[UUID] = []

    def __bool__(self) -> bool:
        return bool(self._before or self._since)

    def sent(self, ingress_id: UUID) -> None:
        """Note that the message of an arrival was acknowledged."""
        self._since.append(ingress_id)

    def answered(self) -> None:
        """Note that the channel has answered a question.

        Let go are those from before the question that was answered last: what was acknowledged
        while this one was asked may be behind it, and what RabbitMQ has read need not be on its
        disk.
        """
        self._before, self._since = self._since, []

    def lost(self) -> list[UUID]:
        """Return all that there are, and let them go: their messages may come again."""
        lost, self._before, self._since = [*self._before, *self._since], [], []
        return lost


async def is_answered(question: Awaitable[object]) -> bool:
    """Whether a channel answered a question, and was not closed before.

    However long it takes: aiormq closes a channel on which a question is given up.
    """
    try:
        await question
    except CONNECTION_EXCEPTIONS:
        return False
    except asyncio.CancelledError:
        # So aiormq ends, too, what it was asked on a connection that is stuck.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return False
    return True
