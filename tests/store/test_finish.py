"""A delivery that is done, and its answer: both, or neither."""

from __future__ import annotations

import pytest

from app.delivery import outgoing
from app.delivery.outgoing import Lane
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.delivery.webhooks import WEBHOOKS
from compose.embedded.stack import TENANT
from tests.builders import make_stored
from tests.deliveries import Deliveries

MADE = make_stored()
TOLD = Told.of(MADE, manifest_url=None)


async def finished(deliveries: Deliveries, *, at_once: bool) -> tuple[object, ...]:
    """End a delivery, and return what came of it."""
    delivery = await deliveries.claimed("once" if at_once else "in two")
    answer = outgoing.done(delivery, MADE, TOLD)
    if at_once:
        assert await deliveries.store.finish(delivery, MADE, TOLD, answer, left_open=True)
    else:
        async with deliveries.store.transaction() as tx:
            assert await tx.advance(delivery, State.DONE, result=MADE, told=TOLD, left_open=True)
            await tx.enqueue(answer)
    row = await deliveries.row(delivery)
    owed = [m for m in await deliveries.outgoing() if m.message_id == answer.message_id]
    steps = [step.state for step in await deliveries.moved(delivery.id)]
    return row.state, row.lease_owner, row.tries, [m.body["status"] for m in owed], steps


async def test_it_ends_as_in_a_transaction(deliveries: Deliveries) -> None:
    at_once = await finished(deliveries, at_once=True)
    assert at_once == await finished(deliveries, at_once=False)
    assert at_once[0] is State.DONE
    assert at_once[3] == ["DONE"]


async def test_its_answer_wakes_who_sends_answers(deliveries: Deliveries) -> None:
    delivery = await deliveries.claimed()
    responses = deliveries.owed_signal.waiter(Lane.RESPONSES)
    orders = deliveries.owed_signal.waiter(Lane.ORDERS)
    await deliveries.store.finish(delivery, MADE, TOLD, outgoing.done(delivery, MADE, TOLD))
    assert responses.event.is_set()
    assert not orders.event.is_set()


async def test_one_that_has_moved_on_is_not_ended_and_nothing_is_told(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    first = await deliveries.leases("dead", seconds=0).claim(Work.TRANSFER)
    second = await deliveries.leases("alive").claim(Work.TRANSFER)
    assert first is not None
    assert second is not None
    before = await deliveries.outgoing()
    assert (
        await deliveries.store.finish(first, MADE, TOLD, outgoing.done(first, MADE, TOLD)) is False
    )
    assert await deliveries.outgoing() == before
    answer = outgoing.done(second, MADE, TOLD)
    assert await deliveries.store.finish(second, MADE, TOLD, answer) is True
    assert await deliveries.store.finish(second, MADE, TOLD, answer) is False  # it has ended
    assert len(await deliveries.outgoing()) == len(before) + 1


async def test_nothing_is_changed_where_a_webhook_may_hear_of_it(deliveries: Deliveries) -> None:
    delivery = await deliveries.claimed()
    async with deliveries.configuration.change(TENANT) as change:
        await change.set(WEBHOOKS, {"w": {"url": "https://a.example/"}})
    before = await deliveries.outgoing()
    answer = outgoing.done(delivery, MADE, TOLD)
    assert await deliveries.store.finish(delivery, MADE, TOLD, answer) is None
    assert (await deliveries.row(delivery)).state is State.TRANSFERRING
    assert await deliveries.outgoing() == before


async def test_one_that_is_not_transferred_can_not_be_done(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    with pytest.raises(ValueError, match="can't go from AVAILABLE to DONE"):
        await deliveries.store.finish(delivery, MADE, TOLD, outgoing.done(delivery, MADE, TOLD))
