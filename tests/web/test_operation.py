"""A tenant in maintenance, resources for rs-admin, the description."""

from __future__ import annotations

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
