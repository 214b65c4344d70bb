"""A delivery that is to end while an attempt may be completing its archive, on both stores."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.audit import Actor
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.outgoing import Kind
from app.delivery.states import State, Work
from app.errors import EndingError, ErrorType, NotPossibleError, TargetRefusedError
from app.usecases.expire import expire
from app.usecases.intervene import Interventions
from app.usecases.settle import Settlement
from app.views.deliveries import DeliveryView
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from streams.regards.users import AnyUser
from tests.builders import make_stored, make_upload
from tests.deliveries import Deliveries
from tests.twins.rs_order import MemoryOrders

UNTIL = timedelta(minutes=16)
UPLOAD = make_upload(container="b", key="k")
RESULT = make_stored(UPLOAD)
ACTOR = Actor(name="an operator", role="EXPLOIT", tenant=TENANT)
NOT_BEFORE_ITS_END = "as soon as it is known whether its archive has appeared"


async def completing(deliveries: Deliveries) -> Delivery:
    """Return a delivery whose archive an attempt may let appear."""
    claimed = await deliveries.claimed()
    leases = deliveries.leases("w")
    assert await leases.record_upload(claimed, UPLOAD)
    assert await note(deliveries, claimed)
    return claimed


async def note(deliveries: Deliveries, claimed: Delivery, owner: str = "w") -> bool:
    """Note that the archive may appear."""
    noted = await deliveries.leases(owner).record_completion(
        claimed, RESULT, namespace="s3:9000", until=UNTIL
    )
    return noted is not None


def interventions(deliveries: Deliveries) -> Interventions:
    """Return what an operator may do."""
    return Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )


def settlement(deliveries: Deliveries, owner: str = "w") -> Settlement:
    """Return what a worker decides by."""
    return Settlement(
        store=deliveries.store,
        leases=deliveries.leases(owner),
        backoff=Backoff(first=60, longest=60),
        attempts=3,
        source=MemoryOrders(),
    )


async def end(deliveries: Deliveries, delivery: Delivery, result: StoredObject = RESULT) -> bool:
    """Let a worker tell that the archive is there."""
    async with deliveries.store.transaction() as tx:
        return await tx.advance(delivery, State.DONE, result=result)


async def errors(deliveries: Deliveries) -> list[Any]:
    """Return the causes that clients are told."""
    return [
        message.body["message"]
        for message in await deliveries.outgoing()
        if message.kind is Kind.RESPONSE and message.body["status"] == "ERROR"
    ]


async def look(deliveries: Deliveries) -> int:
    """Look for what is over."""
    return await expire(store=deliveries.store, limit=1)


async def test_one_that_expires_is_done_if_its_archive_appears(deliveries: Deliveries) -> None:
    claimed = await completing(deliveries)
    await deliveries.elapse(claimed.expires_at - deliveries.now() - timedelta(minutes=5))
    assert await note(deliveries, claimed)
    await deliveries.elapse(timedelta(minutes=6))
    assert await look(deliveries) == 1
    assert await look(deliveries) == 0
    assert (await deliveries.row(claimed)).state is State.TRANSFERRING
    assert await deliveries.leases("w").holds(claimed)
    assert await deliveries.leases("w").renew(claimed)
    assert await end(deliveries, claimed)
    assert await errors(deliveries) == []


async def test_one_whose_completion_fails_ends_with_the_cause_that_was_noted(
    deliveries: Deliveries,
) -> None:
    """And not before the next attempt has looked: who failed may not know what it did."""
    claimed = await completing(deliveries)
    await interventions(deliveries).cancel(ACTOR, "c", reason="of no use")
    await settlement(deliveries).settle(claimed, TargetRefusedError("AccessDenied"))
    assert await errors(deliveries) == []
    looks = await deliveries.leases("another").claim(Work.TRANSFER)
    assert looks is not None
    assert looks.ending is not None
    await settlement(deliveries, "another").settle(looks, EndingError("not there"))
    assert await errors(deliveries) == ["cancelled by an operator: of no use"]
    assert (await deliveries.row(claimed)).lease_owner is None


async def test_one_that_fails_ends_when_it_is_known_what_its_completion_did(
    deliveries: Deliveries,
) -> None:
    claimed = await completing(deliveries)
    await settlement(deliveries).settle(claimed, TargetRefusedError("AccessDenied"))
    assert await errors(deliveries) == []
    looks = await deliveries.leases("another").claim(Work.TRANSFER)
    assert looks is not None
    await settlement(deliveries, "another").settle(looks, EndingError("not there"))
    assert await errors(deliveries) == ["AccessDenied"]


async def test_an_end_waits_no_longer_than_a_completion_takes(deliveries: Deliveries) -> None:
    claimed = await completing(deliveries)
    await interventions(deliveries).cancel(ACTOR, "c")
    await deliveries.elapse(UNTIL - timedelta(minutes=1))
    assert await look(deliveries) == 0
    await deliveries.elapse(timedelta(minutes=1))
    assert await look(deliveries) == 1
    assert await errors(deliveries) == ["cancelled by an operator"]
    assert not await deliveries.leases("w").holds(claimed)
    assert not await end(deliveries, claimed)


async def test_what_was_refused_holds_up_no_end(deliveries: Deliveries) -> None:
    claimed = await completing(deliveries)
    await interventions(deliveries).cancel(ACTOR, "c")
    await deliveries.leases("w").discard_completion(claimed)
    await settlement(deliveries).settle(claimed, TargetRefusedError("AccessDenied"))
    assert await errors(deliveries) == ["cancelled by an operator"]


async def test_no_completion_is_asked_for_again_and_another_attempt_looks_at_once(
    deliveries: Deliveries,
) -> None:
    claimed = await completing(deliveries)
    await interventions(deliveries).cancel(ACTOR, "c")
    with pytest.raises(EndingError) as ending:
        await note(deliveries, claimed)
    await settlement(deliveries).settle(claimed, ending.value)
    looks = await deliveries.leases("another").claim(Work.TRANSFER)
    assert looks is not None
    assert looks.completing == RESULT


@pytest.mark.parametrize("begins_again", [False, True])
async def test_an_attempt_that_only_streams_stops_and_what_was_noted_before_is_looked_at(
    deliveries: Deliveries, begins_again: bool
) -> None:
    streams = await completing(deliveries)
    owner = "w"
    if begins_again:
        again: Upload = make_upload(container="b", key="k", upload_id="again")
        assert await deliveries.leases(owner).record_upload(streams, again)
    else:
        await deliveries.let_leases_run_out()
        owner = "another"
        found = await deliveries.leases(owner).claim(Work.TRANSFER)
        assert found is not None
        streams = found
    await interventions(deliveries).cancel(ACTOR, "c")
    assert not await deliveries.leases(owner).holds(streams)
    looks = await deliveries.leases("third").claim(Work.TRANSFER)
    assert looks is not None
    assert looks.ending is not None
    assert (looks.ending.error_type, looks.completing) == (ErrorType.INTERNAL_ERROR, RESULT)


async def test_an_attempt_that_looks_keeps_its_lease_when_an_end_is_noted_once_more(
    deliveries: Deliveries,
) -> None:
    """By a worker whose look for what is over took long: it wrote a report first."""
    claimed = await completing(deliveries)
    await interventions(deliveries).cancel(ACTOR, "c")
    await settlement(deliveries).settle(claimed, TargetRefusedError("AccessDenied"))
    looks = await deliveries.leases("another").claim(Work.TRANSFER)
    assert looks is not None
    expired = ErrorType.EXPIRED, "not done in time"
    async with deliveries.store.transaction() as tx:
        assert await tx.note_ending(looks, expired, lets_go=False)
    assert await deliveries.leases("another").holds(looks)
    async with deliveries.store.transaction() as tx:
        assert await tx.note_ending(looks, expired, lets_go=True)
    assert not await deliveries.leases("another").holds(looks)
    looks_again = await deliveries.leases("third").claim(Work.TRANSFER)
    assert looks_again is not None
    assert looks_again.ending == looks.ending is not None


async def test_who_cancels_is_told_that_it_ends_later(deliveries: Deliveries) -> None:
    await completing(deliveries)
    by = interventions(deliveries)
    cancelled = await by.cancel(ACTOR, "c", reason="of no use")
    assert cancelled.state is State.TRANSFERRING
    shown = DeliveryView.of((await deliveries.tracking.of(TENANT, "c"))[0])
    assert shown.state is State.TRANSFERRING
    assert shown.last_cause == (
        "cancelled by an operator: of no use; it ends when its completion has, or has failed"
    )
    noted = await deliveries.audit.entries(TENANT, before=99, limit=10)
    assert [(entry.action, entry.before, entry.after) for entry in noted] == [
        ("cancel", "TRANSFERRING", "TRANSFERRING")
    ]
    for steps_in in (by.cancel, by.retry):
        with pytest.raises(NotPossibleError, match=NOT_BEFORE_ITS_END):
            await steps_in(ACTOR, "c")
    # Its correlation id is in use.
    await deliveries.receive(deliveries.message())
    assert len(await deliveries.of()) == 1
