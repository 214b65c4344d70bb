"""Each attempt of a transfer is kept: who made it, when, and what came of it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from app.delivery.attempts import FIRST_KEPT, LAST_KEPT, Attempt, AttemptOutcome
from app.delivery.model import Delivery
from app.delivery.states import State, Work
from app.errors import ErrorType
from app.usecases.fail import fail
from tests.builders import make_stored
from tests.deliveries import Deliveries

SECOND = timedelta(seconds=1)


async def attempts(deliveries: Deliveries, delivery: Delivery) -> list[Attempt]:
    """Return the attempts of a delivery, the first one first."""
    found = await deliveries.tracking.attempts(delivery.id)
    return found[::-1]


async def outcomes(
    deliveries: Deliveries, delivery: Delivery
) -> list[tuple[str, str | None, str | None]]:
    """Return who made each attempt, how it ended, and why."""
    return [(a.worker, a.outcome, a.cause) for a in await attempts(deliveries, delivery)]


async def test_an_attempt_is_kept_from_its_beginning(deliveries: Deliveries) -> None:
    waits = await deliveries.ready()
    assert await attempts(deliveries, waits) == []
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    (attempt,) = await attempts(deliveries, claimed)
    assert (attempt.attempt, attempt.worker, attempt.target) == (1, "w", claimed.target)
    assert (attempt.ended, attempt.outcome, attempt.cause, attempt.code) == (None,) * 4


async def test_what_came_of_each_attempt_is_kept(deliveries: Deliveries) -> None:
    first = await deliveries.claimed(owner="a")
    leases = deliveries.leases("a")
    await leases.release(
        first, after=timedelta(), failed=False, cause="403 AccessDenied", code="TARGET_REFUSED"
    )
    stopped = await deliveries.leases("b").claim(Work.TRANSFER)
    assert stopped is not None
    await deliveries.leases("b").release(
        stopped, after=timedelta(), failed=False, tried=False, cause="the worker stops"
    )
    last = await deliveries.leases("c").claim(Work.TRANSFER)
    assert last is not None
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(last, State.DONE, result=make_stored())
    assert await outcomes(deliveries, last) == [
        ("a", AttemptOutcome.POSTPONED, "403 AccessDenied"),
        ("b", AttemptOutcome.HANDED_OVER, "the worker stops"),
        ("c", AttemptOutcome.DONE, None),
    ]
    *before, done = await attempts(deliveries, last)
    assert [attempt.code for attempt in before] == ["TARGET_REFUSED", None]
    assert done.code is None
    assert done.bytes == last.total_bytes
    assert done.ended is not None
    assert done.ended >= done.began


async def test_an_attempt_that_ends_its_delivery_has_its_cause(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed()
    async with deliveries.store.transaction() as tx:
        assert await fail(
            tx, claimed, ErrorType.INTERNAL_ERROR, "no bucket", code="TARGET_REFUSED", lets_go=True
        )
    assert await outcomes(deliveries, claimed) == [("w", AttemptOutcome.ERROR, "no bucket")]
    (attempt,) = await attempts(deliveries, claimed)
    assert attempt.code == "TARGET_REFUSED"


async def test_what_ends_while_it_waits_changes_no_attempt(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed()
    await deliveries.leases("w").release(claimed, after=SECOND, failed=False, cause="away")
    async with deliveries.store.transaction() as tx:
        assert await fail(tx, claimed, ErrorType.EXPIRED, "too late")
    assert await outcomes(deliveries, claimed) == [("w", AttemptOutcome.POSTPONED, "away")]


async def test_the_attempt_of_a_worker_that_fell_silent_is_lost(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed(owner="silent")
    await deliveries.elapse(timedelta(seconds=31))
    taken_over = await deliveries.leases("w").claim(Work.TRANSFER)
    assert taken_over is not None
    lost, under_way = await attempts(deliveries, claimed)
    assert (lost.worker, lost.outcome, lost.cause) == ("silent", AttemptOutcome.LOST, None)
    assert lost.ended is not None
    # Not when it was found out: when its lease ran out.
    assert timedelta(seconds=29) < lost.ended - lost.began < timedelta(seconds=31)
    assert (under_way.worker, under_way.outcome) == ("w", None)
    await deliveries.leases("silent").release(
        claimed, after=timedelta(), failed=False, cause="it is back"
    )
    assert [a.outcome for a in await attempts(deliveries, claimed)] == [AttemptOutcome.LOST, None]


async def test_a_parked_archive_ends_an_attempt(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed()
    await deliveries.leases("w").park(claimed, cause="waits for the next suborder")
    (attempt,) = await attempts(deliveries, claimed)
    parked = (await deliveries.tracking.of(claimed.tenant, claimed.correlation_id))[0]
    expected = AttemptOutcome.PARKED if parked.delivery.parked else AttemptOutcome.HANDED_OVER
    assert attempt.outcome == expected
    assert attempt.ended is not None


async def test_how_far_an_attempt_got_is_told_as_its_lease_is_renewed_and_let_go(
    deliveries: Deliveries,
) -> None:
    archived: dict[UUID, int] = {}
    leases = deliveries.leases("w", archived=lambda delivery: archived.get(delivery.id))
    await deliveries.ready()
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None

    async def told() -> int | None:
        return (await attempts(deliveries, claimed))[-1].bytes

    assert await leases.renew(claimed)
    assert await told() is None
    archived[claimed.id] = 7
    assert await told() is None
    assert await leases.renew(claimed)
    assert await told() == 7
    archived[claimed.id] = 9
    await leases.release(claimed, after=timedelta(), failed=False, cause="away")
    assert await told() == 9


async def test_of_a_delivery_that_is_tried_for_hours_not_all_attempts_are_kept(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.claimed()
    leases = deliveries.leases("w")
    many = FIRST_KEPT + LAST_KEPT + 3
    for _ in range(many - 1):
        await leases.release(delivery, after=timedelta(), failed=False, cause="away")
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        delivery = claimed
    kept = [attempt.attempt for attempt in await attempts(deliveries, delivery)]
    assert kept == [*range(1, FIRST_KEPT + 1), *range(many - LAST_KEPT + 1, many + 1)]
