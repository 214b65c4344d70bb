"""What is read of an identity provider, what is set of it, and what the doctor says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.errors import ConfigurationError, IdentityUnavailableError
from app.network.urls import keeps_secrets
from app.run.doctor import check_keys
from app.settings import Settings, load_settings
from app.tenants.secret_rules import require_sign_in, token_secret
from streams.oidc.jwks import PublicKey
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider, ProviderState
from streams.operators.identity import check_identity_provider
from tests.identity import AUDIENCE, CLIENT, StandInProvider, stand_in_provider
from tests.servers import serving

ISSUER = "https://login.example.org/realms/site"


@pytest.fixture
async def provider() -> AsyncIterator[StandInProvider]:
    """A provider, on a port."""
    async with stand_in_provider() as made:
        yield made


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, without anything of a provider."""
    for name in ("ISSUER", "AUDIENCE", "CLIENT_ID", "TENANT"):
        monkeypatch.delenv(f"DELIVERY_OIDC_{name}", raising=False)
    for name in ("JWT_SECRET", "JWT_PUBLIC_KEY", "OAUTH_URL"):
        monkeypatch.delenv(f"DELIVERY_{name}", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "keeps"),
    [
        ("https://login.example.org", True),
        ("http://127.0.0.1:8080/realms/x", True),
        ("http://[::1]:8080", True),
        ("http://localhost", True),
        ("http://login.example.org", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("https://", False),
        ("ftp://localhost", False),
        ("http://[", False),
    ],
)
def test_only_an_encrypted_line_keeps_what_it_carries(url: str, keeps: bool) -> None:
    assert keeps_secrets(url) is keeps


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ISSUER": ISSUER}, "OIDC_AUDIENCE: needed"),
        ({"AUDIENCE": AUDIENCE}, "OIDC_AUDIENCE: not used without DELIVERY_OIDC_ISSUER"),
        ({"CLIENT_ID": CLIENT}, "OIDC_CLIENT_ID: not used without DELIVERY_OIDC_ISSUER"),
        ({"ISSUER": "http://login.example.org", "AUDIENCE": "a"}, "OIDC_ISSUER: must begin"),
        ({"ISSUER": "https://u:pw-canary@e.org", "AUDIENCE": "a"}, "OIDC_ISSUER: must not hold"),
        ({"ISSUER": f"{ISSUER}?a=b", "AUDIENCE": "a"}, "OIDC_ISSUER: must have no query"),
        ({"SCOPES": "email"}, "OIDC_SCOPES: must have openid"),
        ({"PARAMETERS": "audience=x&state=y"}, "OIDC_PARAMETERS: must not have state"),
        ({"PARAMETERS": "nonsense"}, "OIDC_PARAMETERS: can't be read"),
        ({"USER_CLAIMS": " , "}, "OIDC_USER_CLAIMS: must name"),
        ({"ROLE_CLAIM": ""}, "OIDC_ROLE_CLAIM: must not be blank"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    found: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    for name, value in given.items():
        found.setenv(f"DELIVERY_OIDC_{name}", value)
    with pytest.raises(ConfigurationError, match=words) as raised:
        load_settings()
    assert "pw-canary" not in str(raised.value)


def test_a_provider_alone_lets_no_shared_secret_in(found: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {"oidc_issuer": ISSUER, "oidc_audience": "a"}
    settings = Settings(**fields, rs_order_token_secret=SecretStr("r" * 64))
    assert token_secret(settings) == ""
    (told,) = [finding for finding in check_keys(settings) if finding.check == "sign-in"]
    assert told.ok
    assert "identity provider alone" in told.message
    assert token_secret(Settings(**fields, jwt_secret=SecretStr("j" * 64))) == "j" * 64


def test_passwords_that_get_tokens_of_no_use_are_refused(found: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {"oidc_issuer": ISSUER, "oidc_audience": "a"}
    passwords: dict[str, Any] = {"oauth_url": "https://regards.example.org/oauth/token"}
    settings = Settings(**fields, **passwords)
    with pytest.raises(ConfigurationError, match="DELIVERY_OAUTH_URL"):
        require_sign_in(settings)
    assert "passwords" in [finding.check for finding in check_keys(settings) if not finding.ok]
    require_sign_in(Settings(**fields))
    require_sign_in(Settings(**passwords))
    require_sign_in(Settings(**fields, **passwords, jwt_secret=SecretStr("j" * 64)))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"issuer": "https://evil.example"}, "calls itself 'https://evil.example'"),
        ({"issuer": None}, "issuer: Field required"),
        ({"jwks_uri": None}, "jwks_uri: Field required"),
        ({"jwks_uri": "http://keys.example.org/jwks"}, "jwks_uri: it must begin with https"),
        ({"token_endpoint": "http://keys.example.org/t"}, "token_endpoint: it must begin with"),
    ],
)
async def test_a_provider_that_is_another_than_meant_is_not_believed(
    provider: StandInProvider, said: dict[str, Any], words: str
) -> None:
    provider.discovery = said
    with pytest.raises(IdentityUnavailableError, match=words):
        await Provider(provider.issuer).read()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html>", "as it must"),
        ("[]", "can't be used"),
        ("[" * 100_000, "as it must"),
        ("x" * 600_000, "more than 524288 bytes"),
    ],
)
async def test_what_is_no_provider_is_told(body: str, words: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    async with serving(answer) as port:
        with pytest.raises(IdentityUnavailableError, match=words):
            await Provider(f"http://127.0.0.1:{port}").read()


async def test_redirects_are_not_followed(provider: StandInProvider) -> None:
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound(provider.issuer + request.path)

    async with serving(answer) as port:
        with pytest.raises(IdentityUnavailableError, match="answered 302"):
            await Provider(f"http://127.0.0.1:{port}").read()
    assert not provider.asked


async def test_many_who_wait_make_one_look(provider: StandInProvider) -> None:
    known = KnownProvider(Provider(provider.issuer).read, max_waiting=20)
    provider.going.clear()

    async def ask() -> list[PublicKey]:
        return [*await known.keys("first", "RS256")]

    asked = [asyncio.ensure_future(ask()) for _ in range(21)]
    (refused,), _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(IdentityUnavailableError, match="20 requests wait"):
        await refused
    provider.going.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(outcome, list) and len(outcome) == 1 for outcome in outcomes) == 20
    assert provider.asked.count("/jwks") == 1


