"""What a request that arrived sets going."""

from __future__ import annotations

import pytest

from app.delivery.ports import Users
from app.waiting.wakeup import Wakeup
from streams.regards.users import AnyUser
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


async def test_a_request_waits_for_no_answer_about_its_user(deliveries: Deliveries) -> None:
    users = MemoryUsers()
    await deliveries.receive(deliveries.message(), users=users)
    assert users.asked == []
