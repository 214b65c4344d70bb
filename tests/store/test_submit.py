"""What a request that arrived sets going."""

from __future__ import annotations

import pytest

from app.delivery.ports import Users
from app.waiting.wakeup import Wakeup
from streams.regards.users import AnyUser
from tests.deliveries import Deliveries


class NewUsers:
    """None is known without asking."""

    def remembers(self, tenant: str, email: str) -> bool:
        return False

    async def known(self, tenant: str, email: str) -> bool:
        pytest.fail("a request waits for no answer about its user")


@pytest.mark.parametrize(
    ("users", "state", "woken"), [(AnyUser(), "GRANTED", False), (NewUsers(), "RECEIVED", True)]
)
async def test_a_worker_is_woken_for_a_user_to_ask_about_and_for_no_other(
    deliveries: Deliveries, users: Users, state: str, woken: bool
) -> None:
    checks = Wakeup()
    waiter = checks.waiter()
    await deliveries.receive(deliveries.message(), users=users, checks=checks)
    assert await deliveries.states() == [state]
    assert waiter.event.is_set() is woken
