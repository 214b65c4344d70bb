"""Whether a user may order: asked once, waited for, and never held against others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.delivery.states import State, Work
from app.errors import RetryableError
from app.usecases.submit import check
from compose.embedded.stack import USER
from compose.rs_order.faults import Faults
from tests.builders import make_message
from tests.integration.conftest import Deliveries
from tests.twins.users import MemoryUsers


def away() -> MemoryUsers:
    """Return an rs-admin that does not answer the next question."""
    return MemoryUsers(Faults(admin_answers_500=1))


def without(user: str = USER) -> MemoryUsers:
    """Return an rs-admin that does not know a user."""
    return MemoryUsers(Faults(unknown_users=[user]))


async def arrived(
    deliveries: Deliveries, correlation_id: str = "c", *, users: MemoryUsers | None = None
) -> list[State]:
    message = make_message(correlation_id)
    await deliveries.receive(message, users=users or away())
    rows = await deliveries.of(correlation_id)
    return [row.state for row in rows if row.id == message.ingress.id]


async def asked(deliveries: Deliveries, users: MemoryUsers) -> None:
    claimed = await deliveries.leases("w").claim(Work.CHECK)
    assert claimed is not None
    await check(claimed, store=deliveries.store, tenants=deliveries.tenants, users=users)


async def test_a_request_is_saved_before_rs_admin_is_asked_and_nothing_is_said_yet(
    deliveries: Deliveries,
) -> None:
    assert await arrived(deliveries) == [State.RECEIVED]
    assert await deliveries.states() == ["RECEIVED"]
    assert await deliveries.owed() == []
    with pytest.raises(RetryableError):
        await asked(deliveries, away())
    assert await deliveries.states() == ["RECEIVED"]


async def test_a_known_user_is_granted_and_the_order_is_placed(deliveries: Deliveries) -> None:
    assert await arrived(deliveries) == [State.RECEIVED]
    await asked(deliveries, MemoryUsers())
    assert await deliveries.states() == ["GRANTED"]
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order"]


async def test_an_unknown_user_is_denied_once_and_the_identifier_is_free_again(
    deliveries: Deliveries,
) -> None:
    assert await arrived(deliveries) == [State.RECEIVED]
    claimed = await deliveries.leases("w").claim(Work.CHECK)
    assert claimed is not None
    for _ in range(2):  # the second as by a worker whose lease ran out
        await check(
            claimed,
            store=deliveries.store,
            tenants=deliveries.tenants,
            users=without(),
        )
    ((_, body),) = await deliveries.owed()
    assert (body["status"], body["errorType"]) == ("DENIED", "FORBIDDEN")
    assert await arrived(deliveries) == [State.RECEIVED]
    assert await deliveries.states() == ["RECEIVED"]


async def test_a_cause_that_names_a_user_can_be_printed(deliveries: Deliveries) -> None:
    await arrived(deliveries)
    claimed = await deliveries.leases("w").claim(Work.CHECK)
    assert claimed is not None
    await check(
        replace(claimed, user="a\x1b[2J"),
        store=deliveries.store,
        tenants=deliveries.tenants,
        users=without("a\x1b[2J"),
    )
    ((_, body),) = await deliveries.owed()
    assert body["message"].startswith("order.user a\N{REPLACEMENT CHARACTER}[2J is not a user")


async def test_a_request_that_waits_for_its_check_is_active(deliveries: Deliveries) -> None:
    assert await arrived(deliveries) == [State.RECEIVED]
    assert await arrived(deliveries, users=MemoryUsers()) == []
    assert await deliveries.states() == ["RECEIVED"]
