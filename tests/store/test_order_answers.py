"""Whose order it is: that of the active delivery, of one that has ended, or of another client."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.delivery.ingress import ArrivalKind, event_key
from app.delivery.orders import ANSWER_LIMIT, ANSWER_PATIENCE, OrderStatus
from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.errors import BrokerUnavailableError, NotSentError
from compose.embedded.stack import TENANT
from tests.builders import make_arrival, make_body, make_ingress
from tests.deliveries import Deliveries

TURN = timedelta(seconds=11)  # then another relay takes what one has begun to send


class KilledError(BaseException):
    """The relay is gone: its transaction is rolled back."""


async def refuse(_message: OutgoingMessage) -> None:
    raise AssertionError("nothing is sent in this pass")


async def lost_relay(deliveries: Deliveries) -> None:
    """Send what is owed to rs-order, and note nothing of it."""

    async def publish(_message: OutgoingMessage) -> None:
        raise KilledError

    outbox = deliveries.outbox()
    assert (await outbox.relay(Lane.ORDERS, refuse))[:2] == (1, 0)  # begun
    with pytest.raises(KilledError):
        await outbox.relay(Lane.ORDERS, publish)


async def asked(deliveries: Deliveries, query: str, *, sent: bool | None = True) -> None:
    """Grant a request for something. Its order is sent; surely not (False); not tried (None)."""
    await deliveries.receive(deliveries.message(body=make_body("c", queries=[query])))
    if sent:
        await deliveries.order()
    elif sent is False:
        await deliveries.order_in_vain()


async def ended(deliveries: Deliveries, query: str, *, sent: bool | None = True) -> None:
    """Grant a request, and end it before rs-order has named its order."""
    await asked(deliveries, query, sent=sent)
    await deliveries.fail(await deliveries.active("c"), "for the test")


async def sent_after_all(deliveries: Deliveries, query: str) -> None:
    """Grant a request; its order is sent although the one before has no answer, after long."""
    await asked(deliveries, query, sent=None)
    await deliveries.elapse(ANSWER_PATIENCE + timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 0


async def unsent(deliveries: Deliveries) -> int:
    """Return how many order requests are owed."""
    return [kind for kind, _ in await deliveries.owed()].count("order")


async def orders(deliveries: Deliveries) -> list[tuple[str, int | None]]:
    """Return states and orders of the deliveries, the oldest first."""
    return [(row.state, row.order_id) for row in await deliveries.rows()]


async def cancelled(deliveries: Deliveries) -> list[int]:
    """Return which orders rs-order is asked to cancel."""
    return [body["orderId"] for kind, body in await deliveries.owed() if kind == "cancel"]


async def test_the_order_of_a_delivery_that_ended_unnamed_is_not_the_next_ones(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "first")
    await asked(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await orders(deliveries) == [("ERROR", 1), ("GRANTED", None)]
    assert await cancelled(deliveries) == [1]
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    await deliveries.tell(OrderStatus.DONE, order_id=1)
    assert await orders(deliveries) == [("ERROR", 1), ("ORDERED", 2)]
    await deliveries.tell(OrderStatus.DONE, order_id=2)
    assert await orders(deliveries) == [("ERROR", 1), ("AVAILABLE", 2)]
    assert await cancelled(deliveries) == [1]


async def test_an_order_request_waits_for_the_answer_to_another_one_of_its_id(
    deliveries: Deliveries,
) -> None:
    """An answer does not tell which of two requests it is for."""
    await ended(deliveries, "first")
    await asked(deliveries, "second")
    assert await unsent(deliveries) == 1
    await deliveries.elapse(timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 1
    first, second = await deliveries.rows()
    assert second.last_cause is not None
    assert str(first.id) in second.last_cause
    woken = deliveries.owed_signal.waiter(Lane.ORDERS)
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await orders(deliveries) == [("ERROR", 1), ("GRANTED", None)]
    assert woken.event.is_set()
    await deliveries.order()  # at once: what was waited for is there
    assert await unsent(deliveries) == 0
    assert (await deliveries.rows())[1].last_cause is None


async def test_an_order_request_that_waits_holds_up_none_of_another_id(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "first")
    await asked(deliveries, "second", sent=None)
    await deliveries.receive(deliveries.message("another"))
    await deliveries.order()
    assert await unsent(deliveries) == 1


async def test_an_order_request_waits_for_no_answer_to_one_of_the_same(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "same")
    await asked(deliveries, "same")
    assert await unsent(deliveries) == 0


async def test_an_order_request_waits_for_the_answer_to_one_that_went_out_late(
    deliveries: Deliveries,
) -> None:
    """RabbitMQ was away for longer than an answer is waited for after the end of a delivery."""
    await asked(deliveries, "first", sent=None)
    await lost_relay(deliveries)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.elapse(ANSWER_PATIENCE + timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 0
    await asked(deliveries, "second")
    assert await unsent(deliveries) == 1
    await deliveries.elapse(ANSWER_PATIENCE + timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 0


async def test_an_order_request_that_waited_is_withdrawn_with_its_delivery(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "first")
    await ended(deliveries, "second")
    assert await unsent(deliveries) == 0
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)  # of another client
    assert await orders(deliveries) == [("ERROR", 1), ("ERROR", None)]


@pytest.mark.parametrize("status", [OrderStatus.GRANTED, OrderStatus.DENIED])
async def test_an_answer_that_may_be_that_to_either_of_two_requests_delivers_nothing(
    deliveries: Deliveries, status: OrderStatus
) -> None:
    """The first was not answered for so long that the second was sent."""
    await ended(deliveries, "first")
    await sent_after_all(deliveries, "second")
    order_id = 1 if status is OrderStatus.GRANTED else None
    await deliveries.tell(status, order_id=order_id)
    assert await orders(deliveries) == [("ERROR", order_id), ("ERROR", None)]
    told = [body.get("message", "") for kind, body in await deliveries.owed() if kind == "response"]
    assert "two requests for different orders" in told[-1]
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", order_id), ("ERROR", 2)]
    assert await cancelled(deliveries) == [n for n in (order_id, 2) if n is not None]


async def test_an_answer_that_may_be_that_to_either_is_taken_by_one_who_asks_for_the_same(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "first")
    await sent_after_all(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    await asked(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    await deliveries.tell(OrderStatus.GRANTED, order_id=3)
    assert await orders(deliveries) == [("ERROR", 1), ("ERROR", 3), ("ORDERED", 2)]
    assert await cancelled(deliveries) == [3]  # and the first, which was sent


@pytest.mark.parametrize("status", [OrderStatus.GRANTED, OrderStatus.DENIED])
async def test_an_answer_that_a_later_one_has_overtaken_is_cancelled_too(
    deliveries: Deliveries, status: OrderStatus
) -> None:
    """It waited in a worker, before the second was asked for, until the second was answered."""
    await ended(deliveries, "first")
    await sent_after_all(deliveries, "second")
    (_, second) = await deliveries.rows()
    arrived_at = second.requested_at - timedelta(minutes=1)
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)  # taken for the first one's
    ingress = make_ingress(kind=ArrivalKind.ORDER_EVENT, received_at=arrived_at)
    order_id = 1 if status is OrderStatus.GRANTED else None
    await deliveries.tell(status, order_id=order_id, ingress=ingress)
    assert await orders(deliveries) == [("ERROR", 2), ("ERROR", order_id)]
    assert await cancelled(deliveries) == [n for n in (2, order_id) if n is not None]
    await deliveries.tell(OrderStatus.GRANTED, order_id=7)  # of another client
    assert await cancelled(deliveries) == [n for n in (2, order_id) if n is not None]


async def test_the_first_order_serves_a_request_for_the_same(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "same")
    await asked(deliveries, "same")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await orders(deliveries) == [("ERROR", None), ("ORDERED", 1)]
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", 2), ("ORDERED", 1)]
    assert await cancelled(deliveries) == [2]
    await deliveries.tell(OrderStatus.GRANTED, order_id=3)  # of another client
    assert await orders(deliveries) == [("ERROR", 2), ("ORDERED", 1)]
    assert await cancelled(deliveries) == [2]


async def test_an_order_is_not_sent_twice_while_the_second_request_is_still_owed(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "same")
    await asked(deliveries, "same", sent=False)
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert [kind for kind, _ in await deliveries.owed() if kind == "order"] == []
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", None), ("ORDERED", 1)]
    assert await cancelled(deliveries) == []


async def test_a_request_that_is_surely_not_sent_is_withdrawn(deliveries: Deliveries) -> None:
    await ended(deliveries, "first", sent=False)
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "response"]
    await deliveries.tell(OrderStatus.GRANTED, order_id=7)  # of another client
    await asked(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await orders(deliveries) == [("ERROR", None), ("ORDERED", 1)]
    assert await cancelled(deliveries) == []


async def test_the_order_of_a_request_that_may_be_out_is_cancelled_once_it_is_named(
    deliveries: Deliveries,
) -> None:
    """Its relay had sent it, and could not note that: PostgreSQL was away, or the relay died."""
    await asked(deliveries, "first", sent=None)
    await lost_relay(deliveries)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await cancelled(deliveries) == [1]


async def test_a_request_that_may_be_out_stays_so_whatever_comes_of_the_next_try(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first", sent=None)
    await lost_relay(deliveries)
    await deliveries.elapse(TURN)
    await deliveries.order_in_vain()
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await cancelled(deliveries) == [1]


async def test_requests_of_a_correlation_id_go_out_one_after_the_other(
    deliveries: Deliveries,
) -> None:
    """Answers come in their order: the second must not overtake the first, which may be out."""
    await asked(deliveries, "first", sent=None)
    await lost_relay(deliveries)
    await deliveries.elapse(TURN)
    await deliveries.order_in_vain()  # it is due again in a while
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await asked(deliveries, "second")
    assert [kind for kind, _ in await deliveries.owed()].count("order") == 2
    await deliveries.elapse(timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 1
    for order_id in (1, 2):  # of the first, which was sent again
        await deliveries.tell(OrderStatus.GRANTED, order_id=order_id)
    assert await cancelled(deliveries) == [1, 2]
    await deliveries.elapse(timedelta(minutes=1))
    await deliveries.order()
    await deliveries.tell(OrderStatus.GRANTED, order_id=3)
    assert await orders(deliveries) == [("ERROR", 1), ("ORDERED", 3)]


async def sent_twice(deliveries: Deliveries, query: str) -> None:
    """Grant a request; its order is sent, and again by another, as that was not noted."""
    await asked(deliveries, query, sent=None)
    await lost_relay(deliveries)
    await deliveries.elapse(TURN)
    await deliveries.order()
    assert await unsent(deliveries) == 0


async def test_an_order_that_is_made_of_a_request_sent_again_is_cancelled(
    deliveries: Deliveries,
) -> None:
    """rs-order takes each for another: it looks at no message id."""
    await sent_twice(deliveries, "first")
    for order_id in (1, 2):
        await deliveries.tell(OrderStatus.GRANTED, order_id=order_id)
    await deliveries.tell(OrderStatus.DONE, order_id=2)
    assert await orders(deliveries) == [("ORDERED", 1)]
    assert await cancelled(deliveries) == [2]
    await deliveries.tell(OrderStatus.GRANTED, order_id=7)  # of another client
    await deliveries.fail(await deliveries.active("c"), "for the test")
    assert await cancelled(deliveries) == [2, 1]
    ids = [m.message_id for m in await deliveries.outgoing() if m.kind is Kind.CANCEL]
    assert len(set(ids)) == 2


async def test_an_order_made_of_a_request_sent_again_is_not_that_of_a_later_delivery(
    deliveries: Deliveries,
) -> None:
    await sent_twice(deliveries, "first")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.order()
    await asked(deliveries, "second")
    assert await unsent(deliveries) == 1
    for status in (OrderStatus.GRANTED, OrderStatus.DONE):
        await deliveries.tell(status, order_id=2)
    assert await orders(deliveries) == [("ERROR", 1), ("GRANTED", None)]
    assert await cancelled(deliveries) == [2]
    await deliveries.elapse(timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 0


@pytest.mark.parametrize("first", [OrderStatus.GRANTED, OrderStatus.DENIED])
async def test_a_refusal_of_a_request_sent_again_ends_no_other_delivery(
    deliveries: Deliveries, first: OrderStatus
) -> None:
    await sent_twice(deliveries, "first")
    order_id = 1 if first is OrderStatus.GRANTED else None
    await deliveries.tell(first, order_id=order_id)
    if first is OrderStatus.DENIED:
        await asked(deliveries, "second")
    before = await orders(deliveries)
    await deliveries.tell(OrderStatus.DENIED)
    assert await orders(deliveries) == before
    await deliveries.tell(OrderStatus.DENIED)  # of the active one
    assert (await orders(deliveries))[-1] == ("ERROR", order_id)


async def test_each_answer_to_a_request_sent_again_is_credited_after_its_delivery_has_ended(
    deliveries: Deliveries,
) -> None:
    await sent_twice(deliveries, "first")
    await deliveries.fail(await deliveries.active("c"), "for the test")
    for order_id in (1, 2, 3):  # the third is of another client
        await deliveries.tell(OrderStatus.GRANTED, order_id=order_id)
    assert await cancelled(deliveries) == [1, 2]


async def test_a_request_whose_next_try_rabbitmq_never_had_has_one_answer(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first", sent=None)
    await lost_relay(deliveries)
    for _ in range(3):
        await deliveries.elapse(timedelta(minutes=1))
        await deliveries.order_in_vain()
    for order_id in (1, 2):  # the second is of another client
        await deliveries.tell(OrderStatus.GRANTED, order_id=order_id)
    assert await orders(deliveries) == [("ORDERED", 1)]
    assert await cancelled(deliveries) == []
    await deliveries.elapse(timedelta(minutes=1))
    await deliveries.order()
    assert await unsent(deliveries) == 0


async def test_an_answer_that_never_comes_is_not_reckoned_with_after_a_day(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "first")
    await deliveries.elapse(ANSWER_LIMIT + timedelta(minutes=1))
    await asked(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", None), ("ORDERED", 2)]
    assert await cancelled(deliveries) == []


async def test_of_two_requests_one_answered_the_other_s_answer_is_waited_for_a_while_only(
    deliveries: Deliveries,
) -> None:
    """One of the two was lost: whatever is asked for next must not end in doubt again."""
    await ended(deliveries, "first")
    await sent_after_all(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    await sent_after_all(deliveries, "third")
    await deliveries.tell(OrderStatus.GRANTED, order_id=3)
    assert await orders(deliveries) == [("ERROR", 2), ("ERROR", None), ("ORDERED", 3)]


@pytest.mark.parametrize("answer", [OrderStatus.DENIED, OrderStatus.GRANTED])
async def test_a_request_that_was_answered_is_not_sent_again(
    deliveries: Deliveries, answer: OrderStatus
) -> None:
    """Its relay heard no confirmation; rs-order had it all the same."""
    await asked(deliveries, "first", sent=None)
    await lost_relay(deliveries)
    await deliveries.tell(answer, order_id=1 if answer is OrderStatus.GRANTED else None)
    if answer is OrderStatus.GRANTED:
        await deliveries.fail(await deliveries.active("c"), "for the test")
    relaying = Relaying(deliveries)
    relaying.outcome.set_result(None)
    while (await relaying.relay())[0]:
        pass
    assert [message.kind for message in relaying.sent if message.kind is Kind.ORDER] == []


async def test_an_answer_that_was_taken_over_is_not_waited_for_once_the_other_request_is_withdrawn(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "same")
    await asked(deliveries, "same", sent=None)
    relaying = Relaying(deliveries)
    assert (await relaying.relay())[:2] == (1, 0)  # begun
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)  # of the first, for the second
    relaying.outcome.set_exception(NotSentError("no queue is bound"))
    assert (await relaying.relay())[:2] == (0, 1)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await asked(deliveries, "another")
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", None), ("ERROR", 1), ("ORDERED", 2)]


async def test_a_request_that_is_tried_again_counts_as_sent_from_then_on(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first", sent=False)
    await deliveries.elapse(timedelta(seconds=2))
    await lost_relay(deliveries)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await cancelled(deliveries) == [1]


@pytest.mark.parametrize("status", [OrderStatus.DENIED, OrderStatus.FAILED])
@pytest.mark.parametrize("order_id", [None, 1])
async def test_a_refusal_is_the_answer_to_the_oldest_request(
    deliveries: Deliveries, status: OrderStatus, order_id: int | None
) -> None:
    await ended(deliveries, "first")
    await asked(deliveries, "second")
    await deliveries.tell(status, order_id=order_id)
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    expected = 1 if order_id is None else None
    assert await orders(deliveries) == [
        ("ERROR", order_id),
        ("GRANTED" if expected is None else "ORDERED", expected),
    ]
    failed = status is OrderStatus.FAILED  # it may have some of its files
    assert await cancelled(deliveries) == ([order_id] if order_id and failed else [])


async def test_a_refusal_of_the_same_request_ends_the_active_delivery(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "same")
    await asked(deliveries, "same")
    await deliveries.tell(OrderStatus.DENIED, message="no")
    assert await orders(deliveries) == [("ERROR", None), ("ERROR", None)]
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    await deliveries.tell(OrderStatus.GRANTED, order_id=3)  # of another client
    assert await cancelled(deliveries) == [2]


async def test_a_delivery_that_was_refused_awaits_no_order(deliveries: Deliveries) -> None:
    await asked(deliveries, "first")
    await deliveries.tell(OrderStatus.DENIED)
    await deliveries.tell(OrderStatus.GRANTED, order_id=7)  # of another client
    assert await orders(deliveries) == [("ERROR", None)]
    assert await cancelled(deliveries) == []


async def test_orders_are_cancelled_as_often_as_requests_were_sent(deliveries: Deliveries) -> None:
    await ended(deliveries, "same")
    await ended(deliveries, "same")
    await asked(deliveries, "same")
    for order_id in (1, 2, 3, 4, 5):
        await deliveries.tell(OrderStatus.GRANTED, order_id=order_id)
    assert await orders(deliveries) == [("ERROR", 2), ("ERROR", 3), ("ORDERED", 1)]
    assert await cancelled(deliveries) == [2, 3]


class Relaying:
    """A relay in the middle of sending an order request."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.outbox = deliveries.outbox(batch=9)
        self.sending = asyncio.Event()
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent: list[OutgoingMessage] = []

    async def publish(self, message: OutgoingMessage) -> None:
        if message.kind is Kind.ORDER:
            self.sending.set()
            await self.outcome
        self.sent.append(message)

    async def relay(self) -> Any:
        return await self.outbox.relay(Lane.ORDERS, self.publish)


