"""Faults that a site can have: how each comes to be, how long ago, and what is to be told of it.

All that `GET /attention` knows. What an operator wants so (a pause, a maintenance) is told, too,
and has no alert.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from app.codes import Code
from app.delivery.orders import OrderStatus
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.pauses import PauseScope, PauseSubject, Running
from app.delivery.quotas import Allowance, Quota
from app.delivery.states import State
from app.delivery.webhooks import WEBHOOKS, Round, Webhook
from app.errors import BrokerUnavailableError
from app.views.attention import Need
from app.views.dead_letters import LetterKind
from tests.acceptance.night import TENANTS, Night
from tests.builders import make_buried, make_stored
from tests.twins.users import MemoryUsers

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

Happens = Callable[[Night, str], Awaitable[None]]  # to a tenant


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong."""

    name: str
    needs: tuple[Need, ...]  # an operator, in the words of the catalogue
    age: timedelta  # when all of the night has happened: beyond its threshold, and below any other
    happens: Happens


async def no_worker(night: Night, _tenant: str) -> None:
    """All have died."""
    await night.deliveries.presence("died").heartbeat()
    night.has_worker = False
    since = await night.when("SELECT seen_at FROM worker WHERE id = 'died'")
    night.tells(Need.NO_WORKER, since=since)


async def worker_dies(night: Night, tenant: str) -> None:
    """One has, in the midst of a transfer that no other takes over."""
    await night.deliveries.presence("silent").heartbeat()
    await night.claimed(tenant, "of-a-dead-worker", owner="silent", lease=DAY)
    since = await night.when("SELECT seen_at FROM worker WHERE id = 'silent'")
    labels = {"subject": "silent"}
    night.tells(Need.WORKER_SILENT, since=since, subject="silent", labels=labels)


async def target_fails(night: Night, tenant: str, *, cause: str, code: str) -> None:
    """Three deliveries come to nothing at a target."""
    for number in range(3):
        claimed = await night.claimed(tenant, f"to-nowhere-{number}")
        await night.deliveries.leases("w").release(
            claimed, after=DAY, failed=False, cause=cause, code=code
        )
        await night.passes(MINUTE)
    since = await night.when("SELECT min(ended) FROM delivery_attempt WHERE tenant = $1", tenant)
    labels = {"tenant": tenant, "subject": claimed.target}
    night.tells(
        Need.TRANSFERS_FAIL, since=since, tenant=tenant, subject=claimed.target, labels=labels
    )


async def _is_stuck(night: Night, tenant: str, state: State) -> None:
    delivery = await night.deliveries.active("stuck", tenant)
    assert delivery.state is state
    night.tells(
        Need.STATE_STUCK,
        since=await night.state_since(delivery),
        tenant=tenant,
        subject=state.value,
        labels={"tenant": tenant, "state": state.value},
    )


async def rs_admin_is_away(night: Night, tenant: str) -> None:
    """A request waits for what rs-admin says of its user."""
    message = night.deliveries.message("stuck", tenant=tenant)
    await night.deliveries.receive(message, users=MemoryUsers())
    await _is_stuck(night, tenant, State.RECEIVED)


async def rs_order_is_silent(night: Night, tenant: str) -> None:
    """An order went out, and is not answered."""
    await night.deliveries.granted("stuck", tenant=tenant)
    await _is_stuck(night, tenant, State.GRANTED)


async def order_stands_still(night: Night, tenant: str) -> None:
    """An order was accepted, and nothing of it is restored."""
    await night.deliveries.granted("stuck", tenant=tenant)
    await night.deliveries.tell(OrderStatus.GRANTED, "stuck", tenant, order_id=1)
    await _is_stuck(night, tenant, State.ORDERED)


async def archive_is_not_laid_out(night: Night, tenant: str) -> None:
    """An order is done, and its files are not listed."""
    await night.deliveries.available("stuck", tenant=tenant)
    await _is_stuck(night, tenant, State.AVAILABLE)


async def quota_is_full(night: Night, tenant: str) -> None:
    """A request waits for the place of another one, for most of its time."""
    quota = Quota(user=Allowance(active=1))
    night.deliveries.tenants.give(tenant, quota=quota, request_ttl=20 * MINUTE)
    for name in ("has-the-place", "waits"):
        await night.deliveries.receive(night.deliveries.message(name, tenant=tenant))
    waits = await night.deliveries.active("waits", tenant)
    assert waits.held
    night.tells(
        Need.QUOTA_AWAITED,
        since=await night.state_since(waits),
        tenant=tenant,
        subject="RECEIVED",
        labels={"tenant": tenant, "state": "RECEIVED"},
    )


async def suborder_does_not_come(night: Night, tenant: str) -> None:
    """A half-made archive waits for the next suborder of its order."""
    claimed = await night.claimed(tenant, "half-made")
    # As if there were more to come.
    more = "UPDATE delivery SET order_done = false, listed = announced WHERE id = $1"
    await night.execute(more, claimed.id)
    await night.deliveries.leases("w").park(claimed, cause="waits for the next suborder")
    parked = "SELECT updated_at FROM delivery WHERE id = $1 AND parked"
    since = await night.when(parked, claimed.id)
    night.tells(Need.SUBORDER_AWAITED, since=since, tenant=tenant, labels={"tenant": tenant})


