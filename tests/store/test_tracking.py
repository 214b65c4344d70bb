"""Deliveries are looked up, followed and counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.delivery.content import ContentNews
from app.delivery.states import State, Work
from app.errors import ErrorType, NotPossibleError, UnknownDeliveryError
from app.usecases.intervene import Interventions
from app.views.deliveries import Filter, Tracked
from compose.embedded.stack import TENANT, USER
from streams.regards.users import AnyUser
from tests.builders import make_actor, make_body, make_stored
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

SECOND = timedelta(seconds=1)


async def names(deliveries: Deliveries, *tenants: str, **wanted: Any) -> list[str]:
    """Return the correlation ids that are found."""
    found = await deliveries.tracking.browse(
        tenants or [TENANT, OTHER], Filter(**wanted), before=None, limit=9
    )
    return [tracked.delivery.correlation_id for tracked in found]


async def test_deliveries_are_found_by_what_is_known_of_them(deliveries: Deliveries) -> None:
    await deliveries.granted("first")
    await deliveries.elapse(SECOND)
    await deliveries.ready("Second", tenant=OTHER)
    await deliveries.elapse(SECOND)
    labelled = make_body("third") | {"delivery": {"labels": ["été", "a b"]}}
    third = await deliveries.granted("third", body=labelled)
    await deliveries.fail(third, "50% of it_all is away")
    assert await names(deliveries) == ["third", "Second", "first"]
    assert await names(deliveries, OTHER) == ["Second"]
    assert await names(deliveries, states=[State.READY, State.ERROR]) == ["third", "Second"]
    assert await names(deliveries, user=USER) == ["third", "Second", "first"]
    assert await names(deliveries, user="unknown@example.org") == []
    assert await names(deliveries, labels=["a b"]) == ["third"]
    assert await names(deliveries, labels=["a b", "été"]) == ["third"]
    assert await names(deliveries, labels=["a b", "a"]) == []
    assert await names(deliveries, since=third.requested_at) == ["third"]
    assert await names(deliveries, until=third.requested_at) == ["Second", "first"]
    assert await names(deliveries, text="sECOND") == ["Second"]
    assert await names(deliveries, text="50% of it_all") == ["third"]
    assert await names(deliveries, text="INTERNAL_ERROR") == ["third"]
    assert await names(deliveries, text="0% of itxall") == []


async def test_a_page_goes_on_behind_the_last_delivery_of_the_one_before(
    deliveries: Deliveries,
) -> None:
    for number in range(5):
        await deliveries.granted(f"d{number}")
    found: list[str] = []
    before = None
    while page := await deliveries.tracking.browse([TENANT], Filter(), before=before, limit=2):
        found += [tracked.delivery.correlation_id for tracked in page]
        before = page[-1].delivery.requested_at, page[-1].delivery.id
    assert found == ["d4", "d3", "d2", "d1", "d0"]


async def test_a_delivery_is_shown_with_who_works_on_it_and_what_became_of_it(
    deliveries: Deliveries,
) -> None:
    tracking = deliveries.tracking
    claimed = await deliveries.claimed()
    working = await tracking.one(TENANT, claimed.id)
    assert working is not None
    assert (working.worker, working.finished_at, working.ended) == ("w", None, False)
    assert working.delivery.order
    result = make_stored()
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=result)
    failed = await deliveries.granted()
    await deliveries.fail(failed, "for the test")
    newest, oldest = await tracking.of(TENANT, "c")
    assert (oldest.result, oldest.error, oldest.worker) == (result, None, None)
    assert oldest.ended
    assert (newest.result, newest.error) == (None, (ErrorType.INTERNAL_ERROR, "for the test"))
    (listed, _) = await tracking.browse([TENANT], Filter(), before=None, limit=9)
    assert listed.delivery.order == {}
    assert listed.error == newest.error
    assert await tracking.one(OTHER, claimed.id) is None
    assert await tracking.one(TENANT, uuid4()) is None


async def test_steps_and_files_of_a_delivery_are_shown_in_their_order(
    deliveries: Deliveries,
) -> None:
    tracking = deliveries.tracking
    claimed = await deliveries.claimed()
    await deliveries.leases("w").release(claimed, after=SECOND, failed=False, cause="away")
    steps = await tracking.steps(claimed.id)
    assert [(step.state, step.attempt, step.cause) for step in steps] == [
        (State.GRANTED, 0, None),
        (State.AVAILABLE, 0, None),
        (State.READY, 0, None),
        (State.TRANSFERRING, 1, None),
        (State.TRANSFERRING, 1, "away"),
    ]
    assert sorted(step.id for step in steps) == [step.id for step in steps]
    files = await tracking.manifest(claimed.id, after=-1, limit=2)
    assert [file.member for file in files] == ["f0", "f1"]
    assert [
        file.member
        for file in await tracking.manifest(claimed.id, after=files[-1].position, limit=9)
    ] == ["f2"]


async def test_a_file_of_a_delivery_is_found_by_its_name(deliveries: Deliveries) -> None:
    tracking = deliveries.tracking
    claimed, other = await deliveries.claimed(), await deliveries.ready("other", files=5)
    found = await tracking.file(claimed.id, "f1")
    assert found is not None
    assert (found.member, found.position, found.size) == ("f1", 1, 1)
    for delivery, name in ((claimed, "f4"), (claimed, "F1"), (claimed, "f_"), (claimed, "")):
        assert await tracking.file(delivery.id, name) is None
    assert await tracking.file(other.id, "f4") is not None


async def test_changes_are_followed_from_the_last_one_on(deliveries: Deliveries) -> None:
    changes = deliveries.changes
    assert await changes.last() == 0
    await deliveries.granted("before")
    last = await changes.last()
    await deliveries.available("c")
    await deliveries.granted("theirs", tenant=OTHER)
    found = await changes.since(last, missing=[last], limit=9)
    assert [(change.tracked.delivery.correlation_id, change.step.state) for change in found] == [
        ("before", State.GRANTED),
        ("c", State.GRANTED),
        ("c", State.AVAILABLE),
        ("theirs", State.GRANTED),
    ]
    assert all(change.tracked.delivery.order == {} for change in found)
    assert await changes.since(last, missing=[], limit=1) == found[1:2]
    # Of the moments before the last one that a reader heard, some may come again.
    replayed = await changes.replay(TENANT, found[1].step.id, limit=9)
    assert [change.step.id for change in replayed] == [found[0].step.id, found[2].step.id]
    (user,) = {change.tracked.delivery.user for change in replayed}
    assert await changes.replay(TENANT, found[1].step.id, limit=9, user=user) == replayed
    assert await changes.replay(TENANT, found[1].step.id, limit=1, user=user) == replayed[:1]
    for other in ("other@example.org", "", user.upper(), "%"):
        assert await changes.replay(TENANT, 0, limit=9, user=other) == []
    await deliveries.elapse(timedelta(minutes=1))
    await deliveries.granted("late")
    later = await changes.replay(TENANT, await changes.last(), limit=9)
    assert later == []
    assert await changes.replay(TENANT, await changes.last(), limit=9, user=user) == []


async def test_the_newest_step_of_a_user_is_told_whatever_happens_to_others(
    deliveries: Deliveries,
) -> None:
    changes = deliveries.changes
    mine = await deliveries.granted("mine")
    first = await changes.last()
    body = make_body("theirs")
    theirs = await deliveries.granted(
        "theirs", body=body | {"order": body["order"] | {"user": "other@example.org"}}
    )
    newest = await changes.last()

    async def of(user: str, *, until: int = newest) -> int:
        return await changes.last_of(TENANT, user, until=until)

    assert [await of(mine.user), await of(theirs.user)] == [first, newest]
    assert await of(theirs.user, until=newest - 1) == 0
    assert await of("none@example.org") == 0
    assert await changes.last_of(OTHER, mine.user, until=newest) == 0


async def test_a_number_of_no_step_yet_is_one_that_nothing_came_after(
    deliveries: Deliveries,
) -> None:
    """A reader may come with any: of a database that was lost, or made up."""
    delivery = await deliveries.granted()
    for user in (None, delivery.user):
        for last in (2**31, 10**18 - 1):
            assert await deliveries.changes.replay(TENANT, last, limit=9, user=user) == []
        assert await deliveries.changes.replay(TENANT, -1, limit=9, user=user) != []


async def test_a_user_hears_of_attempts_that_were_given_up_and_of_contents_too(
    deliveries: Deliveries,
) -> None:
    """Whatever writes a step, it is one of its delivery's user."""
    given_up = await deliveries.claimed("given-up")
    await deliveries.leases("w").release(given_up, after=SECOND, failed=False, cause="away")
    await deliveries.fail(await deliveries.active("given-up"), "for the test")
    done = await deliveries.claimed("removed")
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(done, State.DONE, result=make_stored())
        until = await tx.now() + SECOND
        await tx.keep_content(done, until=until, key="a.zip", namespace="s3.example:80")
    await deliveries.elapse(timedelta(minutes=1))
    (due,) = await deliveries.contents.due(limit=9)
    async with deliveries.store.transaction() as tx:
        assert await tx.content_removed(due.content, within=SECOND)
    newest = await deliveries.changes.last()
    found = await deliveries.changes.replay(TENANT, 0, limit=99, user=done.user)
    assert found == await deliveries.changes.replay(TENANT, 0, limit=99)
    assert [change.step.cause for change in found if change.step.cause] == ["away"]
    assert found[-1].step.news == ContentNews.REMOVED
    assert await deliveries.changes.last_of(TENANT, done.user, until=newest) == newest


