"""Roles of the site: each counts as what DELIVERY_ROLES says that it stands for."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.audit import INSTANCE
from app.roles import PROVIDER, role_map
from app.run.wiring.tenants import ConfigurationParts
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider
from tests.identity import AUDIENCE, StandInProvider, stand_in_provider
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, parts_for, serve
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.oidc import ProviderTokens

ROLES = ("support=READ_ONLY", "ops-team=EXPLOIT", "data-admin=ADMIN", "root=INSTANCE_ADMIN")
READS, OPERATES, CONFIGURES = (
    ("GET", "/audit"),
    ("GET", "/workers"),
    ("DELETE", "/settings/manifest"),
)
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
CANCELS = ("POST", "/deliveries/c/cancel")


@pytest.fixture
async def api(configuration: ConfigurationParts, aiohttp_client: MakeClient) -> Api:
    """The application of a site with roles of its own."""
    verifier = TokenVerifier(secret=SECRET, public_key="")
    gate = Gate(verifier, configuration.tenants, limits=PLENTY, roles=role_map(ROLES))
    return await serve(aiohttp_client, parts_for(configuration, gate=gate))


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("support", {READS, OPERATES}),
        ("ops-team", {OPERATES, CANCELS}),
        ("data-admin", {READS, OPERATES, CANCELS, CONFIGURES}),
        ("Support", set()),
        ("support ", set()),
        ("support=READ_ONLY", set()),
        ("another", set()),
        ("READ_ONLY", {READS, OPERATES}),
        ("EXPLOIT", {OPERATES, CANCELS}),
    ],
)
async def test_a_role_of_the_site_opens_what_it_stands_for_and_nothing_else(
    api: Api, role: str, allowed: set[tuple[str, str]]
) -> None:
    for method, path in (READS, OPERATES, CONFIGURES, CANCELS):
        answer = await api.call(method, path, role=role)
        assert (answer.status == 403) == ((method, path) not in allowed), (method, path)


async def said(api: Api, method: str, path: str, **caller: Any) -> tuple[int, str]:
    answer = await api.call(method, path, **caller)
    return answer.status, (await answer.json())["message"]


async def test_what_a_role_lacks_is_told_in_words(api: Api) -> None:
    needed = "this needs one of the roles ADMIN, INSTANCE_ADMIN, PROJECT_ADMIN"
    assert await said(api, *CONFIGURES, role="EXPLOIT") == (403, needed)
    assert await said(api, *CONFIGURES, role="ops-team") == (
        403,
        f"{needed}; ops-team stands for EXPLOIT here",
    )
    looks = "READ_ONLY looks, and changes nothing"
    assert await said(api, *CONFIGURES, role="READ_ONLY") == (403, f"{needed}; {looks}")
    assert await said(api, *CONFIGURES, role="support") == (
        403,
        f"{needed}; support stands for READ_ONLY here, and {looks}",
    )
    for unknown in ("another", ""):
        assert await said(api, *CONFIGURES, role=unknown) == (
            403,
            f"{needed}; the token names none that is known here",
        )


async def test_a_token_without_a_tenant_is_told_so(api: Api) -> None:
    assert await said(api, *READS, role="ADMIN", tenant="") == (403, "the token names no tenant")
    assert await said(api, *READS, role="ADMIN", tenant="not-served") == (
        403,
        "the token is of a tenant that is not served here",
    )


async def test_a_caller_is_told_both_names_of_the_role(api: Api) -> None:
    async def me(**caller: Any) -> dict[str, Any]:
        content: dict[str, Any] = (await (await api.call("GET", "/me", **caller)).json())["content"]
        return {name: value for name, value in content.items() if "ole" in name}

    assert await me(role="support") == {"role": "READ_ONLY", "namedRole": "support"}
    assert await me(role="EXPLOIT") == {"role": "EXPLOIT"}


async def test_a_role_of_the_site_administers_the_instance_only_where_that_is_written(
    api: Api,
) -> None:
    assert (await api.call("GET", "/audit", tenant=INSTANCE, role="root")).status == 200
    assert (await api.call("GET", "/audit", tenant=INSTANCE, role="data-admin")).status == 403


async def test_one_who_only_looks_sees_settings_without_their_secrets(api: Api) -> None:
    answer = await api.call("GET", "/settings", role="support")
    assert answer.status == 200
    (server,) = [
        setting["content"]["value"]
        for setting in await answer.json()
        if setting["content"]["name"] == "s3_server"
    ]
    assert server["secret"] == "*******"


async def test_one_who_only_looks_does_not_see_what_a_webhooks_url_may_hide(api: Api) -> None:
    url = "https://hooks.example.org/services/T0/secret"
    value = {"ops": {"url": url, "secret": WEBHOOK_SECRET}}
    assert (await api.put("webhooks", value)).status == 200
    for path in ("/settings", "/settings/webhooks"):
        told = await (await api.call("GET", path, role="support")).text()
        assert "https://hooks.example.org" in told
        assert "services" not in told
    assert (await api.value("webhooks"))["ops"]["url"] == url


async def test_the_audit_trail_has_the_role_that_counts(api: Api) -> None:
    assert (await api.put("manifest", True, role="data-admin")).status == 200
    (entry, *_) = (await (await api.call("GET", "/audit", role="support")).json())["content"]
    assert (entry["subject"], entry["role"]) == ("manifest", "ADMIN")


@pytest.fixture
async def provider() -> AsyncIterator[StandInProvider]:
    """An identity provider, on a port."""
    async with stand_in_provider() as made:
        yield made


@pytest.mark.parametrize(
    ("role", "of_regards", "of_provider"),
    [
        ("support", 200, 200),
        ("group-admins", 403, 200),
        ("project-admins", 200, 403),
        ("oidc:group-admins", 403, 403),
    ],
)
async def test_a_role_that_is_bound_opens_nothing_in_tokens_of_another_issuer(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    provider: StandInProvider,
    role: str,
    of_regards: int,
    of_provider: int,
) -> None:
    given = ("support=READ_ONLY", "oidc:group-admins=ADMIN", "regards:project-admins=ADMIN")
    known = KnownProvider(Provider(provider.issuer).read)
    gate = Gate(
        TokenVerifier(
            secret=SECRET,
            public_key="",
            provider=ProviderTokens(
                issuer=provider.issuer,
                audience=AUDIENCE,
                keys=known.keys,
                roles=role_map(given, issuer=PROVIDER),
            ),
        ),
        configuration.tenants,
        limits=PLENTY,
        roles=role_map(given),
        provider_roles=role_map(given, issuer=PROVIDER),
    )
    api = await serve(aiohttp_client, parts_for(configuration, gate=gate))
    assert (await api.call("GET", "/audit", role=role)).status == of_regards
    token = provider.token(tenant=TENANT, role=role)
    answer = await api.client.get("/audit", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == of_provider
    await known.close()