async def broker_takes_no_answers(night: Night, tenant: str) -> None:
    """An answer is sent again and again, and RabbitMQ does not take it."""
    delivery = await night.deliveries.granted("not-told", tenant=tenant)

    async def refuse(message: OutgoingMessage) -> None:
        if message.lane is Lane.RESPONSES:
            raise BrokerUnavailableError("RabbitMQ does not take it")

    outbox = night.deliveries.outbox()
    for _ in range(25):
        for lane in Lane:
            while (await outbox.relay(lane, refuse)).dealt_with:
                pass
        await night.passes(timedelta(seconds=15))
    night.tells(
        Need.MESSAGE_OWED,
        since=await night.state_since(delivery),
        tenant=tenant,
        subject="responses",
        labels={"lane": "responses"},
    )


async def letter_is_buried(night: Night, whose: str, **letter: Any) -> None:
    """A message, or an event, can't be handled."""
    buried = make_buried(f"of-{whose}", **{"tenant": whose} | letter)
    await night.deliveries.dead_letters().keep([buried], again=True)
    since = await night.when("SELECT buried_at FROM dead_letter WHERE id = $1", buried.id)
    served = buried.tenant if buried.tenant in TENANTS else None
    labels = {"tenant": served} if served else {}
    night.tells(Need.DEAD_LETTER, since=since, tenant=served, labels=labels)


async def _webhook_ends(night: Night, tenant: str, done: Round) -> None:
    """A tenant's webhook is told of a delivery, which comes to this."""
    webhook = Webhook(
        tenant=tenant, name="ops", url="https://hooks.example/", secrets=("whsec_MDAw",)
    )
    async with night.deliveries.configuration.change(tenant) as change:
        await change.set(WEBHOOKS, {"ops": {"url": webhook.url, "secret": webhook.secrets[0]}})
    # It ends: else it would soon be stuck.
    await night.deliveries.fail(await night.deliveries.granted("told", tenant=tenant), "cancelled")
    outbox = night.deliveries.webhooks()
    claim = await outbox.claim([webhook], limit=9)
    assert claim is not None
    await outbox.release(claim, done, given_up_after=3 * DAY)
    night.tells(
        Need.WEBHOOK_FAILS,
        since=await night.when("SELECT failing_since FROM webhook WHERE tenant = $1", tenant),
        tenant=tenant,
        subject="ops",
        labels={"tenant": tenant, "subject": "ops"},
    )


async def webhook_fails(night: Night, tenant: str) -> None:
    """It answers 503."""
    await _webhook_ends(night, tenant, Round(failure="503"))


async def webhook_is_gone(night: Night, tenant: str) -> None:
    """It answers 410: what it is owed is given up."""
    await _webhook_ends(night, tenant, Round(failure="410 Gone", gone=True))
    given_up = "SELECT min(dead_at) FROM webhook_event WHERE tenant = $1"
    night.tells(
        Need.EVENT_GIVEN_UP,
        since=await night.when(given_up, tenant),
        tenant=tenant,
        subject="ops",
        labels={"tenant": tenant, "subject": "ops"},
    )


async def place_is_kept(night: Night, tenant: str) -> None:
    """rs-order does not say whether it still waits for the user of a delivery that is done."""
    claimed = await night.claimed(tenant, "delivered")
    async with night.deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
        await tx.record_place(claimed, unseen=1, after=timedelta())
    since = await night.when("SELECT since FROM place WHERE delivery_id = $1", claimed.id)
    night.tells(Need.PLACE_HELD, since=since, tenant=tenant, labels={"tenant": tenant})


async def content_stays(night: Night, tenant: str) -> None:
    """What was delivered for an hour is not removed."""
    claimed = await night.claimed(tenant, "delivered")
    until = night.deliveries.now() + HOUR
    async with night.deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
        await tx.keep_content(claimed, until=until, key="delivered/a.zip")
    night.tells(Need.CONTENT_OVERDUE, since=until, tenant=tenant, labels={"tenant": tenant})


async def maintenance_is_forgotten(night: Night, tenant: str) -> None:
    """It should have been over an hour after it began."""
    until = night.deliveries.now() + HOUR
    async with night.deliveries.configuration.change(tenant) as change:
        await change.maintain(active=True, enabled_by="ana", reason="disks", until=until)
    night.tells(Need.MAINTENANCE_FORGOTTEN, since=until, tenant=tenant, labels={"tenant": tenant})


async def maintenance_lasts(night: Night, tenant: str) -> None:
    """None has said when it should be over."""
    async with night.deliveries.configuration.change(tenant) as change:
        await change.maintain(active=True, enabled_by="ana", reason="disks")
    began = "SELECT updated_at FROM tenant_maintenance WHERE tenant = $1"
    night.tells(Need.MAINTENANCE, since=await night.when(began, tenant), tenant=tenant)