async def ended_while_sent(deliveries: Deliveries, outcome: BrokerUnavailableError) -> Relaying:
    """End a delivery while its order request is being sent, in vain; let it be due again."""
    await asked(deliveries, "first", sent=None)
    relaying = Relaying(deliveries)
    assert (await relaying.relay())[:2] == (1, 0)  # begun
    running = asyncio.create_task(relaying.relay())
    await relaying.sending.wait()
    await deliveries.fail(await deliveries.active("c"), "for the test")
    relaying.outcome.set_exception(outcome)
    assert (await running)[:2] == (0, 1)
    await deliveries.elapse(timedelta(minutes=1))
    return relaying


async def test_a_request_that_is_being_sent_is_not_waited_for_and_is_answered(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first", sent=None)
    relaying = Relaying(deliveries)
    assert (await relaying.relay())[:2] == (1, 0)  # begun
    running = asyncio.create_task(relaying.relay())
    await relaying.sending.wait()
    async with asyncio.timeout(20):
        await deliveries.fail(await deliveries.active("c"), "for the test")
    await asked(deliveries, "second", sent=None)
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)  # before the relay has noted it
    assert await cancelled(deliveries) == [1]
    relaying.outcome.set_result(None)
    assert (await running)[:2] == (1, 0)
    while (await relaying.relay())[0]:
        pass
    assert sorted(message.kind for message in relaying.sent) == ["cancel", "order", "order"]
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", 1), ("ORDERED", 2)]


