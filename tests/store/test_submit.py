"""What a request that arrived sets going."""

from __future__ import annotations

from typing import Any

import pytest

from app.delivery.ports import Users
from app.delivery.targets import TargetKinds
from app.usecases.intervene import Interventions
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT
from sinks.stores.s3.target import S3Target
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


@pytest.mark.parametrize("chosen", [{"delivery": {"format": "tar"}}, {}])
async def test_a_target_that_can_not_keep_the_format_is_denied_in_words(
    deliveries: Deliveries, chosen: dict[str, Any]
) -> None:
    """Be that the request's, or its tenant's."""
    lacking = {S3Target.kind: {"tar": "it keeps no tar"}}
    deliveries.tenants.kinds = TargetKinds(S3Target, lacking=lacking)
    deliveries.tenants.give(TENANT, delivery_format="tar")
    await deliveries.granted("zip", body=make_body("zip") | {"delivery": {"format": "zip"}})
    await deliveries.receive(deliveries.message("tar", body=make_body("tar") | chosen))
    (denial,) = [told for told in await deliveries.outgoing() if told.body.get("errorType")]
    assert denial.body | {"message": ""} == {
        "correlationId": "tar",
        "status": "DENIED",
        "errorType": "INVALID_CONTENT",
        "message": "",
    }
    assert denial.body["message"] == (
        "targetDelivery 'regards-s3-minio' can't keep a delivery as tar: it keeps no tar; choose "
        "another delivery.format, or another target"
    )


async def test_a_request_waits_for_no_answer_about_its_user(deliveries: Deliveries) -> None:
    users = MemoryUsers()
    await deliveries.receive(deliveries.message(), users=users)
    assert users.asked == []
