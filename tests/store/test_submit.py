"""What a request that arrived sets going."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.delivery.ports import Users
from app.delivery.states import State
from app.errors import InvalidRequestError
from app.usecases.expire import expire
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


NAMED = {"archiveName": "{productId}-{date}", "prefix": "campaign/{user}"}


async def test_what_an_archive_is_called_is_its_requests_or_its_tenants_word_at_that_time(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted("before")
    deliveries.tenants.give(TENANT, archive_name="{date}", prefix="p/{date}")
    await deliveries.granted("unsaid")
    await deliveries.granted("said", body=make_body("said") | {"delivery": NAMED})
    none = {"archiveName": "", "prefix": ""}
    await deliveries.granted("none", body=make_body("none") | {"delivery": none})
    plain = {"format": "files"}
    await deliveries.granted("files", body=make_body("files") | {"delivery": plain})
    deliveries.tenants.give(TENANT, archive_name="later", prefix="later")
    names = ("before", "unsaid", "said", "none", "files")
    asked = {name: await deliveries.active(name) for name in names}
    assert {
        name: (delivery.archive_template, delivery.prefix_template)
        for name, delivery in asked.items()
    } == {
        "before": ("", ""),
        "unsaid": ("{date}", "p/{date}"),
        "said": ("{productId}-{date}", "campaign/{user}"),
        "none": ("", ""),
        "files": ("", "p/{date}"),  # there is no archive that the tenant's word could be for
    }


@pytest.mark.parametrize("chosen_by", ["request", "tenant"])
async def test_a_name_for_an_archive_that_there_will_not_be_is_denied(
    deliveries: Deliveries, chosen_by: str
) -> None:
    named: dict[str, Any] = {"archiveName": "x"}
    if chosen_by == "request":
        named["format"] = "files"
    else:
        deliveries.tenants.give(TENANT, delivery_format="files")
    await deliveries.receive(deliveries.message(body=make_body() | {"delivery": named}))
    (denied,) = await deliveries.outgoing()
    assert (denied.body["status"], denied.body["errorType"]) == ("DENIED", "INVALID_CONTENT")
    assert denied.body["message"] == (
        "delivery.archiveName names an archive, and there is none in the format files; leave it "
        "out, or choose another format"
    )
    assert not await deliveries.rows()


async def test_a_request_that_is_tried_again_keeps_what_its_archive_is_called(
    deliveries: Deliveries,
) -> None:
    failed = await deliveries.granted(body=make_body() | {"delivery": NAMED})
    await deliveries.fail(failed, "for the test")
    deliveries.tenants.give(TENANT, archive_name="later", prefix="later")
    interventions = Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )
    again = await interventions.retry(make_actor(), failed.correlation_id)
    assert again.id != failed.id
    assert (again.archive_template, again.prefix_template) == tuple(NAMED.values())


async def test_a_delivery_is_of_the_format_of_its_request_or_of_its_tenant(
    deliveries: Deliveries,
) -> None:
    """What its tenant sets later changes nothing; nor does another try of it."""
    await deliveries.granted("before")
    deliveries.tenants.give(TENANT, delivery_format="cab")
    await deliveries.granted("unsaid")
    await deliveries.granted("said", body=make_body("said") | {"delivery": {"format": "zip"}})
    deliveries.tenants.give(TENANT, delivery_format="zip")
    interventions = make_interventions(deliveries)
    await interventions.cancel(make_actor(), "unsaid")
    await interventions.retry(make_actor(), "unsaid")
    asked = {name: await deliveries.active(name) for name in ("before", "unsaid", "said")}
    formats = {name: delivery.format for name, delivery in asked.items()}
    assert formats == {"before": "zip", "unsaid": "cab", "said": "zip"}


async def test_a_request_waits_for_no_answer_about_its_user(deliveries: Deliveries) -> None:
    users = MemoryUsers()
    await deliveries.receive(deliveries.message(), users=users)
    assert users.asked == []


async def test_a_deadline_ends_a_delivery_before_its_tenants_time_would(
    deliveries: Deliveries,
) -> None:
    soon, late = (deliveries.now() + timedelta(hours=hours) for hours in (1, 100))
    for name, deadline in ("soon", soon), ("late", late):
        body = make_body(name) | {"delivery": {"deadline": deadline.isoformat()}}
        await deliveries.granted(name, body=body)
    times = {name: await deliveries.active(name) for name in ("soon", "late")}
    lives = {name: found.expires_at - found.requested_at for name, found in times.items()}
    assert lives["soon"] < timedelta(hours=1) < lives["late"] == timedelta(hours=12)
    await deliveries.elapse(timedelta(hours=2))
    assert await expire(store=deliveries.store, limit=9) == 1
    told = [told.body for told in await deliveries.outgoing() if told.body.get("errorType")]
    assert [(body["correlationId"], body["errorType"]) for body in told] == [("soon", "EXPIRED")]
    assert told[0]["message"].startswith("not done by its deadline, 20")


async def test_a_request_that_comes_after_its_deadline_is_denied(deliveries: Deliveries) -> None:
    body = make_body("past") | {"delivery": {"deadline": "2026-01-31T12:00:00Z"}}
    await deliveries.receive(deliveries.message("past", body=body))
    (denial,) = [told.body for told in await deliveries.outgoing()]
    assert denial == {
        "correlationId": "past",
        "status": "DENIED",
        "errorType": "INVALID_CONTENT",
        "message": "delivery.deadline 2026-01-31T12:00:00Z was over when the request came in; ask "
        "with a later one, or without",
    }
    interventions = make_interventions(deliveries)
    with pytest.raises(InvalidRequestError, match="was over when the request came in"):
        await interventions.submit(make_actor(), body)


async def test_what_is_tried_again_keeps_its_labels_and_no_deadline(
    deliveries: Deliveries,
) -> None:
    deadline = deliveries.now() + timedelta(hours=1)
    asked = {"labels": ["a", "b"], "deadline": deadline.isoformat()}
    first = await deliveries.granted("c", body=make_body("c") | {"delivery": asked})
    assert (first.labels, first.deadline) == (("a", "b"), deadline)
    interventions = make_interventions(deliveries)
    await interventions.cancel(make_actor(), "c")
    await interventions.retry(make_actor(), "c")
    again = await deliveries.active("c")
    assert (again.labels, again.deadline) == (("a", "b"), None)
    assert again.expires_at - again.requested_at == timedelta(hours=12)


def make_interventions(deliveries: Deliveries) -> Interventions:
    return Interventions(
        store=deliveries.store,
        tracking=deliveries.tracking,
        tenants=deliveries.tenants,
        users=AnyUser(),
    )


async def test_a_deadline_waits_for_no_maintenance_and_nothing_is_ordered_behind_it(
    deliveries: Deliveries,
) -> None:
    deadline = deliveries.now() + timedelta(hours=1)
    body = make_body() | {"delivery": {"deadline": deadline.isoformat()}}
    async with deliveries.configuration.change(TENANT) as change:
        await change.maintain(active=True)
    waits = await deliveries.put(await deliveries.granted(body=body), State.RECEIVED)
    await deliveries.elapse(timedelta(hours=2))
    async with deliveries.store.transaction() as tx:
        assert not await tx.advance(waits, State.GRANTED)
    assert await expire(store=deliveries.store, limit=9) == 1
    assert await deliveries.states() == ["ERROR"]
