"""What is wrong now: the same of both stores, since when by what they hold, and none of another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.pauses import WORKED_OFF, PauseScope, PauseSubject, Running
from app.delivery.states import State, Work
from app.delivery.webhooks import WEBHOOKS, Round, Webhook
from app.errors import (
    BrokerUnavailableError,
    FolderBusyError,
    ObjectBusyError,
    RetryableError,
    SourceNotReadyError,
    TargetUnavailableError,
)
from app.views.attention import Need, Trouble
from compose.embedded.stack import TENANT
from tests.builders import make_buried
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER
from tests.twins.users import MemoryUsers

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


async def troubles(deliveries: Deliveries, *tenants: str) -> dict[Need, Trouble]:
    """Return what concerns some tenants, or all, by kind: no two of one.

    No relay sends here what is owed: that it is, is left out.
    """
    found = [
        trouble
        for trouble in await deliveries.attention.troubles(tenants or None)
        if trouble.code is not Need.MESSAGE_OWED
    ]
    by_code = {trouble.code: trouble for trouble in found}
    assert len(by_code) == len(found)
    return by_code


async def test_nothing_is_wrong_where_a_worker_is_there(deliveries: Deliveries) -> None:
    await deliveries.presence("w").heartbeat()
    await deliveries.granted()
    assert await troubles(deliveries) == {}


async def test_without_a_worker_that_is_told_since_it_was_seen_last(
    deliveries: Deliveries,
) -> None:
    (never,) = (await troubles(deliveries)).values()
    assert (never.code, never.since, never.tenant) == (Need.NO_WORKER, None, None)
    await deliveries.presence("w").heartbeat()
    await deliveries.elapse(2 * MINUTE)
    (gone,) = (await troubles(deliveries, TENANT)).values()
    assert gone.code is Need.NO_WORKER
    assert gone.since is not None
    assert 2 * MINUTE <= deliveries.now() - gone.since < 3 * MINUTE


async def test_a_worker_that_fell_silent_is_told_as_long_as_it_has_work(
    deliveries: Deliveries,
) -> None:
    await deliveries.presence("silent").heartbeat()
    await deliveries.claimed(owner="silent")
    await deliveries.elapse(2 * MINUTE)
    await deliveries.presence("w").heartbeat()
    (silent,) = (await troubles(deliveries)).values()
    assert (silent.code, silent.subject, silent.count) == (Need.WORKER_SILENT, "silent", 1)
    assert await deliveries.leases("w").claim(Work.TRANSFER) is not None
    assert await troubles(deliveries) == {}


async def test_a_worker_whose_work_waits_for_a_pause_is_missed_by_none(
    deliveries: Deliveries,
) -> None:
    await deliveries.presence("silent").heartbeat()
    await deliveries.claimed(owner="silent")
    async with deliveries.configuration.change(TENANT) as change:
        subject = PauseSubject(scope=PauseScope.TENANT, tenant=TENANT)
        await change.pause(subject, reason="disks", running=Running.FINISH, paused_by="ana")
    await deliveries.elapse(2 * MINUTE)
    await deliveries.presence("w").heartbeat()
    assert set(await troubles(deliveries)) == {Need.PAUSED}


async def test_a_target_fails_since_its_first_failure_and_until_something_goes_well(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("c")
    await deliveries.attempt(None)  # it was well before
    delivery = await deliveries.ready("d")
    await deliveries.presence("w").heartbeat()
    for _ in range(2):
        await deliveries.attempt("403 AccessDenied")
        await deliveries.elapse(10 * MINUTE)
    await deliveries.presence("w").heartbeat()
    assert await troubles(deliveries) == {}
    await deliveries.attempt("503 SlowDown")
    failing = (await troubles(deliveries, TENANT))[Need.TRANSFERS_FAIL]
    assert (failing.tenant, failing.subject, failing.count) == (TENANT, delivery.target, 3)
    assert failing.cause == "503 SlowDown"
    assert failing.since is not None
    assert 20 * MINUTE <= deliveries.now() - failing.since < 21 * MINUTE
    first, *_ = (await deliveries.tracking.attempts(delivery.id))[::-1]
    assert failing.since == first.ended
    assert await troubles(deliveries, OTHER) == {}
    await deliveries.attempt(None)
    assert await troubles(deliveries) == {}


@pytest.mark.parametrize("waits", [SourceNotReadyError, ObjectBusyError, FolderBusyError])
async def test_what_only_waits_is_no_failure_of_its_target(
    deliveries: Deliveries, waits: type[RetryableError]
) -> None:
    """Files that rs-order is still at, or another delivery that has the place."""
    await deliveries.presence("w").heartbeat()
    await deliveries.ready("c")
    for _ in range(2):
        await deliveries.attempt("403 AccessDenied")
    for _ in range(3):
        await deliveries.attempt("it is not its turn yet", waits.code)
    assert await troubles(deliveries) == {}
    await deliveries.attempt("503 SlowDown", TargetUnavailableError.code)
    failing = (await troubles(deliveries))[Need.TRANSFERS_FAIL]
    assert (failing.count, failing.cause) == (3, "503 SlowDown")


async def test_what_is_over_for_an_hour_is_told_no_more(deliveries: Deliveries) -> None:
    await deliveries.ready("c")
    for _ in range(3):
        await deliveries.attempt("403 AccessDenied")
    await deliveries.elapse(HOUR + MINUTE)
    assert Need.TRANSFERS_FAIL not in await troubles(deliveries)


async def test_what_is_stuck_is_told_since_it_came_into_its_state_but_not_while_it_is_paused(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("c")
    await deliveries.elapse(HOUR + MINUTE)
    await deliveries.presence("w").heartbeat()
    await deliveries.ready("later")
    stuck = (await troubles(deliveries))[Need.STATE_STUCK]
    assert (stuck.tenant, stuck.subject, stuck.count) == (TENANT, "READY", 1)
    assert stuck.since is not None
    assert HOUR + MINUTE <= deliveries.now() - stuck.since < HOUR + 2 * MINUTE
    async with deliveries.configuration.change(TENANT) as change:
        await change.pause(
            PauseSubject(scope=PauseScope.TENANT, tenant=TENANT),
            reason="disks are exchanged",
            running=Running.FINISH,
            paused_by="ana",
        )
    (paused,) = (await troubles(deliveries, TENANT)).values()
    assert (paused.code, paused.subject, paused.tenant) == (Need.PAUSED, "tenant", TENANT)
    assert paused.cause == "disks are exchanged (ana)"
    assert await troubles(deliveries, OTHER) == {}


async def test_what_waits_for_the_end_of_a_maintenance_is_not_stuck(deliveries: Deliveries) -> None:
    async def stuck(tenant: str) -> tuple[int, float]:
        found = (await troubles(deliveries, tenant)).get(Need.STATE_STUCK)
        (depth,) = [each for each in await deliveries.overview.depths() if each.tenant == tenant]
        return found.count if found else 0, round(depth.oldest / 60)

    for tenant in (TENANT, OTHER):
        await deliveries.receive(deliveries.message("c", tenant=tenant), users=MemoryUsers())
    async with deliveries.configuration.change(TENANT) as change:
        await change.maintain(active=True)
    await deliveries.elapse(20 * MINUTE)
    await deliveries.presence("w").heartbeat()
    assert await stuck(TENANT) == (0, 0)
    assert await stuck(OTHER) == (1, 20)
    async with deliveries.configuration.change(TENANT) as change:
        await change.maintain(active=False)
    assert await stuck(TENANT) == (0, 0)  # a worker that asks for its user comes to it now
    await deliveries.elapse(WORKED_OFF + MINUTE)
    assert (await stuck(TENANT))[0] == 1


async def in_maintenance(deliveries: Deliveries) -> tuple[Need, timedelta, str | None]:
    """Return what is found of the only tenant that is, and for how long it is said to be so."""
    (found,) = await deliveries.attention.troubles([TENANT])
    assert found.since is not None
    return found.code, deliveries.now() - found.since, found.cause


async def test_a_maintenance_needs_an_operator_once_its_announced_end_has_passed(
    deliveries: Deliveries,
) -> None:
    await deliveries.presence("w").heartbeat()
    until = deliveries.now().replace(microsecond=0) + 20 * HOUR
    async with deliveries.configuration.change(TENANT) as change:
        begun = await change.maintain(active=True, enabled_by="ana", reason="disks", until=until)
    code, age, cause = await in_maintenance(deliveries)
    assert code is Need.MAINTENANCE
    assert age < MINUTE
    assert cause == begun.said == f"by ana until {until:%Y-%m-%d %H:%M:%S} UTC: disks"
    await deliveries.elapse(19 * HOUR)
    await deliveries.presence("w").heartbeat()
    code, age, _ = await in_maintenance(deliveries)
    assert (code, age // HOUR) == (Need.MAINTENANCE, 19)
    await deliveries.elapse(3 * HOUR)
    await deliveries.presence("w").heartbeat()
    code, age, _ = await in_maintenance(deliveries)
    assert (code, age // HOUR) == (Need.MAINTENANCE_FORGOTTEN, 2)


@pytest.mark.parametrize(("by", "said"), [("ana", "by ana"), (None, None)])
async def test_a_maintenance_without_an_announced_end_is_asked_about_after_half_a_day(
    deliveries: Deliveries, by: str | None, said: str | None
) -> None:
    await deliveries.presence("w").heartbeat()
    async with deliveries.configuration.change(TENANT) as change:
        begun = await change.maintain(active=True, enabled_by=by)
    code, _, cause = await in_maintenance(deliveries)
    assert (code, cause) == (Need.MAINTENANCE, said)
    assert begun.said == said
    await deliveries.elapse(13 * HOUR)
    await deliveries.presence("w").heartbeat()
    code, age, _ = await in_maintenance(deliveries)
    assert (code, age // HOUR) == (Need.MAINTENANCE_FORGOTTEN, 1)
    async with deliveries.configuration.change(TENANT) as change:
        await change.maintain(active=False)
    assert await troubles(deliveries, TENANT) == {}


async def begin(deliveries: Deliveries, subject: PauseSubject) -> None:
    async with deliveries.configuration.change(TENANT) as change:
        await change.pause(subject, reason="disks", running=Running.FINISH, paused_by="ana")


async def end(deliveries: Deliveries, subject: PauseSubject) -> None:
    async with deliveries.configuration.change(TENANT) as change:
        await change.resume(subject)


async def stuck(deliveries: Deliveries) -> tuple[int, float]:
    """Return how many are READY for too long, and the hours that the oldest is said to be."""
    found = (await troubles(deliveries, TENANT)).get(Need.STATE_STUCK)
    depths = await deliveries.overview.depths()
    (oldest,) = (d.oldest for d in depths if d.tenant == TENANT and d.state is State.READY)
    return found.count if found else 0, round(oldest / 3600, 1)


ARCHIVE = PauseSubject(scope=PauseScope.TARGET, tenant=TENANT, name="archive")


async def test_what_waits_for_a_paused_target_is_not_stuck_and_what_goes_elsewhere_is(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("to-archive", target="archive")
    await deliveries.elapse(HOUR)
    await deliveries.ready("to-default")
    await deliveries.ready("of-another", tenant=OTHER, target="archive")
    await deliveries.elapse(2 * HOUR)
    assert await stuck(deliveries) == (2, 3.0)
    await begin(deliveries, ARCHIVE)
    assert await stuck(deliveries) == (1, 2.0)
    assert (await troubles(deliveries, OTHER))[Need.STATE_STUCK].count == 1


@pytest.mark.parametrize(
    "subject",
    [
        ARCHIVE,
        PauseSubject(scope=PauseScope.TENANT, tenant=TENANT),
        PauseSubject(scope=PauseScope.INSTANCE),
    ],
    ids=str,
)
async def test_what_waited_for_a_pause_counts_as_stuck_an_hour_after_its_end(
    deliveries: Deliveries, subject: PauseSubject
) -> None:
    await deliveries.ready("c", target="archive")
    await begin(deliveries, subject)
    await deliveries.elapse(5 * HOUR)
    await end(deliveries, subject)
    assert await stuck(deliveries) == (0, 0.0)
    await deliveries.elapse(HOUR - MINUTE)
    assert await stuck(deliveries) == (0, 0.0)
    await deliveries.elapse(2 * MINUTE)
    assert await stuck(deliveries) == (1, 6.0)


async def test_a_pause_that_ends_by_itself_and_a_drained_worker_are_told_apart(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready("c", target="archive")
    await begin(deliveries, PauseSubject(scope=PauseScope.WORKER, name="w"))
    await deliveries.elapse(2 * HOUR)
    assert await stuck(deliveries) == (1, 2.0)
    async with deliveries.configuration.change(TENANT) as change:
        await change.pause(
            ARCHIVE, reason="r", running=Running.FINISH, paused_by="ana", lasts=2 * HOUR
        )
    await deliveries.elapse(3 * HOUR - MINUTE)
    assert await stuck(deliveries) == (0, 0.0)
    await deliveries.elapse(2 * MINUTE)
    assert await stuck(deliveries) == (1, 5.0)


async def test_messages_that_are_owed_for_long_are_told_by_tenant(deliveries: Deliveries) -> None:
    await deliveries.granted("c", tenant=OTHER)
    await deliveries.elapse(6 * MINUTE)
    await deliveries.presence("w").heartbeat()
    assert await deliveries.attention.troubles([TENANT]) == []
    found = await deliveries.attention.troubles([OTHER])
    assert {trouble.code for trouble in found} == {Need.MESSAGE_OWED}
    assert {trouble.tenant for trouble in found} == {OTHER}


async def test_what_no_broker_takes_is_told_since_it_is_owed_however_often_it_is_tried(
    deliveries: Deliveries,
) -> None:
    """A try that fails puts off the next one: it is owed all the time."""
    delivery = await deliveries.granted("c")
    outbox = deliveries.outbox()

    async def refuse(_message: OutgoingMessage) -> None:
        raise BrokerUnavailableError("no queue is bound")

    async def tried(times: int) -> Trouble | None:
        for _ in range(times):
            assert (await outbox.relay(Lane.RESPONSES, refuse)).unsent == 1
            await deliveries.elapse(timedelta(seconds=16))
        found = await deliveries.attention.troubles([TENANT])
        owed = (t for t in found if (t.code, t.subject) == (Need.MESSAGE_OWED, "responses"))
        return next(owed, None)

    assert await tried(10) is None
    found = await tried(20)
    assert found is not None
    assert (found.count, found.cause) == (1, "no queue is bound")
    assert found.since == (await deliveries.row(delivery)).state_since
    since = deliveries.now() - found.since
    (owed,) = (owed for owed in await deliveries.overview.owed() if owed.lane == "responses")
    assert round(owed.oldest / 60) == round(since / MINUTE) == 8


async def test_dead_letters_of_no_tenant_are_shown_to_those_who_see_all(
    deliveries: Deliveries,
) -> None:
    await deliveries.presence("w").heartbeat()
    table = deliveries.dead_letters()
    letters = [make_buried("a", tenant=TENANT), make_buried("b", tenant=None)]
    await table.keep(letters, again=True)
    of_tenant = (await troubles(deliveries, TENANT))[Need.DEAD_LETTER]
    assert (of_tenant.tenant, of_tenant.count) == (TENANT, 1)
    assert await troubles(deliveries, OTHER) == {}
    found = await deliveries.attention.troubles(None)
    assert {(trouble.tenant, trouble.count) for trouble in found} == {(TENANT, 1), (None, 1)}


async def test_dead_letters_of_other_services_are_for_others(deliveries: Deliveries) -> None:
    await deliveries.presence("w").heartbeat()
    letters = [make_buried("a", ours=False), make_buried("b", ours=False, tenant=None)]
    await deliveries.dead_letters().keep(letters, again=True)
    assert await troubles(deliveries) == {}


def _webhook() -> Webhook:
    return Webhook(tenant=TENANT, name="ops", url="https://a.example/", secrets=("whsec_MDAw",))


async def _send(deliveries: Deliveries, webhook: Webhook, done: Round) -> None:
    """A round of sending to it ends so."""
    await deliveries.elapse(6 * HOUR)  # no pause is so long
    claim = await deliveries.webhooks().claim([webhook], limit=9)
    assert claim is not None
    await deliveries.webhooks().release(claim, done, given_up_after=timedelta(days=3))


async def _name(deliveries: Deliveries, url: str, **asked: object) -> None:
    async with deliveries.configuration.change(TENANT) as change:
        await change.set(WEBHOOKS, {"ops": {"url": url, "secret": "whsec_MDAw", **asked}})


async def _of_webhooks(deliveries: Deliveries) -> dict[Need, Trouble]:
    await deliveries.presence("w").heartbeat()
    found = await deliveries.attention.troubles(None)
    return {t.code: t for t in found if t.code in (Need.WEBHOOK_FAILS, Need.EVENT_GIVEN_UP)}


async def test_a_webhook_fails_once_it_took_nothing_for_an_hour(deliveries: Deliveries) -> None:
    webhook = _webhook()
    await _name(deliveries, webhook.url)
    await deliveries.granted("c")
    await _send(deliveries, webhook, Round(failure="503"))
    assert await _of_webhooks(deliveries) == {}
    await deliveries.elapse(61 * MINUTE)
    (seen,) = await deliveries.webhooks().seen([TENANT])
    found = (await _of_webhooks(deliveries))[Need.WEBHOOK_FAILS]
    assert (found.tenant, found.subject, found.cause) == (TENANT, "ops", "503")
    assert found.count == seen.owed > 0
    assert found.since == seen.failing_since is not None
    await _name(deliveries, webhook.url, enabled=False)
    assert await _of_webhooks(deliveries) == {}
    await _name(deliveries, "https://b.example/")
    assert await _of_webhooks(deliveries) == {}
    await _name(deliveries, webhook.url)
    await _send(deliveries, webhook, Round(sent=seen.owed))
    assert await _of_webhooks(deliveries) == {}


async def test_events_that_were_given_up_are_told_until_they_are_sent_again(
    deliveries: Deliveries,
) -> None:
    webhook = _webhook()
    await _name(deliveries, webhook.url)
    await deliveries.granted("c")
    (before,) = await deliveries.webhooks().seen([TENANT])
    await _send(deliveries, webhook, Round(failure="410 Gone", gone=True))
    found = await _of_webhooks(deliveries)
    assert set(found) == {Need.WEBHOOK_FAILS, Need.EVENT_GIVEN_UP}
    assert found[Need.WEBHOOK_FAILS].count == 0
    assert found[Need.EVENT_GIVEN_UP].count == before.owed
    assert found[Need.EVENT_GIVEN_UP].cause == "410 Gone"