async def test_a_request_that_rabbitmq_never_had_before_the_end_is_never_sent(
    deliveries: Deliveries,
) -> None:
    relaying = await ended_while_sent(deliveries, NotSentError("no queue is bound"))
    assert (await relaying.relay())[:2] == (1, 0)
    assert relaying.sent == []
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "response"]
    await asked(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await orders(deliveries) == [("ERROR", None), ("ORDERED", 1)]


async def test_a_request_that_was_not_confirmed_before_the_end_is_sent_again(
    deliveries: Deliveries,
) -> None:
    """RabbitMQ may have it: so it is answered, and what is answered is cancelled."""
    await ended_while_sent(deliveries, BrokerUnavailableError("no answer"))
    await deliveries.order()
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await cancelled(deliveries) == [1]


async def test_a_request_that_is_not_out_is_not_sent_once_another_s_answer_was_taken_over(
    deliveries: Deliveries,
) -> None:
    """It was just being tried when the answer to the earlier one came."""
    await ended(deliveries, "same")
    await asked(deliveries, "same", sent=None)
    relaying = Relaying(deliveries)
    assert (await relaying.relay())[:2] == (1, 0)  # begun
    running = asyncio.create_task(relaying.relay())
    await relaying.sending.wait()
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    relaying.outcome.set_exception(NotSentError("no queue is bound"))
    assert (await running)[:2] == (0, 1)
    await deliveries.elapse(timedelta(minutes=1))
    assert (await relaying.relay())[:2] == (1, 0)
    assert relaying.sent == []
    assert await unsent(deliveries) == 0
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)  # of another client
    assert await orders(deliveries) == [("ERROR", None), ("ORDERED", 1)]
    assert await cancelled(deliveries) == []


