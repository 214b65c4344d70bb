"""Events are owed to the webhooks that ask for them, and sent in order, until taken or given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.audit import Actor
from app.delivery.outgoing import Kind
from app.delivery.webhooks import (
    GIVEN_UP_AFTER,
    ORDER_TRIES,
    WEBHOOKS,
    Answer,
    Claim,
    DeliveryEvent,
    Post,
    Round,
    Webhook,
    WebhookOutbox,
    WebhookSeen,
    event_of,
    pause_after,
)
from app.usecases.webhooks import Courier
from app.views.webhooks import webhooks_found
from compose.embedded.stack import TENANT
from tests.builders import make_message, make_outgoing
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

_ACTOR = Actor(name="ada", role="EXPLOIT", tenant=TENANT)
_SECRET = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"


def _hook(name: str = "ops", tenant: str = TENANT, url: str = "https://a.example/") -> Webhook:
    return Webhook(tenant=tenant, name=name, url=url, secrets=(_SECRET,))


async def _set(deliveries: Deliveries, tenant: str = TENANT, **webhooks: dict[str, Any]) -> None:
    value = {
        name: {"url": "https://a.example/", "secret": _SECRET, **asked}
        for name, asked in webhooks.items()
    }
    async with deliveries.configuration.change(tenant) as change:
        await change.set(WEBHOOKS, value)


def _event(**changes: Any) -> DeliveryEvent:
    name = uuid4()
    event = DeliveryEvent(
        id=name,
        type="done",
        tenant=TENANT,
        delivery_id=name,
        correlation_id="c",
        data={"status": "DONE"},
    )
    return replace(event, **changes)


async def _tell(deliveries: Deliveries, *events: DeliveryEvent) -> None:
    async with deliveries.store.transaction() as tx:
        await tx.tell(*events)


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """The first pause, of a webhook and of an event: no machine stands still for so long."""
    first = timedelta(minutes=1)
    monkeypatch.setattr("app.delivery.webhooks._PAUSES", (first,))
    for store in ("app.store.webhooks", "app.store.memory.webhooks"):
        monkeypatch.setattr(f"{store}.FIRST_PAUSE", first)
    return first


async def _claim(
    outbox: WebhookOutbox, *webhooks: Webhook, limit: int = 9, steady: bool = False
) -> Claim:
    claim = await outbox.claim(webhooks or [_hook()], limit=limit, steady=steady)
    assert claim is not None
    return claim


def _types(claim: Claim) -> list[str]:
    return [owed.event.type for owed in claim.due]


async def _seen(deliveries: Deliveries) -> dict[tuple[str, str], WebhookSeen]:
    found = await deliveries.webhooks().seen([TENANT, OTHER])
    return {(webhook.tenant, webhook.name): webhook for webhook in found}


async def _release(outbox: WebhookOutbox, claim: Claim, **done: Any) -> None:
    await outbox.release(claim, Round(**done), given_up_after=GIVEN_UP_AFTER)


async def _fail(outbox: WebhookOutbox, claim: Claim, error: str = "no") -> list[bool]:
    dead = [await outbox.failed(event, error, given_up_after=GIVEN_UP_AFTER) for event in claim.due]
    await _release(outbox, claim, failure=error)
    return dead


async def test_an_event_is_owed_to_each_webhook_of_its_tenant_that_asks_for_it(
    deliveries: Deliveries,
) -> None:
    await _set(
        deliveries,
        all={},
        some={"events": ["done"]},
        none={"events": []},
        errors={"events": ["error"]},
        off={"enabled": False},
    )
    await _set(deliveries, OTHER, theirs={})
    woken = deliveries.owed_signal.waiter(WEBHOOKS).event
    await _tell(deliveries, event := _event(), _event(tenant="unset"))
    assert woken.is_set()
    assert sorted(await _seen(deliveries)) == [(TENANT, "all"), (TENANT, "some")]
    claim = await _claim(deliveries.webhooks(), _hook("all"))
    (owed,) = claim.due
    assert (owed.event, owed.tries) == (event, 0)
    assert abs(owed.happened_at - deliveries.now()) < timedelta(minutes=1)


async def test_an_event_that_nothing_asks_for_wakes_nothing(deliveries: Deliveries) -> None:
    woken = deliveries.owed_signal.waiter(WEBHOOKS).event
    await _tell(deliveries, _event())
    assert not woken.is_set()
    assert await _seen(deliveries) == {}


@pytest.mark.parametrize("value", [[], "x", {"a": {"events": "done"}}, {"a": 1}])
async def test_a_setting_of_a_later_version_breaks_no_delivery(
    deliveries: Deliveries, value: Any
) -> None:
    async with deliveries.configuration.change(TENANT) as change:
        await change.set(WEBHOOKS, value)
    await deliveries.granted()


async def test_an_event_is_owed_only_where_its_transaction_is_committed(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    with pytest.raises(KeyError):
        async with deliveries.store.transaction() as tx:
            await tx.tell(_event())
            raise KeyError
    assert await _seen(deliveries) == {}


async def test_webhooks_hear_what_the_client_of_a_delivery_is_told(deliveries: Deliveries) -> None:
    await _set(deliveries, ops={})
    delivery = await deliveries.granted()
    await deliveries.fail(delivery, "why")
    bad = make_message("d", received_at=deliveries.now())
    await deliveries.receive(replace(bad, body={"correlationId": "d"}))
    outbox = deliveries.webhooks()
    heard = []
    while (claim := await outbox.claim([_hook()], limit=9)) is not None:
        heard += [owed.event for owed in claim.due]
        for owed in claim.due:
            await outbox.sent(owed)
        await _release(outbox, claim, sent=len(claim.due))
    responses = [m for m in await deliveries.outgoing() if m.body.get("status")]
    assert [event.type for event in heard if event.delivery_id == delivery.id] == [
        "accepted",
        "error",
    ]
    assert {event.id: event for event in heard} == {m.message_id: event_of(m) for m in responses}
    assert {event.type for event in heard} == {"accepted", "error", "denied"}


async def test_an_event_that_is_told_again_is_owed_once(deliveries: Deliveries) -> None:
    await _set(deliveries, ops={})
    event = _event()
    await _tell(deliveries, event, event)
    await _tell(deliveries, event)
    assert (await _seen(deliveries))[TENANT, "ops"].owed == 1


async def test_a_webhook_is_sent_to_by_one_worker_until_it_gives_it_back(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event(), _event())
    ours, theirs = deliveries.webhooks(), deliveries.webhooks()
    claims = await asyncio.gather(
        *(outbox.claim([_hook()], limit=1) for outbox in (ours, theirs, ours))
    )
    (claim,) = [claim for claim in claims if claim is not None]
    assert await theirs.claim([_hook()], limit=9) is None
    await ours.sent(claim.due[0])
    await _release(ours, claim, sent=1)
    assert len((await _claim(theirs)).due) == 1


async def test_the_webhook_of_a_worker_that_died_is_another_s_and_its_event_is_the_same(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event())
    dead = await _claim(deliveries.webhooks())
    await deliveries.elapse(timedelta(minutes=2, seconds=1))
    outbox = deliveries.webhooks()
    claim = await _claim(outbox)
    assert [o.event for o in claim.due] == [o.event for o in dead.due]
    assert [o.tries for o in claim.due] == [0]
    # What the first one says after all, should it live, takes nothing from the second.
    await _release(outbox, dead, failure="late")
    assert await outbox.claim([_hook()], limit=9) is None
    assert (await _seen(deliveries))[TENANT, "ops"].last_error is None


async def test_events_of_a_delivery_go_out_in_order_and_those_of_others_beside(
    deliveries: Deliveries, pause: timedelta
) -> None:
    await _set(deliveries, ops={})
    first = _event(type="accepted")
    await _tell(deliveries, first, _event(type="done", delivery_id=first.delivery_id), _event())
    outbox = deliveries.webhooks()
    claim = await _claim(outbox)
    assert _types(claim) == ["accepted", "done"]
    accepted, done = claim.due
    assert not await outbox.failed(accepted, "no", given_up_after=GIVEN_UP_AFTER)
    await outbox.sent(done)
    await _release(outbox, claim, sent=1, failure="no")
    assert await outbox.claim([_hook()], limit=9) is None  # the second waits for the first
    await deliveries.elapse(pause)
    claim = await _claim(outbox)
    assert _types(claim) == ["accepted"]
    await outbox.sent(claim.due[0])
    await _release(outbox, claim, sent=1)
    assert _types(await _claim(outbox)) == ["done"]


async def test_an_event_that_is_never_taken_holds_up_the_next_for_some_tries_alone(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    first = _event(type="accepted")
    await _tell(deliveries, first, _event(type="done", delivery_id=first.delivery_id))
    outbox = deliveries.webhooks()
    for tries in range(1, ORDER_TRIES + 1):
        claim = await _claim(outbox)
        assert _types(claim) == ["accepted"]
        await _fail(outbox, claim)
        if tries < ORDER_TRIES:
            await deliveries.elapse(pause_after(tries))
    await deliveries.elapse(timedelta(minutes=1))
    assert _types(await _claim(outbox)) == ["done"]


async def test_webhooks_are_served_in_turn(deliveries: Deliveries) -> None:
    await _set(deliveries, a={}, b={})
    await _set(deliveries, OTHER, c={})
    for tenant in (TENANT, OTHER):
        await _tell(deliveries, *(_event(tenant=tenant) for _ in range(6)))
    outbox = deliveries.webhooks()
    hooks = [_hook("a"), _hook("b"), _hook("c", OTHER)]
    served = []
    for _ in range(6):
        claim = await _claim(outbox, *hooks, limit=1)
        await outbox.sent(claim.due[0])
        await _release(outbox, claim, sent=1)
        served.append(claim.webhook.name)
    assert sorted(served[:3]) == sorted(served[3:]) == ["a", "b", "c"]


async def test_a_webhook_that_takes_nothing_is_paused_for_longer_each_time_and_then_tried_with_one(
    deliveries: Deliveries, pause: timedelta
) -> None:
    await _set(deliveries, ops={}, well={})
    await _tell(deliveries, *(_event() for _ in range(5)))
    outbox, hook = deliveries.webhooks(), _hook()
    claim = await _claim(outbox, hook, limit=3)
    assert (len(claim.due), claim.failing) == (3, False)
    await _fail(outbox, claim, "refused")
    assert await outbox.claim([hook], limit=3) is None
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.owed, seen.last_error, seen.dead) == (5, "refused", 0)
    assert seen.failing_since is not None
    assert seen.tried_again_at is not None
    await deliveries.elapse(pause)
    assert await outbox.claim([hook], limit=3, steady=True) is None
    assert (await _claim(outbox, hook, _hook("well"), steady=True)).webhook.name == "well"
    claim = await _claim(outbox, hook, limit=3)
    assert (len(claim.due), claim.failing) == (1, True)
    await _fail(outbox, claim)
    await deliveries.elapse(pause)
    assert await outbox.claim([hook], limit=3) is None
    await deliveries.elapse(pause)
    # It takes one: all that waits for a later try goes out at once.
    claim = await _claim(outbox, hook, limit=3)
    await outbox.sent(claim.due[0])
    await _release(outbox, claim, sent=1)
    claim = await _claim(outbox, hook)
    assert (len(claim.due), claim.failing) == (4, False)
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.failing_since, seen.last_error, seen.tried_again_at) == (None, None, None)
    assert seen.last_success_at is not None


async def test_a_webhook_is_left_alone_for_as_long_as_it_asks(deliveries: Deliveries) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event(), _event())
    outbox = deliveries.webhooks()
    claim = await _claim(outbox)
    await outbox.sent(claim.due[0])
    await outbox.failed(claim.due[1], "slower", given_up_after=GIVEN_UP_AFTER)
    await _release(outbox, claim, sent=1, failure="slower", pause=timedelta(seconds=90))
    await deliveries.elapse(timedelta(seconds=45))
    assert await outbox.claim([_hook()], limit=9) is None
    await deliveries.elapse(timedelta(seconds=45))
    assert not (await _claim(outbox)).failing


async def test_an_event_is_given_up_after_its_time_and_not_before(deliveries: Deliveries) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, event := _event())
    outbox = deliveries.webhooks()
    gone_by, tries = timedelta(), 0
    while True:
        assert await _fail(outbox, claim := await _claim(outbox), f"no {tries}") == [
            gone_by >= GIVEN_UP_AFTER
        ]
        tries += 1
        if gone_by >= GIVEN_UP_AFTER:
            break
        pause = min(max(pause_after(tries), timedelta(minutes=5)), GIVEN_UP_AFTER - gone_by)
        pause = pause if tries > 1 else timedelta(seconds=5)
        await deliveries.elapse(pause)
        gone_by += pause
    assert tries == 10
    assert claim.due[0].event == event
    assert await outbox.claim([_hook()], limit=9) is None
    (dead,) = await outbox.dead(TENANT, "ops", before=2**62, limit=9)
    assert (dead.id, dead.type, dead.tries, dead.last_error) == (event.id, "done", 10, "no 9")
    assert (await _seen(deliveries))[TENANT, "ops"].dead == 1
    assert await outbox.dead(TENANT, "ops", before=dead.number, limit=9) == []
    assert await outbox.dead(OTHER, "ops", before=2**62, limit=9) == []


async def test_what_was_never_tried_dies_with_the_last_try_of_a_webhook_that_takes_nothing(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event())
    await deliveries.elapse(timedelta(hours=1))
    await _tell(deliveries, late := _event())
    outbox = deliveries.webhooks()
    await _fail(outbox, await _claim(outbox, limit=1), "first")
    await deliveries.elapse(GIVEN_UP_AFTER)
    await _fail(outbox, await _claim(outbox, limit=1), "last")
    assert await outbox.claim([_hook()], limit=9) is None
    found = await outbox.dead(TENANT, "ops", before=2**62, limit=9)
    assert {dead.id: dead.last_error for dead in found}[late.id] == "last"
    assert len(found) == 2


async def test_dead_events_are_sent_again_when_an_operator_says_so(deliveries: Deliveries) -> None:
    await _set(deliveries, ops={})
    events = [_event(), _event(), _event()]
    await _tell(deliveries, *events)
    outbox = deliveries.webhooks()
    claim = await _claim(outbox)
    await _release(outbox, claim, failure="gone", gone=True)
    assert (await _seen(deliveries))[TENANT, "ops"].dead == 3
    assert await outbox.resend(_ACTOR, "ops", [events[0].id, uuid4()]) == 1
    (owed,) = (await _claim(outbox)).due  # at once, and with all its tries
    assert (owed.event, owed.tries) == (events[0], 0)
    assert await outbox.resend(_ACTOR, "ops") == 2
    assert await outbox.resend(replace(_ACTOR, tenant=OTHER), "ops") == 0
    entries = await deliveries.audit.entries(TENANT, before=2**62, limit=9)
    assert [(entry.action, entry.subject, entry.after) for entry in entries] == [
        ("resend", "webhook ops", "2 dead events are owed again"),
        ("resend", "webhook ops", "1 dead events are owed again"),
    ]


async def test_nothing_is_sent_where_a_webhook_is_gone_until_it_is_elsewhere_or_takes_a_ping(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event())
    outbox = deliveries.webhooks()
    await _release(outbox, await _claim(outbox), failure="410", gone=True)
    await _tell(deliveries, _event())
    await deliveries.elapse(timedelta(minutes=10))
    assert await outbox.claim([_hook()], limit=9) is None
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.gone_url, seen.owed, seen.dead) == ("https://a.example/", 1, 1)
    claim = await _claim(outbox, _hook(url="https://b.example/"))
    await _release(outbox, claim)
    await outbox.revive(_hook(url="https://b.example/"))
    assert len((await _claim(outbox)).due) == 1
    assert (await _seen(deliveries))[TENANT, "ops"].gone_url is None


async def test_a_worker_whose_claim_ran_out_gives_nothing_up(deliveries: Deliveries) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event())
    outbox = deliveries.webhooks()
    late = await _claim(outbox)
    await deliveries.elapse(timedelta(minutes=10))
    claim = await _claim(outbox)
    await _release(outbox, late, failure="410", gone=True)
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.gone_url, seen.owed, seen.dead) == (None, 1, 0)
    await _release(outbox, claim)
    assert len((await _claim(outbox)).due) == 1


_ELSEWHERE = "https://b.example/"


async def test_what_is_owed_to_a_new_url_is_not_given_up_when_the_old_one_is_gone(
    deliveries: Deliveries,
) -> None:
    """The answer comes when the setting names another URL already."""
    await _set(deliveries, ops={})
    await _tell(deliveries, _event())
    outbox = deliveries.webhooks()
    late = await _claim(outbox)
    await _set(deliveries, ops={"url": _ELSEWHERE})
    await _release(outbox, late, failure="410", gone=True)
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.gone_url, seen.owed, seen.dead) == (None, 1, 0)
    claim = await _claim(outbox, _hook(url=_ELSEWHERE))
    assert (len(claim.due), claim.failing) == (1, False)


async def test_a_webhook_is_in_no_pause_at_another_url_and_is_sent_all_that_waits(
    deliveries: Deliveries, pause: timedelta
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event(), _event())
    outbox, moved = deliveries.webhooks(), _hook(url=_ELSEWHERE)
    for _ in range(2):
        await _fail(outbox, await _claim(outbox))
        await deliveries.elapse(timedelta(minutes=5))
    claim = await _claim(outbox)
    assert claim.failing
    # Its answer comes after the URL was changed, and says nothing of the new one.
    await outbox.failed(claim.due[0], "no", given_up_after=GIVEN_UP_AFTER)
    await _release(outbox, claim, failure="no", pause=timedelta(hours=6))
    assert await outbox.claim([_hook()], limit=9) is None
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.url, seen.last_error) == ("https://a.example/", "no")
    await _set(deliveries, ops={"url": _ELSEWHERE})
    claim = await _claim(outbox, moved, steady=True)
    assert (len(claim.due), claim.failing, claim.webhook) == (2, False, moved)
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.url, seen.failing_since, seen.tried_again_at) == (_ELSEWHERE, None, None)
    assert seen.last_error is None
    # There, it has its own pauses: the first is short again.
    await _fail(outbox, claim)
    await _tell(deliveries, _event())
    assert await outbox.claim([moved], limit=9) is None
    await deliveries.elapse(pause)
    assert (await _claim(outbox, moved)).failing


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("asked", [{"url": _ELSEWHERE}, {"enabled": False}, None])
async def test_a_webhook_that_is_elsewhere_or_disabled_is_not_told_as_failing(
    deliveries: Deliveries, gone: bool, asked: dict[str, Any] | None
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event(), _event())
    outbox = deliveries.webhooks()
    await _release(outbox, await _claim(outbox), failure="no", gone=gone)
    seen = (await _seen(deliveries))[TENANT, "ops"]
    assert (seen.last_error, seen.enabled) == ("no", True)
    assert seen.failing_since is not None
    assert (seen.gone_url is not None) is gone
    assert any(not finding.ok for finding in webhooks_found([seen]))
    await _set(deliveries, TENANT, **({} if asked is None else {"ops": asked}))
    moved = (await _seen(deliveries))[TENANT, "ops"]
    assert (moved.url, moved.failing_since, moved.last_error, moved.gone_url) == (None,) * 4
    assert (moved.tried_again_at, moved.last_success_at) == (None, None)
    assert (moved.owed, moved.dead) == (seen.owed, seen.dead)
    assert moved.enabled is (asked == {"url": _ELSEWHERE})
    told = webhooks_found([replace(moved, dead=0)]) + webhooks_found(
        [replace(moved, enabled=False)]
    )
    assert not any(not finding.ok for finding in told)
    await _set(deliveries, ops={})
    assert (await _seen(deliveries))[TENANT, "ops"] == seen


async def test_a_ping_that_a_new_url_takes_is_not_undone_by_a_late_answer_of_the_old_one(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, _event())
    outbox, moved = deliveries.webhooks(), _hook(url=_ELSEWHERE)
    claim = await _claim(outbox)
    await _set(deliveries, ops={"url": _ELSEWHERE})
    await outbox.revive(moved)
    await _release(outbox, claim, failure="no")
    assert not (await _claim(outbox, moved)).failing


async def test_a_webhook_that_wants_fewer_events_is_paused_for_longer_each_time(
    deliveries: Deliveries, pause: timedelta
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, *(_event() for _ in range(9)))
    outbox = deliveries.webhooks()

    async def take_one(*, throttles: bool) -> None:
        claim = await _claim(outbox, limit=1)
        assert not claim.failing
        await outbox.sent(claim.due[0])
        failure = "it answered 429" if throttles else None
        await _release(outbox, claim, sent=1, failure=failure, throttles=throttles)

    for times in (1, 2, 4):
        await take_one(throttles=True)
        await deliveries.elapse(pause * times / 2)
        assert await outbox.claim([_hook()], limit=9) is None
        await deliveries.elapse(pause * times / 2)
    await take_one(throttles=False)  # a round in which it takes all: the next pause is short again
    await take_one(throttles=True)
    await deliveries.elapse(pause)
    assert not (await _claim(outbox)).failing


@pytest.mark.parametrize(
    ("status", "retry_after", "throttles"),
    [
        (429, None, True),
        (503, None, True),
        (429, timedelta(), True),
        (429, timedelta(seconds=1), False),
        (500, None, False),
        (None, None, False),
    ],
)
def test_an_answer_asks_for_fewer_events_where_it_does_not_say_when(
    status: int | None, retry_after: timedelta | None, throttles: bool
) -> None:
    answer = Answer(taken=False, status=status, retry_after=retry_after)
    assert answer.throttles is throttles


class _Slow:
    """Takes each event, by a clock of its own, slowly."""

    def __init__(self) -> None:
        self.now = 0.0
        self.taken = 0

    @contextlib.asynccontextmanager
    async def to(self, _webhook: Webhook) -> AsyncIterator[Post]:
        """Give what sends."""

        async def post(event: DeliveryEvent, at: datetime) -> Answer:
            del event, at
            self.now += 2
            self.taken += 1
            return Answer(taken=True)

        yield post


async def test_a_webhook_that_takes_events_slowly_gives_its_place_back_soon(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={})
    await _tell(deliveries, *(_event() for _ in range(15)))
    sender = _Slow()
    courier = Courier(
        outbox=deliveries.webhooks(),
        webhooks=lambda: [_hook()],
        sender=sender,
        clock=lambda: sender.now,
    )
    assert await courier.claim(has_room=lambda _: False) is None
    claim = await courier.claim()
    assert claim is not None
    done = await courier.serve(claim)
    assert done.sent == sender.taken == 3
    assert (await _seen(deliveries))[TENANT, "ops"].owed == 12
    again = await courier.claim()
    assert again is not None
    assert len(again.due) == 12


def _ids(found: Sequence[DeliveryEvent]) -> list[str]:
    return [str(event.id) for event in found]


async def test_what_is_old_is_forgotten_and_what_too_many_are_is_dropped(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={}, many={})
    outbox = deliveries.webhooks()

    async def tidy(most: int = 99) -> int:
        return await outbox.tidy(
            given_up_after=GIVEN_UP_AFTER, kept=timedelta(days=7), most=most, batch=2
        )

    events = [_event() for _ in range(5)]
    await _tell(deliveries, *events)
    assert await tidy() == 0
    assert await tidy(most=3) == 4
    seen = await _seen(deliveries)
    assert {webhook.name: (webhook.owed, webhook.dropped) for webhook in seen.values()} == {
        "ops": (3, 2),
        "many": (3, 2),
    }
    claim = await _claim(outbox, limit=2)
    assert _ids([owed.event for owed in claim.due]) == _ids(events[2:4])  # the oldest are dropped
    await _release(outbox, claim)
    await deliveries.elapse(2 * GIVEN_UP_AFTER + timedelta(minutes=1))
    assert await tidy() == 6  # given up: nothing was sent to it all the time
    assert (await _seen(deliveries))[TENANT, "ops"].dead == 3
    await deliveries.elapse(timedelta(days=7, minutes=1))
    assert await tidy() == 6
    assert (await _seen(deliveries))[TENANT, "ops"].dead == 0


async def test_events_of_a_webhook_that_no_setting_names_any_more_are_forgotten(
    deliveries: Deliveries,
) -> None:
    await _set(deliveries, ops={}, other={})
    await _tell(deliveries, _event())
    outbox = deliveries.webhooks()
    await _release(outbox, await _claim(outbox), failure="no")
    await _set(deliveries, other={})
    assert await outbox.tidy(given_up_after=GIVEN_UP_AFTER, kept=timedelta(days=7), most=9) == 1
    assert [name for _, name in await _seen(deliveries)] == ["other"]
    async with deliveries.configuration.change(TENANT) as change:
        await change.reset(WEBHOOKS)
    assert await outbox.tidy(given_up_after=GIVEN_UP_AFTER, kept=timedelta(days=7), most=9) == 1
    assert await _seen(deliveries) == {}


def test_a_message_that_is_no_response_is_no_event() -> None:
    assert event_of(make_outgoing(kind=Kind.TRANSFER)) is None
