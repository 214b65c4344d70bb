"""What became of deliveries in time: the same of both stores, by hour and by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest

from app.codes import Code
from app.delivery.states import State, Work
from app.errors import ErrorType
from app.usecases.fail import fail
from app.views.history import Bucket, Step
from compose.embedded.stack import TENANT
from tests.builders import make_stored
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

HOUR = timedelta(hours=1)


async def history(
    deliveries: Deliveries,
    *tenants: str,
    step: Step = Step.HOUR,
    target: str | None = None,
) -> list[Bucket]:
    return await deliveries.histories.history(tenants or (TENANT,), step=step, target=target)


def came_to(buckets: Sequence[Bucket]) -> tuple[int, int, int]:
    """Return how many are done, failed and cancelled, of all buckets."""
    return (
        sum(bucket.done for bucket in buckets),
        sum(bucket.failed for bucket in buckets),
        sum(bucket.cancelled for bucket in buckets),
    )


async def end(deliveries: Deliveries, *, code: Code | None = None) -> None:
    """Let a worker bring what is due to its end: good, or for a cause."""
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    async with deliveries.store.transaction() as tx:
        if code is None:
            assert await tx.advance(claimed, State.DONE, result=make_stored())
        else:
            assert await fail(tx, claimed, ErrorType.INTERNAL_ERROR, "why", code=code, lets_go=True)


@pytest.mark.parametrize(("step", "count"), [(Step.HOUR, 48), (Step.DAY, 90)])
async def test_buckets_without_a_gap_end_with_that_of_now(
    deliveries: Deliveries, step: Step, count: int
) -> None:
    before = deliveries.now()
    buckets = await history(deliveries, TENANT, OTHER, step=step)
    assert [bucket.tenant for bucket in buckets] == [TENANT] * count + [OTHER] * count
    begins = [bucket.begins for bucket in buckets[:count]]
    assert {later - earlier for earlier, later in pairwise(begins)} == {step.length}
    assert begins[-1] <= deliveries.now()
    assert before < begins[-1] + step.length
    assert begins[0].timestamp() % step.length.total_seconds() == 0
    assert came_to(buckets) == (0, 0, 0)


async def test_what_ended_is_counted_when_it_did_and_by_how(deliveries: Deliveries) -> None:
    delivery = await deliveries.ready("done")
    await end(deliveries)
    await deliveries.elapse(5 * HOUR)
    for code in (Code.TARGET_REFUSED, Code.EXPIRED, Code.CANCELLED):
        await deliveries.ready(code.value)
        await end(deliveries, code=code)
    buckets = await history(deliveries)
    assert came_to(buckets) == (1, 2, 1)
    tracked = await deliveries.tracking.one(TENANT, delivery.id)
    assert tracked is not None
    assert tracked.finished_at is not None
    (bucket,) = [bucket for bucket in buckets if bucket.done]
    assert bucket.begins <= tracked.finished_at < bucket.begins + HOUR
    assert bucket.bytes == delivery.total_bytes
    assert sum(bucket.bytes for bucket in buckets) == bucket.bytes
    assert came_to(await history(deliveries, step=Step.DAY)) == (1, 2, 1)
    assert came_to(await history(deliveries, OTHER)) == (0, 0, 0)


async def test_what_had_not_ended_is_counted_at_the_end_of_each_hour(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted("asked before all of it")
    await deliveries.elapse(60 * HOUR)
    assert [bucket.active for bucket in await history(deliveries)] == [1] * 48
    delivery = await deliveries.ready("ends")
    await deliveries.elapse(3 * HOUR)
    await end(deliveries)
    tracked = await deliveries.tracking.one(TENANT, delivery.id)
    assert tracked is not None
    assert tracked.finished_at is not None
    asked, ended = tracked.delivery.requested_at, tracked.finished_at
    buckets = await history(deliveries)
    ends = [bucket.begins + HOUR for bucket in buckets]
    assert [bucket.active for bucket in buckets] == [1 + (asked < end <= ended) for end in ends]
    assert sum(bucket.active for bucket in buckets) - len(buckets) in {3, 4}  # at an hour's turn


async def test_only_deliveries_to_a_target_are_counted_where_one_is_named(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("c", target="archive")
    await end(deliveries)
    assert came_to(await history(deliveries, target="archive")) == (1, 0, 0)
    assert came_to(await history(deliveries, target="another")) == (0, 0, 0)
    (last,) = (await history(deliveries, target="archive"))[-1:]
    assert last.active == 0
