"""The client signs in at the identity provider by a code, and goes on when its token has ended."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.run.wiring.tenants import ConfigurationParts
from rs_delivery_client import device
from rs_delivery_client.cli.renewal import Renewal
from rs_delivery_client.errors import ProfileError
from rs_delivery_client.profiles import Profile, Profiles
from streams.oidc.code_flow import CodeFlow
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider
from tests.client_library.program import called
from tests.identity import AUDIENCE, CLIENT, TENANT, StandInProvider, stand_in_provider
from tests.web.conftest import PLENTY, SECRET, MakeClient, parts_for, serve
from web.api.console import Console
from web.api.provider_sign_in import ProviderSignIns
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.oidc import ProviderTokens

Call = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def provider() -> AsyncIterator[StandInProvider]:
    """A provider, on a port."""
    async with stand_in_provider() as made:
        yield made


@pytest.fixture
async def url(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, provider: StandInProvider
) -> str:
    """Where the service is whose users are the provider's."""
    asked = Provider(provider.issuer)
    known = KnownProvider(asked.read, pause=0)
    tokens = ProviderTokens(issuer=provider.issuer, audience=AUDIENCE, keys=known.keys)
    sign_ins = ProviderSignIns(
        CodeFlow(asked.post, discovery=known.discovery, client=CLIENT, parameters="audience=api"),
        tokens=tokens,
        issuer=provider.issuer,
        client=CLIENT,
        per_minute=1000,
    )
    verifier = TokenVerifier(secret=SECRET, public_key="", provider=tokens)
    gate = Gate(verifier, configuration.tenants, limits=PLENTY)
    parts = parts_for(configuration, gate=gate, console=Console(None, sign_ins))
    api = await serve(aiohttp_client, parts)
    return str(api.client.make_url("")).rstrip("/")


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """Where profiles are kept."""
    return tmp_path / "profiles.json"


@pytest.fixture
def rs_delivery(profiles: Path) -> Call:
    """The command, with profiles of its own."""

    async def call(*arguments: object) -> tuple[int, str, str]:
        return await called("rs-delivery", *arguments, environment={"DELIVERY_PROFILES": profiles})

    return call


def entry(profiles: Path) -> dict[str, Any]:
    """Return what is kept."""
    found: dict[str, Any] = json.loads(profiles.read_text())["profiles"]["default"]
    return found


def keep(profiles: Path, url: str, token: str, refresh: str = "refresh-0") -> Profile:
    """Keep a token, and what it is renewed by."""
    made = Profile(name="default", url=url, token=token, refresh=refresh)
    return Profiles(profiles).keep(made, keyring=False)


async def test_a_user_signs_in_by_a_code_in_any_browser(
    url: str, provider: StandInProvider, profiles: Path, rs_delivery: Call
) -> None:
    provider.undecided = ["authorization_pending"]
    code, out, err = await rs_delivery("login", "--url", url, "--device")
    assert code == 0, err
    assert err.splitlines()[0] == (
        f"open {provider.issuer}/activate in a browser, and give the code WDJB-MJHT"
    )
    assert f"as admin@example.org (PROJECT_ADMIN) of tenant {TENANT}" in out
    assert provider.forms[0] == {"client_id": CLIENT, "scope": "openid", "audience": "api"}
    kept = entry(profiles)
    assert kept["refresh"] in provider.refresh_tokens
    assert kept["renews"] is True
    assert kept["token"] not in out + err
    assert profiles.stat().st_mode & 0o777 == 0o600
    assert (await rs_delivery("whoami"))[0] == 0


