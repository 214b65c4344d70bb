"""How it goes with targets: the same of both stores, by what was sent to them and what waits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.delivery.states import Work
from app.views.targets import TargetSeen
from compose.embedded.stack import TENANT
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


async def seen(deliveries: Deliveries, *tenants: str) -> TargetSeen:
    (found,) = await deliveries.targets.targets(tenants or (TENANT, OTHER))
    return found


async def test_a_target_that_nothing_was_laid_out_for_is_not_known(deliveries: Deliveries) -> None:
    await deliveries.available("c")
    assert await deliveries.targets.targets([TENANT]) == []


async def test_what_waits_and_what_runs_is_counted_by_target(deliveries: Deliveries) -> None:
    first = await deliveries.ready("a", target="archive")
    await deliveries.ready("b")
    await deliveries.ready("c", tenant=OTHER)
    assert await deliveries.leases("w").claim(Work.TRANSFER) is not None
    found = await deliveries.targets.targets([TENANT, OTHER])
    assert sum(target.running for target in found) == 1
    assert sum(target.waiting for target in found) == 2
    assert len(found) == 3
    assert (TENANT, first.target) in {(target.tenant, target.name) for target in found}
    assert {target.tenant for target in await deliveries.targets.targets([OTHER])} == {OTHER}


async def test_a_transfer_whose_lease_ran_out_waits(deliveries: Deliveries) -> None:
    await deliveries.claimed()
    assert ((await seen(deliveries)).running, (await seen(deliveries)).waiting) == (1, 0)
    await deliveries.let_leases_run_out()
    assert ((await seen(deliveries)).running, (await seen(deliveries)).waiting) == (0, 1)


async def test_a_target_fails_since_the_first_failure_after_what_went_well(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("good")
    await deliveries.attempt(None)
    works = await seen(deliveries)
    assert works.last_good is not None
    assert (works.failures, works.failing_since, works.last_bad) == (0, None, None)
    delivery = await deliveries.ready("bad")
    await deliveries.attempt("403 AccessDenied", "TARGET_REFUSED")
    await deliveries.elapse(10 * MINUTE)
    await deliveries.attempt("503 SlowDown", "TARGET_AWAY")
    fails = await seen(deliveries)
    last, first = await deliveries.tracking.attempts(delivery.id)
    assert (fails.failures, fails.failing_since, fails.last_bad) == (2, first.ended, last.ended)
    assert (fails.code, fails.cause) == ("TARGET_AWAY", "503 SlowDown")
    assert (fails.good, fails.bad, fails.waiting) == (1, 2, 1)
    await deliveries.attempt(None)
    again = await seen(deliveries)
    assert (again.failures, again.failing_since, again.cause) == (0, None, "503 SlowDown")


async def test_attempts_count_for_an_hour_and_the_last_of_each_kind_is_known_after_it(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("good")
    await deliveries.attempt(None)
    await deliveries.ready("bad")
    await deliveries.attempt("403 AccessDenied", "TARGET_REFUSED")
    await deliveries.elapse(HOUR + MINUTE)
    later = await seen(deliveries, TENANT)
    assert (later.good, later.bad, later.failures) == (0, 0, 1)
    assert later.last_good is not None
    assert later.last_bad is not None


async def test_what_was_cancelled_is_no_failure(deliveries: Deliveries) -> None:
    await deliveries.ready("c")
    await deliveries.attempt("cancelled by ana: wrong order", "CANCELLED")
    cancelled = await seen(deliveries)
    assert (cancelled.failures, cancelled.bad, cancelled.last_bad) == (0, 0, None)


@pytest.mark.parametrize("code", ["SOURCE_NOT_READY", "PLACE_BUSY"])
async def test_what_only_waits_is_no_failure(deliveries: Deliveries, code: str) -> None:
    await deliveries.ready("c")
    await deliveries.attempt("it is not its turn yet", code)
    waiting = await seen(deliveries)
    assert (waiting.failures, waiting.bad, waiting.last_bad) == (0, 0, None)
