"""Side by side: what quotas let through, in whatever order things happen, is the same in both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.delivery.model import Delivery
from app.delivery.orders import OrderStatus
from app.delivery.quotas import Allowance, Quota, Use
from app.delivery.states import State
from app.usecases.quotas import Quotas
from compose.embedded.stack import TENANT
from tests.builders import make_listed
from tests.deliveries import Deliveries
from tests.store.test_quotas import asked
from tests.store.test_twins import Both, both

__all__ = ["both"]  # a fixture

pytestmark = pytest.mark.stack

USERS = ("a@cnes.fr", "b@cnes.fr", "c@cnes.fr")


@dataclass
class Limited:
    """Deliveries of a tenant that has a quota."""

    deliveries: Deliveries
    quota: Quota
    names: list[str] = field(default_factory=list)

    async def _active(self, which: int) -> Delivery | None:
        if not self.names:
            return None
        name = self.names[which % len(self.names)]
        async with self.deliveries.store.transaction() as tx:
            return await tx.lock(TENANT, name)

    async def ask(self, user: str, priority: int) -> object:
        self.names.append(f"q{len(self.names)}")
        await self.deliveries.receive(
            asked(self.deliveries, self.names[-1], user, priority=priority)
        )
        return None

    async def end(self, which: int) -> object:
        delivery = await self._active(which)
        if delivery is not None:
            await self.deliveries.fail(delivery, "for the test")
        return None

    async def lay_out(self, which: int, size: int) -> object:
        """Bring a delivery to READY, and let it wait for its bytes."""
        delivery = await self._active(which)
        if delivery is None or delivery.held or delivery.state is not State.RECEIVED:
            return None
        async with self.deliveries.store.transaction() as tx:
            assert await tx.advance(delivery, State.GRANTED)
        name = delivery.correlation_id
        await self.deliveries.tell(OrderStatus.DONE, name, order_id=len(self.names) * 100 + which)
        delivery = await self.deliveries.active(name)
        await self.deliveries.plan(delivery, [make_listed("f", size=size)])
        async with self.deliveries.store.transaction() as tx:
            await tx.hold(delivery)
            return [each.correlation_id for each in await tx.charge(TENANT, self.quota)]

    async def look(self) -> object:
        await Quotas(store=self.deliveries.store, tenants=self.deliveries.tenants).look()
        return None

    async def elapse(self, seconds: int) -> object:
        await self.deliveries.elapse(timedelta(seconds=seconds))
        return None

    async def seen(self) -> Any:
        """Return what waits, why, and what is used."""
        async with self.deliveries.store.transaction() as tx:
            usage = await tx.usage(TENANT, USERS, self.quota)
        actives = [await self._active(which) for which in range(len(self.names))]
        waiting = [
            (each.correlation_id, each.state, each.held, each.last_cause)
            for each in actives
            if each is not None
        ]
        sides = [usage[user].user for user in USERS] + [usage[USERS[0]].tenant]
        return waiting, [_figures(side) for side in sides]


def _figures(use: Use) -> tuple[object, ...]:
    """Return what is used, but for a time, which none chooses."""
    counts = use.active, use.requests, use.bytes, use.waiting, use.waiting_bytes
    return *counts, use.filled_at is not None


def _of_one_day(quota: Quota) -> Quota:
    """Return a quota without what is counted by day."""
    tenant, user = (replace(each, bytes_per_day=0) for each in (quota.tenant, quota.user))
    return replace(quota, tenant=tenant, user=user)


def _day_ends_meanwhile() -> bool:
    """Tell whether midnight is so near that a few steps of time lead past it.

    Time goes on in memory, and what is there gets older in PostgreSQL: that is the same, but for
    the day on which it happens.
    """
    now, margin = datetime.now(UTC), timedelta(minutes=15)
    return (now - margin).date() != now.date() or (now + margin).date() != now.date()


which = st.integers(0, 9)
steps = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(USERS), st.sampled_from([1, 1, 1, 200])),
    st.tuples(st.just("ask"), st.sampled_from(USERS), st.sampled_from([1, 1, 1, 200])),
    st.tuples(st.just("end"), which),
    st.tuples(st.just("lay_out"), which, st.sampled_from([1, 30, 60])),
    st.tuples(st.just("look")),
    st.tuples(st.just("elapse"), st.sampled_from([20, 45, 86400])),
)
allowances = st.builds(
    Allowance,
    active=st.sampled_from([0, 1, 2, 3]),
    requests_per_minute=st.sampled_from([0, 0, 1, 3]),
    bytes_per_day=st.sampled_from([0, 60, 90]),
)
quotas = st.builds(
    Quota, tenant=allowances, user=allowances, over_requests=st.sampled_from(["wait", "deny"])
)


@given(steps=st.lists(steps, max_size=12), quota=quotas)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_both_let_the_same_through(
    both: Both, steps: list[tuple[Any, ...]], quota: Quota
) -> None:
    if _day_ends_meanwhile():
        quota = _of_one_day(quota)
    limited = [Limited(deliveries, quota) for deliveries in both]
    try:
        for each in limited:
            each.deliveries.tenants.give(TENANT, quota=quota)
        for name, *arguments in steps:
            answers = [await getattr(each, name)(*arguments) for each in limited]
            assert answers[0] == answers[1], (name, arguments)
            in_memory, in_postgres = [await each.seen() for each in limited]
            assert in_memory == in_postgres, (name, arguments)
    finally:
        for each in limited:
            await each.deliveries.clear()
