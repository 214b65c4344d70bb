"""A message has its effect once: requests, cancels and what rs-order says, in whatever copies."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.delivery import outgoing
from app.delivery.ingress import Arrival, Cancel, IncomingMessage, Ingress
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.ports import Arrivals
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.encoding import dumps
from app.usecases.intervene import apply_cancel
from app.usecases.order_progress import order_progressed
from app.usecases.reconcile import append_again
from app.usecases.submit import check
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT
from streams.channels import REQUESTS
from streams.events import CancelRequested, OrderProgressed, RequestReceived
from streams.kafka.agents import Dependencies, handler_of
from streams.regards.users import AnyUser
from tests.builders import (
    make_arrival,
    make_body,
    make_cancel,
    make_message,
    make_order_event,
    make_stored,
)
from tests.deliveries import Deliveries

OFF = timedelta(minutes=7)  # of a worker's clock


class Inbox:
    """What arrives is saved, and handled later, in any order."""

    def __init__(self, deliveries: Deliveries, arrivals: Arrivals) -> None:
        self.deliveries = deliveries
        self.arrivals = arrivals

    async def saved(self, ingress: Ingress) -> None:
        """Save what arrived."""
        await self.arrivals.save(make_arrival(ingress))

    async def cancel(self, cancel: Cancel, *, save: bool = True) -> None:
        """Let an agent handle a cancel."""
        if save:
            await self.saved(cancel.ingress)
        await apply_cancel(cancel, store=self.deliveries.store)

    async def tell(self, event: OrderEvent, *, save: bool = True) -> None:
        """Let an agent handle an order event."""
        if save and event.ingress is not None:
            await self.saved(event.ingress)
        await order_progressed(event, store=self.deliveries.store)


@pytest.fixture
def inbox(deliveries: Deliveries, arrivals: Arrivals) -> Inbox:
    """What arrives at the test's own database."""
    return Inbox(deliveries, arrivals)


def digest_of(arrived: IncomingMessage | OrderEvent | Cancel) -> bytes:
    """Return by what a copy of a message is known."""
    assert arrived.ingress is not None
    return arrived.ingress.digest


def denial(**changes: object) -> OrderEvent:
    """Return a DENIED that arrived."""
    return make_order_event(OrderStatus.DENIED, **changes)


