"""What was buried is kept beside its copy, where that can be done now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from app.telemetry.logs import get_logger
from app.views.dead_letters import BuriedLetter, DeadLetterTable

log = get_logger(__name__)

_TIMEOUT = 5.0  # seconds

# Keeps a letter whose copy is confirmed; never raises.
Keep: TypeAlias = Callable[[BuriedLetter], Awaitable[None]]


async def keep_nowhere(_letter: BuriedLetter) -> None:
    """Leave a letter to what looks for those that are not kept."""


def keeper(table: DeadLetterTable, *, timeout: float = _TIMEOUT) -> Keep:
    """Return what keeps letters.

    Their copies are in RabbitMQ or Kafka: where the database does not take one, nothing waits for
    that, and it is found by its copy later.
    """

    async def keep(letter: BuriedLetter) -> None:
        try:
            async with asyncio.timeout(timeout):
                await table.keep([letter], again=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the copy is there
            log.warning(
                "dead_letter_not_kept",
                letter=letter.id,
                tenant=letter.tenant,
                cause=str(error) or repr(error),
                consequence="it is found by its copy, and shown later",
            )

    return keep
