"""What tenants may set of a bucket of Google's, what is secret of it, and who signs in there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from pydantic import ValidationError

from app.delivery.marks import marks_of
from app.errors import TargetForbiddenError, TargetRefusedError, TargetUnavailableError
from app.settings import Settings
from app.settings.gcs import GcsIdentityPlace, GcsSection
from app.tenants.masks import MASK, masked, not_kept, unmasked
from sinks.stores.gcs.account import read_account
from sinks.stores.gcs.checksum import joined
from sinks.stores.gcs.clients import GcsClients
from sinks.stores.gcs.requests import translate_errors
from sinks.stores.gcs.settings import GcsDeliveryTarget
from sinks.stores.gcs.target import PUBLIC, GcsTarget, identity_flaw
from sinks.stores.gcs.tokens import AccountTokens, MachineTokens, NoIdentityError
from sinks.stores.sessions import guarded_session
from tests.builders import make_delivery
from tests.gcs_account import (
    credentials,
    private_key,
    private_key_with,
    private_numbers,
    public_key,
)
from tests.servers import serving

ENTRY = {"type": "gcs", "bucket": "mission-deliveries"}
OWN = GcsTarget(container="mission-deliveries", prefix="esa/", credentials="identity")


def test_an_entry_is_read_as_a_target() -> None:
    entry = ENTRY | {"prefix": "/far/off/", "credentials": credentials()}
    GcsDeliveryTarget.model_validate(entry)
    target = GcsTarget.configured(entry)
    assert (target.endpoint, target.prefix) == (PUBLIC, "far/off/")
    assert target.url_of("far/off/a.zip") == "gs://mission-deliveries/far/off/a.zip"
    assert private_key() not in repr(target)
    assert GcsTarget.flaw_of(entry, Settings()) is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"credentials": "{"}, "the whole JSON file"),
        ({"credentials": "[]"}, "the whole JSON file"),
        ({"credentials": json.dumps({"type": "authorized_user"})}, "the whole JSON file"),
        ({"credentials": credentials(client_email=None)}, "it has no client_email"),
        ({"credentials": credentials(private_key_id=" ")}, "it has no private_key_id"),
        ({"credentials": credentials(private_key="canary")}, "no RSA key in PEM"),
        ({"credentials": "[" * 16_000}, "the whole JSON file"),
        ({"bucket": "UPPER"}, "lower-case letters"),
        ({"bucket": "a..b"}, "lower-case letters"),
        ({"bucket": "my-google-bucket"}, "must not have google"),
        ({"bucket": "10.0.0.1"}, "an IP address"),
        ({"bucket": "a" * 64}, "lower-case letters"),
        ({"endpoint": "https://h/path"}, "must have no path"),
        ({"endpoint": "ftp://h"}, "must be http"),
        ({"endpoint": "https://u:canary@h"}, "scheme, host and port alone"),
    ],
)
def test_an_entry_that_can_not_be_is_refused_in_words(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as raised:
        GcsDeliveryTarget.model_validate(ENTRY | {"credentials": "identity"} | changed)
    messages = [error["msg"] for error in raised.value.errors(include_input=False)]
    assert "canary" not in str(messages)


LARGE = 2**9689 - 1  # a prime; to prove it takes minutes


@pytest.mark.parametrize(
    "changed",
    [
        {"p": LARGE},
        {"p": LARGE, "q": LARGE},
        {"d": LARGE},
        {"dmp1": LARGE},
        {"dmq1": LARGE},
        {"iqmp": LARGE},
        {"e": LARGE},
        {"e": 4},
        {"p": 1},
    ],
    ids=str,
)
def test_a_key_whose_numbers_do_not_belong_together_is_refused_before_it_signs(
    changed: dict[str, int],
) -> None:
    """Nothing may ask whether its primes are some: the process would do nothing else."""
    text = credentials(private_key=private_key_with(**changed))
    with pytest.raises(ValidationError, match="RSA key"):
        GcsDeliveryTarget.model_validate(ENTRY | {"credentials": text})
    with pytest.raises(ValueError, match="RSA key"):
        AccountTokens(text)


def test_a_key_that_would_sign_what_its_own_half_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="not those of one RSA key"):
        read_account(credentials(private_key=private_key_with(d=private_numbers().d + 2)))


async def test_a_key_that_signs_nothing_is_told_in_words_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No empty token is sent in place of the one that could not be signed."""

    def fail(*_: object) -> str:
        raise jwt.InvalidKeyError("canary")

    tokens = AccountTokens(credentials())
    with monkeypatch.context() as patched:
        patched.setattr("sinks.stores.gcs.tokens.jwt.encode", fail)
        for _ in range(2):
            with pytest.raises(TargetRefusedError, match=r"signs nothing .*give another") as raised:
                async with translate_errors(OWN, "look", 5):
                    await tokens.token()
            assert "canary" not in str(raised.value)
    assert await tokens.token()


