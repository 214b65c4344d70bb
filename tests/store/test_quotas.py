"""Quotas: what there is no place for waits, is denied or ends; what is used is exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.codes import Code
from app.delivery.ingress import IncomingMessage
from app.delivery.model import Delivery
from app.delivery.orders import OrderStatus
from app.delivery.outgoing import Kind
from app.delivery.quotas import Allowance, Quota
from app.delivery.report_document import Failure
from app.delivery.states import State, Work
from app.errors import DayQuotaError, NotPossibleError, OverQuotaError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.tenants.registry import ConfiguredTenants
from app.usecases.expire import expire
from app.usecases.intervene import Interventions
from app.usecases.plan import Planning
from app.usecases.quotas import Quotas
from app.usecases.submit import check
from app.views.attention import Need
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT, USER
from compose.rs_order.faults import Faults
from sinks import formats
from streams.regards.users import AnyUser
from tests.builders import GivenTenants, make_actor, make_body
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER
from tests.twins.rs_order import CountedSource
from tests.twins.users import MemoryUsers

pytestmark = pytest.mark.usefixtures("one_day")

OTHER_USER = "other@cnes.fr"


def give(deliveries: Deliveries, *, tenant: str = TENANT, **quota: Any) -> None:
    """Set a tenant's quota; `user_…` and `tenant_…` are fields of its allowances."""
    sides: dict[str, dict[str, int]] = {"user": {}, "tenant": {}}
    given: dict[str, Any] = {}
    for name, value in quota.items():
        side, _, field = name.partition("_")
        if side in sides:
            sides[side][field] = value
        else:
            given[name] = value
    given |= {side: Allowance(**fields) for side, fields in sides.items()}
    deliveries.tenants.give(tenant, quota=Quota(**given))


def asked(deliveries: Deliveries, name: str, user: str = USER, **changes: Any) -> IncomingMessage:
    """Return a request of a user that arrived just now."""
    body = make_body(name)
    order = body["order"] | {"user": user}
    return deliveries.message(name, body=body | {"order": order}, **changes)


async def ask(deliveries: Deliveries, *names: str, user: str = USER, **changes: Any) -> None:
    """Ask for deliveries, one after the other."""
    for name in names:
        await deliveries.receive(asked(deliveries, name, user, **changes))


def quotas(deliveries: Deliveries) -> Quotas:
    return Quotas(store=deliveries.store, tenants=deliveries.tenants)


async def check_all(deliveries: Deliveries) -> list[str]:
    """Let a worker check all that is due, and return their ids in its order."""
    leases, checked = deliveries.leases("w"), []
    while (delivery := await leases.claim(Work.CHECK)) is not None:
        await check(delivery, store=deliveries.store, tenants=deliveries.tenants, users=AnyUser())
        checked.append(delivery.correlation_id)
    return checked


async def held(deliveries: Deliveries) -> list[str]:
    """Return what waits, by correlation id."""
    rows = [row for row in await deliveries.rows() if not row.state.ended]
    found = [await deliveries.active(row.correlation_id, row.tenant) for row in rows]
    return sorted(delivery.correlation_id for delivery in found if delivery.held)


async def end(deliveries: Deliveries, name: str) -> None:
    await deliveries.fail(await deliveries.active(name), "for the test")


def interventions(deliveries: Deliveries) -> Interventions:
    return Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )


# Requests.


async def test_a_request_over_its_users_count_waits_and_no_worker_claims_it(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=2)
    checks = Wakeup()
    waiter = checks.waiter()
    await ask(deliveries, "a", "b")
    await deliveries.receive(asked(deliveries, "c"), checks=checks)
    assert not waiter.event.is_set()
    assert await check_all(deliveries) == ["a", "b"]
    waiting = await deliveries.active("c")
    assert (waiting.state, waiting.held) == (State.RECEIVED, True)
    assert waiting.last_cause == (f"its quota is used up: user {USER} has 2 of 2 active deliveries")
    granted = [message.correlation_id for message in await deliveries.outgoing()]
    assert "c" not in granted


