"""The outbox: what is owed, until a broker has confirmed it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg

from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.errors import BrokerUnavailableError, NotSentError, as_cause
from app.store.later import LaterKinds
from app.store.pool import translate_errors
from app.store.sql import load
from app.telemetry.logs import get_logger
from app.views.deliveries import Owed

log = get_logger(__name__)

SQL = load(__name__)

_KINDS = [kind.value for kind in Kind]
_MAX_WAIT = timedelta(seconds=15)


class PostgresOutbox:
    """Hands out what is due, and forgets what was confirmed."""

    def __init__(self, pool: asyncpg.Pool, *, batch: int) -> None:
        self._pool = pool
        self._batch = batch
        self._later_kinds = LaterKinds("messages that are owed")

    async def relay(
        self, lane: Lane, publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> tuple[int, int]:
        """Publish what is due; return how many are dealt with and how many must wait.

        `publish` returns once the broker has confirmed, and raises BrokerUnavailableError
        otherwise; NotSentError where the broker surely never had it. Rows stay locked meanwhile:
        when this process dies, another takes them.

        Who ends a delivery takes its order request back if it is known not to be out. So that is
        noted where it is so, and taken back in a transaction of its own before the next try: else a
        relay that died after it had sent would leave a request behind of which it is said that it
        is not out.
        """
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                due = await connection.fetch(
                    *SQL["due"](lane=lane.value, kinds=_KINDS, limit=self._batch)
                )
                if not due:  # the table is short then, as a rule
                    if self._later_kinds.look_is_due():
                        later = await connection.fetch(
                            *SQL["later_messages"](lane=lane.value, known=_KINDS)
                        )
                        self._later_kinds.tell(row["kind"] for row in later)
                    return 0, 0
                rows = [row for row in due if not row["not_sent"]]
                again = [row["id"] for row in due if row["not_sent"] and not row["withdrawn"]]
                outcomes = await asyncio.gather(
                    *(publish(_outgoing_of(row)) for row in rows), return_exceptions=True
                )
                sent = []
                for row, outcome in zip(rows, outcomes, strict=True):
                    if outcome is None:
                        sent.append(row["id"])
                    elif isinstance(outcome, Exception):
                        # Whatever it is: one message must not hold up those of others.
                        if not isinstance(outcome, BrokerUnavailableError):
                            log.error("message_not_sent", row=row["id"], exc_info=outcome)
                        await connection.execute(
                            *SQL["postpone"](
                                id=row["id"],
                                error=as_cause(str(outcome)),
                                not_sent=isinstance(outcome, NotSentError),
                                longest=_MAX_WAIT,
                            )
                        )
                    else:
                        raise outcome
                await connection.execute(*SQL["sent"](ids=sent))
                withdrawn = [row["id"] for row in due if row["withdrawn"]]
                if again:  # in the next pass, which is at once
                    await connection.execute(*SQL["about_to_send"](ids=again))
                if withdrawn:
                    await connection.execute(*SQL["withdraw_orders"](ids=withdrawn))
        return len(due) - (unsent := len(rows) - len(sent)), unsent


async def owed(connection: asyncpg.Pool | asyncpg.Connection[asyncpg.Record]) -> list[Owed]:
    """Return how many messages wait in each lane."""
    return [Owed(**row) for row in await connection.fetch(*SQL["owed"]())]


async def last_error(connection: asyncpg.Connection[asyncpg.Record]) -> str | None:
    """Return why the message that waits longest was not confirmed."""
    cause: str | None = await connection.fetchval(*SQL["last_error"]())
    return cause


def _outgoing_of(row: asyncpg.Record) -> OutgoingMessage:
    return OutgoingMessage(
        delivery_id=row["delivery_id"],
        kind=Kind(row["kind"]),
        message_id=row["message_id"],
        tenant=row["tenant"],
        correlation_id=row["correlation_id"],
        priority=row["priority"],
        origin_app=row["origin_app"],
        body=row["body"],
        trace=row["trace"],
    )
