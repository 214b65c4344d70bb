"""What many deliveries at once cost PostgreSQL."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

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
        "priority, body, not_sent) SELECT "
        "lane, id, kind, gen_random_uuid(), tenant, correlation_id, 1, '{}', kind = 'order' "
        "FROM delivery, "
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

    async def fetchval(self, query: str, *arguments: object) -> object:
        return await self._connection.fetchval(query, *arguments)


async def _count(deliveries: Deliveries, analyzed: str, *, state: str) -> None:
    """Let a burst come after PostgreSQL counted one delivery and its messages, or nothing."""
    if analyzed == "before":
        await deliveries.granted()
        await deliveries.pool.execute("ANALYZE")
        await deliveries.pool.execute("DELETE FROM outbox")
    await _burst(deliveries, state=state)
    if analyzed == "now":
        await deliveries.pool.execute("ANALYZE")


async def _read(deliveries: Deliveries, name: str, **arguments: Any) -> tuple[int, str]:
    """Return the most rows that a step of a statement read, or passed over; and the plan."""
    text, *values = STATEMENTS[name](**arguments)
    rows = await deliveries.pool.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *values)
    plan = "\n".join(row[0] for row in rows)
    counts = re.findall(r"actual rows=(\d+)|Rows Removed by .*: (\d+)", plan)
    return max(int(read or passed_over) for read, passed_over in counts), plan


@pytest.mark.parametrize("state", ["GRANTED", "DONE", "ERROR"])
@pytest.mark.parametrize(
    ("name", "lane", "by"),
    [
        ("due", "orders", {}),
        ("due", "events", {}),
        ("begin_new_orders", "orders", {"by": uuid4()}),
    ],
    ids=["orders", "events", "new orders"],
)
@pytest.mark.parametrize("analyzed", ["never", "before", "now"])
async def test_a_pass_reads_no_more_than_it_sends(
    deliveries: Deliveries, *, state: str, name: str, lane: str, by: dict[str, UUID], analyzed: str
) -> None:
    """By indexes only, however much waits and is kept, and whatever PostgreSQL knows of that."""
    await _count(deliveries, analyzed, state=state)
    most, plan = await _read(
        deliveries,
        name,
        **by,
        lane=lane,
        kinds=_KINDS,
        limit=_BATCH,
        patience=timedelta(minutes=1),
        begun=uuid4(),
        turn=timedelta(seconds=10),
    )
    assert most == _BATCH, plan


@pytest.mark.parametrize("state", ["GRANTED", "DONE", "ERROR"])
@pytest.mark.parametrize("analyzed", ["never", "before", "now"])
async def test_an_answer_of_rs_order_reads_its_own_deliveries_alone(
    deliveries: Deliveries, *, state: str, analyzed: str
) -> None:
    await _count(deliveries, analyzed, state=state)
    key = {"tenant": "t", "correlation_id": "d7"}
    for name, arguments in (
        ("lock_active", {}),
        ("awaited_unless_had", {"order_id": 7, "arrived_at": None}),
        ("awaited_orders", {"arrived_at": None}),
    ):
        most, plan = await _read(deliveries, name, **key, **arguments)
        assert most <= 1, plan


@pytest.mark.parametrize("state", ["ORDERED", "TRANSFERRING"])
@pytest.mark.parametrize("analyzed", ["never", "before", "now"])
async def test_a_look_at_quiet_orders_reads_those_that_it_takes(
    deliveries: Deliveries, *, state: str, analyzed: str
) -> None:
    """However many wait for rs-order, or have begun and don't."""
    await _count(deliveries, "before" if analyzed == "before" else "never", state=state)
    await deliveries.pool.execute(
        "UPDATE delivery SET order_id = 1, parked = $1, announced = 1, listed = 1, "
        "plan = CASE WHEN state = 'TRANSFERRING' THEN '{}'::json END, "
        "not_before = now() - interval '1 hour' - random() * interval '1 hour' WHERE tenant = 't'",
        state == "TRANSFERRING",
    )
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, order_id, not_before) "
        "SELECT gen_random_uuid(), 't', 'b' || n, 'AVAILABLE', 'u', 'default', '{}', 1, now(), "
        "now(), now(), 1, now() - interval '3 hours' FROM generate_series(1, $1::int) AS n",
        _WAITING,
    )
    if analyzed == "now":
        await deliveries.pool.execute("ANALYZE")
    most, plan = await _read(deliveries, "quiet_orders", after=timedelta(minutes=15), limit=1)
    assert most == 1, plan


@pytest.mark.parametrize("analyzed", ["never", "before", "now"])
async def test_the_places_of_a_user_are_looked_for_among_its_own_deliveries(
    deliveries: Deliveries, *, analyzed: str
) -> None:
    """Of which there are many, and more of others."""
    await _count(deliveries, "before" if analyzed == "before" else "never", state="DONE")
    await deliveries.pool.execute(
        "UPDATE delivery SET order_id = 1, user_email = 'u' || right(correlation_id, 1), "
        "finished_at = now() - random() * interval '1 hour' WHERE tenant = 't'"
    )
    if analyzed == "now":
        await deliveries.pool.execute("ANALYZE")
    most, plan = await _read(
        deliveries,
        "record_places_of",
        tenant="t",
        user="u7",
        within=timedelta(days=1),
        limit=20,
    )
    assert most == 20, plan


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
        "BEGIN": 4,
        "COMMIT": 4,
        "due": 4,  # the last of each lane finds nothing
        "begin_new_orders": 2,
        "sent": 2,
        "later_messages": 2,
    }
