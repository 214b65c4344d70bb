"""Pauses: what they are of, how long they last, and that nothing of what is paused is claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from app.delivery.model import Delivery
from app.delivery.pauses import Pause, PauseScope, PauseSubject, Running
from app.delivery.states import State, Work
from app.delivery.targets import DEFAULT_TARGET
from app.errors import PausedError, WorkerStoppedError
from app.usecases.away import TargetsAway
from app.usecases.paused import Paused
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER
from tests.twins.rs_order import MemoryOrders

OF_ALL = PauseSubject(scope=PauseScope.INSTANCE)
OF_TENANT = PauseSubject(scope=PauseScope.TENANT, tenant=TENANT)
OF_WORKER = PauseSubject(scope=PauseScope.WORKER, name="w")


def of_target(name: str) -> PauseSubject:
    return PauseSubject(scope=PauseScope.TARGET, tenant=TENANT, name=name)


async def pause(
    deliveries: Deliveries,
    subject: PauseSubject,
    *,
    running: Running = Running.FINISH,
    lasts: timedelta | None = None,
) -> Pause:
    """Begin a pause, which this process hears of."""
    async with deliveries.configuration.change(subject.tenant) as change:
        begun = await change.pause(
            subject, reason="disks are exchanged", running=running, paused_by="ana", lasts=lasts
        )
    await hear(deliveries)
    return begun


async def resume(deliveries: Deliveries, subject: PauseSubject) -> Pause | None:
    async with deliveries.configuration.change(subject.tenant) as change:
        ended = await change.resume(subject)
    await hear(deliveries)
    return ended


def give_targets(deliveries: Deliveries, *names: str) -> None:
    """Let the tenant have further targets."""
    default = deliveries.tenants.settings(TENANT).target
    deliveries.tenants.give(TENANT, targets=dict.fromkeys(names, default))


async def hear(deliveries: Deliveries) -> None:
    deliveries.tenants.apply(await deliveries.configuration.read())


def away_of(deliveries: Deliveries) -> TargetsAway:
    return TargetsAway(
        tenants=deliveries.tenants,
        trouble=lambda _target: None,
        store=deliveries.store,
    )


async def claimed(deliveries: Deliveries, *, worker: str = "w", most: int = 9) -> Sequence[str]:
    """Claim transfers as a worker that knows of the pauses; return what is claimed."""
    leases = deliveries.leases(worker, blocked=away_of(deliveries).blocked)
    claims = [await leases.claim(Work.TRANSFER) for _ in range(most)]
    return sorted(claim.correlation_id for claim in claims if claim)


async def test_a_pause_is_read_until_it_is_ended_or_over(deliveries: Deliveries) -> None:
    begun = await pause(deliveries, OF_TENANT)
    assert (begun.reason, begun.paused_by, begun.until) == ("disks are exchanged", "ana", None)
    brief = await pause(deliveries, of_target("archive"), lasts=timedelta(hours=2))
    assert brief.until is not None
    assert brief.until - brief.since == timedelta(hours=2)
    assert brief.left is not None
    assert 7100 < brief.left <= 7200
    assert list((await deliveries.configuration.read()).pauses) == [begun, brief]
    await deliveries.elapse(timedelta(hours=3))
    (left,) = (await deliveries.configuration.read()).pauses
    assert left.subject == OF_TENANT
    assert await resume(deliveries, of_target("archive")) is None  # it is over
    ended = await resume(deliveries, OF_TENANT)
    assert ended is not None
    assert ended.reason == begun.reason
    assert await resume(deliveries, OF_TENANT) is None
    assert list((await deliveries.configuration.read()).pauses) == []


async def test_a_pause_that_is_changed_is_as_long_as_it_was_and_begins_again_once_it_is_over(
    deliveries: Deliveries,
) -> None:
    first = await pause(deliveries, OF_TENANT, lasts=timedelta(hours=1))
    second = await pause(deliveries, OF_TENANT, running=Running.STOP, lasts=timedelta(hours=2))
    assert (second.since, second.running) == (first.since, Running.STOP)
    assert list((await deliveries.configuration.read()).pauses) == [second]
    await deliveries.elapse(timedelta(hours=3))
    third = await pause(deliveries, OF_TENANT)
    assert third.since > first.since
    assert third.until is None


async def test_a_change_that_fails_pauses_nothing(deliveries: Deliveries) -> None:
    with pytest.raises(KeyError):
        async with deliveries.configuration.change(TENANT) as change:
            await change.pause(OF_TENANT, reason="r", running=Running.FINISH, paused_by="ana")
            raise KeyError
    assert list((await deliveries.configuration.read()).pauses) == []


async def test_no_transfer_of_a_paused_tenant_is_claimed_and_all_else_is(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("waits")
    await deliveries.ready("goes", tenant=OTHER)
    await deliveries.available("planned")
    await pause(deliveries, OF_TENANT)
    assert await claimed(deliveries) == ["goes"]
    planning = await deliveries.leases("w").claim(Work.PLAN)
    assert planning is not None
    assert planning.correlation_id == "planned"
    await resume(deliveries, OF_TENANT)
    assert await claimed(deliveries) == ["waits"]


async def test_no_transfer_to_a_paused_target_is_claimed_and_those_to_others_are(
    deliveries: Deliveries,
) -> None:
    give_targets(deliveries, "archive", "open")
    for target in ("archive", "open", DEFAULT_TARGET):
        await deliveries.ready(f"to-{target}", target=target)
    await pause(deliveries, of_target("archive"))
    assert await claimed(deliveries) == ["to-open", f"to-{DEFAULT_TARGET}"]
    await resume(deliveries, of_target("archive"))
    assert await claimed(deliveries) == ["to-archive"]


async def test_all_transfers_wait_while_the_instance_is_paused(deliveries: Deliveries) -> None:
    await deliveries.ready("a")
    await deliveries.ready("b", tenant=OTHER)
    await pause(deliveries, OF_ALL)
    assert await claimed(deliveries) == []
    await resume(deliveries, OF_ALL)
    assert await claimed(deliveries) == ["a", "b"]


async def test_a_worker_that_is_drained_claims_nothing_and_others_do(
    deliveries: Deliveries,
) -> None:
    await deliveries.put(await deliveries.granted("checked"), State.RECEIVED)
    await deliveries.available("planned")
    await deliveries.ready("moved")
    await pause(deliveries, OF_WORKER)
    own, other = deliveries.leases("w"), deliveries.leases("other")
    for work in Work:
        assert await own.claim(work) is None
        assert await other.claim(work) is not None


@pytest.mark.parametrize("subject", [OF_ALL, OF_TENANT, of_target(DEFAULT_TARGET)], ids=str)
async def test_what_a_worker_has_not_heard_of_yet_keeps_it_from_claiming(
    deliveries: Deliveries, subject: PauseSubject
) -> None:
    await deliveries.ready()
    await pause(deliveries, subject, lasts=timedelta(hours=1))
    unaware = deliveries.leases("unaware")  # it blocks nothing
    assert await unaware.claim(Work.TRANSFER) is None
    await deliveries.elapse(timedelta(hours=2))  # it is over by the store's clock, for all
    assert await unaware.claim(Work.TRANSFER) is not None


async def test_a_claim_that_races_with_a_pause_stops_where_it_says_so(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    leases = deliveries.leases("w", blocked=away_of(deliveries).blocked)
    claim, _ = await asyncio.gather(
        leases.claim(Work.TRANSFER), pause(deliveries, OF_TENANT, running=Running.STOP)
    )
    paused = Paused(tenants=deliveries.tenants, worker="w")
    if claim is not None:
        assert isinstance(paused.stopped_by(Work.TRANSFER, claim), PausedError)
    assert await leases.claim(Work.TRANSFER) is None


async def test_a_transfer_that_a_pause_stops_counts_as_no_attempt_that_was_given_up(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    leases = deliveries.leases("w", blocked=away_of(deliveries).blocked)
    claim = await leases.claim(Work.TRANSFER)
    assert claim is not None
    begun = await pause(deliveries, OF_TENANT, running=Running.STOP)
    paused = Paused(tenants=deliveries.tenants, worker="w")
    why = paused.stopped_by(Work.TRANSFER, claim)
    assert why is not None
    await settlement_of(deliveries).settle(claim, why)
    row = await deliveries.row(claim)
    assert (row.state, row.lease_owner) == (State.TRANSFERRING, None)
    assert (row.failures, row.tries, row.last_cause) == (0, 0, begun.cause)
    assert await claimed(deliveries) == []
    await resume(deliveries, OF_TENANT)
    again = await leases.claim(Work.TRANSFER)
    assert again is not None
    assert again.attempt == 2


def settlement_of(deliveries: Deliveries) -> Settlement:
    return Settlement(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        backoff=Backoff(first=60, longest=60),
        attempts=1,
        source=MemoryOrders(),
    )


async def test_deliveries_say_that_they_are_paused_as_long_as_they_are(
    deliveries: Deliveries,
) -> None:
    give_targets(deliveries, "archive")
    waits = await deliveries.ready("waits", target="archive")
    goes = await deliveries.ready("goes")
    away = away_of(deliveries)
    begun = await pause(deliveries, of_target("archive"), lasts=timedelta(hours=1))
    assert begun.until is not None
    assert begun.cause == (
        f"the transfers of tenant {TENANT} to target archive are paused by ana until "
        f"{begun.until:%Y-%m-%d %H:%M:%S} UTC: disks are exchanged"
    )
    await away.record_waits()
    assert await causes(deliveries, waits, goes) == [begun.cause, None]
    wider = await pause(deliveries, OF_TENANT)
    await away.record_waits()
    assert await causes(deliveries, waits, goes) == [wider.cause, wider.cause]
    await resume(deliveries, OF_TENANT)
    await away.record_waits()
    assert await causes(deliveries, waits, goes) == [begun.cause, None]
    await deliveries.elapse(timedelta(hours=2))
    await hear(deliveries)
    await away.record_waits()
    assert await causes(deliveries, waits, goes) == [None, None]


async def causes(deliveries: Deliveries, *of: Delivery) -> list[str | None]:
    return [(await deliveries.row(delivery)).last_cause for delivery in of]


async def test_what_runs_is_stopped_only_where_that_was_asked_for(deliveries: Deliveries) -> None:
    give_targets(deliveries, "archive")
    archived = await deliveries.ready("archived", target="archive")
    unnamed = await deliveries.ready("to-default", target=DEFAULT_TARGET)
    foreign = await deliveries.ready("foreign", tenant=OTHER, target="archive")
    paused = Paused(tenants=deliveries.tenants, worker="w")

    def stopped(work: Work = Work.TRANSFER) -> list[type[Exception] | None]:
        found = [paused.stopped_by(work, each) for each in (archived, unnamed, foreign)]
        return [None if each is None else type(each) for each in found]

    await pause(deliveries, of_target("archive"))
    assert stopped() == [None, None, None]
    await pause(deliveries, of_target("archive"), running=Running.STOP)
    assert stopped() == [PausedError, None, None]
    assert stopped(Work.PLAN) == [None, None, None]
    await pause(deliveries, OF_TENANT)  # that what runs may end, does not end the narrower one
    assert stopped() == [PausedError, None, None]
    await pause(deliveries, OF_ALL, running=Running.STOP)
    assert stopped() == [PausedError, PausedError, PausedError]
    await pause(deliveries, OF_WORKER, running=Running.STOP)
    assert stopped(Work.PLAN) == [WorkerStoppedError] * 3
    assert not paused.may_claim()
    assert Paused(tenants=deliveries.tenants, worker="other").may_claim()


async def test_while_a_tenant_has_no_targets_a_pause_of_the_default_is_one_of_each_name(
    deliveries: Deliveries,
) -> None:
    """Versions before kept deliveries by the names that requests had chosen."""
    running = await deliveries.ready("any", target="whatever")
    deliveries.tenants.give(TENANT, targets={})
    await pause(deliveries, of_target(DEFAULT_TARGET), running=Running.STOP)
    assert await claimed(deliveries) == []
    paused = Paused(tenants=deliveries.tenants, worker="w")
    assert isinstance(paused.stopped_by(Work.TRANSFER, running), PausedError)
