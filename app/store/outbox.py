"""The outbox: what is owed, until a broker has confirmed it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg

from app.delivery.orders import ANSWER_PATIENCE, waits_for_answer
from app.delivery.outgoing import Kind, Lane, OutgoingMessage, Relayed
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
_TURN = timedelta(seconds=10)  # that what a pass has begun to send is left to the next one of it
# Between looks whether another order is answered, at first and in the end.
_ANSWER_INTERVAL = timedelta(seconds=2)
_MAX_ANSWER_INTERVAL = timedelta(seconds=15)


class PostgresOutbox:
    """Hands out what is due, and forgets what was confirmed."""

    def __init__(
        self, pool: asyncpg.Pool, *, batch: int, patience: timedelta = ANSWER_PATIENCE
    ) -> None:
        self._pool = pool
        self._batch = batch
        self._patience = patience
        self._later_kinds = {lane: LaterKinds("messages that are owed") for lane in Lane}
        self._begun: dict[Lane, UUID] = {}  # the pass before, where it has begun to send orders

    async def relay(
        self, lane: Lane, publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> Relayed:
        """Publish what is due; tell how many are dealt with, and whether more is due.

        `publish` returns once the broker has confirmed, and raises BrokerUnavailableError
        otherwise; NotSentError where the broker surely never had it. Rows stay locked meanwhile:
        when this process dies, another takes them.

        Who ends a delivery takes its order request back if that is surely not out, and each that is
        out is answered. So it is noted that one may be, in a transaction of its own, before it is
        sent in the next pass, each time: else a relay that died in the midst of sending would leave
        a request behind of which it is said that it is not out, or out once. Only the pass that has
        noted it may take that back, for NotSentError. Of those that were never sent it is noted by
        a pass that is one statement, and nothing else.

        A request that is not out waits for the answer to another one of its correlation id, at most
        for `patience` after the end of the delivery that asked for that, or after that went out.
        """
        if lane is Lane.ORDERS and lane not in self._begun and (new := await self._begin_new()):
            return Relayed(new, 0, more=True)
        return await self._pass(lane, publish)

    async def _pass(
        self, lane: Lane, publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> Relayed:
        this = uuid4()
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                begun = self._begun.pop(lane, None)
                due = await self._due(connection, lane, begun)
                waits = [row["id"] for row in due if row["waits"] and not row["withdrawn"]]
                owed = [row for row in due if not (row["withdrawn"] or row["waits"])]
                ready = [row for row in owed if _may_be_sent(row, begun)]
                sent = await _publish(connection, ready, publish)
                follows = False
                if sent:
                    follows = await connection.fetchval(*SQL["sent"](ids=sent))
                withdrawn = [row["id"] for row in due if row["withdrawn"]]
                for row in due:
                    if row["withdrawn"] and row["repeats"] and _may_be_sent(row, begun):
                        await connection.execute(*SQL["not_repeated"](id=row["id"]))
                if withdrawn:
                    await connection.execute(*SQL["withdraw_orders"](ids=withdrawn))
                if waits:
                    await self._let_wait(connection, waits)
                first = [row for row in owed if not _may_be_sent(row, begun)]
                fresh = [row["id"] for row in first if row["not_sent"]]
                if fresh:
                    await connection.execute(*SQL["begin_orders"](ids=fresh, by=this))
                again = [row["id"] for row in first if not row["not_sent"]]
                if again:
                    await connection.execute(*SQL["begin_again"](ids=again, by=this))
        if first:  # and that is committed
            self._begun[lane] = this
        unsent = len(ready) - len(sent)
        more = follows or bool(withdrawn or first) or _is_full(due)
        return Relayed(len(due) - unsent, unsent, more=more)

    async def _begin_new(self) -> int:
        """Note that order requests may be out from now on; the next pass sends them."""
        this = uuid4()
        new = SQL["begin_new_orders"](
            lane=Lane.ORDERS.value,
            kinds=_KINDS,
            limit=self._batch,
            patience=self._patience,
            begun=None,
            turn=_TURN,
            by=this,
        )
        with translate_errors():
            begun: int = await self._pool.fetchval(*new)
        if begun:
            self._begun[Lane.ORDERS] = this
        return begun

    async def _let_wait(
        self, connection: asyncpg.pool.PoolConnectionProxy, ids: Sequence[int]
    ) -> None:
        """Look at these again later, and note what they wait for where it is not noted."""
        rows = await connection.fetch(
            *SQL["let_wait"](ids=ids, pause=_ANSWER_INTERVAL, longest=_MAX_ANSWER_INTERVAL)
        )
        for row in rows:
            cause = waits_for_answer(row["earlier"], row["since"] + self._patience)
            if cause != row["last_cause"]:
                await connection.execute(*SQL["note_wait"](id=row["id"], cause=cause))

    async def _due(
        self, connection: asyncpg.pool.PoolConnectionProxy, lane: Lane, begun: UUID | None
    ) -> list[asyncpg.Record]:
        due: list[asyncpg.Record] = await connection.fetch(
            *SQL["due"](
                lane=lane.value,
                kinds=_KINDS,
                limit=self._batch,
                patience=self._patience,
                begun=begun,
                turn=_TURN,
            )
        )
        kinds = self._later_kinds[lane]
        if not due and kinds.take_look():  # the table is short then, as a rule
            later = await connection.fetch(*SQL["later_messages"](lane=lane.value, known=_KINDS))
            kinds.warn(row["kind"] for row in later)
        return due


def _is_full(due: Sequence[asyncpg.Record]) -> bool:
    """Whether a tenant has its share of what is sent at once: it may have more that is due."""
    of_tenants = Counter(row["tenant"] for row in due)
    return bool(due) and max(of_tenants.values()) >= due[0]["share"]


def _may_be_sent(row: asyncpg.Record, begun: UUID | None) -> bool:
    """Whether the pass before has noted that an order request may be out; no other need be."""
    return row["kind"] != Kind.ORDER or (begun is not None and row["begun_by"] == begun)


async def _publish(
    connection: asyncpg.pool.PoolConnectionProxy,
    rows: Sequence[asyncpg.Record],
    publish: Callable[[OutgoingMessage], Awaitable[None]],
) -> list[int]:
    """Publish messages side by side; return the ids of those that were confirmed."""
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
            surely = isinstance(outcome, NotSentError) and row["begun_by"] is not None
            if surely and row["repeats"]:
                await connection.execute(*SQL["not_repeated"](id=row["id"]))
            await connection.execute(
                *SQL["postpone"](
                    id=row["id"],
                    error=as_cause(str(outcome)),
                    not_sent=surely and not row["repeats"],
                    longest=_MAX_WAIT,
                )
            )
        else:
            raise outcome
    return sent


async def owed(connection: asyncpg.Pool | asyncpg.Connection[asyncpg.Record]) -> list[Owed]:
    """Return how many messages wait in each lane."""
    return [Owed(**row) for row in await connection.fetch(*SQL["owed"]())]


async def held_back(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[list[str], int] | None:
    """Return kinds of messages that only a later version knows, and how many others wait for them.

    None where there are none.
    """
    row = await connection.fetchrow(*SQL["held_back"](known=_KINDS))
    return (row["kinds"], row["behind"]) if row is not None else None


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