async def test_what_waits_for_a_quota_has_a_code_and_is_told_once_half_of_its_time_is_over(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "waits")
    (seen,) = await deliveries.tracking.of(TENANT, "waits")
    assert seen.code == Code.QUOTA_AWAITED
    waiting = await deliveries.active("waits")
    half = (waiting.expires_at - waiting.requested_at) / 2

    async def late() -> list[tuple[str | None, str | None, int, str | None]]:
        found = await deliveries.attention.troubles([TENANT])
        told = [each for each in found if each.code is Need.QUOTA_AWAITED]
        depths = await deliveries.overview.depths()
        assert sum(depth.held_late for depth in depths) == sum(each.count for each in told)
        return [(each.tenant, each.subject, each.count, each.cause) for each in told]

    await deliveries.elapse(half - timedelta(minutes=1))
    assert await late() == []
    await deliveries.elapse(timedelta(minutes=2))
    await ask(deliveries, "later")
    assert await late() == [(TENANT, "RECEIVED", 1, waiting.last_cause)]
    give(deliveries)
    await quotas(deliveries).look()
    assert await late() == []
    (seen,) = await deliveries.tracking.of(TENANT, "waits")
    assert (seen.delivery.last_cause, seen.code) == (None, None)


async def test_what_waits_goes_on_when_a_delivery_ends_the_first_first(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b", "c")
    await ask(deliveries, "urgent", priority=255)
    await check_all(deliveries)
    for name, following in (("a", "urgent"), ("urgent", "b"), ("b", "c")):
        await quotas(deliveries).look()
        assert await check_all(deliveries) == []
        await end(deliveries, name)
        deliveries.woken.clear()
        async with deliveries.work_news().listening() as due, asyncio.timeout(30):
            await quotas(deliveries).look()
            assert await due() == {Work.CHECK}
        assert deliveries.woken == [{Work.CHECK}], "this process hears of it without a line, too"
        assert await check_all(deliveries) == [following]
    assert await held(deliveries) == []


async def test_what_waits_and_goes_on_as_another_request_comes_is_told_and_checked(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")
    await check_all(deliveries)
    await end(deliveries, "a")
    with capture_logs() as logs:
        async with deliveries.work_news().listening() as due, asyncio.timeout(30):
            await deliveries.receive(asked(deliveries, "c"))
            assert await due() == {Work.CHECK}
    admitted = [each["correlation_id"] for each in logs if each["event"] == "request_admitted"]
    assert admitted == ["b"]
    assert await held(deliveries) == ["c"]
    assert await check_all(deliveries) == ["b"]


async def test_what_goes_on_as_another_is_asked_for_over_http_wakes_workers(
    deliveries: Deliveries,
) -> None:
    """The process that answers HTTP may have no worker: each is told with the commit."""
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")
    await check_all(deliveries)
    await end(deliveries, "a")
    body = make_body("theirs")
    theirs = body | {"order": body["order"] | {"user": OTHER_USER}}
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        await interventions(deliveries).submit(make_actor(), theirs)
        assert await due() == {Work.CHECK}
    assert sorted(await check_all(deliveries)) == ["b", "theirs"]


async def test_of_a_tenant_without_a_quota_nothing_is_asked(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked_for(*_arguments: object) -> None:
        pytest.fail("a statement more a delivery")

    async with deliveries.store.transaction() as tx:
        for statement in ("admit", "charge", "hold", "note_held", "usage", "held_tenants"):
            monkeypatch.setattr(type(tx), statement, asked_for)
    await lay_out(deliveries, "a", 1)
    assert await deliveries.history((await deliveries.active("a")).id) == [
        *("GRANTED", "AVAILABLE", "READY")
    ]
    assert await transfers(deliveries) == ["a"]


async def test_a_user_at_their_limit_holds_up_no_other(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1)
    await deliveries.receive(
        *(asked(deliveries, f"mine{number}") for number in range(5)),
        asked(deliveries, "theirs", OTHER_USER),
    )
    assert sorted(await check_all(deliveries)) == ["mine0", "theirs"]
    await deliveries.receive(asked(deliveries, "of-another-tenant", tenant=OTHER))
    assert (await deliveries.active("of-another-tenant", OTHER)).state is State.GRANTED


async def test_a_tenants_places_go_to_users_with_less_first(deliveries: Deliveries) -> None:
    give(deliveries, tenant_active=3)
    await ask(deliveries, "m1", "m2", "m3", "m4", "m5")
    await ask(deliveries, "t1", "t2", user=OTHER_USER)
    await check_all(deliveries)
    assert await held(deliveries) == ["m4", "m5", "t1", "t2"]
    waiting = await deliveries.active("t1")
    assert waiting.last_cause is not None
    assert f"tenant {TENANT} has 3 of 3 active deliveries" in waiting.last_cause
    await end(deliveries, "m1")
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["t1"]
    await end(deliveries, "m2")  # both have one by now: the one that asked first is next
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["m4"]
    await end(deliveries, "t1")
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["t2"]


@pytest.mark.parametrize("side", ["user", "tenant"])
async def test_requests_of_a_minute_are_counted_in_any_minute(
    deliveries: Deliveries, side: str
) -> None:
    limit: dict[str, Any] = {f"{side}_requests_per_minute": 2}
    give(deliveries, **limit)
    await ask(deliveries, "a")
    await deliveries.elapse(timedelta(seconds=40))
    await ask(deliveries, "b", "c", "d")
    assert await check_all(deliveries) == ["a", "b"]
    await end(deliveries, "a")  # it has been made all the same
    await deliveries.elapse(timedelta(seconds=30))
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["c"]
    await deliveries.elapse(timedelta(seconds=31))
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["d"]


async def test_a_tenant_may_deny_what_is_over_its_count(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1, over_requests="deny")
    await ask(deliveries, "a", "b")
    denied = (await deliveries.outgoing())[-1]
    assert (denied.correlation_id, denied.body["status"]) == ("b", "DENIED")
    assert denied.body["errorType"] == "INVALID_CONTENT"
    assert denied.body["message"] == (
        f"over the quota: user {USER} has 1 of 1 active deliveries; ask again later"
    )
    assert await deliveries.states("b") == []


async def test_what_is_still_active_is_not_denied_for_a_quota(deliveries: Deliveries) -> None:
    """Its client would take that for the end of the first one."""
    give(deliveries, user_active=1, over_requests="deny")
    await ask(deliveries, "a", "a")
    assert await check_all(deliveries) == ["a"]
    statuses = [body["status"] for kind, body in await deliveries.owed() if kind == Kind.RESPONSE]
    assert statuses == ["GRANTED"]


async def test_a_redelivered_request_counts_once(deliveries: Deliveries) -> None:
    give(deliveries, user_requests_per_minute=2)
    message = asked(deliveries, "a")
    await deliveries.receive(message)
    await deliveries.receive(message)  # Kafka gave it again
    await ask(deliveries, "b")
    assert await check_all(deliveries) == ["a", "b"]
    usage = await quotas(deliveries).usage(TENANT, USER)
    assert (usage.user.requests, usage.user.active, usage.user.waiting) == (2, 2, 0)


async def test_a_request_of_a_user_that_is_none_keeps_no_place(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1)
    unknown = MemoryUsers(Faults(unknown_users=[USER]))
    await deliveries.receive(asked(deliveries, "a"), users=unknown)
    await ask(deliveries, "b")
    claimed = await deliveries.leases("w").claim(Work.CHECK)
    assert claimed is not None
    await check(claimed, store=deliveries.store, tenants=deliveries.tenants, users=unknown)
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["b"]


async def test_a_request_that_waits_expires_and_says_what_it_waited_for(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")
    await deliveries.elapse(timedelta(days=1))
    assert await expire(store=deliveries.store, limit=9) == 2
    ended = (await deliveries.outgoing())[-1]
    assert (ended.correlation_id, ended.body["errorType"]) == ("b", "EXPIRED")
    assert "its quota is used up: user" in ended.body["message"]
    usage = await quotas(deliveries).usage(TENANT, USER)
    assert (usage.user.active, usage.user.waiting) == (0, 0)


async def test_what_ended_while_it_waited_is_looked_for_no_more(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")

    async def held_tenants() -> list[str]:
        async with deliveries.store.transaction() as tx:
            return await tx.held_tenants()

    assert await held_tenants() == [TENANT]
    await end(deliveries, "b")
    assert await held_tenants() == []


async def test_a_request_that_waits_can_be_cancelled_and_not_hurried(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b", "c")
    with pytest.raises(NotPossibleError, match="its quota is used up"):
        await interventions(deliveries).retry(make_actor(), "b")
    await interventions(deliveries).cancel(make_actor(), "b")
    await end(deliveries, "a")
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["c"]


async def test_what_waits_goes_on_when_its_quota_is_taken_away(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b", "c")
    give(deliveries)
    await quotas(deliveries).look()
    assert sorted(await check_all(deliveries)) == ["a", "b", "c"]


async def test_what_waits_of_a_tenant_that_left_goes_on_by_its_own_quota(
    deliveries: Deliveries,
) -> None:
    """Its workers know nothing of it since their restart; what it has set is in the store."""
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b", "c")
    await check_all(deliveries)
    await end(deliveries, "a")
    since = GivenTenants(Settings(tenants=(OTHER,)))
    since.give(TENANT, quota=deliveries.tenants.settings(TENANT).quota)
    await Quotas(store=deliveries.store, tenants=since).look()
    assert await check_all(deliveries) == ["b"]
    assert await held(deliveries) == ["c"]
    none_set = ConfiguredTenants(Settings(tenants=(OTHER,)), KINDS)
    await Quotas(store=deliveries.store, tenants=none_set).look()
    assert await check_all(deliveries) == ["c"]


async def test_counts_are_exact_when_three_workers_take_requests_at_once(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=3, tenant_active=5)
    messages = [
        asked(deliveries, f"{user[0]}{number}", user)
        for number in range(10)
        for user in (USER, OTHER_USER, "third@cnes.fr")
    ]
    await asyncio.gather(*(deliveries.receive(message) for message in messages))
    active = await check_all(deliveries)
    assert len(active) == 5
    for _ in range(5):
        for name in await check_all(deliveries):
            active.append(name)
        await end(deliveries, active.pop(0))
        await asyncio.gather(*(quotas(deliveries).look() for _ in range(3)))
        usage = await quotas(deliveries).usage(TENANT, USER)
        assert usage.tenant.active == 5
        assert usage.user.active <= 3


async def test_a_request_that_just_ends_holds_up_no_other(deliveries: Deliveries) -> None:
    """Its row is locked while its report is written."""
    give(deliveries, tenant_active=1)
    await ask(deliveries, "a", "b")
    await ask(deliveries, "t", user=OTHER_USER)
    await check_all(deliveries)
    await end(deliveries, "a")
    async with deliveries.store.transaction() as tx, asyncio.timeout(30):
        assert await tx.lock(TENANT, "b")
        await quotas(deliveries).look()
        assert await check_all(deliveries) == ["t"]
    assert await held(deliveries) == ["b"]


async def test_some_hundred_are_let_through_at_a_time_and_all_by_one_look(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deliveries.store.transaction() as tx:
        monkeypatch.setattr(type(tx), "at_once", 2)
    give(deliveries, user_active=1, tenant_bytes_per_day=100)
    names = [f"d{number}" for number in range(6)]
    await ask(deliveries, *names)
    give(deliveries, tenant_bytes_per_day=100)
    async with deliveries.store.transaction() as tx:
        assert len(await tx.admit(TENANT, deliveries.tenants.settings(TENANT).quota)) == 2
    await quotas(deliveries).look()
    assert sorted(await check_all(deliveries)) == names
    for number, size in enumerate((100, 20, 90, 30, 40, 10)):
        await lay_out(deliveries, f"b{number}", size, f"{number}@cnes.fr")
    await deliveries.elapse(timedelta(days=1))
    await quotas(deliveries).look()
    claimed = set(await transfers(deliveries))
    assert claimed == {"b0", "b1", "b3", "b4", "b5"}  # by rank, but for what does not fit


async def test_none_is_denied_for_a_place_that_another_statement_gives(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deliveries.store.transaction() as tx:
        monkeypatch.setattr(type(tx), "at_once", 2)
    give(deliveries, user_active=5, over_requests="deny")
    await deliveries.receive(*(asked(deliveries, f"d{number}") for number in range(6)))
    statuses = [body["status"] for kind, body in await deliveries.owed() if kind == Kind.RESPONSE]
    assert statuses == ["DENIED"]
    assert len(await check_all(deliveries)) == 5


# Over HTTP.


async def test_over_http_what_is_over_its_count_is_refused_and_leaves_nothing(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_requests_per_minute=1)
    submit = interventions(deliveries).submit
    first = await submit(make_actor(), make_body("a"))
    await deliveries.elapse(timedelta(seconds=20))
    with pytest.raises(OverQuotaError, match="has made 1 of 1 requests within a minute") as refused:
        await submit(make_actor(), make_body("b"))
    assert 0 < refused.value.retry_after <= 40
    assert await deliveries.states("b") == []
    assert await submit(make_actor(), make_body("a")) == first  # it is the same one
    await deliveries.elapse(timedelta(seconds=41))
    await submit(make_actor(), make_body("b"))


async def test_what_ended_and_is_tried_again_counts_as_its_own(deliveries: Deliveries) -> None:
    give(deliveries, user_requests_per_minute=2)
    await ask(deliveries, "a")
    await end(deliveries, "a")
    await interventions(deliveries).retry(make_actor(), "a")
    await end(deliveries, "a")
    with pytest.raises(OverQuotaError, match="has made 2 of 2"):
        await interventions(deliveries).retry(make_actor(), "a")


async def test_a_request_over_http_is_before_none_that_waits(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")
    await end(deliveries, "a")
    with pytest.raises(OverQuotaError):
        await interventions(deliveries).submit(make_actor(), make_body("late"))
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["b"]


async def test_those_that_wait_for_a_limit_of_their_own_are_told_to_no_other(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")
    assert await quotas(deliveries).over(TENANT, OTHER_USER) is None
    give(deliveries, user_active=1, tenant_active=3)  # the one that waits has no place of these
    assert await quotas(deliveries).over(TENANT, OTHER_USER) is None
    await ask(deliveries, "t", user=OTHER_USER)
    await end(deliveries, "a")  # "b" has it as soon as it is looked
    over = await quotas(deliveries).over(TENANT, USER)
    assert over is not None
    assert over.words == f"1 requests of user {USER} wait before it"


# Bytes.


async def lay_out(deliveries: Deliveries, name: str, size: int, user: str = USER) -> Delivery:
    """Lay out a delivery of one file of that size, with a worker of its own."""
    await ask(deliveries, name, user=user)
    await check_all(deliveries)
    order_id = len(await deliveries.rows())
    await deliveries.tell(OrderStatus.DONE, name, order_id=order_id)
    available = await deliveries.active(name)
    planning = Planning(
        source=CountedSource({"f": b"x" * size}),
        store=deliveries.store,
        room=deliveries.segments().room,
        suffix_of=formats.suffix_of,
        quota_of=quotas(deliveries).of,
    )
    await planning.plan(available)
    return await deliveries.active(name)


async def transfers(deliveries: Deliveries) -> list[str]:
    """Let a worker claim all that may be transferred, in its order."""
    leases, claimed = deliveries.leases("w"), []
    while (delivery := await leases.claim(Work.TRANSFER)) is not None:
        claimed.append(delivery.correlation_id)
    return claimed


async def test_a_delivery_over_the_bytes_of_the_day_waits_laid_out(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_bytes_per_day=100)
    await lay_out(deliveries, "a", 60)
    waiting = await lay_out(deliveries, "b", 50)
    await lay_out(deliveries, "c", 10)  # it would fit, but is not before the one that waits
    await lay_out(deliveries, "theirs", 90, OTHER_USER)
    assert (waiting.state, waiting.held) == (State.READY, True)
    assert waiting.last_cause == (
        f"its quota is used up: user {USER} has taken 60 of 100 bytes today, and it has 50"
    )
    assert sorted(await transfers(deliveries)) == ["a", "theirs"]
    usage = await quotas(deliveries).usage(TENANT, USER)
    assert (usage.user.bytes, usage.user.waiting_bytes, usage.tenant.bytes) == (60, 2, 150)
    await quotas(deliveries).look()
    assert await transfers(deliveries) == []
    await deliveries.elapse(timedelta(days=1))
    await quotas(deliveries).look()
    assert set(await transfers(deliveries)) >= {"b", "c"}


async def test_a_large_delivery_wastes_no_bytes_of_others_and_goes_first_the_next_day(
    deliveries: Deliveries,
) -> None:
    give(deliveries, tenant_bytes_per_day=100)
    await lay_out(deliveries, "t1", 30, OTHER_USER)
    await lay_out(deliveries, "large", 80)
    await lay_out(deliveries, "behind", 10)  # it would fit, but is not before the large one
    await lay_out(deliveries, "t2", 30, OTHER_USER)
    await lay_out(deliveries, "t3", 50, OTHER_USER)
    await lay_out(deliveries, "t4", 5, OTHER_USER)
    await lay_out(deliveries, "third", 20, "third@cnes.fr")
    assert set(await transfers(deliveries)) == {"t1", "t2", "third"}
    await deliveries.elapse(timedelta(days=1))
    await lay_out(deliveries, "new", 1, "fourth@cnes.fr")
    # Not those with less of the day first: "t3" would be before the large one.
    assert set(await transfers(deliveries)) - {"t1", "t2", "third"} == {"large", "behind", "new"}
    await deliveries.elapse(timedelta(days=1))
    await quotas(deliveries).look()
    assert set(await transfers(deliveries)) >= {"t3", "t4"}


async def test_a_delivery_that_just_ends_holds_up_no_others_bytes(deliveries: Deliveries) -> None:
    give(deliveries, user_bytes_per_day=100)
    for user in (USER, OTHER_USER):
        await lay_out(deliveries, f"{user[0]}1", 100, user)
        await lay_out(deliveries, f"{user[0]}2", 100, user)
    await deliveries.elapse(timedelta(days=1))
    first, other = f"{USER[0]}2", f"{OTHER_USER[0]}2"
    async with deliveries.store.transaction() as tx, asyncio.timeout(30):
        assert await tx.lock(TENANT, first)
        await quotas(deliveries).look()
        assert other in await transfers(deliveries)
    assert await held(deliveries) == [first]
    await quotas(deliveries).look()
    assert await transfers(deliveries) == [first]


async def test_what_waits_for_bytes_keeps_its_place_among_the_active(
    deliveries: Deliveries,
) -> None:
    """Else requests without end would be ordered while the day is used up."""
    give(deliveries, user_bytes_per_day=100, user_active=2)
    await lay_out(deliveries, "a", 100)
    await lay_out(deliveries, "b", 100)
    await ask(deliveries, "c")
    assert await check_all(deliveries) == []
    usage = await quotas(deliveries).usage(TENANT, USER)
    assert (usage.user.active, usage.user.waiting, usage.user.waiting_bytes) == (2, 1, 1)
    assert usage.tenant.active == 2
    await end(deliveries, "b")
    await quotas(deliveries).look()
    assert await check_all(deliveries) == ["c"]


async def test_a_tenant_may_end_what_is_over_its_bytes(deliveries: Deliveries) -> None:
    give(deliveries, tenant_bytes_per_day=100, over_bytes="error")
    await lay_out(deliveries, "a", 60)
    with pytest.raises(DayQuotaError, match=f"tenant {TENANT} has taken 60 of 100 bytes today"):
        await lay_out(deliveries, "b", 50)
    assert DayQuotaError.error_type == "ORDER_LIMIT_REACHED"
    assert (await deliveries.active("b")).state is State.AVAILABLE  # until that is settled
    assert (await quotas(deliveries).usage(TENANT, USER)).tenant.bytes == 60


async def test_what_waits_ends_when_its_quota_is_lowered_or_lets_none_wait(
    deliveries: Deliveries,
) -> None:
    """It would wait until it expires; it ends as it would have when it was laid out."""

    async def last_answer() -> tuple[str, str, str]:
        answers = [each for each in await deliveries.outgoing() if each.kind is Kind.RESPONSE]
        body = answers[-1].body
        return answers[-1].correlation_id, body["errorType"], body["message"]

    give(deliveries, user_bytes_per_day=100)
    await lay_out(deliveries, "a", 100)
    for name, size in (("large", 80), ("small", 30), ("next", 25)):
        await lay_out(deliveries, name, size)
    await quotas(deliveries).end_over()
    assert await held(deliveries) == ["large", "next", "small"]
    give(deliveries, user_bytes_per_day=70)
    await quotas(deliveries).end_over()
    assert await held(deliveries) == ["next", "small"]
    *ended, message = await last_answer()
    assert ended == ["large", "ORDER_LIMIT_REACHED"]
    assert f"it has 80 bytes, and user {USER} may have 70 a day" in message
    give(deliveries, user_bytes_per_day=130, over_bytes="error")
    await quotas(deliveries).end_over()
    assert await held(deliveries) == []
    *ended, message = await last_answer()
    assert ended == ["next", "ORDER_LIMIT_REACHED"]
    assert "has taken 130 of 130 bytes today" in message
    assert (await deliveries.active("small")).state is State.READY


async def test_reports_of_a_tenant_that_take_long_hold_up_no_ends_of_others(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half a minute what is over ends without."""
    reported: list[str] = []

    class Reports:
        @asynccontextmanager
        async def of(self, delivery: Delivery, _: Failure) -> AsyncIterator[None]:
            reported.append(delivery.correlation_id)
            yield None

    reports: Any = Reports()
    give(deliveries, user_bytes_per_day=100)
    for name, size in (("taken", 100), ("first", 80)):
        await lay_out(deliveries, name, size)
    give(deliveries, user_bytes_per_day=70)
    await quotas(deliveries).end_over(reports=reports)
    assert (await held(deliveries), reported) == ([], ["first"])
    await lay_out(deliveries, "second", 60)
    give(deliveries, user_bytes_per_day=50)
    monkeypatch.setattr("app.usecases.reports.REPORTED_FOR", -1.0)
    await quotas(deliveries).end_over(reports=reports)
    assert (await held(deliveries), reported) == ([], ["first"])


async def test_what_fits_the_day_goes_once_what_does_not_has_ended(deliveries: Deliveries) -> None:
    """It waits behind a larger one of its user, which the day has no bytes for."""
    give(deliveries, user_bytes_per_day=100)
    await lay_out(deliveries, "taken", 80)
    await lay_out(deliveries, "big", 50)
    await lay_out(deliveries, "small", 10)
    assert await held(deliveries) == ["big", "small"]
    give(deliveries, user_bytes_per_day=100, over_bytes="error")
    await quotas(deliveries).end_over()
    assert await held(deliveries) == ["small"]
    await quotas(deliveries).look()
    assert await held(deliveries) == []
    assert (await deliveries.active("small")).state is State.READY
    states = {row.correlation_id: row.state for row in await deliveries.rows()}
    assert states["big"] is State.ERROR


async def test_a_delivery_larger_than_any_day_waits_for_none(deliveries: Deliveries) -> None:
    give(deliveries, user_bytes_per_day=100)
    with pytest.raises(DayQuotaError, match=r"it has 101 bytes, and user .* may have 100 a day"):
        await lay_out(deliveries, "a", 101)


async def test_what_ends_before_anything_was_sent_gives_its_bytes_back(
    deliveries: Deliveries,
) -> None:
    give(deliveries, user_bytes_per_day=100)
    await lay_out(deliveries, "a", 60)
    await lay_out(deliveries, "b", 50)
    await end(deliveries, "a")
    await quotas(deliveries).look()
    assert await transfers(deliveries) == ["b"]
    await end(deliveries, "b")  # of which something may have been sent
    assert (await quotas(deliveries).usage(TENANT, USER)).user.bytes == 50


async def test_attempts_count_once(deliveries: Deliveries) -> None:
    give(deliveries, user_bytes_per_day=100)
    await lay_out(deliveries, "a", 60)
    for _ in range(2):
        assert await transfers(deliveries) == ["a"]
        await deliveries.let_leases_run_out()
    assert (await quotas(deliveries).usage(TENANT, USER)).user.bytes == 60


async def test_bytes_are_exact_when_workers_lay_out_at_once(deliveries: Deliveries) -> None:
    give(deliveries, user_bytes_per_day=100, tenant_bytes_per_day=150)
    users = [USER, OTHER_USER] * 3
    await asyncio.gather(
        *(lay_out(deliveries, f"d{number}", 45, user) for number, user in enumerate(users))
    )
    assert len(await transfers(deliveries)) == 3
    usage = await quotas(deliveries).usage(TENANT, USER)
    assert usage.tenant.bytes == 135
    assert usage.user.bytes <= 100


async def test_wakes_go_out_for_what_may_be_transferred_alone(deliveries: Deliveries) -> None:
    give(deliveries, user_bytes_per_day=100)
    await lay_out(deliveries, "a", 60)
    await lay_out(deliveries, "b", 60)

    def woken() -> list[str]:
        return [hint.correlation_id for hint in deliveries.hinted if hint.kind is Kind.TRANSFER]

    assert woken() == ["a"]
    await deliveries.elapse(timedelta(days=1))
    await quotas(deliveries).look()
    assert woken() == ["a", "b"]


async def test_what_waits_is_shown_and_counted(deliveries: Deliveries) -> None:
    give(deliveries, user_active=1)
    await ask(deliveries, "a", "b")
    depths = {depth.state: depth.held for depth in await deliveries.overview.depths()}
    assert depths == {State.RECEIVED: 1}
    (shown,) = await deliveries.tracking.of(TENANT, "b")
    assert shown.delivery.held
    assert replace(shown.delivery, held=False).work is Work.CHECK
