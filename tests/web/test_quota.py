"""Quotas over HTTP: what is left, for whom, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.delivery.quotas import Allowance, Quota
from compose.embedded.stack import TENANT
from tests.builders import make_message
from tests.integration.conftest import Deliveries
from tests.web.conftest import Api
from tests.web.test_deliveries import OWNER, USER, ask, content, of_mine, request

OPERATOR: dict[str, Any] = {"role": "EXPLOIT"}
MINE = "admin@example.org"


async def limit(api: Api, **quota: Any) -> None:
    answer = await api.put("quota", quota)
    assert answer.status == 200, await answer.text()


async def test_the_setting_takes_part_of_its_fields_and_names_what_is_wrong(api: Api) -> None:
    none = {"active": 0, "requests_per_minute": 0, "bytes_per_day": 0}
    assert await api.value("quota") == {
        "tenant": none,
        "user": none,
        "over_requests": "wait",
        "over_bytes": "wait",
    }
    await limit(api, user={"active": 5})
    assert (await api.value("quota"))["user"] == none | {"active": 5}
    refused = await api.put(
        "quota", {"user": {"active": -1}, "over_bytes": "drop", "tenant": {"days": 1}}
    )
    assert refused.status == 422
    words = " ".join((await refused.json())["messages"])
    assert "quota.user.active" in words
    assert "quota.over_bytes" in words
    assert "quota.tenant.days" in words


async def test_an_operator_is_told_of_the_tenant_and_of_a_user(
    api: Api, deliveries: Deliveries
) -> None:
    await limit(
        api,
        tenant={"active": 10, "bytes_per_day": 1000},
        user={"active": 1, "requests_per_minute": 3},
    )
    assert (await ask(api, request("a"))).status == 202
    quota = await content(await api.call("GET", "/quota", **OPERATOR))
    assert "user" not in quota
    assert quota["tenant"] == {
        "name": "sentinel",
        "active": {"used": 1, "limit": 10, "left": 9},
        "requests": {"used": 1},
        "bytes": {"used": 0, "limit": 1000, "left": 1000},
        "waiting": 0,
        "waitingBytes": 0,
    }
    assert (quota["overRequests"], quota["overBytes"]) == ("wait", "wait")
    assert quota["resetsAt"].endswith("T00:00:00+00:00")
    quota = await content(await api.call("GET", f"/quota?user={USER}", **OPERATOR))
    assert quota["user"]["active"] == {"used": 1, "limit": 1, "left": 0}
    assert quota["user"]["requests"] == {"used": 1, "limit": 3, "left": 2}


async def test_a_user_is_told_of_their_own_alone(api: Api, deliveries: Deliveries) -> None:
    await limit(api, user={"active": 2}, tenant={"active": 9})
    assert (await ask(api, request("theirs"))).status == 202
    assert (await ask(api, of_mine(), **OWNER)).status == 202
    quota = await content(await api.call("GET", f"/quota?user={USER}", **OWNER))
    assert quota["user"]["name"] == MINE
    assert quota["user"]["active"] == {"used": 1, "limit": 2, "left": 1}
    assert "tenant" not in quota


async def test_what_is_over_a_count_is_refused_and_told_when_to_come_again(
    api: Api, deliveries: Deliveries
) -> None:
    await limit(api, user={"requests_per_minute": 1})
    assert (await ask(api, request("a"), key="k")).status == 202
    refused = await ask(api, request("b"))
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert f"user {USER} has made 1 of 1 requests within a minute" in await refused.text()
    assert (await ask(api, request("a"), key="k")).status == 202  # a repeat is none
    assert await deliveries.states("b") == []
    others = {"order": {"user": "other@example.org", "queries": ["a:b"]}}
    assert (await ask(api, request("c") | others)).status == 202
    await deliveries.elapse(timedelta(minutes=1))
    assert (await ask(api, request("b"))).status == 202


async def test_what_waits_tells_why(api: Api, deliveries: Deliveries) -> None:
    deliveries.tenants.give(TENANT, quota=Quota(user=Allowance(active=1)))
    for name in ("a", "b"):
        await deliveries.grant(make_message(name))
    waits = await content(await api.call("GET", "/deliveries/b"))
    assert waits["state"] == "RECEIVED"
    assert waits["lastCause"].startswith("its quota is used up: user ")
    assert "nextAttemptAt" not in waits
    figures = await (await api.call("GET", "/metrics", role="INSTANCE_ADMIN")).text()
    assert f'delivery_quota_waiting{{state="RECEIVED",tenant="{TENANT}"}} 1.0' in figures


async def test_a_trial_tells_that_it_would_be_over(api: Api, deliveries: Deliveries) -> None:
    await limit(api, user={"active": 1})
    assert (await ask(api, request("a"))).status == 202
    refused = await ask(api, request("b"))
    assert refused.status == 429
    words = (await refused.json())["message"]
    tried = await content(await api.call("POST", "/deliveries/validate", json=request("b")))
    assert (tried["granted"], tried["broken"]) == (False, [words])
    assert str(tried["retryAfter"]) == refused.headers["Retry-After"] == "30"
    assert "errorType" not in tried
    assert "that is over HTTP; over AMQP it is taken in, and waits for a place" in tried["problems"]
    await limit(api, user={"active": 1}, over_requests="deny")
    tried = await content(await api.call("POST", "/deliveries/validate", json=request("b")))
    assert (tried["granted"], tried["broken"]) == (False, [words])
    assert tried["errorType"] == "INVALID_CONTENT"
    assert "that is over HTTP; over AMQP it is denied" in tried["problems"]


async def test_a_trial_tells_when_the_minute_has_room_again(
    api: Api, deliveries: Deliveries
) -> None:
    await limit(api, user={"requests_per_minute": 1})
    assert (await ask(api, request("a"))).status == 202
    tried = await content(await api.call("POST", "/deliveries/validate", json=request("b")))
    assert tried["granted"] is False
    assert 1 <= tried["retryAfter"] <= 60
    assert f"user {USER} has made 1 of 1 requests within a minute" in tried["broken"][0]
    assert (await ask(api, request("b"))).status == 429


async def test_a_trial_of_what_no_time_mends_tells_no_time(
    api: Api, deliveries: Deliveries
) -> None:
    await limit(api, user={"active": 1})
    assert (await ask(api, request("a"))).status == 202
    wrong = request("b") | {"delivery": {"format": "files", "archiveName": "x"}}
    tried = await content(await api.call("POST", "/deliveries/validate", json=wrong))
    assert len(tried["broken"]) == 2
    assert "retryAfter" not in tried
    assert (await ask(api, wrong)).status == 422
