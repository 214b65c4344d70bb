"""What was delivered is shown with its end, and removed by those who may."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.delivery.content import in_words
from app.delivery.model import Delivery
from app.delivery.states import State
from app.delivery.told import Told
from app.usecases.transfer import COMPLETION
from tests.builders import make_stored, make_upload
from tests.integration.conftest import Deliveries
from tests.web.conftest import Api
from tests.web.test_deliveries import OWNER, content

DAY = timedelta(days=1)


async def done(
    deliveries: Deliveries, name: str = "d", *, stays: timedelta | None = None
) -> Delivery:
    """Let a delivery be done, whose content may stay for so long."""
    claimed = await deliveries.claimed(name)
    upload = make_upload(key=f"{name}/a.zip")
    assert await deliveries.leases("w").record_upload(claimed, upload)
    async with deliveries.store.transaction() as tx:
        until = None if stays is None else await tx.now() + stays
        told = Told(expires=None if until is None else in_words(until))
        result = make_stored(upload)
        assert await tx.advance(claimed, State.DONE, result=result, told=told)
        if until is not None:
            await tx.keep_content(claimed, until=until, key=upload.key, namespace="s3.example:80")
    return claimed


async def remove(deliveries: Deliveries) -> None:
    """Let what is to be removed be removed."""
    for due in await deliveries.contents.due(limit=9):
        async with deliveries.store.transaction() as tx:
            assert await tx.content_removed(due.content, within=COMPLETION)


async def shown(api: Api, name: str = "d", **caller: Any) -> dict[str, Any]:
    found: dict[str, Any] = await content(await api.call("GET", f"/deliveries/{name}", **caller))
    return found


async def test_a_delivery_tells_until_when_its_content_stays_and_where_it_is(
    api: Api, deliveries: Deliveries
) -> None:
    await done(deliveries, stays=2 * DAY)
    found = await shown(api)
    assert found["expires"].endswith("Z")
    assert (found["state"], found["content"]) == ("DONE", "present")
    assert "removedAt" not in found
    await deliveries.elapse(2 * DAY)
    assert (await shown(api))["content"] == "removing"
    (due,) = await deliveries.contents.due(limit=9)
    await deliveries.contents.postpone(due.content, DAY, position=-1, cause="403 from the store")
    assert (await shown(api))["contentCause"] == "403 from the store"
    await deliveries.elapse(DAY)
    await remove(deliveries)
    found = await shown(api)
    assert (found["state"], found["content"]) == ("DONE", "removed")
    assert found["removedAt"] > found["finishedAt"]
    assert "contentCause" not in found
    assert [step.get("news") for step in found["history"]][-1] == "content.removed"
    assert "DONE" not in found["timings"], "what happens to its content is no state"
    (listed,) = await content(await api.call("GET", "/deliveries"))
    assert listed["content"] == "removed"


async def test_a_delivery_whose_content_stays_tells_nothing_of_it(
    api: Api, deliveries: Deliveries
) -> None:
    await done(deliveries)
    assert not {"expires", "content", "removedAt"} & (await shown(api)).keys()


async def test_content_is_removed_once_and_it_is_audited(api: Api, deliveries: Deliveries) -> None:
    delivery = await done(deliveries)
    answer = await api.call("GET", "/deliveries/d")
    links = {link["rel"]: link["href"] for link in (await answer.json())["links"]}
    assert links["remove"] == f"/deliveries/d/content?id={delivery.id}"
    assert "retry" not in links
    found = await content(await api.call("DELETE", links["remove"]), 202)
    assert found["content"] == "removing"
    again = await content(await api.call("DELETE", "/deliveries/d/content"), 202)
    assert again["content"] == "removing"
    await remove(deliveries)
    assert (await api.call("DELETE", "/deliveries/d/content")).status == 204
    answer = await api.call("DELETE", f"/deliveries/by-id/{delivery.id}/content")
    assert answer.status == 204
    audited = await content(await api.call("GET", "/audit"))
    assert [(e["action"], e["before"], e["after"]) for e in audited] == [
        ("remove", "removing", "removing"),
        ("remove", "present", "removing"),
    ]
    answer = await api.call("GET", "/deliveries/d")
    links = {link["rel"]: link["href"] for link in (await answer.json())["links"]}
    assert "remove" not in links
    assert "retry" in links
    assert (await api.call("POST", "/deliveries/d/retry")).status == 202


async def test_content_of_what_is_not_done_is_not_removed(api: Api, deliveries: Deliveries) -> None:
    await deliveries.ready("d")
    answer = await api.call("DELETE", "/deliveries/d/content")
    assert answer.status == 409
    assert "is not done (READY)" in (await answer.json())["message"]
    assert (await api.call("DELETE", "/deliveries/nothing/content")).status == 404


async def test_of_several_the_one_that_is_named_is_removed(
    api: Api, deliveries: Deliveries
) -> None:
    first = await done(deliveries)
    await deliveries.elapse(DAY)
    await deliveries.ready("d")
    assert (await api.call("DELETE", "/deliveries/d/content")).status == 409
    found = await content(await api.call("DELETE", f"/deliveries/d/content?id={first.id}"), 202)
    assert found["id"] == str(first.id)


async def test_owners_remove_their_own_and_know_of_no_other(
    api: Api, deliveries: Deliveries
) -> None:
    await done(deliveries, "mine")
    await deliveries.pool.execute(
        "UPDATE delivery SET user_email = 'admin@example.org' WHERE correlation_id = 'mine'"
    )
    await done(deliveries, "another")
    found = await content(await api.call("DELETE", "/deliveries/mine/content", **OWNER), 202)
    assert found["content"] == "removing"
    answer = await api.call("DELETE", "/deliveries/another/content", **OWNER)
    assert answer.status == 404
    assert "content" not in await shown(api, "another")


@pytest.mark.parametrize("news", ["content.expires-soon", "content.removed"])
async def test_a_stream_tells_what_happens_to_content(
    api: Api, deliveries: Deliveries, news: str
) -> None:
    delivery = await done(deliveries, stays=2 * DAY)
    last = await deliveries.changes.last()
    await deliveries.elapse(2 * DAY)
    (due,) = await deliveries.contents.due(limit=9)
    async with deliveries.store.transaction() as tx:
        if news == "content.removed":
            assert await tx.content_removed(due.content, within=COMPLETION)
        else:
            assert await tx.content_warned(due.content)
    answer = await api.call(
        "GET", f"/deliveries/d/events?id={delivery.id}", headers={"Last-Event-ID": str(last)}
    )
    text = await answer.text()
    assert text.count("event: ") == 1
    assert "event: content\r\n" in text
    assert f'"news": "{news}"' in text
    again = await api.call(
        "GET", f"/deliveries/d/events?id={delivery.id}", headers={"Last-Event-ID": str(last + 9)}
    )
    assert again.status == 204
