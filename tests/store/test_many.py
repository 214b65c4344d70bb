"""Many deliveries are looked at and acted on together, on both stores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.delivery.model import Delivery
from app.delivery.states import State
from app.errors import InvalidRequestError, StoreUnavailableError
from app.usecases.intervene import Interventions
from app.usecases.many import MAX_AT_ONCE, Act, Many
from app.views.deliveries import Activity, Filter, Tracked
from compose.embedded.stack import TENANT
from streams.regards.users import AnyUser
from tests.builders import make_actor, make_stored
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

ACTOR = make_actor()
ALL = Filter()


def many(deliveries: Deliveries) -> Many:
    """Return what an operator may do to many."""
    interventions = Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )
    return Many(store=deliveries.store, tracking=deliveries.tracking, interventions=interventions)


async def retrying(deliveries: Deliveries, name: str, code: str = "TARGET_AWAY") -> Delivery:
    """Return a delivery whose attempt was given up."""
    claimed = await deliveries.claimed(name)
    await deliveries.leases("w").release(
        claimed, after=timedelta(hours=1), failed=False, cause="S3 is away", code=code
    )
    return claimed


async def found(deliveries: Deliveries, **wanted: Any) -> list[str]:
    """Return the correlation ids that a filter finds; the filter itself must say the same."""
    everything = await deliveries.tracking.browse([TENANT], ALL, before=None, limit=99)
    asked = Filter(**wanted)
    some = await deliveries.tracking.browse([TENANT], asked, before=None, limit=99)
    names = [tracked.delivery.correlation_id for tracked in some]
    assert names == [each.delivery.correlation_id for each in everything if asked.fits(each)]
    return names


async def test_what_goes_on_code_target_and_worker_are_looked_for(deliveries: Deliveries) -> None:
    away = await retrying(deliveries, "away")
    await retrying(deliveries, "refused", "TARGET_REFUSED")
    moving = await deliveries.claimed("moving", owner="w2")
    await deliveries.granted("waiting")
    failed = await deliveries.granted("failed")
    await deliveries.fail(failed, "for the test")
    assert await found(deliveries, activities=[Activity.RETRYING]) == ["refused", "away"]
    assert await found(deliveries, activities=[Activity.MOVING]) == ["moving"]
    assert await found(deliveries, activities=[Activity.WAITING]) == ["waiting"]
    assert await found(deliveries, activities=[Activity.STALLED]) == []
    assert await found(deliveries, codes=["TARGET_AWAY"]) == ["away"]
    assert await found(deliveries, codes=["TARGET_AWAY", "TARGET_REFUSED"]) == ["refused", "away"]
    assert await found(deliveries, worker="w2") == ["moving"]
    assert await found(deliveries, target=away.target, states=[State.ERROR]) == ["failed"]
    assert await found(deliveries, target="elsewhere") == []
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(moving, State.DONE, result=make_stored())
    assert await found(deliveries, worker="w2") == []
    assert await found(deliveries, activities=list(Activity)) == ["waiting", "refused", "away"]


async def test_some_are_found_by_their_ids_and_of_each_name_the_newest(
    deliveries: Deliveries,
) -> None:
    first = await deliveries.granted("again")
    await deliveries.fail(first, "for the test")
    await deliveries.elapse(timedelta(seconds=1))
    second = await deliveries.granted("again")
    foreign = await deliveries.ready("foreign", tenant=OTHER)
    tracking = deliveries.tracking
    asked = [first.id, second.id, foreign.id, uuid4()]
    some = await tracking.some(TENANT, asked)
    assert {each.delivery.id for each in some} == {first.id, second.id}
    assert await tracking.some(TENANT, []) == []
    assert await tracking.newest(TENANT, ["again", "foreign", "unknown"]) == {second.id}


async def test_a_look_tells_which_would_be_cancelled_and_why_others_are_left(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted("one")
    over = await deliveries.granted("over")
    await deliveries.fail(over, "for the test")
    await deliveries.ready("foreign", tenant=OTHER)
    looked = await many(deliveries).look(ACTOR, Act.CANCEL, ALL)
    assert [each.delivery.correlation_id for each in looked.would] == ["one"]
    assert [(each.id, each.why) for each in looked.left] == [
        (over.id, f"{over} has ended already (ERROR); there is nothing to cancel")
    ]
    assert not looked.more
    assert await deliveries.states("one") == ["GRANTED"], "it was looked at alone"


async def test_only_what_was_shown_is_cancelled_under_one_entry(deliveries: Deliveries) -> None:
    shown = [await deliveries.granted(f"d{number}") for number in range(3)]
    waiting = Filter(activities=[Activity.WAITING])
    looked = await many(deliveries).look(ACTOR, Act.CANCEL, waiting)
    await deliveries.granted("later")
    ids = [each.delivery.id for each in looked.would]
    acted = await many(deliveries).act(ACTOR, Act.CANCEL, waiting, ids, reason="of no use")
    assert [(each, after.state) for each, after in acted.done] == [
        (each.id, State.ERROR) for each in shown
    ], "those that waited longest are first"
    assert acted.left == []
    assert await deliveries.states("later") == ["GRANTED"]
    *each, entry = await deliveries.audit.entries(TENANT, before=2**62, limit=9)
    assert [(entry.action, entry.after) for entry in each] == [("cancel", "ERROR")] * 3
    assert (entry.action, entry.subject) == ("cancel", "3 deliveries")
    assert entry.after == {
        "filter": {"activity": ["waiting"]},
        "deliveries": 3,
        "reason": "of no use",
    }


async def test_what_has_changed_since_it_was_shown_is_left_alone(deliveries: Deliveries) -> None:
    changed, over = await deliveries.granted("changed"), await deliveries.granted("over")
    again = await deliveries.granted("again")
    await deliveries.fail(over, "for the test")
    await deliveries.fail(again, "for the test")
    await deliveries.granted("again")
    await deliveries.put(changed, State.ORDERED)
    wanted = Filter(states=[State.GRANTED, State.ERROR])
    ids = [changed.id, over.id, again.id, uuid4()]
    acted = await many(deliveries).act(ACTOR, Act.CANCEL, wanted, ids)
    assert acted.done == []
    why = {each.id: each.why for each in acted.left}
    assert why == {
        changed.id: f"{changed} is not as it was when it was shown (ORDERED); look again",
        over.id: f"{over} has ended already (ERROR); there is nothing to cancel",
        again.id: f"{again} has ended already (ERROR); there is nothing to cancel",
        ids[3]: f"tenant {TENANT} keeps it no longer",
    }
    assert await deliveries.states("again") == ["ERROR", "GRANTED"]


async def test_a_look_tells_which_would_be_tried_again(deliveries: Deliveries) -> None:
    waits = await retrying(deliveries, "waits")
    await deliveries.claimed("moves")
    await deliveries.granted("ordered")
    for name in ("over", "over"):
        await deliveries.fail(await deliveries.granted(name), "for the test")
        await deliveries.elapse(timedelta(seconds=1))
    await deliveries.done("done")
    looked = await many(deliveries).look(ACTOR, Act.RETRY, ALL)
    would = [each.delivery.correlation_id for each in looked.would]
    assert would == ["over", "waits"], "once, although it failed twice"
    assert looked.would[1].delivery.id == waits.id
    reasons = sorted(each.why.partition(" ")[2] for each in looked.left)
    assert len(reasons) == len(looked.left) == 4
    text = " ".join(reasons)
    for words in ("is under way", "waits for rs-order", "was asked for again", "is done; ask"):
        assert words in text


async def test_what_failed_and_what_waits_are_tried_again_and_what_fails_again_is_told(
    deliveries: Deliveries,
) -> None:
    waits = await retrying(deliveries, "waits")
    over = await deliveries.granted("over")
    await deliveries.fail(over, "for the test")
    acted = await many(deliveries).act(ACTOR, Act.RETRY, ALL, [over.id, waits.id])
    assert acted.left == []
    (first, now), (second, again) = acted.done
    assert (first, now.id) == (waits.id, waits.id)
    assert second == over.id
    assert again.id != over.id
    assert await deliveries.states("over") == ["ERROR", "GRANTED"]
    entries = await deliveries.audit.entries(TENANT, before=2**62, limit=9)
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("retry", "delivery over"),
        ("retry", "delivery waits"),
        ("retry", "2 deliveries"),
    ]
    twice = await many(deliveries).act(ACTOR, Act.RETRY, ALL, [over.id])
    assert [each.why for each in twice.left] == [
        f"{over} was asked for again since then (GRANTED); look at that one"
    ]


async def test_a_store_that_goes_away_leaves_the_rest_and_says_so(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, rest = [await deliveries.granted(name) for name in ("one", "other", "rest")]
    acting = many(deliveries)
    cancel = Interventions.cancel

    async def cancel_one(self: Interventions, actor: Any, name: str, **how: Any) -> Delivery:
        if name == "other":
            raise StoreUnavailableError("PostgreSQL is away")
        return await cancel(self, actor, name, **how)

    monkeypatch.setattr(Interventions, "cancel", cancel_one)
    acted = await acting.act(ACTOR, Act.CANCEL, ALL, [rest.id, other.id, one.id])
    assert [each for each, _ in acted.done] == [one.id]
    at_hand, behind = acted.left
    assert (at_hand.id, behind.id) == (other.id, rest.id)
    assert at_hand.why == "it may have been done, or not: PostgreSQL is away; look at it"
    assert behind.why.startswith("it was not come to: PostgreSQL is away; look again")


@pytest.mark.parametrize("count", [0, MAX_AT_ONCE + 1])
async def test_none_and_too_many_are_refused(deliveries: Deliveries, count: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"1 to {MAX_AT_ONCE}"):
        await many(deliveries).act(ACTOR, Act.RETRY, ALL, [uuid4()] * count)
    assert await deliveries.audit.entries(TENANT, before=2**62, limit=9) == []


async def test_a_look_says_that_there_are_more(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.many.MAX_AT_ONCE", 2)
    for number in range(3):
        await deliveries.granted(f"d{number}")
    looked = await many(deliveries).look(ACTOR, Act.CANCEL, ALL)
    shown: list[Tracked] = list(looked.would)
    assert [each.delivery.correlation_id for each in shown] == ["d2", "d1"]
    assert looked.more


async def test_each_is_looked_at_right_before_it_is_acted_on(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is cancelled by another meanwhile is not as it was, however many come before it."""
    shown = [await deliveries.granted(f"d{number}") for number in range(3)]
    done = many(deliveries)
    some, looked = done.tracking.some, []

    async def cancelled_meanwhile(tenant: str, asked: Sequence[UUID]) -> list[Tracked]:
        found = await some(tenant, asked)
        looked.append([each.delivery.state for each in found])
        if len(looked) == 1:
            await deliveries.fail(shown[2], "by another")
        return found

    monkeypatch.setattr(done.tracking, "some", cancelled_meanwhile)
    ids = [each.id for each in reversed(shown)]
    waiting = Filter(states=[State.GRANTED])
    acted = await done.act(ACTOR, Act.CANCEL, waiting, ids)
    assert looked == [[State.GRANTED], [State.GRANTED], [State.ERROR]]
    assert [each for each, _ in acted.done] == [shown[0].id, shown[1].id]
    assert [left.why for left in acted.left] == [
        f"{shown[2]} is not as it was when it was shown (ERROR); look again"
    ]
