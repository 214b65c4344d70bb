"""Whether a user may order: asked once, waited for, and never held against others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.delivery.states import State, Work
from app.errors import RetryableError, SourceUnavailableError
from app.usecases.submit import check
from tests.builders import make_message
from tests.integration.conftest import Deliveries


class SomeUsers:
    """Knows who it is told; is away when told."""

    def __init__(self, *, known: bool = True, away: bool = False) -> None:
        self.answer = known
        self.away = away

    def remembers(self, tenant: str, email: str) -> bool:
        return False

    async def known(self, tenant: str, email: str) -> bool:
        if self.away:
            raise SourceUnavailableError("rs-admin is away")
        return self.answer


async def arrived(
    deliveries: Deliveries, correlation_id: str = "c", *, users: SomeUsers | None = None
) -> list[State]:
    message = make_message(correlation_id)
    await deliveries.receive(message, users=users or SomeUsers(away=True))
    rows = await deliveries.of(correlation_id)
    return [row.state for row in rows if row.id == message.ingress.id]


async def asked(deliveries: Deliveries, users: SomeUsers) -> None:
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
        await asked(deliveries, SomeUsers(away=True))
    assert await deliveries.states() == ["RECEIVED"]


async def test_a_known_user_is_granted_and_the_order_is_placed(deliveries: Deliveries) -> None:
    assert await arrived(deliveries) == [State.RECEIVED]
    await asked(deliveries, SomeUsers())
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
            users=SomeUsers(known=False),
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
        users=SomeUsers(known=False),
    )
    ((_, body),) = await deliveries.owed()
    assert body["message"].startswith("order.user a\N{REPLACEMENT CHARACTER}[2J is not a user")


async def test_a_request_that_waits_for_its_check_is_active(deliveries: Deliveries) -> None:
    assert await arrived(deliveries) == [State.RECEIVED]
    assert await arrived(deliveries, users=SomeUsers()) == []
    assert await deliveries.states() == ["RECEIVED"]
