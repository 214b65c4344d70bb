"""Who works on what: claims, leases and turns."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from app.delivery.model import Delivery
from app.delivery.outgoing import Kind
from app.delivery.states import CLAIMED, TRANSITIONS, State, Work
from app.delivery.targets import DEFAULT_TARGET, Blocked, Target, TargetTrouble
from app.errors import ObjectBusyError, WorkerStoppedError
from app.usecases.away import TargetsAway
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from tests.builders import make_stored, make_upload
from tests.deliveries import Deliveries, Moved
from tests.store.conftest import OTHER
from tests.targets import s3_of
from tests.twins.rs_order import MemoryOrders


async def test_a_transfer_is_claimed_by_one_worker_only(deliveries: Deliveries) -> None:
    await deliveries.ready()
    claims = await asyncio.gather(
        *(deliveries.leases(f"w{number}").claim(Work.TRANSFER) for number in range(8))
    )
    assert len([claim for claim in claims if claim]) == 1


async def test_a_lease_that_ran_out_goes_to_another_and_fences_the_first(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    dead, alive = deliveries.leases("dead", seconds=0), deliveries.leases("alive")
    first = await dead.claim(Work.TRANSFER)
    assert first is not None
    upload = make_upload()
    assert await dead.record_upload(first, upload)
    second = await alive.claim(Work.TRANSFER)
    assert second is not None
    assert (second.attempt, second.upload) == (2, upload)
    assert not await dead.renew(first)
    assert not await dead.holds(first)
    assert not await dead.record_upload(first, upload)
    async with deliveries.store.transaction() as tx:
        assert not await tx.advance(first, State.DONE, result=make_stored())
    assert await alive.renew(second)
    assert await alive.holds(second)


async def test_a_claim_tells_whether_more_is_due(deliveries: Deliveries) -> None:
    leases = deliveries.leases("w")
    assert leases.sees_more(Work.TRANSFER)  # it has not looked yet
    for name in ("one", "two"):
        await deliveries.ready(name)
    await deliveries.available("to lay out")  # another work
    assert await leases.claim(Work.TRANSFER) is not None
    assert leases.sees_more(Work.TRANSFER)
    second = await leases.claim(Work.TRANSFER)
    assert second is not None
    assert not leases.sees_more(Work.TRANSFER)  # what is leased is not due
    assert await leases.claim(Work.TRANSFER) is None
    assert leases.sees_more(Work.TRANSFER)  # nothing was found, and so nothing seen
    await leases.release(second, after=timedelta(hours=1), failed=False, cause="later")
    await deliveries.ready("three")
    assert await leases.claim(Work.TRANSFER) is not None
    assert not leases.sees_more(Work.TRANSFER)  # one that waits for its time is not due


async def test_what_a_limit_holds_back_is_more_that_is_due(deliveries: Deliveries) -> None:
    leases = deliveries.leases("w", transfers_per_tenant=1)
    for name in ("one", "two"):
        await deliveries.ready(name)
    assert await leases.claim(Work.TRANSFER) is not None
    assert leases.sees_more(Work.TRANSFER)


async def test_claims_go_by_priority_and_then_by_age(deliveries: Deliveries) -> None:
    for name, priority in (("old", 1), ("young", 1), ("urgent", 200)):
        await deliveries.ready(name, priority=priority)
    leases = deliveries.leases("w")
    claimed = [await leases.claim(Work.TRANSFER) for _ in range(4)]
    assert [c and c.correlation_id for c in claimed] == ["urgent", "old", "young", None]


async def test_waiting_outweighs_priority_in_time(deliveries: Deliveries) -> None:
    now = datetime.now(UTC)
    for name, priority, minutes in (
        ("least-for-five-hours", 1, 300),
        ("least-for-four-hours", 1, 240),
        ("most-urgent-now", 255, 0),
        ("middle-for-an-hour", 100, 60),
    ):
        await deliveries.ready(
            name, priority=priority, received_at=now - timedelta(minutes=minutes)
        )
    leases = deliveries.leases("w")
    claimed = [await leases.claim(Work.TRANSFER) for _ in range(4)]
    assert [c and c.correlation_id for c in claimed] == [
        "least-for-five-hours",
        "most-urgent-now",
        "least-for-four-hours",
        "middle-for-an-hour",
    ]


async def test_a_tenant_has_no_more_under_way_than_its_limit(deliveries: Deliveries) -> None:
    for number in range(6):
        await deliveries.ready(f"a{number}", tenant="a")
    await deliveries.ready("b0", tenant="b")
    workers = [deliveries.leases(f"w{number}", transfers_per_tenant=2) for number in range(8)]
    claimed = await asyncio.gather(*(worker.claim(Work.TRANSFER) for worker in workers))
    assert sorted(claim.tenant for claim in claimed if claim) == ["a", "a", "b"]
    first = next(claim for claim in claimed if claim and claim.tenant == "a")
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(first, State.DONE, result=make_stored())
    again = [await worker.claim(Work.TRANSFER) for worker in workers[:2]]
    assert [claim and claim.tenant for claim in again] == ["a", None]


async def test_a_tenant_with_fewer_running_transfers_comes_first(deliveries: Deliveries) -> None:
    for number in range(3):
        await deliveries.ready(f"a{number}", tenant="a")
    await deliveries.ready("b0", tenant="b")
    leases = deliveries.leases("w")
    claimed = [await leases.claim(Work.TRANSFER) for _ in range(2)]
    assert [c and c.tenant for c in claimed] == ["a", "b"]


async def test_tenants_take_turns_when_one_thing_is_done_at_a_time(deliveries: Deliveries) -> None:
    """With one slot, no tenant has less under way than another."""
    for number in range(3):
        await deliveries.ready(f"a{number}", tenant="a", priority=9)
    await deliveries.ready("b0", tenant="b")
    leases = deliveries.leases("w")
    turns = []
    for _ in range(4):
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        turns.append(claimed.tenant)
        async with deliveries.store.transaction() as tx:
            assert await tx.advance(claimed, State.DONE)
    assert turns == ["a", "b", "a", "a"]


async def test_a_released_delivery_waits_and_counts_its_failures(deliveries: Deliveries) -> None:
    await deliveries.ready()
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    await leases.release(claimed, after=timedelta(seconds=60), failed=True, cause="S3 is away")
    assert await leases.claim(Work.TRANSFER) is None
    await deliveries.elapse(timedelta(seconds=61))
    again = await leases.claim(Work.TRANSFER)
    assert again is not None
    assert (again.attempt, again.failures, again.tries) == (2, 1, 1)
    assert again.last_cause == "S3 is away"


async def test_what_a_stopped_worker_lets_go_is_due_at_once_and_wakes_the_others(
    deliveries: Deliveries,
) -> None:
    """Nothing failed: no pause grows by it."""
    claimed = await deliveries.claimed()
    planned = await deliveries.available("planned")
    stopped = deliveries.leases("w")
    settlement = Settlement(
        store=deliveries.store,
        leases=stopped,
        backoff=Backoff(first=3600, longest=3600),
        attempts=1,
        source=MemoryOrders(),
    )
    deliveries.hinted.clear()
    assert await stopped.claim(Work.PLAN) is not None
    await settlement.settle(claimed, WorkerStoppedError())
    await settlement.settle(planned, WorkerStoppedError())
    again = await deliveries.leases("another").claim(Work.TRANSFER)
    assert again is not None
    assert (again.id, again.attempt, again.failures, again.tries) == (claimed.id, 2, 0, 0)
    assert again.last_cause == "the worker was stopped"
    assert await deliveries.leases("another").claim(Work.PLAN) is not None
    assert [hint.kind for hint in deliveries.hinted] == [Kind.TRANSFER, Kind.ORDER_READY]


async def test_a_transfer_whose_target_is_away_is_not_claimed(deliveries: Deliveries) -> None:
    """Neither as new work, nor of a dead worker; other tenants' and other targets' is."""
    await deliveries.ready("c", tenant="swot")
    await deliveries.ready("d", tenant="swot", target="far")
    await deliveries.ready("x", tenant="sentinel")
    assert await deliveries.leases("dead", seconds=0).claim(Work.TRANSFER) is not None

    async def claimed(blocked: Blocked) -> list[str]:
        leases = deliveries.leases("w", blocked=lambda: blocked)
        found = []
        while (lease := await leases.claim(Work.TRANSFER)) is not None:
            found.append(lease)
        for lease in found:
            await leases.release(lease, after=timedelta(), failed=False, cause="for the test")
        return sorted(lease.correlation_id for lease in found)

    assert await claimed(Blocked(tenants=("swot",))) == ["x"]
    assert await claimed(Blocked(tenants=("swot",), spared=(("swot", "far"),))) == ["d", "x"]
    assert await claimed(Blocked(tenants=("swot", "sentinel"))) == []
    assert await claimed(Blocked()) == ["c", "d", "x"]


async def test_a_transfer_that_waits_names_its_server_until_it_is_back(
    deliveries: Deliveries,
) -> None:
    near = s3_of(deliveries.tenants.settings(TENANT).target)
    far = replace(near, endpoint="http://far.example:9000")
    deliveries.tenants.give(TENANT, targets={"far": far})
    for name in ("near", "far", "later", "running"):
        target = DEFAULT_TARGET if name == "near" else "far"
        await deliveries.ready(name, target=target, priority=200 if name == "running" else 1)
    assert await deliveries.leases("w").claim(Work.TRANSFER) is not None
    now = datetime.now(UTC)
    trouble = TargetTrouble(
        kind="S3", server="far.example:9000", cause="-", since=now, asked_again=now
    )
    down: set[Target] = {far}
    away = TargetsAway(
        tenants=deliveries.tenants,
        trouble=lambda target: trouble if target in down else None,
        store=deliveries.store,
    )

    async def causes() -> dict[str, str | None]:
        return {row.correlation_id: row.last_cause for row in await deliveries.rows()}

    assert away.blocked() == Blocked(tenants=(TENANT,), spared=((TENANT, DEFAULT_TARGET),))
    await away.record_waits()
    told = await causes()
    assert "far.example:9000 does not answer" in str(told["far"])
    assert told == {"near": None, "running": None, "far": told["far"], "later": told["far"]}
    down.clear()
    assert away.blocked() == Blocked()
    await away.record_waits()
    assert set((await causes()).values()) == {None}
    down.add(near)  # also the default of the tenant that has set nothing
    assert away.blocked() == Blocked(tenants=(TENANT, "swot"), spared=((TENANT, "far"),))


async def test_only_work_of_a_dead_worker_counts_as_taken_over(
    deliveries: Deliveries,
) -> None:
    def taken_over() -> float:
        labels = {"work": "transfer"}
        return REGISTRY.get_sample_value("delivery_lease_takeovers_total", labels) or 0

    before = taken_over()
    await deliveries.ready()
    first = await deliveries.leases("gives back").claim(Work.TRANSFER)
    assert first is not None
    await deliveries.leases("gives back").release(
        first, after=timedelta(), failed=False, cause="stopped"
    )
    assert await deliveries.leases("dead", seconds=0).claim(Work.TRANSFER) is not None
    assert taken_over() == before
    assert await deliveries.leases("alive").claim(Work.TRANSFER) is not None
    assert taken_over() == before + 1


async def test_what_is_about_to_appear_is_noted_by_the_holder_of_the_lease_alone(
    deliveries: Deliveries,
) -> None:
    first = await deliveries.claimed(owner="w")
    result = make_stored(make_upload(container="b", key="k"))

    async def noted(delivery: Delivery, owner: str) -> bool:
        noted = await deliveries.leases(owner).record_completion(
            delivery, result, namespace="s3:9000", until=timedelta(minutes=16)
        )
        return noted is not None

    assert not await noted(first, "another")
    assert await noted(first, "w")
    await deliveries.elapse(timedelta(seconds=31))
    second = await deliveries.leases("another").claim(Work.TRANSFER)
    assert second is not None
    assert second.completing == result
    assert not await noted(first, "w")
    await deliveries.leases("w").discard_completion(first)
    await deliveries.leases("another").release(
        second, after=timedelta(), failed=False, cause="away"
    )
    third = await deliveries.leases("another").claim(Work.TRANSFER)
    assert third is not None
    assert third.completing == result
    await deliveries.leases("another").discard_completion(third)
    assert (await deliveries.active()).completing is None


async def test_an_object_of_another_is_not_completed_beside_one_of_its_name_there(
    deliveries: Deliveries,
) -> None:
    """Until the other has appeared, or never will."""
    ours = await deliveries.claimed("ours")
    await deliveries.ready("theirs", tenant=OTHER)
    leases = deliveries.leases("w")
    theirs = await leases.claim(Work.TRANSFER)
    assert theirs is not None
    result = make_stored(make_upload(container="b", key="k"))
    until = timedelta(minutes=16)
    assert await leases.record_completion(ours, result, namespace="s3:9000", until=until)
    # Once more:
    assert await leases.record_completion(ours, result, namespace="s3:9000", until=until)
    with pytest.raises(ObjectBusyError):
        await leases.record_completion(theirs, result, namespace="s3:9000", until=until)
    assert await leases.record_completion(theirs, result, namespace="another", until=until)
    await deliveries.elapse(timedelta(minutes=17))
    assert await leases.record_completion(theirs, result, namespace="s3:9000", until=until)


async def test_a_lease_that_ran_out_is_its_workers_until_another_takes_it(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    await deliveries.elapse(timedelta(hours=1))
    leases = deliveries.leases("w")
    assert await leases.holds(claimed)
    assert await leases.renew(claimed)
    assert await deliveries.leases("another").claim(Work.TRANSFER) is None
    await deliveries.fail(claimed, "for the test")
    assert not await leases.holds(claimed)
    assert not await leases.renew(claimed)
    await leases.release(claimed, after=timedelta(), failed=True, cause="late")
    assert (await deliveries.row(claimed)).failures == 0


async def test_work_that_waits_can_be_retried_now_and_work_under_way_can_not(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    leases = deliveries.leases("w")

    async def retried() -> bool:
        async with deliveries.store.transaction() as tx:
            return await tx.retry_now(claimed)

    assert not await retried()
    await leases.release(claimed, after=timedelta(hours=1), failed=False, cause="away")
    assert await leases.claim(Work.TRANSFER) is None
    assert await retried()
    assert await leases.claim(Work.TRANSFER) is not None


async def test_what_another_transaction_has_locked_is_not_claimed_and_not_waited_for(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("first", priority=200)
    await deliveries.ready("second")
    async with deliveries.store.transaction() as tx:
        assert await tx.lock(TENANT, "first") is not None
        claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.correlation_id == "second"


async def test_a_renewal_waits_for_a_transaction_that_ends_the_delivery(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    async with deliveries.store.transaction() as tx:
        assert await tx.lock(TENANT, "c") is not None
        renewal = asyncio.create_task(deliveries.leases("w").renew(claimed))
        assert await tx.advance(claimed, State.ERROR)
        assert not renewal.done()
    assert not await renewal


@pytest.mark.parametrize("state", State)
async def test_what_is_claimed_is_the_work_of_its_state(
    deliveries: Deliveries, state: State
) -> None:
    delivery = await deliveries.granted()
    for work in Work:
        seen = await deliveries.put(delivery, state)
        claimed = await deliveries.leases("w").claim(work)
        assert (claimed is not None) == (work is state.work)
        if claimed is not None:
            begun = claimed.attempt - seen.attempt
            assert begun == (1 if work is Work.TRANSFER else 0)
            assert claimed.state is state or claimed.state in TRANSITIONS[state]
            # An attempt is a move, also from TRANSFERRING to itself.
            assert not begun or claimed.state in TRANSITIONS[state] & CLAIMED


async def test_an_attempt_that_is_given_up_is_the_last_of_its_steps_in_that_state(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.available()
    leases = deliveries.leases("w")
    since = (await deliveries.row(delivery)).state_since
    for number in range(3):
        claimed = await leases.claim(Work.PLAN)
        assert claimed is not None
        await leases.release(claimed, after=timedelta(), failed=False, cause=f"away {number}")
    assert await deliveries.moved(delivery.id) == [
        Moved(state=State.GRANTED, attempt=0, cause=None),
        Moved(state=State.AVAILABLE, attempt=0, cause=None),
        Moved(state=State.AVAILABLE, attempt=0, cause="away 2"),
    ]
    assert (await deliveries.row(delivery)).state_since == since
