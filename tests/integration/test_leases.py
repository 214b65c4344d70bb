"""Who works on what: claims, leases and turns."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from app.delivery.states import State, Work
from app.delivery.targets import DEFAULT_TARGET, Blocked, TargetTrouble
from app.usecases.away import TargetsAway
from compose.embedded.stack import TENANT
from tests.builders import make_stored, make_upload
from tests.integration.conftest import Deliveries
from tests.statements import STATEMENTS


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
    """With one slot, nobody has less under way than another."""
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
    await deliveries.pool.execute("UPDATE delivery SET not_before = now()")
    again = await leases.claim(Work.TRANSFER)
    assert again is not None
    assert (again.attempt, again.failures, again.tries) == (2, 1, 1)
    assert again.last_cause == "S3 is away"


@pytest.mark.parametrize(
    "blocked",
    [
        Blocked(),
        Blocked(tenants=("t0", "t1")),
        Blocked(tenants=("t0", "t1"), spared=(("t0", "good"), ("t1", "good"))),
    ],
    ids=["nothing is blocked", "tenants are", "targets are"],
)
async def test_a_claim_looks_at_no_more_than_it_must(
    deliveries: Deliveries, blocked: Blocked
) -> None:
    """By indexes only: a hundred thousand that wait must not be read to find the first."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank) "
        "SELECT gen_random_uuid(), 't' || n % 3, 'd' || n, 'READY', 'u', "
        "CASE WHEN n < 5000 THEN 'away' ELSE 'good' END, '{}', 1, now(), now(), "
        "now() + n * interval '1 ms' FROM generate_series(1, 6000) AS n"
    )
    await deliveries.pool.execute("ANALYZE delivery")
    text, *arguments = STATEMENTS["claim"](
        owner="w",
        ttl=timedelta(seconds=30),
        work="transfer",
        most=None,
        blocked=blocked.tenants,
        spared_tenants=[tenant for tenant, _ in blocked.spared],
        spared_targets=[target for _, target in blocked.spared],
    )
    rows = await deliveries.pool.fetch(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments
    )
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on delivery" not in plan
    read = [int(found) for found in re.findall(r"on delivery.*actual rows=(\d+)", plan)]
    assert read, plan
    assert max(read) <= 3, plan


async def test_a_transfer_whose_target_is_away_is_not_claimed(deliveries: Deliveries) -> None:
    """Neither as new work, nor of a dead worker; other tenants' and other targets' is."""
    for name, tenant in (("c", "swot"), ("d", "swot"), ("x", "sentinel")):
        await deliveries.ready(name, tenant=tenant)
    assert await deliveries.leases("dead", seconds=0).claim(Work.TRANSFER) is not None
    await deliveries.pool.execute("UPDATE delivery SET target = 'far' WHERE correlation_id = 'd'")

    async def claimed(blocked: Blocked) -> list[str]:
        leases = deliveries.leases("w", blocked=lambda: blocked)
        found = []
        while (one := await leases.claim(Work.TRANSFER)) is not None:
            found.append(one)
        for one in found:
            await leases.release(one, after=timedelta(), failed=False, cause="for the test")
        return sorted(one.correlation_id for one in found)

    assert await claimed(Blocked(tenants=("swot",))) == ["x"]
    assert await claimed(Blocked(tenants=("swot",), spared=(("swot", "far"),))) == ["d", "x"]
    assert await claimed(Blocked(tenants=("swot", "sentinel"))) == []
    assert await claimed(Blocked()) == ["c", "d", "x"]


async def test_a_transfer_that_waits_names_its_server_until_it_is_back(
    deliveries: Deliveries,
) -> None:
    settings = deliveries.tenants.settings(TENANT)
    far = replace(settings.target, endpoint="http://far.example:9000")
    deliveries.tenants._resolved = {TENANT: replace(settings, targets={"far": far})}
    for name in ("near", "far", "later", "running"):
        await deliveries.ready(name, priority=200 if name == "running" else 1)
    await deliveries.pool.execute(
        "UPDATE delivery SET target = CASE correlation_id WHEN 'near' THEN $1 ELSE 'far' END",
        DEFAULT_TARGET,
    )
    assert await deliveries.leases("w").claim(Work.TRANSFER) is not None
    now = datetime.now(UTC)
    trouble = TargetTrouble(server="far.example:9000", cause="-", since=now, asked_again=now)
    down = {far}
    away = TargetsAway(
        names=[TENANT, "another"],
        tenants=deliveries.tenants,
        trouble=lambda target: trouble if target in down else None,
        store=deliveries.store,
    )

    async def causes() -> dict[str, str | None]:
        rows = await deliveries.pool.fetch("SELECT correlation_id, last_cause FROM delivery")
        return {row["correlation_id"]: row["last_cause"] for row in rows}

    assert away.blocked() == Blocked(tenants=(TENANT,), spared=((TENANT, DEFAULT_TARGET),))
    await away.tell()
    told = await causes()
    assert "far.example:9000 does not answer" in str(told["far"])
    assert told == {"near": None, "running": None, "far": told["far"], "later": told["far"]}
    down.clear()
    assert away.blocked() == Blocked()
    await away.tell()
    assert set((await causes()).values()) == {None}
    down.add(settings.target)  # also the default of the tenant that has set nothing
    assert away.blocked() == Blocked(tenants=(TENANT, "another"), spared=((TENANT, "far"),))


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
