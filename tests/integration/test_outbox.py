"""What sending what is owed costs PostgreSQL."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from asyncpg.connection import LoggedQuery
from asyncpg.pool import PoolConnectionProxy

from app.delivery.outgoing import Lane, OutgoingMessage
from app.store.outbox import PostgresOutbox
from tests.integration.conftest import Deliveries
from tests.statements import STATEMENTS

_KINDS = ["response", "order", "order-ready"]
_WAITING = 2000
_BATCH = 50


async def _burst(deliveries: Deliveries, *, state: str) -> None:
    """Owe an order request, and in another lane an event, for each of many deliveries."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank) "
        "SELECT gen_random_uuid(), 't', 'd' || n, $2, 'u', 'default', '{}', 1, now(), now(), now() "
        "FROM generate_series(1, $1::int) AS n",
        _WAITING,
        state,
    )
    await deliveries.pool.execute(
        "INSERT INTO outbox (lane, delivery_id, kind, message_id, tenant, correlation_id, "
        "priority, body) "
        "SELECT lane, id, kind, gen_random_uuid(), tenant, correlation_id, 1, '{}' FROM delivery, "
        "(VALUES ('orders', 'order'), ('events', 'order-ready')) AS owed (lane, kind) "
        "WHERE tenant = 't'"
    )


class _OneConnection:
    """A pool that gives out one connection, which a test listens to."""

    def __init__(self, connection: PoolConnectionProxy) -> None:
        self._connection = connection

    def acquire(self) -> _OneConnection:
        return self

    async def __aenter__(self) -> PoolConnectionProxy:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        """The test has it until its end."""


@pytest.mark.parametrize("state", ["GRANTED", "DONE", "ERROR"])
@pytest.mark.parametrize("lane", ["orders", "events"])
@pytest.mark.parametrize("analyzed", ["never", "before", "now"])
async def test_a_pass_reads_no_more_than_it_sends(
    deliveries: Deliveries, *, state: str, lane: str, analyzed: str
) -> None:
    """By indexes only, however much waits and is kept, and whatever PostgreSQL knows of that."""
    if analyzed == "before":
        await deliveries.granted()
        await deliveries.pool.execute("ANALYZE")
        await deliveries.pool.execute("DELETE FROM outbox")
    await _burst(deliveries, state=state)
    if analyzed == "now":
        await deliveries.pool.execute("ANALYZE")
    text, *arguments = STATEMENTS["due"](lane=lane, kinds=_KINDS, limit=_BATCH)
    rows = await deliveries.pool.fetch(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments
    )
    plan = "\n".join(row[0] for row in rows)
    read = [int(count) for count in re.findall(r"actual rows=(\d+)", plan)]
    passed_over = [int(count) for count in re.findall(r"Rows Removed by .*: (\d+)", plan)]
    assert max(read) == _BATCH, plan
    assert max(passed_over, default=0) <= _BATCH, plan


async def test_a_burst_of_orders_takes_as_many_statements_as_passes(
    deliveries: Deliveries,
) -> None:
    """That each may be out is noted for all of a pass in one statement, and none is for nothing."""
    orders = 20
    for number in range(orders):
        await deliveries.granted(f"d{number}")
    names = {statement.text: name for name, statement in STATEMENTS.items()}
    sent: list[OutgoingMessage] = []

    async def publish(message: OutgoingMessage) -> None:
        sent.append(message)

    asked: Counter[str] = Counter()

    def hear(query: LoggedQuery) -> None:
        asked[names.get(query.query, query.query.partition(" ")[0].rstrip(";"))] += 1

    async with deliveries.pool.acquire() as connection:
        outbox = PostgresOutbox(_OneConnection(connection), batch=_BATCH)  # type: ignore[arg-type]
        with connection.query_logger(hear):
            for lane in (Lane.ORDERS, Lane.RESPONSES):
                while (await outbox.relay(lane, publish))[0]:
                    pass
    assert len(sent) == 2 * orders
    assert asked == {
        "BEGIN": 5,
        "COMMIT": 5,
        "due": 5,  # the last of each lane finds nothing
        "begin_orders": 1,
        "sent": 2,
        "later_messages": 2,
    }