async def pause_lasts(night: Night, tenant: str) -> None:
    """A tenant is left paused."""
    subject = PauseSubject(scope=PauseScope.TENANT, tenant=tenant)
    async with night.deliveries.configuration.change(tenant) as change:
        await change.pause(subject, reason="disks", running=Running.FINISH, paused_by="ana")
    since = await night.when("SELECT since FROM pause WHERE tenant = $1", tenant)
    night.tells(Need.PAUSED, since=since, tenant=tenant, subject="tenant")


FAULTS: Sequence[Fault] = (
    Fault(name="no worker", needs=(Need.NO_WORKER,), age=3 * MINUTE, happens=no_worker),
    Fault(name="a worker dies", needs=(Need.WORKER_SILENT,), age=5 * MINUTE, happens=worker_dies),
    Fault(
        name="a bucket is gone",
        needs=(Need.TRANSFERS_FAIL,),
        age=10 * MINUTE,
        happens=partial(target_fails, cause="404 NoSuchBucket", code=Code.TARGET_REFUSED),
    ),
    Fault(
        name="a key is refused",
        needs=(Need.TRANSFERS_FAIL,),
        age=15 * MINUTE,
        happens=partial(target_fails, cause="403 AccessDenied", code=Code.TARGET_REFUSED),
    ),
    Fault(
        name="rs-admin is away",
        needs=(Need.STATE_STUCK,),
        age=20 * MINUTE,
        happens=rs_admin_is_away,
    ),
    Fault(
        name="rs-order is silent",
        needs=(Need.STATE_STUCK,),
        age=45 * MINUTE,
        happens=rs_order_is_silent,
    ),
    Fault(
        name="an order stands still",
        needs=(Need.STATE_STUCK,),
        age=7 * HOUR,
        happens=order_stands_still,
    ),
    Fault(
        name="an archive is not laid out",
        needs=(Need.STATE_STUCK,),
        age=40 * MINUTE,
        happens=archive_is_not_laid_out,
    ),
    Fault(
        name="a quota is full", needs=(Need.QUOTA_AWAITED,), age=14 * MINUTE, happens=quota_is_full
    ),
    Fault(
        name="a suborder does not come",
        needs=(Need.SUBORDER_AWAITED,),
        age=3 * HOUR + 20 * MINUTE,
        happens=suborder_does_not_come,
    ),
    # It takes its time itself, and goes on until all else has happened.
    Fault(
        name="a broker takes no answers",
        needs=(Need.MESSAGE_OWED,),
        age=timedelta(),
        happens=broker_takes_no_answers,
    ),
    Fault(
        name="a message is buried",
        needs=(Need.DEAD_LETTER,),
        age=2 * HOUR,
        happens=letter_is_buried,
    ),
    Fault(
        name="an event is buried",
        needs=(Need.DEAD_LETTER,),
        age=12 * MINUTE,
        happens=partial(letter_is_buried, kind=LetterKind.EVENT, place="delivery.dead-letters"),
    ),
    Fault(
        name="a stranger's message is buried",
        needs=(Need.DEAD_LETTER,),
        age=HOUR,
        happens=partial(letter_is_buried, tenant="a-stranger"),
    ),
    Fault(
        name="a webhook fails", needs=(Need.WEBHOOK_FAILS,), age=70 * MINUTE, happens=webhook_fails
    ),
    Fault(
        name="a webhook is gone",
        needs=(Need.WEBHOOK_FAILS, Need.EVENT_GIVEN_UP),
        age=6 * MINUTE,
        happens=webhook_is_gone,
    ),
    Fault(name="a place is kept", needs=(Need.PLACE_HELD,), age=75 * MINUTE, happens=place_is_kept),
    Fault(name="content stays", needs=(Need.CONTENT_OVERDUE,), age=8 * HOUR, happens=content_stays),
    Fault(
        name="a maintenance is forgotten",
        needs=(Need.MAINTENANCE_FORGOTTEN,),
        age=90 * MINUTE,
        happens=maintenance_is_forgotten,
    ),
    Fault(
        name="a maintenance lasts",
        needs=(Need.MAINTENANCE,),
        age=11 * HOUR,
        happens=maintenance_lasts,
    ),
    Fault(name="a pause lasts", needs=(Need.PAUSED,), age=3 * HOUR, happens=pause_lasts),
)


def draw(seed: int) -> list[Fault]:
    """Return the five faults of a night, the first first."""
    drawn = random.Random(seed).sample(FAULTS, len(TENANTS) - 1)
    return sorted(drawn, key=lambda fault: fault.age, reverse=True)


async def happen(night: Night, faults: Sequence[Fault]) -> None:
    """Let faults happen, the first first, until each is so for as long as it says."""
    later = [*faults[1:], replace(faults[-1], age=timedelta())]
    for fault, following, tenant in zip(faults, later, TENANTS[1:], strict=True):
        await fault.happens(night, tenant)
        if Need.MESSAGE_OWED not in fault.needs:
            await night.messages_leave()
        await night.passes(fault.age - following.age)
    await night.ends()
    assert sorted(named.code for named in night.named) == sorted(
        need for fault in faults for need in fault.needs
    )