def test_credentials_are_masked_and_kept_by_their_mask_for_the_same_place_alone() -> None:
    entry = ENTRY | {"credentials": credentials()}
    shown = masked(entry)
    assert shown == ENTRY | {"credentials": MASK}
    GcsDeliveryTarget.model_validate(shown)
    assert unmasked(shown, entry) == entry
    assert list(not_kept(shown, entry, ("far",))) == []
    elsewhere = shown | {"endpoint": "https://elsewhere.example.org"}
    (reason,) = not_kept(elsewhere, entry, ("far",))
    assert reason.startswith("far.credentials: the stored one is for other values beside it")


def test_the_identity_of_this_service_is_no_secret() -> None:
    entry = ENTRY | {"credentials": "identity"}
    assert masked(entry) == entry


# Where this service signs in as itself, and for whom.


@pytest.mark.parametrize(
    "place", ["esa=mission-deliveries", "esa=mission-deliveries/", "esa=mission-deliveries/esa"]
)
def test_a_tenant_uses_the_identity_where_the_operator_says(place: str) -> None:
    assert identity_flaw(OWN, [place], tenant="esa") is None
    assert identity_flaw(OWN, [place]) is None


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("", {}),
        ("cnes=mission-deliveries", {}),
        ("esa=others", {}),
        ("esa=mission-deliveries/es", {}),
        ("esa=mission-deliveries/esa/more", {}),
        ("esa=mission-deliveries", {"endpoint": "https://elsewhere.example.org"}),
        ("esa=mission-deliveries", {"endpoint": "http://storage.googleapis.com"}),
    ],
)
def test_a_tenant_uses_the_identity_nowhere_else(place: str, changed: dict[str, Any]) -> None:
    places = [place] if place else []
    assert identity_flaw(replace(OWN, **changed), places, tenant="esa") is not None
    entry = ENTRY | {"prefix": "esa", "credentials": "identity"} | changed
    flaw = GcsTarget.flaw_of(entry, Settings(gcs_identity_places=tuple(places)).of_tenant("esa"))
    assert flaw is not None
    assert flaw[0] == "credentials"
    assert "DELIVERY_GCS_IDENTITY_PLACES" in flaw[1]


def test_nothing_is_put_for_a_tenant_that_the_place_is_not_for() -> None:
    delivery = make_delivery()
    clients = GcsClients(identity_places=[f"{delivery.tenant}=mission-deliveries"])
    clients.check_tenant(OWN, marks_of(delivery))
    clients.check_tenant(replace(OWN, credentials=credentials()), {})
    for marks in (marks_of(replace(delivery, tenant="another")), {}):
        with pytest.raises(TargetForbiddenError, match="DELIVERY_GCS_IDENTITY_PLACES"):
            clients.check_tenant(OWN, marks)


