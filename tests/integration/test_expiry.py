"""What happens by the clock: requests end, and what has ended is forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.delivery.orders import OrderStatus
from app.delivery.states import State, Work
from app.store import PostgresJanitor, open_pool
from app.usecases.expire import expire
from app.usecases.submit import check
from app.usecases.transfer import COMPLETION
from app.views.history import Step
from compose.embedded.stack import TENANT, USER
from compose.rs_order.faults import Faults
from tests.builders import make_message, make_stored
from tests.integration.conftest import Deliveries
from tests.twins.users import MemoryUsers


async def test_a_delivery_whose_time_is_over_ends_in_any_state(
    deliveries: Deliveries,
) -> None:
    hours_ago = datetime.now(UTC) - timedelta(hours=13)
    await deliveries.granted("granted", received_at=hours_ago)
    await deliveries.available("available", received_at=hours_ago)
    await deliveries.ready("transferring", received_at=hours_ago)
    await deliveries.granted("fresh")
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None

    async def look() -> int:
        return await expire(store=deliveries.store, limit=2)

    assert sum(await asyncio.gather(look(), look())) == 3
    assert await look() == 0
    assert await deliveries.states() == ["ERROR", "ERROR", "ERROR", "GRANTED"]
    assert not await leases.renew(claimed)
    errors = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert {body["errorType"] for body in errors} == {"EXPIRED"}
    assert {body["correlationId"]: body["message"] for body in errors} == {
        "granted": "not done within 12 hours; it was GRANTED at the end",
        "available": "not done within 12 hours; it was AVAILABLE at the end",
        "transferring": "not done within 12 hours; it was TRANSFERRING at the end",
    }
    cancelled = [
        body["correlationId"] for kind, body in await deliveries.owed() if kind == "cancel"
    ]
    assert sorted(cancelled) == ["available", "transferring"]


async def test_a_delivery_whose_user_is_not_checked_yet_ends_once(deliveries: Deliveries) -> None:
    """It was never granted, and what is said of its user later changes nothing."""
    await deliveries.receive(make_message("c"), users=MemoryUsers())
    assert await deliveries.states() == [State.RECEIVED]
    claimed = await deliveries.leases("w").claim(Work.CHECK)
    assert claimed is not None
    await deliveries.pool.execute("UPDATE delivery SET expires_at = now()")
    assert await expire(store=deliveries.store, limit=10) == 1
    for known in (True, False):
        await check(
            claimed,
            store=deliveries.store,
            tenants=deliveries.tenants,
            users=MemoryUsers(Faults(unknown_users=[] if known else [USER])),
        )
    assert await deliveries.states() == ["ERROR"]
    ((kind, body),) = await deliveries.owed()
    assert (kind, body["status"], body["errorType"]) == ("response", "ERROR", "EXPIRED")
    assert body["message"].endswith("it was RECEIVED at the end")


async def test_every_overdue_delivery_ends_in_one_look(deliveries: Deliveries) -> None:
    hours_ago = datetime.now(UTC) - timedelta(hours=13)
    for number in range(7):
        await deliveries.granted(f"c{number}", received_at=hours_ago)
    assert await expire(store=deliveries.store, limit=3) == 7


async def test_an_order_that_becomes_known_after_the_end_is_cancelled_once(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted(received_at=datetime.now(UTC) - timedelta(hours=13))
    await deliveries.order()
    await expire(store=deliveries.store, limit=10)
    for status in (OrderStatus.GRANTED, OrderStatus.SUBORDER_DONE, OrderStatus.DONE):
        await deliveries.tell(status, order_id=8)
    cancels = [body for kind, body in await deliveries.owed() if kind == "cancel"]
    assert cancels == [{"orderId": 8, "correlationId": "c"}]
    assert await deliveries.states() == ["ERROR"]


async def test_deliveries_that_ended_long_ago_are_forgotten_and_no_others(
    deliveries: Deliveries,
) -> None:
    for name in ("old", "recent"):
        await deliveries.ready(name)
        await deliveries.tell(OrderStatus.FAILED, name)  # too late: changes nothing
        claimed = await deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        async with deliveries.store.transaction() as tx:
            await tx.advance(claimed, State.DONE)
    await deliveries.granted("active")
    old = "UPDATE delivery SET finished_at = now() - interval '8 days' WHERE correlation_id = 'old'"
    await deliveries.pool.execute(old)
    await deliveries.pool.execute("UPDATE inbox SET received_at = now() - interval '8 days'")
    await deliveries.pool.execute(
        "INSERT INTO asked (request, delivery_id, at) "
        "SELECT 'r', id, now() - interval '8 days' FROM delivery"
    )
    await deliveries.pool.execute(
        "INSERT INTO asked (request, key, delivery_id, at) "
        "SELECT 'r', days::text::bytea, gen_random_uuid(), now() - days * interval '1 day' "
        "FROM unnest(ARRAY[1, 8]) AS days"
    )
    await deliveries.pool.execute(
        "INSERT INTO audit (at, tenant, actor, role, action, subject) "
        "SELECT now() - days * interval '1 day', 't', 'a', 'r', 'cancel', 's' "
        "FROM unnest(ARRAY[1, 31]) AS days"
    )

    janitor = PostgresJanitor(deliveries.pool)
    week, month = timedelta(days=7), timedelta(days=30)
    assert await janitor.forget(finished=week, audited=month) == 1
    assert await janitor.forget(finished=week, audited=month) == 0
    assert await deliveries.pool.fetchval("SELECT count(*) FROM audit") == 1

    rows = await deliveries.pool.fetch("SELECT correlation_id FROM delivery ORDER BY 1")
    assert [row["correlation_id"] for row in rows] == ["active", "recent"]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 3
    # What a delivery that is kept came from must still be recognised.
    assert await deliveries.pool.fetchval("SELECT count(*) FROM inbox") == 2
    assert await deliveries.pool.fetchval("SELECT count(*) FROM asked") == 3


async def test_a_delivery_is_kept_while_a_report_of_it_may_be_there_that_none_was_told_of(
    deliveries: Deliveries,
) -> None:
    for name in ("told", "untold"):
        await deliveries.done(name)
    await deliveries.pool.execute(
        "UPDATE delivery SET finished_at = now() - interval '8 days', "
        "report_until = CASE correlation_id WHEN 'untold' THEN now() END"
    )
    week = timedelta(days=7)
    assert await PostgresJanitor(deliveries.pool).forget(finished=week, audited=week) == 1
    assert [row.correlation_id for row in await deliveries.rows()] == ["untold"]
    await deliveries.pool.execute("UPDATE delivery SET report_until = NULL")
    assert await PostgresJanitor(deliveries.pool).forget(finished=week, audited=week) == 1


async def test_what_is_forgotten_is_counted_by_the_day_that_it_ended_on(
    deliveries: Deliveries,
) -> None:
    for name in ("a", "b", "long ago"):
        await deliveries.done(name)
    await deliveries.ready("refused")
    await deliveries.ready("cancelled")
    await deliveries.pool.execute(
        "UPDATE delivery SET state = 'ERROR', error_type = 'INTERNAL_ERROR', error_message = 'm', "
        "error_code = CASE correlation_id WHEN 'cancelled' THEN 'CANCELLED' ELSE 'FAULT' END, "
        "finished_at = now() WHERE state = 'READY'"
    )
    await deliveries.pool.execute(
        "UPDATE delivery SET finished_at = now() - "
        "CASE correlation_id WHEN 'long ago' THEN 200 ELSE 8 END * interval '1 day'"
    )
    await deliveries.pool.execute(
        "INSERT INTO figure (tenant, target, day, done, failed, cancelled, bytes) "
        "SELECT tenant, target, (finished_at AT TIME ZONE 'UTC')::date - days, 10, 0, 0, 0 "
        "FROM delivery, unnest(ARRAY[0, 83]) AS days WHERE correlation_id = 'a'"
    )
    before = await deliveries.histories.history([TENANT], step=Step.DAY, target=None)
    size = await deliveries.pool.fetchval(
        "SELECT sum(total_bytes) FROM delivery WHERE correlation_id IN ('a', 'b')"
    )
    week = timedelta(days=7)
    assert await PostgresJanitor(deliveries.pool).forget(finished=week, audited=week) == 5
    after = await deliveries.histories.history([TENANT], step=Step.DAY, target=None)
    (day,) = [bucket for bucket in after if bucket.done]
    assert (day.done, day.failed, day.cancelled, day.bytes) == (12, 1, 1, size)
    both = {bucket.begins for bucket in before} & {bucket.begins for bucket in after}
    assert len(both) >= len(after) - 1  # at midnight
    assert [replace(bucket, active=0) for bucket in before if bucket.begins in both] == [
        replace(bucket, active=0) for bucket in after if bucket.begins in both
    ]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM figure") == 1


async def test_many_files_and_receipts_are_forgotten_in_short_statements(
    deliveries: Deliveries, database: str
) -> None:
    """As one statement, it would be cancelled each time, and nothing would ever be removed."""
    for name in ("huge", "small", "other"):
        await deliveries.ready(name)
        claimed = await deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        async with deliveries.store.transaction() as tx:
            await tx.advance(claimed, State.DONE)
    await deliveries.pool.execute(
        "INSERT INTO delivery_file (delivery_id, position, file_id, member) "
        "SELECT id, n, n, 'member' || n FROM delivery, generate_series(3, 999999) AS n "
        "WHERE correlation_id = 'huge'"
    )
    await deliveries.pool.execute(
        "INSERT INTO told_crc32 (delivery_id, file_id, crc32) "
        "SELECT id, n, n FROM delivery, generate_series(1, 500000) AS n "
        "WHERE correlation_id = 'huge'"
    )
    await deliveries.pool.execute(
        "INSERT INTO inbox (ingress_id, digest, received_at) "
        "SELECT gen_random_uuid(), 'd', now() - interval '8 days' "
        "FROM generate_series(1, 100000) AS n"
    )
    await deliveries.pool.execute(
        "UPDATE delivery SET finished_at = now() - interval '8 days', "
        "file_count = CASE correlation_id WHEN 'huge' THEN 1000000 ELSE 3 END"
    )
    await deliveries.pool.execute(
        "CREATE FUNCTION refuse_many() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF (SELECT count(*) FROM gone) > 20000 THEN RAISE 'one statement removes too much'; "
        "END IF; RETURN NULL; END $$"
    )
    for table in ("delivery_file", "told_crc32", "inbox"):
        await deliveries.pool.execute(
            f"CREATE TRIGGER short AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_many()"
        )
    async with open_pool(database, size=2, start_timeout=30, command_timeout=20) as impatient:
        week = timedelta(days=7)
        assert await PostgresJanitor(impatient).forget(finished=week, audited=week) == 3
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 0
    assert await deliveries.pool.fetchval("SELECT count(*) FROM inbox") == 3


async def test_a_delivery_is_kept_as_long_as_its_content_is_to_be_removed(
    deliveries: Deliveries,
) -> None:
    for name in ("kept", "removed", "forgotten"):
        await deliveries.ready(name)
        claimed = await deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        async with deliveries.store.transaction() as tx:
            assert await tx.advance(claimed, State.DONE, result=make_stored())
            await tx.keep_content(claimed, until=deliveries.now() + timedelta(days=90), key="k")
    await deliveries.pool.execute("UPDATE delivery SET finished_at = now() - interval '8 days'")
    # As the janitor of the version before does, or a person.
    await deliveries.pool.execute("DELETE FROM delivery WHERE correlation_id = 'forgotten'")
    await deliveries.pool.execute(
        "UPDATE content SET due_at = now(), asked_at = now() WHERE correlation_id <> 'kept'"
    )
    janitor = PostgresJanitor(deliveries.pool)
    week = timedelta(days=7)
    assert await janitor.forget(finished=week, audited=week) == 0
    due = await deliveries.contents.due(limit=9)
    assert {item.content.correlation_id for item in due} == {"removed", "forgotten"}
    for item in due:
        async with deliveries.store.transaction() as tx:
            assert await tx.content_removed(item.content, within=COMPLETION)
    assert await janitor.forget(finished=week, audited=week) == 1
    rows = await deliveries.pool.fetch("SELECT correlation_id FROM delivery")
    assert [row["correlation_id"] for row in rows] == ["kept"]
    rows = await deliveries.pool.fetch("SELECT correlation_id FROM content")
    assert [row["correlation_id"] for row in rows] == ["kept"]
