"""Dead letters of both kinds, looked at together. See `app.letters.LetterBox`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from app.errors import BrokerUnavailableError, NotReachableError, UnknownLetterError
from app.letters import Letter, Noting
from app.settings import Settings
from streams import dead_events
from streams.amqp import connect
from streams.amqp_line import line_of
from streams.dead_events import DeadEvent
from streams.dead_letters import QUEUES, DeadLetter, DeadLetters, open_dead_letters
from streams.kafka import open_event_log
from streams.topology import topology_of

_LIMIT = 500  # letters of each queue
_SHOWN = 2000  # characters of a body
_TIMEOUT = 5.0  # seconds to connect


class Letters:
    """Connects for each look: dead letters are few, and looked at rarely."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self, tenant: str | None) -> list[Letter]:
        """Return the letters of a tenant; all of them for None."""
        async with self._queues() as queues:
            letters = [of_message(one) for one in await queues.look(list(QUEUES), limit=_LIMIT)]
        letters += [of_event(one) for one in await self._events()]
        return [letter for letter in letters if tenant is None or letter.tenant == tenant]

    async def requeue(
        self, tenant: str | None, ids: Sequence[str], *, noting: Noting
    ) -> dict[str, str]:
        """Put letters back, each noted as it goes."""
        where: dict[str, str] = {}
        events = {f"event:{one.id}": one for one in await self._events()}
        async with self._queues() as queues:
            messages = {
                f"amqp:{one.id}": one for one in await queues.look(list(QUEUES), limit=_LIMIT)
            }
            _check(tenant, ids, messages, events)
            for one in ids:
                if one in messages:
                    message = messages[one]
                    async with noting(of_message(message), message.origin or "nowhere"):
                        where[one] = await queues.requeue(message)
        chosen = [one for one in ids if one in events]
        if chosen:
            async with open_event_log(self._settings) as log:
                for one in chosen:
                    async with noting(of_event(events[one]), events[one].topic or "nowhere"):
                        where[one] = await dead_events.put_back(events[one], log)
        return where

    async def _events(self) -> list[DeadEvent]:
        return await dead_events.look(self._settings)

    @contextlib.asynccontextmanager
    async def _queues(self) -> AsyncIterator[DeadLetters]:
        try:
            async with (
                connect(line_of(self._settings), start_timeout=_TIMEOUT) as connection,
                open_dead_letters(connection, topology=topology_of(self._settings)) as letters,
            ):
                yield letters
        except NotReachableError as error:
            raise BrokerUnavailableError(str(error)) from error


def _check(
    tenant: str | None,
    ids: Sequence[str],
    messages: dict[str, DeadLetter],
    events: dict[str, DeadEvent],
) -> None:
    """Raise UnknownLetterError unless all of them are there, and the tenant's."""
    letters = [of_message(messages[one]) for one in ids if one in messages]
    letters += [of_event(events[one]) for one in ids if one in events]
    mine = {letter.id for letter in letters if tenant is None or letter.tenant == tenant}
    missing = [one for one in ids if one not in mine]
    if missing:
        raise UnknownLetterError(
            f"there is no dead letter {', '.join(missing)[:300]} (any more); nothing was put back"
        )


def of_message(letter: DeadLetter) -> Letter:
    """Return a message as operators see it."""
    return Letter(
        id=f"amqp:{letter.id}",
        place=QUEUES[letter.queue],
        tenant=letter.tenant,
        correlation_id=letter.correlation_id,
        at=letter.message.timestamp,
        size=len(letter.message.body),
        reason=letter.reason,
        text=_text(letter.message.body),
    )


def of_event(event: DeadEvent) -> Letter:
    """Return an event as operators see it."""
    tenant, _, correlation_id = event.key.decode(errors="replace").partition("/")
    return Letter(
        id=f"event:{event.id}",
        place=event.topic or "unknown topic",
        tenant=tenant or None,
        correlation_id=correlation_id or None,
        at=event.at,
        size=len(event.value),
        reason=event.reason,
        text=_text(event.value),
    )


def _text(content: bytes) -> str:
    return content[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN]
