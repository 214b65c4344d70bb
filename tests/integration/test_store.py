"""PostgreSQL keeps the invariants: once, in order, and only by the one who holds the lease."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from app.delivery import outgoing
from app.delivery.orders import OrderStatus
from app.delivery.outgoing import Kind
from app.delivery.states import State, Work
from app.errors import ConfigurationError, NotReachableError, StoreUnavailableError
from app.settings import Settings
from app.store import PostgresStore, migrate, open_pool, parameters_of
from app.store.schema import steps
from app.waiting.wakeup import Wakeup
from tests.builders import make_message, make_stored
from tests.certificates import Authority
from tests.integration.conftest import Deliveries, short_limit
from tests.statements import STATEMENTS


async def test_workers_that_start_at_once_migrate_once(database: str) -> None:
    async with open_pool(database, size=10, start_timeout=30) as pool:
        applied = await asyncio.gather(*(migrate(pool) for _ in range(8)))
        assert sorted(len(names) for names in applied) == [0] * 7 + [len(steps())]
        assert await migrate(pool) == []


async def test_a_process_that_does_not_go_on_keeps_its_locks_for_two_minutes(
    pool: asyncpg.Pool,
) -> None:
    """Frozen in a transaction, or its machine is gone: the kernel alone would wait two hours."""
    names = (
        *("idle_in_transaction_session_timeout", "tcp_user_timeout"),
        *("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
    )
    values = [await pool.fetchval("SELECT current_setting($1)", name) for name in names]
    assert values == ["2min", "60000", "30", "10", "3"]


async def test_statements_are_run_as_they_are_planned_and_not_compiled(pool: asyncpg.Pool) -> None:
    """Whatever the server has: compiling takes a hundred times as long as a pass of the relay."""
    jit = await pool.fetchrow("SELECT setting, source FROM pg_settings WHERE name = 'jit'")
    assert jit is not None
    assert (jit["setting"], jit["source"]) == ("off", "client")


async def test_a_migration_takes_longer_than_any_other_statement_may(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the wait of those that start beside it."""
    slow = [(1, "0001_slow.sql", "SELECT pg_sleep(1.5)")]
    monkeypatch.setattr(sys.modules["app.store.migrate"], "steps", lambda: slow)
    async with open_pool(database, size=3, start_timeout=30) as pool:
        with short_limit("pg_sleep", "pg_advisory"):
            applied = await asyncio.gather(*(migrate(pool) for _ in range(3)))
    assert sorted(len(names) for names in applied) == [0, 0, 1]


