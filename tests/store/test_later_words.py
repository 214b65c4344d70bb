"""Rows with a word that only a later version knows: while versions change, or after a step back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.ports import Outbox
from app.delivery.states import State
from app.errors import RetryableError
from app.views.deliveries import DeliveryView, Filter
from app.views.events import StateEvent
from compose.embedded.stack import TENANT
from tests.builders import make_arrival, make_outgoing
from tests.deliveries import Deliveries
from tests.twins.rs_order import Source

LATER = "OF_A_LATER_VERSION"
HOUR = timedelta(hours=1)


def told(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what an operator is told of newer rows."""
    return [
        f"{entry['cause']}; {entry['consequence']}"
        for entry in logs
        if entry["event"] == "database_is_newer"
    ]


async def test_a_delivery_that_failed_for_a_later_reason_is_shown_with_its_word(
    deliveries: Deliveries,
) -> None:
    failed = await deliveries.granted()
    await deliveries.fail(failed, "of the test")
    await deliveries.granted("d")
    await deliveries.reword_error(failed, LATER)
    found = await deliveries.tracking.browse([TENANT], Filter(text=LATER), before=None, limit=9)
    found += await deliveries.tracking.of(TENANT, "c")
    found += [change.tracked for change in await deliveries.changes.since(0, missing=[], limit=2)]
    assert [tracked.error for tracked in found] == [(LATER, "of the test")] * 4
    assert [DeliveryView.of(tracked).body()["errorType"] for tracked in found] == [LATER] * 4
    *_, last, _ = await deliveries.changes.replay(TENANT, 0, limit=9)
    assert StateEvent.of_change(last).error_type == LATER


async def test_a_delivery_of_a_later_format_is_planned_by_that_version(
    deliveries: Deliveries,
) -> None:
    """A tenant has chosen it there, and goes on with this version meanwhile."""
    deliveries.tenants.give(TENANT, delivery_format=LATER)
    delivery = await deliveries.available()
    assert delivery.format == LATER
    source = Source({"a": b"a"})
    with pytest.raises(RetryableError, match=f"{LATER}, a format that this worker does not know"):
        await deliveries.plan_ahead(delivery, source)
    assert await deliveries.states() == ["AVAILABLE"]


async def test_deliveries_that_failed_for_a_later_reason_are_counted_by_its_word(
    deliveries: Deliveries,
) -> None:
    since = deliveries.now() - HOUR
    for name in ("a", "b"):
        failed = await deliveries.granted(name)
        await deliveries.fail(failed, "of the test")
    await deliveries.reword_error(failed, LATER)
    outcomes = await deliveries.overview.outcomes([TENANT], since=since)
    assert [(outcome.state, outcome.error_type, outcome.deliveries) for outcome in outcomes] == [
        (State.ERROR, "INTERNAL_ERROR", 1),
        (State.ERROR, LATER, 1),
    ]


@pytest.mark.parametrize("limit", [1, 9])
async def test_an_arrival_of_a_later_kind_is_left_alone_and_holds_up_no_other(
    deliveries: Deliveries, limit: int
) -> None:
    arrivals = deliveries.arrivals(HOUR)
    later, known = make_arrival(), make_arrival()
    for arrival in (later, known):
        await arrivals.save(arrival)
        await deliveries.elapse(timedelta(seconds=1))
    await deliveries.reword_arrival(later.ingress_id, LATER)
    await deliveries.elapse(HOUR)
    with capture_logs() as logs:
        assert await arrivals.overdue(limit) == [known]
        assert await arrivals.overdue(limit) == []
        await deliveries.elapse(2 * HOUR)
        assert await arrivals.overdue(limit) == [known]
        assert await arrivals.overdue(limit) == []
    (sentence,) = told(logs)
    assert LATER in sentence
    assert "upgrade" in sentence
    # To a worker that knows it, it is due as if none had looked.
    await deliveries.reword_arrival(later.ingress_id, later.kind)
    assert await arrivals.overdue(9) == [later]
    await deliveries.elapse(2 * HOUR)
    assert later in await arrivals.overdue(9)


async def relayed(outbox: Outbox) -> list[UUID]:
    """Return the message ids of what is sent to clients."""
    sent: list[UUID] = []

    async def publish(message: OutgoingMessage) -> None:
        sent.append(message.message_id)

    while (await outbox.relay(Lane.RESPONSES, publish))[0]:
        pass
    return sent


async def test_a_message_of_a_later_kind_is_left_alone_and_holds_up_no_other_delivery(
    deliveries: Deliveries,
) -> None:
    delivery = uuid4()
    later, behind = (make_outgoing(delivery_id=delivery) for _ in range(2))
    others = [make_outgoing() for _ in range(3)]
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(later, behind, *others)
    await deliveries.reword_message(later.message_id, LATER)
    outbox = deliveries.outbox(batch=1)
    with capture_logs() as logs:
        assert await relayed(outbox) == [other.message_id for other in others]
        await deliveries.elapse(HOUR)
        assert await relayed(outbox) == []
    (sentence,) = told(logs)
    assert LATER in sentence
    assert "upgrade" in sentence
    # By a worker that knows it, both go out in their order, without a wait.
    await deliveries.reword_message(later.message_id, later.kind)
    assert await relayed(outbox) == [later.message_id, behind.message_id]