async def intervals(provider: StandInProvider) -> list[float]:
    """Sign in by a code, and return how long was waited before each question."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    known = {"issuer": provider.issuer, "parameters": {"client_id": CLIENT}}
    async with aiohttp.ClientSession() as session:
        given = await device.signed_in(session, known, lambda *_: None, sleep=sleep)
    assert given.refresh in provider.refresh_tokens
    return waited


async def test_a_provider_that_is_away_for_a_while_is_asked_more_slowly(
    provider: StandInProvider,
) -> None:
    provider.interval = 3
    provider.undecided = ["away", "authorization_pending", "slow_down", *["away"] * 3]
    assert await intervals(provider) == [3, 6, 6, 11, 22, 44, 60]


@pytest.mark.parametrize(
    ("said", "waited"), [(None, 5), (float("nan"), 5), ("soon", 5), (0, 1), (-1, 1), (7, 7)]
)
async def test_a_provider_is_asked_no_more_than_once_a_second(
    provider: StandInProvider, said: Any, waited: float
) -> None:
    provider.interval = said
    assert await intervals(provider) == [waited]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("access_denied", "the identity provider does not let you in (access_denied)"),
        ("expired_token", "the identity provider does not let you in (expired_token)"),
    ],
)
async def test_a_sign_in_that_is_refused_keeps_nothing(
    url: str, provider: StandInProvider, profiles: Path, rs_delivery: Call, error: str, says: str
) -> None:
    provider.undecided = [error]
    code, _, err = await rs_delivery("login", "--url", url, "--device")
    assert (code, says in err, profiles.exists()) == (4, True, False)


@pytest.mark.parametrize(
    ("discovery", "says"),
    [
        ({"device_authorization_endpoint": None}, "has no device authorization endpoint"),
        ({"device_authorization_endpoint": "http://x.org/d"}, "http://x.org/d is no https address"),
    ],
)
async def test_a_provider_without_the_flow_is_told(
    url: str, provider: StandInProvider, rs_delivery: Call, discovery: Any, says: str
) -> None:
    provider.discovery = discovery
    code, _, err = await rs_delivery("login", "--url", url, "--device")
    assert (code, says in err) == (4, True)


async def test_a_token_that_has_ended_is_renewed_and_kept(
    url: str, provider: StandInProvider, profiles: Path, rs_delivery: Call
) -> None:
    provider.refresh_tokens.add("refresh-0")
    over = provider.token(exp=int(time.time()) - 3600)
    keep(profiles, url, over)
    code, out, err = await rs_delivery("list")
    assert (code, err) == (0, "no deliveries\n"), out
    kept = entry(profiles)
    assert kept["token"] != over
    provider.refresh_tokens.add("refresh-0")
    keep(profiles, url, over)
    code, out, _ = await rs_delivery("whoami")
    assert (code, ", for 0 s" in out) == (0, False)
    kept = entry(profiles)
    assert kept["refresh"] in provider.refresh_tokens  # the one before is taken once


async def test_where_it_is_not_renewed_the_way_in_is_told(
    url: str, provider: StandInProvider, profiles: Path, rs_delivery: Call
) -> None:
    over = provider.token(exp=int(time.time()) - 3600)
    keep(profiles, url, over)
    code, _, err = await rs_delivery("list")
    assert (code, "sign in with `rs-delivery login`" in err) == (4, True)
    assert entry(profiles)["token"] == over


async def test_what_another_program_has_renewed_is_taken(
    url: str, provider: StandInProvider, profiles: Path
) -> None:
    """A provider takes a refresh token once: a second use may end all that it has given."""
    first, other = provider.token(jti="first"), provider.token(jti="other")
    profile = keep(profiles, url, first)
    renewal = Renewal(url, profile, first, Profiles(profiles))
    assert await renewal() == first
    keep(profiles, url, other, "refresh-9")
    assert await renewal() == other
    assert not provider.forms
    provider.refresh_tokens.add("refresh-9")
    assert await renewal() not in (first, other)
    assert [form["refresh_token"] for form in provider.forms] == ["refresh-9"]


async def test_a_renewal_does_not_undo_that_its_user_signs_out_meanwhile(
    url: str, provider: StandInProvider, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.refresh_tokens.add("refresh-0")
    over = provider.token(exp=int(time.time()) - 3600)
    profile, kept = keep(profiles, url, over), Profiles(profiles)
    renew = Profiles.renew

    def late(*arguments: Any, **what: Any) -> bool:
        kept.sign_out(profile)
        return renew(*arguments, **what)

    monkeypatch.setattr(Profiles, "renew", late)
    renewal = Renewal(url, profile, over, kept)
    token = await renewal()
    assert token != over
    assert entry(profiles) == {"url": url}
    assert await renewal() == token  # and has no way to another one


async def test_what_another_user_has_signed_in_with_is_not_taken(
    url: str, provider: StandInProvider, profiles: Path
) -> None:
    over = provider.token(exp=int(time.time()) - 3600)
    profile = keep(profiles, url, over)
    other = provider.token(sub="other")
    provider.refresh_tokens.add("refresh-9")
    keep(profiles, url, other, "refresh-9")
    renewal = Renewal(url, profile, over, Profiles(profiles))
    assert await renewal() == over
    assert (entry(profiles)["token"], provider.forms) == (other, [])


async def test_where_a_renewed_token_can_not_be_kept_it_is_told_once_and_used(
    url: str,
    provider: StandInProvider,
    profiles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a disk that is full: what could not be kept is what the next one is had by."""
    provider.refresh_tokens.add("refresh-0")
    first = provider.token(jti="first")
    profile = keep(profiles, url, first)

    def full(*_: object, **__: object) -> bool:
        raise ProfileError("can't write it: no space left on device")

    monkeypatch.setattr(Profiles, "renew", full)
    renewal = Renewal(url, profile, first, Profiles(profiles))
    tokens = [await renewal() for _ in range(4)]
    assert [token == first for token in tokens] == [True, False, False, False]
    assert len(provider.forms) == 3
    assert capsys.readouterr().err == (
        "the token is renewed for this call alone, and not kept: "
        "can't write it: no space left on device\n"
    )
