"""A tenant in maintenance, resources for rs-admin, the description."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.conftest import Deliveries
from tests.web.conftest import TENANT, Api


async def test_a_tenant_in_maintenance_is_told_so(api: Api) -> None:
    answer = await api.call("PUT", f"/maintenance/{TENANT}/enable")
    assert answer.status == 200
    assert (await answer.json())["content"][TENANT]["active"] is True
    refused = await api.call("GET", "/settings")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "60")
    assert (await api.call("GET", "/settings", tenant="swot")).status == 200
    assert (await api.call("GET", "/maintenance")).status == 200
    assert (await api.client.get("/health/live")).status == 200
    answer = await api.call("PUT", f"/maintenance/{TENANT}/disable")
    assert (await answer.json())["content"][TENANT]["active"] is False
    assert (await api.call("GET", "/settings")).status == 200
    changes = (await (await api.call("GET", "/audit")).json())["content"]
    assert [(entry["before"], entry["after"]) for entry in changes] == [
        (True, False),
        (False, True),
    ]


async def _of_no_bytes() -> AsyncIterator[bytes]:
    """A body in chunks, of which there are none."""
    return
    yield b""


async def test_what_is_refused_for_a_maintenance_says_why_and_until_when(api: Api) -> None:
    """To all of the tenant, who may ask for nothing else; not by whom."""
    path = f"/maintenance/{TENANT}/enable"
    until = (datetime.now(UTC) + timedelta(minutes=30)).replace(microsecond=0)
    said = {"reason": "rs-order is migrated", "until": until.isoformat()}
    assert (await api.call("PUT", path, json=said)).status == 200
    refused = await api.call("GET", "/deliveries", role="REGISTERED_USER")
    assert refused.status == 503
    told = await refused.json()
    assert told["code"] == "MAINTENANCE"
    assert told["message"] == (
        f"tenant {TENANT} is in maintenance, announced until {until:%Y-%m-%d %H:%M:%S} UTC: "
        "rs-order is migrated"
    )
    assert 60 < int(refused.headers["Retry-After"]) <= 1800
    assert (await api.call("PUT", path, json={})).status == 200
    refused = await api.call("GET", "/deliveries")
    assert (await refused.json())["message"] == f"tenant {TENANT} is in maintenance"
    assert refused.headers["Retry-After"] == "60"


async def test_a_maintenance_says_why_until_when_and_by_whom(api: Api) -> None:
    path = f"/maintenance/{TENANT}/enable"
    until = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    said = {"reason": " rs-order is migrated ", "until": until.isoformat()}
    assert (await api.call("PUT", path, json=said)).status == 200
    told = (await (await api.call("GET", "/maintenance")).json())["content"][TENANT]
    assert told.pop("lastUpdate")
    assert told == {
        "active": True,
        "reason": "rs-order is migrated",
        "until": until.isoformat(),
        "enabledBy": "admin@example.org",
    }
    for nothing in (None, _of_no_bytes()):  # as REGARDS asks for it, and as a gateway passes it on
        assert (await api.call("PUT", path, data=nothing)).status == 200
        again = (await (await api.call("GET", "/maintenance")).json())["content"][TENANT]
        assert again["reason"] == told["reason"]
    assert (await api.call("PUT", path, json={})).status == 200
    told = (await (await api.call("GET", "/maintenance")).json())["content"][TENANT]
    assert told.keys() == {"active", "lastUpdate", "enabledBy"}
    entries = (await (await api.call("GET", "/audit")).json())["content"]
    kept = {"active": True, "reason": "rs-order is migrated", "until": until.isoformat()}
    assert [(entry["before"], entry["after"]) for entry in entries] == [(kept, True), (False, kept)]


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        ({"reason": "x" * 301}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2999-01-01T00:00:00"}, "until"),
        ({"until": "9999-12-31T23:59:59-05:00"}, "until"),
        ({"untill": "2999-01-01T00:00:00Z"}, "untill"),
    ],
)
async def test_what_can_not_be_said_of_a_maintenance_begins_none(
    api: Api, body: dict[str, str], flaw: str
) -> None:
    answer = await api.call("PUT", f"/maintenance/{TENANT}/enable", json=body)
    assert answer.status == 422
    assert (await answer.json())["message"].startswith(f"{flaw}: ")
    assert (await (await api.call("GET", "/maintenance")).json())["content"] == {}


async def test_something_else_is_said_of_a_maintenance_whose_announced_end_is_over(
    api: Api, deliveries: Deliveries
) -> None:
    path = f"/maintenance/{TENANT}/enable"
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert (await api.call("PUT", path, json={"until": until})).status == 200
    await deliveries.pool.execute("UPDATE tenant_maintenance SET until = until - interval '1 day'")
    over = (await (await api.call("GET", "/maintenance")).json())["content"][TENANT]["until"]
    assert (await api.call("PUT", path, json={"until": over, "reason": "late"})).status == 200
    told = (await (await api.call("GET", "/maintenance")).json())["content"][TENANT]
    assert (told["until"], told["reason"]) == (over, "late")


async def test_every_endpoint_is_a_resource_with_its_role(api: Api) -> None:
    resources = await (await api.call("GET", "/security/resources")).json()
    roles = {
        (item["method"], item["fullPath"]): item["resourceAccess"]["role"] for item in resources
    }
    assert roles["GET", "/settings"] == "ADMIN"
    assert roles["POST", "/microservice/configuration"] == "PROJECT_ADMIN"
    assert roles["GET", "/health/live"] == "PUBLIC"
    assert len(resources) == len(roles)


async def test_the_description_names_every_endpoint(api: Api) -> None:
    described = await (await api.client.get("/openapi.json")).json()
    resources = await (await api.call("GET", "/security/resources")).json()
    paths = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    assert paths == {(item["method"], item["fullPath"]) for item in resources}
    page = await api.client.get("/docs")
    assert page.content_type == "text/html"
    text = await page.text()
    for _, path in paths:
        assert f"<code>{path}</code>" in text
    assert "<script" not in text
    assert "style=" not in text
    assert (await api.client.get("/docs.css")).status == 200
