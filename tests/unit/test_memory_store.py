"""The store in memory: what only it has, a clock and a way to it that are given."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.delivery.states import State, Work
from app.errors import StoreUnavailableError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.store.memory import MemoryDatabase, MemoryLeases, MemoryStore
from app.store.memory.locks import Locks, Mode
from app.tenants.registry import ConfiguredTenants
from app.usecases.submit import receive
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT
from streams.regards.users import AnyUser
from tests.builders import make_message

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    """It stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


async def grant(store: MemoryStore, number: int = 1) -> None:
    """Grant a request of this number."""
    message = make_message(f"c{number}", id=UUID(int=number), digest=b"%032d" % number)
    await receive(
        [message],
        store=store,
        tenants=ConfiguredTenants(Settings(tenants=(TENANT,)), KINDS),
        users=AnyUser(),
        checks=Wakeup(),
    )


def test_time_never_stands_still_nor_goes_back() -> None:
    clock = Clock()
    database = MemoryDatabase(now=clock)
    times = [database.clock() for _ in range(3)]
    clock.now = NOON - timedelta(hours=1)
    times.append(database.clock())
    assert times == sorted(set(times))
    clock.now = NOON + timedelta(hours=1)
    assert database.clock() == clock.now


async def test_a_lease_runs_out_by_the_clock_that_is_given() -> None:
    clock = Clock()
    database = MemoryDatabase(now=clock)
    store = MemoryStore(database, Wakeup())
    await grant(store)
    async with store.transaction() as tx:
        delivery = await tx.lock(TENANT, "c1")
        assert delivery is not None
        assert await tx.advance(delivery, State.AVAILABLE)
    first, second = (
        MemoryLeases(database, owner=name, ttl=timedelta(seconds=30)) for name in ("a", "b")
    )
    claimed = await first.claim(Work.PLAN)
    assert claimed is not None
    clock.now += timedelta(seconds=29)
    assert await second.claim(Work.PLAN) is None
    assert await first.renew(claimed)
    clock.now += timedelta(seconds=29)
    assert await second.claim(Work.PLAN) is None
    clock.now += timedelta(seconds=2)
    assert await second.claim(Work.PLAN) is not None
    assert not await first.renew(claimed)


@pytest.mark.parametrize("good", range(6))
async def test_a_store_that_goes_away_in_between_has_committed_nothing(good: int) -> None:
    """At the beginning, before a statement, or before the commit."""
    trips = 0

    async def trip() -> None:
        nonlocal trips
        trips += 1
        if trips > good:
            raise StoreUnavailableError("away")

    database = MemoryDatabase(trip=trip)
    with pytest.raises(StoreUnavailableError):
        await grant(MemoryStore(database, Wakeup()))
    assert list(database.deliveries.items()) == []
    assert list(database.outbox.items()) == []
    assert list(database.inbox.items()) == []


async def test_the_same_calls_give_the_same_rows() -> None:
    """Nothing depends on chance, on the machine's clock, or on an order that sets have."""

    async def played() -> object:
        database = MemoryDatabase(now=Clock())
        store = MemoryStore(database, Wakeup())
        await asyncio.gather(*(grant(store, number) for number in range(1, 20)))
        return list(database.deliveries.items()), list(database.outbox.items())

    assert await played() == await played()


async def test_locks_are_granted_in_the_order_of_asking() -> None:
    locks = Locks()
    granted: list[str] = []

    async def ask(owner: str, mode: Mode) -> None:
        await locks.take("row", owner, mode)
        granted.append(owner)

    await ask("first", Mode.KEY_SHARE)
    tasks = [
        asyncio.create_task(ask(owner, mode))
        for owner, mode in (
            ("beside it", Mode.NO_KEY_UPDATE),
            ("waits for both", Mode.UPDATE),
            ("comes behind, though it shares", Mode.KEY_SHARE),
        )
    ]
    await asyncio.sleep(0)
    assert granted == ["first", "beside it"]
    assert not locks.is_free("row", "another", Mode.KEY_SHARE)
    locks.release_all("first")
    await asyncio.sleep(0)
    assert granted == ["first", "beside it"]
    locks.release_all("beside it")
    await asyncio.sleep(0)
    assert granted[2:] == ["waits for both"]
    locks.release_all("waits for both")
    await asyncio.gather(*tasks)
    assert granted[3:] == ["comes behind, though it shares"]


async def test_a_wait_that_is_given_up_keeps_nobody_from_the_lock() -> None:
    locks = Locks()
    await locks.take("row", "first", Mode.UPDATE)
    gives_up = asyncio.create_task(locks.take("row", "gives up", Mode.UPDATE))
    waits = asyncio.create_task(locks.take("row", "waits", Mode.UPDATE))
    await asyncio.sleep(0)
    gives_up.cancel()
    await asyncio.sleep(0)
    locks.release_all("first")
    await waits
    assert locks.held("row", "waits") is Mode.UPDATE
    assert locks.held("row", "gives up") is None


async def test_the_one_that_closes_a_circle_of_waits_is_refused() -> None:
    locks = Locks()
    owners = ("a", "b", "c")
    for owner in owners:
        await locks.take(owner, owner, Mode.UPDATE)
    waits = [
        asyncio.create_task(locks.take(wanted, owner, Mode.UPDATE))
        for owner, wanted in (("a", "b"), ("b", "c"))
    ]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        await locks.take("a", "c", Mode.UPDATE)
    locks.release_all("c")
    await waits[1]
    locks.release_all("b")
    await waits[0]