@pytest.mark.parametrize("text", ["bucket", "=bucket", "esa=", "esa=UPPER", "esa=bucket/../others"])
def test_what_is_no_place_of_a_tenant_is_refused_when_it_is_set(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        GcsIdentityPlace.read(text)
    with pytest.raises(ValidationError):
        GcsSection(gcs_identity_places=(text,))


# Tokens.


async def test_a_token_is_signed_again_before_it_ends_or_when_it_was_refused() -> None:
    now = 1_800_000_000.0
    tokens = AccountTokens(credentials(), clock=lambda: now)

    async def until() -> int:
        token = await tokens.token()
        return int(
            jwt.decode(token, public_key(), ["RS256"], {"verify_exp": False, "verify_iat": False})[
                "exp"
            ]
        )

    first = await until()
    now += 3000
    assert await until() == first
    now += 400
    second = await until()
    assert second == first + 3400
    now += 1
    tokens.refused(await tokens.token())
    assert await until() == second + 1


@contextlib.asynccontextmanager
async def machine(answer: web.Response) -> AsyncIterator[tuple[MachineTokens, list[web.Request]]]:
    """A metadata server that answers so."""
    heard: list[web.Request] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        heard.append(request)
        return web.Response(status=answer.status, body=answer.body)

    async with serving(handle) as port:
        url = f"http://127.0.0.1:{port}"
        async with guarded_session(url, judge=lambda _: None, direct=True) as session:
            yield MachineTokens(session, url=url), heard


async def test_the_token_of_this_machine_is_asked_for_once_while_it_is_good() -> None:
    told = {"access_token": "canary", "expires_in": 3599, "token_type": "Bearer"}
    async with machine(web.json_response(told)) as (tokens, heard):
        assert [await tokens.token() for _ in range(1)] == ["canary"]
        assert await tokens.token() == "canary"
        (request,) = heard
        assert request.headers["Metadata-Flavor"] == "Google"
        assert request.path == "/computeMetadata/v1/instance/service-accounts/default/token"


async def test_the_token_in_hand_does_while_no_other_can_be_had() -> None:
    """All who wait ask once: the metadata server has its limits, too."""
    now = 1_800_000_000.0
    answers: list[dict[str, Any] | None] = [{"access_token": "first", "expires_in": 3600}]
    heard = 0

    async def handle(_: web.Request) -> web.StreamResponse:
        nonlocal heard
        heard += 1
        told = answers[-1]
        return web.Response(status=429) if told is None else web.json_response(told)

    async with serving(handle) as port:
        url = f"http://127.0.0.1:{port}"
        async with guarded_session(url, judge=lambda _: None, direct=True) as session:
            tokens = MachineTokens(session, url=url, clock=lambda: now)
            assert set(await asyncio.gather(*(tokens.token() for _ in range(16)))) == {"first"}
            assert heard == 1
            now += 3600 - 226
            assert await tokens.token() == "first"
            assert heard == 1
            answers.append(None)
            now += 100
            assert await tokens.token() == "first"
            assert heard == 2
            now += 100
            with pytest.raises(NoIdentityError, match="it answered 429"):
                await tokens.token()
            answers.append({"access_token": "second", "expires_in": 3600})
            assert await tokens.token() == "second"


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=404, text="none is assigned"),
        lambda: web.Response(text="<html>"),
        lambda: web.json_response({"access_token": "canary"}),
    ],
)
async def test_a_machine_without_an_identity_is_told_in_words(answer: Any) -> None:
    async with machine(answer()) as (tokens, _):
        with pytest.raises(TargetUnavailableError, match="a service account is assigned") as raised:
            async with translate_errors(OWN, "look", 5):
                await tokens.token()
    assert "canary" not in str(raised.value)


async def test_a_token_of_this_machine_that_is_refused_is_asked_for_again() -> None:
    told = {"access_token": "canary", "expires_in": 3599}
    async with machine(web.json_response(told)) as (tokens, heard):
        for _ in range(2):
            assert tokens.refused(await tokens.token())
        assert len(heard) == 2


async def test_a_token_that_is_refused_is_signed_again_once_if_one_was_taken_before() -> None:
    """Several requests may have had it. A key that is refused twice in a row stays so."""
    now = 1_800_000_000.0
    tokens = AccountTokens(credentials(), clock=lambda: now)
    first = await tokens.token()
    tokens.taken(first)
    assert [tokens.refused(first), tokens.refused(first)] == [True, True]
    now += 1
    second = await tokens.token()
    tokens.taken(first)  # its answer comes late
    assert tokens.refused(second) is False
    now += 1
    third = await tokens.token()
    assert len({first, second, third}) == 3
    assert tokens.refused(second) is False
    assert await tokens.token() == third
    tokens.taken(third)
    assert tokens.refused(third) is True


async def test_a_key_that_was_never_known_is_refused_at_once() -> None:
    tokens = AccountTokens(credentials())
    assert tokens.refused(await tokens.token()) is False


async def test_a_metadata_server_that_is_not_there_is_told_in_words() -> None:
    async with aiohttp.ClientSession() as session:
        tokens = MachineTokens(session, url="http://127.0.0.1:1")
        with pytest.raises(TargetUnavailableError, match="the metadata server gave none"):
            async with translate_errors(OWN, "look", 5):
                await tokens.token()


# Checksums.


def crc32c(data: bytes) -> int:
    """Return it bit by bit, as it is defined."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("sizes", [[], [9], [0, 4, 5], [1, 1000, 0, 333, 5], [256] * 20])
def test_the_crc32c_of_pieces_is_that_of_the_whole(sizes: list[int]) -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC's catalogue
    pieces = [
        bytes((number * 7 + at) % 256 for at in range(size)) for number, size in enumerate(sizes)
    ]
    whole = crc32c(b"".join(pieces))
    assert joined((crc32c(piece), len(piece)) for piece in pieces) == whole