async def test_a_client_that_goes_away_ends_no_look_of_others(provider: StandInProvider) -> None:
    known = KnownProvider(Provider(provider.issuer).read)
    provider.going.clear()
    gone, stays = (asyncio.ensure_future(known.keys("first", "RS256")) for _ in range(2))
    async with provider.came:
        await provider.came.wait_for(lambda: provider.asked)
    gone.cancel()
    provider.going.set()
    assert len(await stays) == 1


async def test_an_outage_is_logged_once_and_its_end_too() -> None:
    now, states = 0.0, iter(["away", "away", "good", "away"])
    good = await _state()

    async def read() -> ProviderState:
        if next(states) == "away":
            raise IdentityUnavailableError("it is away")
        return good

    known = KnownProvider(read, clock=lambda: now)
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(IdentityUnavailableError):
                await known.keys("first", "RS256")
            now += 1000
        await known.keys("first", "RS256")
        now += 1000
        await known.keys("first", "RS256")
    told = [(line["event"], line.get("consequence")) for line in logs]
    assert told == [
        ("identity_provider_away", "no token of it can be checked"),
        ("identity_keys_read", None),
        ("identity_provider_away", "its last keys stay good"),
    ]


async def _state() -> ProviderState:
    async with stand_in_provider() as provider:
        return await Provider(provider.issuer).read()


async def test_a_fault_of_ours_keeps_the_keys_as_an_outage_does() -> None:
    now, good = 0.0, await _state()
    states = iter([good])
    known = KnownProvider(_from(states), clock=lambda: now)
    assert await known.keys("first", "RS256")
    now += 1000
    with capture_logs() as logs:
        assert await known.keys("first", "RS256")
    assert [line["event"] for line in logs] == ["identity_look_failed", "identity_provider_away"]


def _from(states: Any) -> Any:
    async def read() -> ProviderState:
        try:
            state: ProviderState = next(states)
        except StopIteration:
            raise LookupError("a fault") from None
        return state

    return read


async def checked(**fields: Any) -> dict[str, tuple[bool, str]]:
    settings = Settings(**{"oidc_audience": AUDIENCE, "oidc_client_id": CLIENT} | fields)
    found = [finding async for finding in check_identity_provider(settings)]
    assert all(finding.ok or finding.advice for finding in found)
    return {finding.check: (finding.ok, finding.message) for finding in found}


async def test_the_doctor_looks_at_the_provider(provider: StandInProvider) -> None:
    found = await checked(oidc_issuer=provider.issuer)
    assert [ok for ok, _ in found.values()] == [True] * 4
    assert found["keys"][1] == "1, for RS256"
    assert AUDIENCE in found["audience"][1]
    provider.discovery = {"code_challenge_methods_supported": ["plain"], "token_endpoint": None}
    provider.published = []
    found = await checked(oidc_issuer=provider.issuer)
    assert not found["keys"][0]
    assert found["console"] == (
        False,
        "it lacks token_endpoint, PKCE by S256: no user signs in to the console there",
    )
    slash = await checked(oidc_issuer=f"{provider.issuer}/")
    assert not slash["discovery"][0]
    assert "to the last slash" in slash["discovery"][1]
    provider.away = True
    assert "answered 503" in (await checked(oidc_issuer=provider.issuer))["discovery"][1]
    none = Settings()
    assert [finding async for finding in check_identity_provider(none)] == []
