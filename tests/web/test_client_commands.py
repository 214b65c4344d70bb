"""The client's commands on the service itself: what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from app.errors import NotAcceptedError
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresTracking
from tests.client_library.program import called
from tests.web.conftest import TENANT, MakeClient, parts_for, serve, token
from web.api.console import Console
from web.api.sign_in import SignIns
from web.feed import Feed

Call = Callable[..., Awaitable[tuple[int, str, str]]]
PASSWORDS = {("u@x.org", "right")}


async def _sign_in(tenant: str, user: str, password: str) -> str:
    if (user, password) not in PASSWORDS:
        raise NotAcceptedError("no")
    return token(tenant=tenant, email=user)


@pytest.fixture
async def url(
    pool: asyncpg.Pool, configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> AsyncIterator[str]:
    """Where the service is."""
    feed = Feed(PostgresTracking(pool), list)
    await feed.start()
    sign_ins = SignIns(_sign_in, served=configuration.tenants.known, per_minute=100)
    parts = parts_for(configuration, feed=feed, console=Console(sign_ins))
    api = await serve(aiohttp_client, parts)
    yield str(api.client.make_url("")).rstrip("/")
    await feed.stop()


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """Where profiles are kept."""
    return tmp_path / "profiles.json"


@pytest.fixture
def rs_delivery(profiles: Path) -> Call:
    """The command, with profiles of its own."""

    async def call(*arguments: object, text: str | None = None) -> tuple[int, str, str]:
        where = {"DELIVERY_PROFILES": profiles}
        return await called("rs-delivery", *arguments, text=text, environment=where)

    return call


@pytest.fixture
async def signed_in(url: str, rs_delivery: Call) -> Call:
    """The command of an administrator who has signed in."""
    code, _, err = await rs_delivery("login", "--url", url, "--with-token", text=token())
    assert code == 0, err
    return rs_delivery


async def test_a_token_that_was_given_is_kept_and_never_shown(
    url: str, profiles: Path, rs_delivery: Call
) -> None:
    given = token()
    code, out, err = await rs_delivery("login", "--url", url, "--with-token", text=f"{given}\n")
    assert code == 0
    assert out.startswith(
        f"signed in to {url} as admin@example.org (PROJECT_ADMIN) of tenant {TENANT}, for "
    )
    assert f"profile default; the token is in {profiles}, which no other user reads" in err
    assert json.loads(profiles.read_text())["profiles"]["default"]["token"] == given
    assert profiles.stat().st_mode & 0o777 == 0o600
    code, more, _ = await rs_delivery("whoami")
    assert (code, more.partition(", for ")[0]) == (
        0,
        f"admin@example.org (PROJECT_ADMIN) of tenant {TENANT} at {url}",
    )
    code, as_json, _ = await rs_delivery("whoami", "--json")
    told = json.loads(as_json)
    assert (told["name"], told["role"], told["url"]) == ("admin@example.org", "PROJECT_ADMIN", url)
    assert given not in out + err + more + as_json


async def test_a_user_of_regards_signs_in_by_a_password(url: str, rs_delivery: Call) -> None:
    who = ("--tenant", TENANT, "--user", "u@x.org", "--password-stdin")
    code, out, err = await rs_delivery("login", "--url", url, *who, text="wrong")
    assert (code, out) == (4, "")
    assert err == "rs-delivery: REGARDS knows no such user and password for this tenant\n"
    code, out, _ = await rs_delivery("login", "--url", url, *who, text="right\n")
    assert code == 0
    assert f"as u@x.org (PROJECT_ADMIN) of tenant {TENANT}" in out


async def test_a_token_that_is_not_believed_is_not_kept(
    url: str, profiles: Path, rs_delivery: Call
) -> None:
    bad = token(key="another-secret-that-is-long-enough-for-HS512-0123456789-abcdefghijklmnopqr")
    code, out, err = await rs_delivery("login", "--url", url, "--with-token", text=bad)
    assert (code, out) == (4, "")
    assert bad not in err
    assert not profiles.exists()


async def test_who_signed_out_is_told_to_sign_in(signed_in: Call, url: str) -> None:
    code, out, _ = await signed_in("logout")
    assert (code, out) == (0, f"signed out of {url} (profile default)\n")
    code, out, err = await signed_in("whoami")
    assert (code, out) == (4, "")
    assert "sign in with `rs-delivery login`, or give a token" in err
    code, out, _ = await signed_in("profiles")
    assert (code, out) == (0, f"* default  {url}  signed out\n")


async def test_a_mistake_in_signing_in_is_a_sentence(url: str, rs_delivery: Call) -> None:
    for arguments, text, says in (
        ((), None, "say where the service is"),
        (("--url", url), None, "there is no terminal to ask at"),
        (("--url", url, "--with-token"), "", "and there is nothing"),
        (("--url", url, "--with-token"), "two words", "the token holds what no token does"),
        (("--url", url, "--with-token", "--user", "u"), "t", "not both"),
        (("--url", url, "--password-stdin"), "p", "needs --tenant and --user"),
        (("--url", "nonsense", "--with-token"), "t", "must begin with https://"),
    ):
        code, out, err = await rs_delivery("login", *arguments, text=text)
        assert (code, out) == (2, ""), err
        assert says in err
        assert "Traceback" not in err


async def test_delivery_has_the_commands_of_the_client(url: str, profiles: Path) -> None:
    where = {"DELIVERY_PROFILES": profiles}
    code, _, err = await called(
        "delivery", "login", "--url", url, "--with-token", text=token(), environment=where
    )
    assert code == 0, err
    code, out, _ = await called("delivery", "whoami", environment=where)
    assert code == 0
    assert out.startswith("admin@example.org (PROJECT_ADMIN)")