async def test_a_migration_that_waits_for_a_table_stands_in_no_ones_way(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup reads the table for hours; who reads or writes it meanwhile must get on."""
    later = [*steps(), (9999, "9999_later.sql", "ALTER TABLE delivery ADD later integer")]
    waits = (
        "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE datname = current_database() AND relation = 'delivery'::regclass AND NOT granted)"
    )
    module = sys.modules["app.store.migrate"]
    monkeypatch.setattr(module, "steps", lambda: later)
    async with pool.acquire() as backup:
        async with backup.transaction():
            await backup.fetchval("SELECT count(*) FROM delivery")
            migrating = asyncio.create_task(migrate(pool, retry_interval=0.1))
            while not await pool.fetchval(waits):
                await asyncio.sleep(0)
            assert await pool.fetchval("SELECT count(*) FROM delivery") == 0
            assert not migrating.done()
        assert await migrating == ["9999_later.sql"]


async def test_a_migration_beside_a_worker_delays_its_next_statement(database: str) -> None:
    """One of the version after, in a rolling upgrade: a transaction that ran before fails once."""
    async with open_pool(database, size=1, start_timeout=30) as pool:
        await migrate(pool)
        store = PostgresStore(pool, Wakeup())

        async def look() -> None:
            async with store.transaction() as tx:
                await tx.lock("t", "c")

        await look()
        await pool.execute("ALTER TABLE delivery ADD later integer NOT NULL DEFAULT 0")
        with pytest.raises(StoreUnavailableError):
            await look()
        await look()


async def test_a_database_that_is_newer_is_not_touched(pool: asyncpg.Pool) -> None:
    await pool.execute("INSERT INTO schema_migration (number, name) VALUES (9999, 'later')")
    with pytest.raises(ConfigurationError, match="start the newer version"):
        await migrate(pool)


async def test_a_database_without_tls_is_told_at_once_where_tls_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    ca = str(Authority(tmp_path).file)
    line = parameters_of(settings.model_copy(update={"database_ca": ca}))
    with pytest.raises(NotReachableError, match="the server has no TLS"):
        async with open_pool(line, size=3, start_timeout=600):
            pass


async def test_a_database_that_does_not_answer_is_told_in_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"no PostgreSQL answers at 127\.0\.0\.1:1"):
        async with open_pool("postgresql://u:p@127.0.0.1:1/d", size=3, start_timeout=0.3):
            pass


async def test_an_event_that_kafka_gives_again_changes_nothing(deliveries: Deliveries) -> None:
    message = make_message("c")
    for _ in range(3):
        await deliveries.grant(message)
    assert await deliveries.states() == ["GRANTED"]
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order"]


async def test_a_message_that_rabbitmq_gives_again_changes_nothing_even_after_the_end(
    deliveries: Deliveries,
) -> None:
    first = make_message("c")
    await deliveries.grant(first)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    again = make_message("c", digest=first.ingress.digest, redelivered=True)
    await deliveries.grant(again)
    assert await deliveries.states() == ["ERROR"]
    # The same request sent again by the client is another matter.
    resent = make_message("c", digest=first.ingress.digest)
    await deliveries.grant(resent)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_a_request_granted_by_two_workers_at_once_is_one_delivery(
    deliveries: Deliveries,
) -> None:
    message = make_message("c")
    await asyncio.gather(
        *(
            deliveries.grant(make_message("c", digest=message.ingress.digest, redelivered=True))
            for _ in range(6)
        )
    )
    assert await deliveries.states() == ["GRANTED"]
    assert len(await deliveries.owed()) == 2


async def test_a_value_that_fits_no_column_is_not_taken_for_an_outage(
    deliveries: Deliveries,
) -> None:
    """An outage is waited for, for ever; an event that can't be stored would hold up all others."""
    await deliveries.granted()
    with pytest.raises(asyncpg.DataError):
        await deliveries.tell(OrderStatus.GRANTED, order_id=2**70)
    await deliveries.tell(OrderStatus.GRANTED, order_id=2**63 - 1, total_suborders=2**40)
    assert await deliveries.states() == ["ORDERED"]


async def test_a_failed_transaction_owes_nothing(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    before = await deliveries.owed()
    with pytest.raises(RuntimeError):
        async with deliveries.store.transaction() as tx:
            await tx.advance(delivery, State.ORDERED, order_id=1)
            await tx.enqueue(outgoing.granted(delivery))
            raise RuntimeError
    assert await deliveries.owed() == before
    assert await deliveries.states() == ["GRANTED"]


@pytest.mark.parametrize(
    "events",
    [
        (OrderStatus.GRANTED, OrderStatus.SUBORDER_DONE, OrderStatus.DONE),
        (OrderStatus.DONE, OrderStatus.SUBORDER_DONE, OrderStatus.GRANTED),
        (OrderStatus.GRANTED, OrderStatus.GRANTED, OrderStatus.DONE, OrderStatus.DONE),
        (OrderStatus.DONE, OrderStatus.FAILED, OrderStatus.DENIED),
    ],
)
async def test_an_order_is_available_once_it_is_done(
    deliveries: Deliveries, events: tuple[OrderStatus, ...]
) -> None:
    await deliveries.granted()
    for status in events:
        await deliveries.tell(status, order_id=5, total_suborders=1)
    assert await deliveries.states() == ["AVAILABLE"]
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order"]
    assert {hint.kind for hint in deliveries.hinted} == {Kind.ORDER_READY}
    assert (await deliveries.active("c")).order_id == 5


async def test_more_suborders_than_its_tenant_takes_end_in_error_and_cancel(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted()
    await deliveries.tell(OrderStatus.GRANTED, order_id=5, total_suborders=2)
    await deliveries.tell(OrderStatus.SUBORDER_DONE, order_id=5, max_suborders=1)
    owed = await deliveries.owed()
    assert owed[-2][1]["errorType"] == "TOO_MANY_SUBORDERS"
    assert owed[-1] == ("cancel", {"orderId": 5, "correlationId": "c"})


async def test_an_event_of_another_order_or_delivery_changes_nothing(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted()
    await deliveries.tell(OrderStatus.GRANTED, order_id=5)
    await deliveries.tell(OrderStatus.FAILED, order_id=4)
    await deliveries.tell(OrderStatus.FAILED, "unknown")
    assert await deliveries.states() == ["ORDERED"]


async def test_a_delivery_goes_through_its_states(deliveries: Deliveries) -> None:
    await deliveries.ready()
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert (claimed.attempt, claimed.file_count, claimed.total_bytes) == (1, 3, 3)
    assert [f.member async for f in deliveries.store.files(claimed)] == ["f0", "f1", "f2"]
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
    assert await deliveries.history(claimed.id) == [
        "GRANTED",
        "AVAILABLE",
        "READY",
        "TRANSFERRING",
        "DONE",
    ]


@pytest.mark.parametrize("name", ["browse", "changes", "changes_of_tenant", "changes_of_user"])
async def test_lists_and_feeds_do_not_read_what_was_ordered(pool: asyncpg.Pool, name: str) -> None:
    """A thousand orders of half a megabyte each would be read for a page that shows none."""
    async with pool.acquire() as connection:
        statement = await connection.prepare(STATEMENTS[name].text)
        names = {attribute.name for attribute in statement.get_attributes()}
    assert "last_cause" in names
    assert "order_request" not in names


async def test_the_store_knows_whether_every_size_is_listed(
    pool: asyncpg.Pool, deliveries: Deliveries
) -> None:
    delivery = await deliveries.ready()
    assert (await deliveries.store.extent(delivery)).sizes_known
    await pool.execute("UPDATE delivery_file SET size = NULL WHERE position = 1")
    assert not (await deliveries.store.extent(delivery)).sizes_known


async def test_a_worker_of_the_version_before_asks_for_nothing_in_the_future(
    deliveries: Deliveries,
) -> None:
    """It takes its own clock for the time of a request, and may be minutes ahead."""
    ahead = datetime.now(UTC) + timedelta(minutes=7)
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank) "
        "VALUES ($1, 't', 'old', 'GRANTED', 'u', 'x', '{}', 1, $2, $2, $2)",
        uuid4(),
        ahead,
    )
    old = await deliveries.active("old", "t")
    assert old.requested_at < ahead - timedelta(minutes=3)


async def test_a_database_that_becomes_read_only_delays_what_begins_later(
    pool: asyncpg.Pool, database: str, deliveries: Deliveries
) -> None:
    """As a failover leaves it: what has begun goes on, and no connection is good for more."""
    name = database.rpartition("/")[2]
    admin = await asyncpg.connect(database)
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await pool.expire_connections()
        assert await tx.advance(delivery, State.ORDERED, order_id=1)
    with pytest.raises(StoreUnavailableError):
        async with deliveries.store.transaction() as tx:
            await tx.advance(delivery, State.AVAILABLE)
    with pytest.raises(StoreUnavailableError):
        await deliveries.store.expired(9)
    await admin.execute("SET default_transaction_read_only = off")
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await admin.close()
    delivery = await deliveries.active(delivery.correlation_id)
    assert delivery.state is State.ORDERED
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.AVAILABLE)
