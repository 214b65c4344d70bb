"""Signing in at the identity provider: codes are exchanged by the service, and tokens open it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse
from structlog.testing import capture_logs

from app.run.wiring.tenants import ConfigurationParts
from streams.oidc.code_flow import CodeFlow
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider
from tests.identity import (
    AUDIENCE,
    CLIENT,
    TENANT,
    StandInProvider,
    challenge_of,
    stand_in_provider,
)
from tests.web.conftest import PLENTY, SECRET, Api, MakeClient, bearer, parts_for, serve
from web.api.console import Console
from web.api.health import Health
from web.api.provider_sign_in import ProviderSignIns
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.oidc import ProviderTokens

OFTEN = 1000  # a minute
VERIFIER = "v" * 43
HOME = "https://delivery.example.org/console"

Entrance = Callable[..., Awaitable[Api]]


@pytest.fixture
async def provider() -> AsyncIterator[StandInProvider]:
    """A provider, on a port."""
    async with stand_in_provider() as made:
        yield made


@pytest.fixture
async def entrance(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, provider: StandInProvider
) -> Entrance:
    """Make applications whose users are the provider's."""

    async def make(per_minute: int = OFTEN) -> Api:
        asked = Provider(provider.issuer)
        known = KnownProvider(asked.read, pause=0)
        tokens = ProviderTokens(issuer=provider.issuer, audience=AUDIENCE, keys=known.keys)
        sign_ins = ProviderSignIns(
            CodeFlow(
                asked.post, discovery=known.discovery, client=CLIENT, parameters="audience=api"
            ),
            tokens=tokens,
            issuer=provider.issuer,
            client=CLIENT,
            per_minute=per_minute,
        )
        verifier = TokenVerifier(secret=SECRET, public_key="", provider=tokens)
        gate = Gate(verifier, configuration.tenants, limits=PLENTY)
        parts = parts_for(
            configuration, gate=gate, console=Console(None, sign_ins), health=Health({})
        )
        return await serve(aiohttp_client, parts)

    return make


async def enter(api: Api, code: str, **changes: Any) -> ClientResponse:
    """Send the code that a user comes back with."""
    body = {"code": code, "codeVerifier": VERIFIER, "redirectUri": HOME, "nonce": "n-1"}
    return await api.client.post("/console/sign-in/code", json=body | changes)


def given(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_user_signs_in_with_a_code(entrance: Entrance, provider: StandInProvider) -> None:
    api = await entrance()
    options = await (await api.client.get("/console/options")).json()
    assert options == {"passwords": False, "provider": provider.issuer}
    there = await (await api.client.get("/console/provider")).json()
    assert there["authorizationEndpoint"] == f"{provider.issuer}/authorize"
    assert there["endSessionEndpoint"] == f"{provider.issuer}/end"
    assert there["parameters"] == {
        "audience": "api",
        "client_id": CLIENT,
        "response_type": "code",
        "scope": "openid",
    }
    answer = await enter(api, provider.code(challenge_of(VERIFIER), HOME))
    assert answer.status == 200
    tokens = await answer.json()
    me = await api.client.get("/me", headers=given(tokens["token"]))
    assert (await me.json())["content"]["name"] == "admin@example.org"
    assert (await api.client.get("/me", headers=bearer())).status == 200  # others, too
    (form,) = provider.forms
    assert "client_secret" not in form
    opened = await api.client.get("/me", headers=given(tokens["idToken"]))
    assert opened.status == 401


async def test_a_token_is_renewed_and_each_refresh_token_once(
    entrance: Entrance, provider: StandInProvider
) -> None:
    api = await entrance()
    first = await (await enter(api, provider.code(challenge_of(VERIFIER), HOME))).json()
    body = {"refreshToken": first["refreshToken"]}
    renewed = await api.client.post("/console/sign-in/refresh", json=body)
    assert renewed.status == 200
    token = (await renewed.json())["token"]
    assert (await api.client.get("/me", headers=given(token))).status == 200
    again = await api.client.post("/console/sign-in/refresh", json=body)
    assert again.status == 401
    assert "invalid_grant" in (await again.json())["message"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"code": "code-of-mine"}, 401),
        ({"codeVerifier": "w" * 43}, 401),
        ({"redirectUri": "https://evil.example/console"}, 401),
        ({"nonce": "of another sign-in"}, 401),
        ({"codeVerifier": "short"}, 422),
        ({"nonce": ""}, 422),
        ({"code": 7}, 422),
        ({"nonce": "\ud800"}, 422),
    ],
)
async def test_a_code_of_another_sign_in_opens_nothing(
    entrance: Entrance, provider: StandInProvider, changes: dict[str, Any], status: int
) -> None:
    api = await entrance()
    good = {"code": provider.code(challenge_of(VERIFIER), HOME)}
    answer = await enter(api, **good | changes)
    assert answer.status == status
    assert "token" not in await answer.json()


async def test_tokens_for_another_service_are_not_handed_out(
    entrance: Entrance, provider: StandInProvider
) -> None:
    api = await entrance()
    made = provider.claims
    provider.claims = lambda **changes: made(**{"aud": "other"} | changes)  # type: ignore[method-assign]
    answer = await enter(api, provider.code(challenge_of(VERIFIER), HOME))
    assert answer.status == 401
    assert "for another service" in (await answer.json())["message"]


async def test_one_address_brings_few_codes(entrance: Entrance, provider: StandInProvider) -> None:
    api = await entrance(per_minute=5)
    statuses = [(await enter(api, f"guess-{number}")).status for number in range(6)]
    assert statuses == [401] * 5 + [429]
    refused = await enter(api, "guess")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert len(provider.forms) == 5


async def test_each_code_is_logged_with_its_user_and_no_token(
    entrance: Entrance, provider: StandInProvider
) -> None:
    api = await entrance()
    with capture_logs() as logs:
        tokens = await (await enter(api, provider.code(challenge_of(VERIFIER), HOME))).json()
        await enter(api, "code-canary")
        provider.away = True
        await enter(api, "code-canary")
    told = [
        (line["outcome"], line.get("user"), line.get("tenant"))
        for line in logs
        if line["event"] == "sign_in"
    ]
    assert told == [
        ("accepted", "admin@example.org", TENANT),
        ("refused", None, None),
        ("unavailable", None, None),
    ]
    for secret in ("code-canary", tokens["token"], tokens["refreshToken"], VERIFIER):
        assert secret not in str(logs)


async def test_a_start_without_the_provider_is_told_and_made_up_for(
    entrance: Entrance, provider: StandInProvider
) -> None:
    provider.away = True
    api = await entrance()
    token = provider.token()
    for path in ("/me", "/console/provider"):
        answer = await api.client.get(path, headers=given(token))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        said = (await answer.json())["message"]
        assert "refuses no token and no sign-in" in said
        assert provider.issuer not in said
    # What is told to any client, and tokens by other keys, do not wait for it.
    assert (await api.client.get("/health/ready", headers=given(token))).status == 200
    assert (await api.client.get("/me", headers=bearer())).status == 200
    provider.away = False
    assert (await api.client.get("/me", headers=given(token))).status == 200


async def test_nothing_of_a_provider_is_there_without_one(api: Api) -> None:
    assert await (await api.client.get("/console/options")).json() == {"passwords": False}
    assert (await api.client.get("/console/provider")).status == 401
    assert (await enter(api, "code")).status == 401
    body = {"refreshToken": "x"}
    assert (await api.client.post("/console/sign-in/refresh", json=body)).status == 401
