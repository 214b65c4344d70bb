"""The code of a cause is stored beside its text, on both stores."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from app.codes import CATALOGUE, Code
from app.delivery.model import Delivery
from app.delivery.states import State, Work
from app.errors import (
    ErrorType,
    FailsAgainError,
    SourceUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.settings import Settings
from app.usecases.expire import expire
from app.usecases.fail import fail
from app.views.deliveries import Filter, Tracked
from compose.embedded.stack import TENANT
from tests.builders import make_actor
from tests.deliveries import Deliveries, DeliveriesInPostgres
from tests.store.test_endings import completing, interventions, settlement

AWAY = TargetUnavailableError("S3 is away")
REFUSED = TargetRefusedError("no such bucket")


async def listed(deliveries: Deliveries) -> Tracked:
    """Return the one delivery, as lists show it, which is as it is shown alone."""
    (one,) = await deliveries.tracking.browse([TENANT], Filter(), before=None, limit=2)
    (whole,) = await deliveries.tracking.of(TENANT, one.delivery.correlation_id)
    assert (whole.code, whole.delivery.tries) == (one.code, one.delivery.tries)
    return one


async def steps(deliveries: Deliveries, delivery: Delivery) -> list[tuple[str | None, str | None]]:
    """Return cause and code of each attempt that was given up."""
    found = await deliveries.tracking.steps(delivery.id)
    return [(step.cause, step.code) for step in found if step.cause is not None]


async def test_an_attempt_that_is_put_off_has_the_code_of_its_cause(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed()
    await settlement(deliveries).settle(claimed, AWAY)
    assert (await listed(deliveries)).code == Code.TARGET_AWAY
    assert await steps(deliveries, claimed) == [("S3 is away", "TARGET_AWAY")]


async def test_the_next_cause_has_its_own_code_and_the_same_cause_keeps_it(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    leases = deliveries.leases("w")
    for error in (AWAY, AWAY, TargetUnavailableError("S3 is slow"), SourceUnavailableError("gone")):
        await leases.release(
            claimed, after=timedelta(), failed=False, cause=str(error), code=error.code
        )
        assert (await listed(deliveries)).code == error.code
        again = await leases.claim(Work.TRANSFER)
        assert again is not None
        claimed = again


async def test_a_cause_that_comes_without_a_code_has_none(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed()
    leases = deliveries.leases("w")
    await leases.release(claimed, after=timedelta(), failed=False, cause="a", code=Code.TARGET_AWAY)
    again = await leases.claim(Work.TRANSFER)
    assert again is not None
    await leases.release(again, after=timedelta(), failed=False, cause="b")
    found = await listed(deliveries)
    assert (found.delivery.last_cause, found.code) == ("b", None)


async def test_what_waits_has_the_code_of_why(deliveries: Deliveries) -> None:
    await deliveries.ready()
    store = deliveries.store
    await store.record_wait(TENANT, None, "paused by an operator", code=Code.PAUSED, limit=9)
    assert (await listed(deliveries)).code == Code.PAUSED
    await store.clear_wait(TENANT, "paused by an operator", limit=9)
    found = await listed(deliveries)
    assert (found.delivery.last_cause, found.code) == (None, None)


async def test_an_end_has_the_code_of_its_cause_and_what_was_put_off_before_has_gone(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    await settlement(deliveries).settle(claimed, REFUSED)
    found = await listed(deliveries)
    assert found.error == ("INTERNAL_ERROR", "no such bucket")
    assert (found.code, found.fails_again) == (Code.TARGET_REFUSED, True)
    assert found.delivery.last_code is None


async def test_an_end_that_is_noted_keeps_the_code_of_what_was_noted_first(
    deliveries: Deliveries,
) -> None:
    claimed = await completing(deliveries)
    for code in (Code.CANCELLED, Code.EXPIRED):
        async with deliveries.store.transaction() as tx:
            await fail(tx, claimed, ErrorType.INTERNAL_ERROR, code.lower(), code=code)
    found = await listed(deliveries)
    assert found.delivery.state is State.TRANSFERRING
    assert found.code == Code.CANCELLED
    async with deliveries.store.transaction() as tx:
        current = await tx.lock(TENANT, claimed.correlation_id)
        assert current is not None
        await fail(tx, current, ErrorType.EXPIRED, "late", code=Code.EXPIRED, decided=True)
    found = await listed(deliveries)
    assert found.error == ("INTERNAL_ERROR", "cancelled")
    assert (found.code, found.fails_again) == (Code.CANCELLED, False)


async def test_cancelled_and_expired_are_told_apart(deliveries: Deliveries) -> None:
    await deliveries.ready("cancelled")
    await interventions(deliveries).cancel(make_actor(), "cancelled")
    assert (await deliveries.tracking.of(TENANT, "cancelled"))[0].code == Code.CANCELLED
    late = await deliveries.granted("late")
    await deliveries.elapse(late.expires_at - deliveries.now() + timedelta(minutes=1))
    assert await expire(store=deliveries.store, limit=9) == 1
    assert (await deliveries.tracking.of(TENANT, "late"))[0].code == Code.EXPIRED


async def test_what_failed_for_a_cause_that_stays_is_tried_again_only_by_force(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    await settlement(deliveries).settle(claimed, REFUSED)
    by, actor = interventions(deliveries), make_actor()
    with pytest.raises(FailsAgainError) as refused:
        await by.retry(actor, claimed.correlation_id)
    for said in ("no such bucket", "TARGET_REFUSED", CATALOGUE[Code.TARGET_REFUSED].do, "force"):
        assert said in str(refused.value)
    again = await by.retry(actor, claimed.correlation_id, force=True)
    assert again.id != claimed.id


@pytest.mark.parametrize("error", [None, Code.CANCELLED, Code.EXPIRED])
async def test_what_may_go_well_now_is_tried_again_at_once(
    deliveries: Deliveries, error: Code | None
) -> None:
    claimed = await deliveries.claimed()
    async with deliveries.store.transaction() as tx:
        await fail(tx, claimed, ErrorType.INTERNAL_ERROR, "of once", code=error)
    await interventions(deliveries).retry(make_actor(), claimed.correlation_id)


@pytest.mark.stack
async def test_a_worker_of_the_version_before_leaves_no_code_of_another_cause(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """It writes causes, and knows of no codes."""
    deliveries = DeliveriesInPostgres(pool, settings)
    claimed = await deliveries.claimed()
    await settlement(deliveries).settle(claimed, AWAY)
    assert (await listed(deliveries)).code == Code.TARGET_AWAY
    await pool.execute("UPDATE delivery SET last_cause = 'rs-order is away', tries = tries + 1")
    found = await listed(deliveries)
    assert (found.delivery.last_cause, found.code) == ("rs-order is away", None)
