"""What is sent with BEGIN and COMMIT fails as what is sent alone, and leaves nothing behind."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from app.delivery import outgoing
from app.delivery.outgoing import Kind
from app.delivery.states import Work
from app.errors import LeaseLostError, StoreUnavailableError
from app.store import PostgresStore, open_pool
from app.store.objects import lock_of
from app.waiting.wakeup import Wakeup
from tests.builders import make_delivery, make_file, make_ingress
from tests.integration.conftest import Deliveries, short_limit
from tests.statements import STATEMENTS


async def test_a_lock_that_is_not_had_in_time_begins_no_transaction(
    database: str, deliveries: Deliveries
) -> None:
    first, second = make_ingress(), make_ingress()
    async with open_pool(database, size=1, start_timeout=30) as one:
        impatient = PostgresStore(one, Wakeup())
        async with deliveries.store.transaction(locking=[first.digest]):
            with short_limit("pg_advisory"), pytest.raises(StoreUnavailableError):
                async with impatient.transaction(locking=[second.digest, first.digest]):
                    pytest.fail("it had the lock")
            # Neither is that connection in a transaction, nor has it kept the other lock.
            async with asyncio.timeout(30):
                async with (
                    deliveries.store.transaction(locking=[second.digest]),
                    one.acquire() as connection,
                ):
                    assert not connection.is_in_transaction()
        async with impatient.transaction(locking=[first.digest]) as tx:
            assert await tx.record_receipts([first])


async def test_what_wakes_is_not_told_by_a_transaction_of_which_a_statement_failed(
    deliveries: Deliveries, pool: asyncpg.Pool
) -> None:
    wake = outgoing.wake(make_delivery(), Kind.TRANSFER)
    ready = outgoing.wake(make_delivery(), Kind.ORDER_READY)
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="a statement of it had failed"):
            async with deliveries.store.transaction() as tx:
                await tx.hint(wake)
                with pytest.raises(LeaseLostError):
                    await tx.add_files(make_delivery(), [make_file()])
        async with deliveries.store.transaction() as tx:
            await tx.hint(ready)
        assert await due() == {Work.PLAN}
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()


async def test_an_object_is_locked_by_the_names_that_other_versions_lock_it_by(
    deliveries: Deliveries, pool: asyncpg.Pool
) -> None:
    """What is sent with BEGIN has its arguments in its text: the same lock, whatever is in them."""
    url, namespace = "s3://b/é'\\'; --$1", "s3.example:80 {$2}"
    asked = STATEMENTS["try_lock_object"](url=url, namespace=namespace)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(lock_of(url, namespace))
        assert not await pool.fetchval(*asked)
    assert await pool.fetchval(*asked)
