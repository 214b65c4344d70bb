"""A real identity provider: users sign in there, its tokens open the service, its keys change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import asyncpg
import jwt
import pytest
from yarl import URL

from app.run.reloads import Reloads
from app.run.website import running_site
from app.settings import Settings
from compose.embedded.oidc_provider import OidcProvider, missing, oidc_provider
from compose.embedded.processes import free_port
from streams.oidc.code_flow import CodeFlow
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider
from streams.operators.identity import check_identity_provider
from tests.identity import challenge_of, private_jwk
from tests.provider_pages import signed_in
from web.guard.auth import TokenVerifier
from web.guard.errors import NotSignedInError
from web.guard.oidc import ProviderTokens

TENANT, USER = "sentinel", "operator@example.org"
VERIFIER = "v" * 64
_HOME = "X-Home"  # where users come back to, kept with the client


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    """The provider; users come back to a port where the service will be."""
    if sentence := missing():
        pytest.skip(sentence)
    async with oidc_provider(
        tmp_path,
        jwks=[private_jwk("one")],
        claims={"tenant": TENANT, "realm_access": {"roles": ["offline", "ADMIN"]}},
        home=f"http://127.0.0.1:{free_port()}/console",
    ) as running:
        yield running


def settings_with(settings: Settings, provider: OidcProvider, home: str) -> Settings:
    """Return settings of a service that takes its tokens."""
    return settings.model_copy(
        update={
            "tenants": (TENANT,),
            "web_host": "127.0.0.1",
            "web_port": URL(home).port,
            "oidc_issuer": provider.url,
            "oidc_audience": provider.audience,
            "oidc_client_id": provider.client,
            "oidc_role_claim": "realm_access.roles",
            "web_sign_ins_per_minute": 100,
        }
    )


@pytest.fixture
async def service(
    settings: Settings, pool: asyncpg.Pool, provider: OidcProvider
) -> AsyncIterator[aiohttp.ClientSession]:
    """The HTTP server, as a process runs it, and a client of it."""
    home = json.loads(provider.file.read_text("utf-8"))["home"]
    own = settings_with(settings, provider, home)
    async with (
        running_site(own, Reloads(own)),
        aiohttp.ClientSession(home.removesuffix("/console"), headers={_HOME: home}) as session,
    ):
        yield session


async def code_for(there: Mapping[str, Any], home: str) -> str:
    """Let a user sign in, who was sent there as the console does; return the code."""
    begun = {
        "redirect_uri": home,
        "state": "s-1",
        "nonce": "n-1",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    address = URL(there["authorizationEndpoint"]).with_query({**there["parameters"], **begun})
    back = dict(parse_qsl(urlsplit(await signed_in(address, home, USER)).query))
    assert (back["state"], back["iss"]) == ("s-1", there["issuer"])
    return back["code"]


async def entered(service: aiohttp.ClientSession) -> dict[str, Any]:
    """Sign a user in as the console does; return the tokens. A code is good once."""
    there = await (await service.get("/console/provider")).json()
    home = str(service.headers[_HOME])
    code = await code_for(there, home)
    body = {"code": code, "codeVerifier": VERIFIER, "redirectUri": home, "nonce": "n-1"}
    answer = await service.post("/console/sign-in/code", json=body)
    assert answer.status == 200, await answer.text()
    tokens: dict[str, Any] = await answer.json()
    return tokens


async def caller(service: aiohttp.ClientSession, token: str) -> tuple[int, Mapping[str, Any]]:
    answer = await service.get("/me", headers={"Authorization": f"Bearer {token}"})
    return answer.status, (await answer.json()).get("content", {})


async def test_a_user_of_a_real_provider_signs_in_and_is_known(
    service: aiohttp.ClientSession, provider: OidcProvider
) -> None:
    tokens = await entered(service)
    assert await caller(service, tokens["token"]) == (
        200,
        {"name": USER, "role": "ADMIN", "tenant": TENANT},
    )
    assert (await caller(service, tokens["idToken"]))[0] == 401
    body = {"refreshToken": tokens["refreshToken"]}
    renewed = await (await service.post("/console/sign-in/refresh", json=body)).json()
    assert renewed["token"] != tokens["token"]
    assert (await caller(service, renewed["token"]))[0] == 200


async def test_a_code_of_a_real_provider_is_good_once_and_for_who_began(
    service: aiohttp.ClientSession, provider: OidcProvider
) -> None:
    there = await (await service.get("/console/provider")).json()
    home = str(service.headers[_HOME])
    good = {
        "code": await code_for(there, home),
        "codeVerifier": VERIFIER,
        "redirectUri": home,
        "nonce": "n-1",
    }
    wrong = {"codeVerifier": "w" * 64}, {"redirectUri": f"{home}/x"}
    tried = [*(good | changes for changes in wrong), good, good]
    statuses = [(await service.post("/console/sign-in/code", json=body)).status for body in tried]
    assert statuses == [401, 401, 200, 401]


async def test_a_real_providers_keys_change_and_its_tokens_are_followed(
    provider: OidcProvider,
) -> None:
    asked = Provider(provider.url)
    known = KnownProvider(asked.read, pause=0)
    flow = CodeFlow(asked.post, discovery=known.discovery, client=provider.client)
    verifier = TokenVerifier(
        secret="",
        public_key="",
        provider=ProviderTokens(issuer=provider.url, audience=provider.audience, keys=known.keys),
    )
    said = json.loads(provider.file.read_text("utf-8"))

    async def token() -> str:
        there = (await flow.entrance()).body()
        code = await code_for(there, said["home"])
        given = await flow.exchange(code, verifier=VERIFIER, redirect_uri=said["home"])
        return given.token

    first = await token()
    assert (await verifier.actor_of(first)).name == USER
    await provider.change(jwks={"keys": [private_jwk("two"), *said["jwks"]["keys"]]})
    second = await token()
    assert [kid_of(each) for each in (first, second)] == ["one", "two"]
    for each in (first, second):
        assert (await verifier.actor_of(each)).tenant == TENANT
    await provider.change(jwks={"keys": [private_jwk("three")]})
    assert (await verifier.actor_of(await token())).tenant == TENANT
    for each in (first, second):
        with pytest.raises(NotSignedInError, match="signed by no key"):
            await verifier.actor_of(each)


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_real_provider_that_is_away_keeps_no_user_out(
    service: aiohttp.ClientSession, provider: OidcProvider
) -> None:
    tokens = await entered(service)
    await provider.child.stop()
    assert (await caller(service, tokens["token"]))[0] == 200
    there = await service.post("/console/sign-in/refresh", json={"refreshToken": "x"})
    assert there.status == 503


async def test_the_doctor_finds_a_real_provider_well(
    settings: Settings, provider: OidcProvider
) -> None:
    changed = settings_with(settings, provider, provider.url)
    found = [finding async for finding in check_identity_provider(changed)]
    assert all(finding.ok for finding in found), found
    assert [finding.check for finding in found] == ["discovery", "keys", "audience", "console"]