async def test_a_cancel_that_no_queue_takes_holds_up_no_order_request_of_its_id(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first")
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.order_in_vain()
    await asked(deliveries, "second")
    assert await unsent(deliveries) == 0
    assert await cancelled(deliveries) == [1]


async def test_a_request_that_two_relays_have_begun_is_sent_by_one_of_them(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first", sent=None)
    one, other = Relaying(deliveries), Relaying(deliveries)
    assert (await one.relay())[:2] == (1, 0)  # begun
    assert (await other.relay())[:2] == (0, 0)  # it is left to `one` for a while
    await deliveries.elapse(TURN)
    assert (await other.relay())[:2] == (1, 0)  # begun again: nothing is known of `one`
    assert (await one.relay())[:2] == (0, 0)
    running = asyncio.create_task(other.relay())
    await other.sending.wait()
    assert (await one.relay())[:2] == (0, 0)
    other.outcome.set_result(None)
    assert (await running)[:2] == (1, 0)
    assert (await one.relay())[:2] == (0, 0)
    assert [message.kind for message in (*one.sent, *other.sent)] == ["order"]


async def test_of_a_request_that_two_relays_have_begun_none_can_tell_that_it_is_not_out(
    deliveries: Deliveries,
) -> None:
    """The other may have sent it, and died."""
    await asked(deliveries, "first", sent=None)
    one, other = Relaying(deliveries), Relaying(deliveries)
    for relaying in (one, other):
        assert (await relaying.relay())[:2] == (1, 0)  # begun
        await deliveries.elapse(TURN)
    other.outcome.set_exception(NotSentError("no queue is bound"))
    assert (await other.relay())[:2] == (0, 1)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    await deliveries.elapse(timedelta(minutes=1))
    one.outcome.set_result(None)
    assert (await one.relay())[:2] == (1, 0)  # begun again
    assert (await one.relay())[:2] == (1, 0)
    assert [message.kind for message in one.sent] == ["order"]
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    assert await cancelled(deliveries) == [1]


async def test_a_relay_that_looks_while_another_sends_puts_nothing_in_doubt(
    deliveries: Deliveries,
) -> None:
    await asked(deliveries, "first", sent=None)
    one, other = Relaying(deliveries), Relaying(deliveries)
    assert (await one.relay())[:2] == (1, 0)  # begun
    running = asyncio.create_task(one.relay())
    await one.sending.wait()
    assert (await other.relay())[:2] == (0, 0)
    one.outcome.set_exception(NotSentError("no queue is bound"))
    assert (await running)[:2] == (0, 1)
    await deliveries.fail(await deliveries.active("c"), "for the test")
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "response"]


async def test_an_answer_that_arrived_before_is_applied_before(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka did not take the first for a while: the second must not be taken for it."""
    monkeypatch.setattr("app.usecases.order_progress._EARLIER_ONE", timedelta(minutes=1))
    await ended(deliveries, "first")
    await asked(deliveries, "second")
    arrivals = deliveries.arrivals()
    earlier = make_arrival(kind=ArrivalKind.ORDER_EVENT, key=event_key(TENANT, "c"))
    await arrivals.save(earlier)
    await deliveries.elapse(timedelta(seconds=1))
    ingress = make_ingress(kind=ArrivalKind.ORDER_EVENT, received_at=deliveries.now())
    patient = deliveries.arrivals(timedelta(hours=1))
    await patient.save(make_arrival(ingress))
    await deliveries.tell(OrderStatus.GRANTED, order_id=2, ingress=ingress)
    assert await orders(deliveries) == [("ERROR", None), ("GRANTED", None)]
    await arrivals.forget([earlier.ingress_id])
    assert await patient.overdue(9) == []
    await deliveries.elapse(timedelta(minutes=1))
    assert [arrival.ingress_id for arrival in await patient.overdue(9)] == [ingress.id]
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    await deliveries.tell(OrderStatus.GRANTED, order_id=2, ingress=ingress)  # it comes again
    assert await orders(deliveries) == [("ERROR", 1), ("ORDERED", 2)]


@pytest.mark.parametrize("status", [OrderStatus.FAILED, OrderStatus.DONE])
async def test_an_order_that_failed_before_it_was_named_is_cancelled_too(
    deliveries: Deliveries, status: OrderStatus
) -> None:
    """What it could restore keeps a place of its user until it is downloaded, or cancelled."""
    await ended(deliveries, "first")
    await deliveries.tell(status, order_id=1, errors=1)
    assert await orders(deliveries) == [("ERROR", 1)]
    assert await cancelled(deliveries) == [1]
