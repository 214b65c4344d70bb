"""Work is told of with the commit that makes it, to each that listens; none of it is owed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.delivery import outgoing
from app.delivery.orders import OrderStatus
from app.delivery.outgoing import Kind
from app.delivery.states import Work
from app.usecases.intervene import Interventions
from tests.builders import make_actor, make_body, make_file, make_manifest
from tests.deliveries import Deliveries
from tests.twins.users import MemoryUsers


def make_interventions(deliveries: Deliveries) -> Interventions:
    """Return what is done from outside, of users that none is known of."""
    return Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=MemoryUsers(),
    )


async def test_a_commit_tells_each_that_listens(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    news = deliveries.work_news()
    async with news.listening() as first, news.listening() as second:
        async with deliveries.store.transaction() as tx:
            await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))
        async with asyncio.timeout(30):
            assert await first() == await second() == {Work.TRANSFER}


async def test_what_a_transaction_tells_is_told_with_its_commit_and_no_earlier(
    deliveries: Deliveries,
) -> None:
    """Another one, which comes later and is committed first, is heard first."""
    delivery = await deliveries.granted()
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        async with deliveries.store.transaction() as slow:
            await slow.hint(outgoing.wake(delivery, Kind.ORDER_READY))
            async with deliveries.store.transaction() as quick:
                await quick.hint(outgoing.wake(delivery, Kind.TRANSFER))
            assert await due() == {Work.TRANSFER}
        assert await due() == {Work.PLAN}


async def test_a_transaction_that_fails_tells_nothing(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        with pytest.raises(KeyError):
            async with deliveries.store.transaction() as tx:
                await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY))
                raise KeyError
        async with deliveries.store.transaction() as tx:
            await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))
        assert await due() == {Work.TRANSFER}
    assert [hint.kind for hint in deliveries.hinted] == [Kind.TRANSFER]


async def test_what_comes_while_none_waits_is_told_once_of_each_kind(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        for _ in range(3):
            async with deliveries.store.transaction() as tx:
                hint = outgoing.wake(delivery, Kind.TRANSFER)
                await tx.hint(hint, hint)
                await tx.hint(hint)
        told = await due()
        while Work.PLAN not in told:  # a line may bring them one by one
            async with deliveries.store.transaction() as tx:
                await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY))
            told |= await due()
        assert told == {Work.TRANSFER, Work.PLAN}
    assert len(deliveries.hinted) >= 10, "each is published all the same"


async def test_a_process_is_told_what_its_own_commits_make_due(deliveries: Deliveries) -> None:
    """It may have no line to PostgreSQL; what was rolled back is told to none."""
    delivery = await deliveries.available()
    deliveries.woken.clear()
    async with deliveries.store.transaction() as tx:
        await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))
        await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY), due=False)
        tx.wake(Work.CHECK)
        assert deliveries.woken == []
    assert deliveries.woken == [{Work.TRANSFER, Work.CHECK}]
    with pytest.raises(KeyError):
        async with deliveries.store.transaction() as tx:
            tx.wake(Work.CHECK)
            raise KeyError
    async with deliveries.store.transaction() as tx:
        await tx.now()
    assert len(deliveries.woken) == 1
    files = [make_file()]
    planned = outgoing.wake(delivery, Kind.TRANSFER)
    assert await deliveries.store.plan(delivery, make_manifest(files), files, planned)
    assert deliveries.woken[1:] == [{Work.TRANSFER}]


async def test_an_order_that_is_done_wakes_who_lays_out_and_is_owed_to_none(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted()
    owed = await deliveries.owed()
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        await deliveries.tell(OrderStatus.DONE, order_id=1)
        assert await due() == {Work.PLAN}
    assert await deliveries.owed() == owed
    (hint,) = deliveries.hinted
    assert hint.kind is Kind.ORDER_READY


async def test_the_first_suborder_wakes_none_before_its_end_may_have_followed(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is laid out a second later (here, a minute): until then a claim would find nothing."""
    monkeypatch.setattr("app.usecases.order_progress.END_FOLLOWS", timedelta(minutes=1))
    await deliveries.granted()
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        suborder: dict[str, Any] = {"order_id": 1, "suborder_id": 1, "total_suborders": 1}
        await deliveries.tell(OrderStatus.SUBORDER_DONE, **suborder)
        delivery = await deliveries.active("c")
        async with deliveries.store.transaction() as tx:
            await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))
        assert await due() == {Work.TRANSFER}
        assert await deliveries.leases("w").claim(Work.PLAN) is None
        await deliveries.tell(OrderStatus.DONE, order_id=1, total_suborders=1)
        assert await due() == {Work.PLAN}
    kinds = [hint.kind for hint in deliveries.hinted]
    assert kinds == [Kind.ORDER_READY, Kind.TRANSFER, Kind.ORDER_READY], "each is published"


async def test_what_is_asked_for_over_http_wakes_who_checks_its_user(
    deliveries: Deliveries,
) -> None:
    """The process that answers HTTP may have no worker."""
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        await make_interventions(deliveries).submit(make_actor(), make_body("c"))
        assert await due() == {Work.CHECK}
    assert await deliveries.leases("w").claim(Work.CHECK) is not None


async def test_what_a_person_tries_again_at_once_wakes_who_works_on_it(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.claimed()
    leases = deliveries.leases("w")
    await leases.release(delivery, after=timedelta(hours=1), failed=True, cause="a test")
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        await make_interventions(deliveries).retry(make_actor(), "c")
        assert await due() == {Work.TRANSFER}
    assert await leases.claim(Work.TRANSFER) is not None