async def test_what_waits_and_what_became_of_the_rest_is_counted(deliveries: Deliveries) -> None:
    overview = deliveries.overview
    for name in ("a", "b"):
        await deliveries.granted(name)
    await deliveries.elapse(timedelta(hours=1))
    await deliveries.granted("c")
    began = deliveries.now() - SECOND
    (depth,) = await overview.depths()
    assert (depth.tenant, depth.state, depth.deliveries) == (TENANT, State.GRANTED, 3)
    assert 3600 <= depth.oldest < 4200
    owed = {row.lane: row for row in await overview.owed()}
    assert {lane: row.messages for lane, row in owed.items()} == {"orders": 3, "responses": 3}
    assert 3600 <= owed["orders"].oldest < 4200
    assert await overview.outcomes([TENANT], since=began) == []
    await deliveries.done("d")
    for name in ("a", "b"):
        await deliveries.fail(await deliveries.active(name), "for the test")
    done, failed = await overview.outcomes([TENANT, OTHER], since=began)
    assert (done.state, done.error_type, done.deliveries, done.bytes) == (State.DONE, None, 1, 3)
    assert (failed.error_type, failed.deliveries) == (ErrorType.INTERNAL_ERROR, 2)
    assert 3600 <= failed.median_seconds < 4200
    assert await overview.outcomes([OTHER], since=began) == []


