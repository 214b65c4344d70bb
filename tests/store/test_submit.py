"""What a request that arrived sets going."""

from __future__ import annotations

import pytest

from app.delivery.ports import Users
from app.usecases.intervene import Interventions
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT
from streams.regards.users import AnyUser
from tests.builders import make_actor, make_body
from tests.deliveries import Deliveries
from tests.twins.users import MemoryUsers


@pytest.mark.parametrize(
    ("users", "state", "woken"), [(AnyUser(), "GRANTED", False), (MemoryUsers(), "RECEIVED", True)]
)
async def test_a_worker_is_woken_for_a_user_to_ask_about_and_for_no_other(
    deliveries: Deliveries, users: Users, state: str, woken: bool
) -> None:
    checks = Wakeup()
    waiter = checks.waiter()
    await deliveries.receive(deliveries.message(), users=users, checks=checks)
    assert await deliveries.states() == [state]
    assert waiter.event.is_set() is woken


async def test_a_delivery_is_of_the_format_of_its_request_or_of_its_tenant(
    deliveries: Deliveries,
) -> None:
    """What its tenant sets later changes nothing; nor does another try of it."""
    await deliveries.granted("before")
    deliveries.tenants.give(TENANT, delivery_format="cab")
    await deliveries.granted("unsaid")
    await deliveries.granted("said", body=make_body("said") | {"delivery": {"format": "zip"}})
    deliveries.tenants.give(TENANT, delivery_format="zip")
    interventions = Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )
    await interventions.cancel(make_actor(), "unsaid")
    await interventions.retry(make_actor(), "unsaid")
    asked = {name: await deliveries.active(name) for name in ("before", "unsaid", "said")}
    formats = {name: delivery.format for name, delivery in asked.items()}
    assert formats == {"before": "zip", "unsaid": "cab", "said": "zip"}


async def test_a_request_waits_for_no_answer_about_its_user(deliveries: Deliveries) -> None:
    users = MemoryUsers()
    await deliveries.receive(deliveries.message(), users=users)
    assert users.asked == []
