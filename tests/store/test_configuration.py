"""Settings of tenants: changed one after the other, as a whole; maintenance holds requests back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.delivery.states import State, Work
from compose.embedded.stack import TENANT
from tests.builders import make_body, make_done
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER


async def test_a_change_is_read_once_it_is_committed_and_not_when_it_fails(
    deliveries: Deliveries,
) -> None:
    store = deliveries.configuration
    async with store.change(TENANT) as change:
        first = await change.set("request_ttl", 5)
        assert change.values == {"request_ttl": first}
        assert (await store.read()).settings == {}
    with pytest.raises(KeyError):
        async with store.change(TENANT) as change:
            await change.reset("request_ttl")
            await change.audit(make_done())
            assert change.values == {}
            raise KeyError
    async with store.change(OTHER) as change:
        assert change.values == {}
    assert (await store.read()).settings == {TENANT: {"request_ttl": first}}
    async with store.change(TENANT) as change:
        second = await change.set("request_ttl", 6)
        assert second.version > first.version
    async with store.change(TENANT) as change:
        assert change.values == {"request_ttl": second}
        await change.reset("request_ttl")
        await change.audit(make_done(action="reset"))
    assert (await store.read()).settings == {}
    (entry,) = await deliveries.audit.entries(None, before=2**62, limit=9)
    assert entry.action == "reset"


async def test_changes_of_a_tenant_happen_one_after_the_other(deliveries: Deliveries) -> None:
    store = deliveries.configuration

    async def add(number: int) -> None:
        async with store.change(TENANT) as change:
            before = change.values.get("request_ttl")
            await asyncio.sleep(0)
            await change.set("request_ttl", (before.value if before else 0) + number)

    async with store.change(OTHER):  # no tenant waits for another's
        await asyncio.gather(*(add(number) for number in range(5)))
    assert (await store.read()).settings[TENANT]["request_ttl"].value == 10


async def test_what_is_said_of_a_maintenance_is_kept_until_its_end_and_makes_it_no_younger(
    deliveries: Deliveries,
) -> None:
    store = deliveries.configuration
    until = deliveries.now().replace(microsecond=0) + timedelta(hours=3)
    async with store.change(TENANT) as change:
        await change.maintain(active=True, enabled_by="ana", reason="disks", until=until)
    begun = await store.maintenance(TENANT)
    assert begun is not None
    assert (begun.enabled_by, begun.reason, begun.until) == ("ana", "disks", until)
    await deliveries.elapse(timedelta(hours=1))
    async with store.change(TENANT) as change:
        now = await change.maintain(active=True, enabled_by="eve", until=until)
    assert (now.enabled_by, now.reason, now.until) == ("eve", None, until)
    assert deliveries.now() - now.updated_at >= timedelta(hours=1)
    async with store.change(TENANT) as change:
        over = await change.maintain(active=False)
    assert (over.enabled_by, over.reason, over.until) == (None, None, None)
    assert over.updated_at > now.updated_at


async def test_requests_wait_for_the_end_of_a_maintenance_and_have_their_whole_time_after(
    deliveries: Deliveries,
) -> None:
    store, leases = deliveries.configuration, deliveries.leases("w")
    assert await store.maintenance(TENANT) is None
    waits = await deliveries.put(await deliveries.granted("waits"), State.RECEIVED)
    began = await deliveries.granted("began")
    deadline = deliveries.now() + timedelta(hours=20)
    body = make_body("due") | {"delivery": {"deadline": deadline.isoformat()}}
    due = await deliveries.put(await deliveries.granted("due", body=body), State.RECEIVED)
    async with store.change(TENANT) as change:
        assert (await change.maintain(active=True)).active
    assert (await store.read()).paused == {TENANT: await store.maintenance(TENANT)}
    assert await leases.claim(Work.CHECK) is None
    await deliveries.elapse(timedelta(hours=13))
    assert [delivery.id for delivery in await deliveries.store.expired(9)] == [began.id]
    async with store.change(TENANT) as change:
        assert not (await change.maintain(active=False)).active
    assert (await store.read()).paused == {}
    now = await store.maintenance(TENANT)
    assert now is not None
    assert not now.active
    row = await deliveries.row(waits)
    assert row.expires_at > deliveries.now() + timedelta(hours=11)
    assert (await deliveries.row(due)).expires_at - deliveries.now() < timedelta(hours=7)
    claimed = await leases.claim(Work.CHECK)
    assert claimed is not None
    assert claimed.id == waits.id