async def test_workers_tell_that_they_are_there_until_they_stop(deliveries: Deliveries) -> None:
    first, second = deliveries.presence("a"), deliveries.presence("b")
    await first.heartbeat()
    await second.heartbeat()
    await deliveries.ready()
    assert await deliveries.leases("b").claim(Work.TRANSFER) is not None
    seen = await deliveries.overview.workers()
    assert [(worker.id, worker.slots, worker.running) for worker in seen] == [
        ("a", 3, 0),
        ("b", 3, 1),
    ]
    assert all(worker.alive for worker in seen)
    await deliveries.elapse(timedelta(minutes=5))
    await second.heartbeat()
    seen = await deliveries.overview.workers()
    assert [(worker.id, worker.alive) for worker in seen] == [("a", False), ("b", True)]
    assert seen[1].started_at < seen[1].seen_at
    assert seen[1].running == 0  # its lease ran out
    await second.deregister()
    await deliveries.elapse(timedelta(days=2))
    await second.heartbeat()
    assert [worker.id for worker in await deliveries.overview.workers()] == ["b"]


async def test_a_worker_that_comes_again_in_another_version_has_just_begun(
    deliveries: Deliveries,
) -> None:
    """It was killed: it has not told that it stops."""
    await deliveries.presence("w").heartbeat()
    await deliveries.elapse(timedelta(minutes=5))
    await deliveries.presence("w").heartbeat()
    (seen,) = await deliveries.overview.workers()
    began = seen.started_at
    assert began < seen.seen_at
    await deliveries.presence("w", version="2").heartbeat()
    (seen,) = await deliveries.overview.workers()
    assert (seen.version, seen.started_at > began) == ("2", True)
    assert seen.started_at == seen.seen_at


async def test_a_delivery_that_failed_can_be_asked_for_again(deliveries: Deliveries) -> None:
    """The use-case that both changes deliveries and looks them up."""
    interventions = Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )
    actor = make_actor()
    with pytest.raises(UnknownDeliveryError):
        await interventions.retry(actor, "c")
    first = await deliveries.granted()
    with pytest.raises(NotPossibleError, match="waits for rs-order"):
        await interventions.retry(actor, "c")
    await interventions.cancel(actor, "c", reason="for the test")
    with pytest.raises(NotPossibleError, match="has ended already"):
        await interventions.cancel(actor, "c")
    again = await interventions.retry(actor, "c")
    assert again.id != first.id
    assert again.order == first.order
    found: list[Tracked] = await deliveries.tracking.of(TENANT, "c")
    assert [tracked.delivery.state for tracked in found] == [State.GRANTED, State.ERROR]
    noted = await deliveries.audit.entries(TENANT, before=2**62, limit=9)
    assert [entry.action for entry in noted] == ["retry", "cancel"]


async def test_which_transfers_are_underway_is_asked_by_their_attempts(
    deliveries: Deliveries,
) -> None:
    tracking = deliveries.tracking
    one, other = await deliveries.claimed("one"), await deliveries.claimed("other")
    attempts = {one.id: one.attempt, other.id: other.attempt, uuid4(): 1}
    found = await tracking.underway(attempts)
    assert {each.delivery.id for each in found} == {one.id, other.id}
    for each in found:
        assert (each.told, each.segments) == (True, ())
        assert (each.delivery.file_count, each.delivery.priority) == (3, one.priority)
        assert each.delivery.origin_app == one.origin_app
    assert await tracking.underway({one.id: one.attempt + 1}) == [], "it is another worker's"
    await deliveries.fail(other, "it is away")
    assert [each.delivery.id for each in await tracking.underway(attempts)] == [one.id]
    assert await tracking.underway({}) == []
