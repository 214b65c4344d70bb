"""Many deliveries over HTTP: shown by a dry run, then acted on; by whom, and by whom not."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.integration.conftest import Deliveries
from tests.web.conftest import Api


async def many(api: Api, act: str, status: int = 200, **body: Any) -> Any:
    """Return the answer."""
    answer = await api.call("POST", f"/deliveries/{act}", json={"filter": {}} | body)
    told = await answer.json()
    assert answer.status == status, told
    return told


async def test_a_dry_run_shows_what_the_act_then_does(api: Api, deliveries: Deliveries) -> None:
    one = await deliveries.granted("one")
    over = await deliveries.granted("over")
    await deliveries.fail(over, "for the test")
    shown = await many(api, "cancel", dryRun=True)
    assert shown["content"] == [
        {"id": str(one.id), "correlationId": "one", "state": "GRANTED", "activity": "waiting"}
    ]
    assert [(left["correlationId"], left["state"]) for left in shown["left"]] == [("over", "ERROR")]
    assert "there is nothing to cancel" in shown["left"][0]["why"]
    assert await deliveries.states("one") == ["GRANTED"]
    ids = [each["id"] for each in shown["content"]]
    done = await many(api, "cancel", ids=ids, reason="of no use")
    assert done == {
        "content": [{"id": str(one.id), "correlationId": "one", "state": "ERROR"}],
        "left": [],
    }
    again = await many(api, "retry", ids=ids)
    assert again["content"][0]["id"] == str(one.id)
    assert again["content"][0]["again"] != str(one.id)
    assert again["content"][0]["state"] == "GRANTED"


async def test_the_filter_is_that_of_the_list(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("one")
    await deliveries.ready("other")
    wanted = {"state": ["READY"], "activity": ["waiting"], "text": "oth"}
    shown = await many(api, "cancel", dryRun=True, filter=wanted)
    assert [each["correlationId"] for each in shown["content"]] == ["other"]
    query = "state=READY&activity=waiting&text=oth"
    listed = (await (await api.call("GET", f"/deliveries?{query}")).json())["content"]
    assert [each["correlationId"] for each in listed] == ["other"]
    answer = await api.call("GET", "/deliveries?activity=asleep")
    assert answer.status == 422


async def test_nothing_is_acted_on_that_no_dry_run_showed(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("one")
    told = await many(api, "cancel", 422)
    assert "name those that a dry run showed" in told["message"]
    assert await deliveries.states("one") == ["GRANTED"]


@pytest.mark.parametrize(
    "body",
    [
        {"filter": {"sate": ["ERROR"]}, "dryRun": True},
        {"filter": {"state": ["GONE"]}, "dryRun": True},
        {"filter": {"text": [None]}, "dryRun": True},
        {"filter": {"text": 7}, "dryRun": True},
        {"filter": {"label": "a"}, "dryRun": True},
        {"filter": {"label": [7]}, "dryRun": True},
        {"filter": {"code": {}}, "dryRun": True},
        {"filter": {"code": []}, "dryRun": True},
        {"filter": {"code": [""]}, "dryRun": True},
        {"filter": {"target": ""}, "dryRun": True},
        {"filter": {"since": " "}, "dryRun": True},
        {"filter": {"codes": ["TARGET_AWAY"]}, "dryRun": True},
        {"filter": None, "dryRun": True},
        {"dryrun": True},
        {"ids": []},
        {"ids": ["no id"]},
        {"ids": [str(uuid4())] * 1001},
        {"ids": [str(uuid4())], "reason": "r" * 301},
        {"ids": [str(uuid4())], "reason": "r\nDONE"},
        {"ids": [str(uuid4())], "reason": [None, None]},
        {"ids": [str(uuid4())], "reason": 7},
    ],
)
async def test_what_is_misspelt_is_refused(api: Api, body: dict[str, Any]) -> None:
    """A filter that lacks what was meant would find all."""
    await many(api, "cancel", 422, **body)


async def test_what_would_fail_again_is_left_unless_it_is_forced(
    api: Api, deliveries: Deliveries
) -> None:
    over = await deliveries.granted("over")
    await many(api, "cancel", ids=[str(over.id)])
    refused = await many(api, "retry", ids=[str(uuid4())])
    assert refused["content"] == []
    assert refused["left"][0]["why"].endswith("keeps it no longer")
    forced = await many(api, "retry", ids=[str(over.id)], force=True)
    assert len(forced["content"]) == 1


@pytest.mark.parametrize(("role", "status"), [("EXPLOIT", 200), ("REGISTERED_USER", 403)])
async def test_who_sees_their_own_alone_does_it_one_by_one(
    api: Api, role: str, status: int
) -> None:
    body = {"filter": {}, "dryRun": True}
    answer = await api.call("POST", "/deliveries/cancel", role=role, json=body)
    assert answer.status == status
    answer = await api.call("POST", "/deliveries/retry", role="READ_ONLY", json=body)
    assert answer.status == 403


@pytest.mark.parametrize("name", ["cancel", "retry"])
async def test_a_delivery_of_that_name_can_still_be_looked_at(
    api: Api, deliveries: Deliveries, name: str
) -> None:
    await deliveries.granted(name)
    answer = await api.call("GET", f"/deliveries/{name}")
    assert (await answer.json())["content"]["correlationId"] == name