@pytest.mark.parametrize("off", [-OFF, timedelta(), OFF])
async def test_an_original_that_its_copy_has_overtaken_is_refused(
    deliveries: Deliveries, inbox: Inbox, off: timedelta
) -> None:
    """It was saved, then its worker died; the copy was handled. Workers' clocks don't matter."""
    original = make_message("c", received_at=datetime.now(UTC) + off)
    await inbox.saved(original.ingress)
    copy = make_message("c", digest=digest_of(original), redelivered=True)
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    for _ in range(2):  # appended by the reconciler; and given again by Kafka
        await deliveries.grant(original)
    assert await deliveries.states() == ["ERROR"]
    # The client sends the same again, on purpose.
    resent = make_message("c", digest=digest_of(original), received_at=datetime.now(UTC) - off)
    await inbox.saved(resent.ingress)
    await deliveries.grant(resent)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_a_message_counts_from_when_it_came_not_from_when_it_could_be_saved(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """Its worker was cut off from RabbitMQ and PostgreSQL; another took the copy meanwhile."""
    came = time.monotonic()
    original = make_message("c")
    copy = make_message("c", digest=digest_of(original), redelivered=True)
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    ingress = original.ingress
    await inbox.arrivals.save(make_arrival(ingress), since=came)
    await deliveries.grant(original)
    assert await deliveries.states() == ["ERROR"]


async def test_a_copy_that_rabbitmq_does_not_own_up_to_is_refused(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """It has restarted; who had the message noted that its acknowledgement was lost."""
    for handled_before in (True, False):
        name = f"c-{handled_before}"
        original = make_message(name)
        copy = make_message(name, digest=digest_of(original))
        await inbox.saved(original.ingress)
        if handled_before:
            await deliveries.grant(original)
            await deliveries.fail(await deliveries.active(name), "for the test")
        await inbox.arrivals.returned([original.ingress.id])
        await inbox.saved(copy.ingress)
        await deliveries.grant(copy)
        if not handled_before:
            await deliveries.fail(await deliveries.active(name), "for the test")
        await deliveries.grant(original)
        await deliveries.grant(copy)
        await inbox.arrivals.returned([original.ingress.id])  # late: its copy was there
        resent = make_message(name, digest=digest_of(original))
        await inbox.saved(resent.ingress)
        await deliveries.grant(resent)
        assert await deliveries.states(name) == ["ERROR", "GRANTED"]


@pytest.mark.parametrize("appended_again", [True, False])
async def test_a_copy_of_what_was_handled_and_saved_once_more_is_refused(
    deliveries: Deliveries, inbox: Inbox, *, appended_again: bool
) -> None:
    """Kafka's confirmation was lost: the bridge saves and appends again what an agent has had."""
    original = make_message("c")
    await inbox.saved(original.ingress)
    await deliveries.grant(original)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await inbox.saved(original.ingress)
    await inbox.arrivals.returned([original.ingress.id])
    if appended_again:
        await deliveries.grant(original)
    copy = make_message("c", digest=digest_of(original))
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    await deliveries.grant(original)
    assert await deliveries.states() == ["ERROR"]
    resent = make_message("c", digest=digest_of(original))
    await inbox.saved(resent.ingress)
    await deliveries.grant(resent)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


@pytest.mark.parametrize("handled_before", [True, False])
async def test_a_copy_that_is_given_again_itself_is_refused_however_often(
    deliveries: Deliveries, inbox: Inbox, *, handled_before: bool
) -> None:
    """RabbitMQ has restarted, and again before the copy was acknowledged; it owns up to neither."""
    given = make_message("c")
    await inbox.saved(given.ingress)
    await deliveries.grant(given)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await inbox.arrivals.returned([given.ingress.id])
    for _ in range(3):
        copy = make_message("c", digest=digest_of(given))
        await inbox.saved(copy.ingress)
        if handled_before:
            await deliveries.grant(copy)
        await inbox.arrivals.returned([copy.ingress.id])
        await deliveries.grant(copy)
    assert await deliveries.states() == ["ERROR"]
    last = make_message("c", digest=digest_of(given))
    await inbox.saved(last.ingress)
    await deliveries.grant(last)
    assert await deliveries.states() == ["ERROR"]
    resent = make_message("c", digest=digest_of(given))
    await inbox.saved(resent.ingress)
    await deliveries.grant(resent)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_what_comes_late_is_not_the_copy_that_is_given_again(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """RabbitMQ gave one message three times, and owns up to none; the second is handled first.

    The first is refused then: its copy has counted. The third is known by the note of the second.
    """
    first = make_message("c")
    await inbox.saved(first.ingress)
    await inbox.arrivals.returned([first.ingress.id])
    second = make_message("c", digest=digest_of(first))
    await inbox.saved(second.ingress)
    await deliveries.grant(second)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await inbox.arrivals.returned([second.ingress.id])
    await deliveries.grant(first)
    third = make_message("c", digest=digest_of(first))
    await inbox.saved(third.ingress)
    await deliveries.grant(third)
    assert await deliveries.states() == ["ERROR"]
    resent = make_message("c", digest=digest_of(first))
    await inbox.saved(resent.ingress)
    await deliveries.grant(resent)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_a_request_that_is_given_again_is_not_taken_for_an_earlier_one_that_has_ended(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """The client asked for the same before, without a message id: nothing else tells them apart."""
    before = make_message("c")
    await inbox.saved(before.ingress)
    await deliveries.grant(before)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    again = make_message("c", digest=digest_of(before))
    await inbox.saved(again.ingress)
    await inbox.arrivals.returned([again.ingress.id])
    copy = make_message("c", digest=digest_of(before), redelivered=True)
    await inbox.saved(copy.ingress)
    for message in (again, copy):
        await deliveries.grant(message)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_a_copy_whose_own_copy_was_refused_does_not_count(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """RabbitMQ gave one message three times; the second was lost by Kafka, and comes last."""
    first = make_message("c")
    await inbox.saved(first.ingress)
    await deliveries.grant(first)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    await inbox.arrivals.returned([first.ingress.id])
    second = make_message("c", digest=digest_of(first))
    await inbox.saved(second.ingress)
    await inbox.arrivals.returned([second.ingress.id])
    third = make_message("c", digest=digest_of(first), redelivered=True)
    await inbox.saved(third.ingress)
    for message in (third, second):
        await deliveries.grant(message)
    assert await deliveries.states() == ["ERROR"]


@pytest.mark.parametrize("status", ["ERROR", "DONE"])
async def test_a_copy_of_a_request_whose_delivery_has_ended_is_answered_as_that_was(
    deliveries: Deliveries, inbox: Inbox, status: str
) -> None:
    """It may be the same asked for again, which PostgreSQL, that was away, never had."""
    before = make_message("c")
    await inbox.saved(before.ingress)
    await deliveries.grant(before)
    if status == "ERROR":
        await deliveries.tell(OrderStatus.FAILED, order_id=1, message="no")
    else:
        async with deliveries.store.transaction() as tx:
            transferring = await deliveries.put(await deliveries.active(), State.TRANSFERRING)
            assert await tx.advance(
                transferring, State.DONE, result=make_stored(), told=Told(files=1)
            )
            await tx.enqueue(outgoing.done(transferring, make_stored(), Told(files=1)))
    copy = make_message("c", digest=digest_of(before), redelivered=True)
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    assert await deliveries.states() == [status]
    told = [m for m in await deliveries.outgoing() if m.body.get("status") == status]
    assert len(told) == 2
    assert told[0] == told[1]


class _Nobody:
    """Users of a tenant that has none."""

    def remembers(self, _tenant: str, _user: str) -> bool:
        return False

    async def known(self, _tenant: str, _user: str) -> bool:
        return False


async def _denied(deliveries: Deliveries, message: IncomingMessage) -> None:
    users = _Nobody()
    await deliveries.receive(message, users=users)
    for row in await deliveries.of("c"):
        assert row.state is State.RECEIVED
        delivery = await deliveries.active("c")
        await check(delivery, store=deliveries.store, tenants=deliveries.tenants, users=users)


@pytest.mark.parametrize("broken", ["", "user"])
async def test_a_copy_of_a_request_that_was_denied_is_answered_as_that_was(
    deliveries: Deliveries, inbox: Inbox, broken: str
) -> None:
    """Nothing else is left of a request that is denied."""
    body = make_body("c") if broken == "user" else {"correlationId": "c"}
    before = make_message("c", body=body)
    await inbox.saved(before.ingress)
    await _denied(deliveries, before)
    await inbox.arrivals.returned([before.ingress.id])
    copy = make_message("c", body=body, digest=digest_of(before))
    await inbox.saved(copy.ingress)
    await _denied(deliveries, copy)
    told = [m for m in await deliveries.outgoing() if m.body.get("status") == "DENIED"]
    assert len(told) == 2
    assert told[0] == told[1]


async def test_a_copy_is_answered_as_the_last_request_like_it(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """Its user was not known at first; the client, which names no message, asked the same again."""
    denied = make_message("c")
    await inbox.saved(denied.ingress)
    await _denied(deliveries, denied)
    again = make_message("c", digest=digest_of(denied))
    await inbox.saved(again.ingress)
    await deliveries.grant(again)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    copy = make_message("c", digest=digest_of(denied), redelivered=True)
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    told = [m.body.get("status") for m in await deliveries.outgoing()]
    assert (told.count("DENIED"), told.count("ERROR")) == (1, 2)


async def test_a_copy_of_a_request_that_was_ignored_is_answered_as_what_was_active_then(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    """It may be the same asked for again: an answer is owed."""
    await deliveries.grant(make_message("c"))
    ignored = make_message("c")
    await inbox.saved(ignored.ingress)
    await deliveries.grant(ignored)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    copy = make_message("c", digest=digest_of(ignored), redelivered=True)
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    told = [m for m in await deliveries.outgoing() if m.body.get("status") == "ERROR"]
    assert len(told) == 2
    assert told[0] == told[1]


async def test_a_copy_of_a_request_that_was_denied_does_not_answer_one_that_is_active(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    before = make_message("c")
    await _denied(deliveries, before)
    await deliveries.grant(make_message("c"))
    owed = await deliveries.owed()
    await deliveries.grant(make_message("c", digest=digest_of(before), redelivered=True))
    assert await deliveries.owed() == owed


async def test_a_copy_of_a_request_whose_delivery_is_active_is_answered_by_that(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    before = make_message("c")
    await deliveries.grant(before)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    await deliveries.grant(make_message("c"))
    owed = await deliveries.owed()
    copy = make_message("c", digest=digest_of(before), redelivered=True)
    await deliveries.grant(copy)
    assert await deliveries.owed() == owed


async def test_a_refused_copy_is_no_receipt(deliveries: Deliveries, inbox: Inbox) -> None:
    """Else it would stand in the way of what the client sends again."""
    first = make_message("c")
    await inbox.saved(first.ingress)
    await deliveries.grant(first)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    resent = make_message("c", digest=digest_of(first))
    await inbox.saved(resent.ingress)
    copy = make_message("c", digest=digest_of(first), redelivered=True)
    await inbox.saved(copy.ingress)
    await deliveries.grant(copy)
    await deliveries.grant(resent)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_a_cancel_is_applied_once_however_it_comes_again(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    await deliveries.granted("c")
    first = make_cancel(redelivered=True)  # it has a message id
    await inbox.cancel(first)
    assert await deliveries.states() == ["ERROR"]
    await deliveries.granted("c")
    await inbox.cancel(first)  # appended again
    await inbox.cancel(first, save=False)  # given again by Kafka
    await inbox.cancel(make_cancel(digest=digest_of(first), redelivered=True))  # published again
    assert await deliveries.states() == ["ERROR", "GRANTED"]
    assert await deliveries.waiting() == 0
    await inbox.cancel(make_cancel())
    assert await deliveries.states() == ["ERROR", "ERROR"]


@pytest.mark.parametrize("off", [-OFF, OFF])
async def test_a_cancel_that_arrived_before_the_delivery_was_requested_changes_nothing(
    deliveries: Deliveries, inbox: Inbox, off: timedelta
) -> None:
    early = make_cancel(received_at=datetime.now(UTC) + off)
    await inbox.saved(early.ingress)
    message = make_message("c", received_at=datetime.now(UTC) - off)
    await inbox.saved(message.ingress)
    await deliveries.grant(message)
    await inbox.cancel(early, save=False)
    assert await deliveries.states() == ["GRANTED"]
    await inbox.cancel(make_cancel(received_at=datetime.now(UTC) - off))
    assert await deliveries.states() == ["ERROR"]


async def test_a_refusal_of_rs_order_ends_one_delivery_however_it_comes_again(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    await deliveries.granted("c")
    early = denial()
    await inbox.saved(early.ingress)  # type: ignore[arg-type]
    first = denial()
    await inbox.tell(first)
    assert await deliveries.states() == ["ERROR"]
    await deliveries.granted("c")
    await inbox.tell(first)  # appended again
    await inbox.tell(first, save=False)  # given again by Kafka
    await inbox.tell(denial(digest=digest_of(first), redelivered=True))  # given again by RabbitMQ
    await inbox.tell(early, save=False)  # it was meant for the first
    assert await deliveries.states() == ["ERROR", "GRANTED"]
    assert await deliveries.waiting() == 0
    await inbox.tell(denial())
    assert await deliveries.states() == ["ERROR", "ERROR"]


async def test_an_original_event_that_its_copy_has_overtaken_is_refused(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    await deliveries.granted("c")
    original, cancel = denial(), make_cancel()
    for ingress in (original.ingress, cancel.ingress):
        await inbox.saved(ingress)  # type: ignore[arg-type]
    await inbox.tell(denial(digest=digest_of(original), redelivered=True))
    await inbox.cancel(make_cancel(digest=digest_of(cancel), redelivered=True))
    # The new delivery was requested before they came, by a clock that is wrong.
    await deliveries.granted("c", received_at=datetime.now(UTC) - OFF)
    await inbox.tell(original, save=False)
    await inbox.cancel(cancel, save=False)
    assert await deliveries.states() == ["GRANTED", "ERROR"]


async def test_a_digest_counts_for_one_kind_of_message(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    message = make_message("c", redelivered=True)
    await deliveries.grant(message)
    await inbox.cancel(make_cancel(digest=digest_of(message), redelivered=True))
    assert await deliveries.states() == ["ERROR"]


async def test_events_of_the_version_before_are_known_by_their_id(
    deliveries: Deliveries, inbox: Inbox
) -> None:
    await deliveries.granted("c")
    common = {"tenant": TENANT, "correlationId": "c", "eventId": str(uuid4())}
    told = OrderProgressed.decode(dumps(common | {"status": "DENIED"})).order_event
    asked = CancelRequested.decode(
        dumps(common | {"eventId": str(uuid4()), "originApp": None})
    ).cancel
    await inbox.tell(told)
    await inbox.cancel(asked)
    await deliveries.granted("c")
    await inbox.tell(told)
    await inbox.cancel(asked)
    assert await deliveries.states() == ["ERROR", "GRANTED"]
    unnumbered = replace(told, ingress=None)
    await inbox.tell(unnumbered)
    assert await deliveries.states() == ["ERROR", "ERROR"]


async def test_no_request_comes_from_the_future(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted("c", received_at=datetime.now(UTC) + OFF)
    assert delivery.requested_at < datetime.now(UTC) + OFF / 2


class Course:
    """One request without a message id: given, saved, appended and handled, in whatever order.

    Its client sends it again once its delivery has ended. RabbitMQ gives a message until it is
    acknowledged, flagged from the second time on.
    """

    def __init__(self, deliveries: Deliveries, arrivals: Arrivals) -> None:
        self.deliveries = deliveries
        self.arrivals = arrivals
        self.message = make_message(f"c-{uuid4().hex}")
        self.handler = handler_of(
            REQUESTS,
            Dependencies(
                store=deliveries.store,
                tenants=deliveries.tenants,
                users=AnyUser(),
                wake={work: Wakeup() for work in Work},
            ),
        )
        self.published = 0
        self.queue: list[bool] = []  # whether a message is flagged
        self.saved: list[Arrival] = []  # by a bridge that has not appended it yet
        self.log: list[bytes] = []  # Kafka's
        self.read = 0

    async def states(self) -> list[str]:
        return await self.deliveries.states(self.message.correlation_id)

    async def publish(self) -> None:
        if await self.states() == ["ERROR"] * self.published:
            self.published += 1
            self.queue.append(False)

    async def deliver(self) -> None:
        if self.queue:
            message = make_message(
                self.message.correlation_id,
                digest=digest_of(self.message),
                redelivered=self.queue.pop(0),
                # This worker's clock is wrong, the next one's the other way.
                received_at=datetime.now(UTC) + (OFF if len(self.log) % 2 else -OFF),
            )
            arrival = make_arrival(message.ingress, value=RequestReceived.read(message).encode())
            await self.arrivals.save(arrival)
            self.saved.append(arrival)

    async def die_between_note_and_append(self) -> None:
        if self.saved:
            self.saved.pop(0)
            self.queue.insert(0, True)

    async def append(self) -> None:
        if self.saved:
            self.log.append(self.saved.pop(0).value)

    async def die_before_the_acknowledgement(self) -> None:
        if self.saved:
            await self.append()
            self.queue.insert(0, True)

    async def reconcile(self) -> None:
        async def again(arrival: Arrival) -> None:
            self.log.append(arrival.value)

        await append_again(arrivals=self.arrivals, append=again, limit=99)

    async def handle(self) -> None:
        if self.read < len(self.log):
            await self.handler([self.log[self.read]])
            self.read += 1

    async def lose_an_offset(self) -> None:
        self.read = max(0, self.read - 2)

    async def end(self) -> None:
        if set(await self.states()) - {"ERROR"}:
            active = await self.deliveries.active(self.message.correlation_id)
            await self.deliveries.fail(active, "for the test")

    async def settle(self) -> None:
        """Nothing goes wrong any more."""
        while self.queue or self.saved or self.read < len(self.log):
            await self.deliver()
            await self.append()
            await self.handle()
            await self.end()
        await self.reconcile()
        while self.read < len(self.log):
            await self.handle()
            await self.end()
        await self.end()


STEPS = (
    *(Course.publish, Course.deliver, Course.deliver, Course.append, Course.handle, Course.end),
    *(Course.die_between_note_and_append, Course.die_before_the_acknowledgement),
    *(Course.reconcile, Course.lose_an_offset),
)


@given(steps=st.lists(st.sampled_from(STEPS), max_size=40))
@example(
    steps=[
        *(Course.deliver, Course.die_between_note_and_append),
        *(Course.deliver, Course.append, Course.handle, Course.end),
        *(Course.reconcile, Course.handle),
        *(Course.publish, Course.deliver, Course.die_between_note_and_append),
        *(Course.deliver, Course.append, Course.handle, Course.lose_an_offset, Course.handle),
    ]
)
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_each_message_has_one_effect_whatever_happens_to_its_copies(
    deliveries: Deliveries,
    arrivals: Arrivals,
    steps: list[Callable[[Course], Awaitable[None]]],
) -> None:
    course = Course(deliveries, arrivals)
    await course.publish()
    for step in steps:
        await step(course)
        assert len(await course.states()) <= course.published
    await course.settle()
    assert await course.states() == ["ERROR"] * course.published
    assert await arrivals.overdue(9) == []
