"""The fewest connections that a process may have are enough while all long waits are waited."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg

from app.delivery.outgoing import Kind, Lane, OutgoingMessage, wake
from app.delivery.states import Work
from app.settings import Settings
from app.store import (
    Leader,
    PostgresConfiguration,
    PostgresOutbox,
    PostgresWorkNews,
    alone,
    open_pool,
)
from app.tenants.vault import Vault, make_key
from tests.integration.conftest import Deliveries


async def test_leases_are_renewed_while_all_long_waits_are_waited(
    pool: asyncpg.Pool, database: str, deliveries: Deliveries, settings: Settings
) -> None:
    ready = await deliveries.ready("c")
    await deliveries.granted("d")
    async with deliveries.store.transaction() as tx:  # as a worker of the version before owes it
        await tx.enqueue(wake(ready, Kind.TRANSFER))  # now there is something to send in each lane
    least = Settings(database_url=database, database_pool_size=8).database_pool_size
    busy = asyncio.Semaphore(0)

    async def silent(_message: OutgoingMessage) -> None:
        busy.release()
        await asyncio.Event().wait()

    async with contextlib.AsyncExitStack() as held, asyncio.timeout(60):
        few = await held.enter_async_context(open_pool(database, size=least + 1, start_timeout=30))
        await held.enter_async_context(PostgresWorkNews(few).listening())  # a worker's one more
        configuration = PostgresConfiguration(few, Vault([make_key()]))
        await held.enter_async_context(configuration.listening())
        assert await held.enter_async_context(Leader(few).leading("sweep"))
        await held.enter_async_context(alone(few, "topics"))

        async def relay(lane: Lane) -> None:
            outbox = PostgresOutbox(few, batch=1)
            while True:  # what is to be sent to rs-order is noted in a pass of its own
                await outbox.relay(lane, silent)

        for lane in Lane:
            relaying = asyncio.create_task(relay(lane))
            held.callback(relaying.cancel)
            await busy.acquire()
        assert few.get_size() - few.get_idle_size() == 7
        leases = Deliveries(few, settings).leases("w")
        delivery = await leases.claim(Work.TRANSFER)
        assert delivery is not None
        assert await leases.renew(delivery)
