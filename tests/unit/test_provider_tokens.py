"""Tokens of the site's identity provider: which are believed, and whom they name."""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import IdentityUnavailableError
from app.roles import role_map
from streams.oidc.jwks import read_keys
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider
from tests.builders import Clock, make_token
from tests.identity import (
    AUDIENCE,
    CLIENT,
    TENANT,
    StandInProvider,
    make_key,
    public_jwk,
    stand_in_provider,
)
from web.guard.auth import TokenVerifier
from web.guard.errors import NotSignedInError
from web.guard.oidc import ClaimNames, ProviderTokens

SECRET = "s" * 64
HOUR = 3600


@pytest.fixture
async def provider() -> AsyncIterator[StandInProvider]:
    """A provider, on a port."""
    async with stand_in_provider() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """The time by which keys grow old."""
    return Clock()


@pytest.fixture
async def known(provider: StandInProvider, clock: Clock) -> AsyncIterator[KnownProvider]:
    """What is known of the provider."""
    made = KnownProvider(Provider(provider.issuer).read, clock=clock)
    yield made
    await made.close()


def verifier_of(
    provider: StandInProvider, known: KnownProvider, secret: str = SECRET, **names: Any
) -> TokenVerifier:
    tokens = ProviderTokens(
        issuer=provider.issuer, audience=AUDIENCE, keys=known.keys, names=ClaimNames(**names)
    )
    return TokenVerifier(secret=secret, public_key="", provider=tokens)


@pytest.fixture
def verifier(provider: StandInProvider, known: KnownProvider) -> TokenVerifier:
    """Takes tokens of the provider, and by a secret."""
    return verifier_of(provider, known)


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]
)
async def test_a_token_of_the_provider_names_its_caller(
    provider: StandInProvider, verifier: TokenVerifier, algorithm: str
) -> None:
    provider.rotate("another", algorithm)
    actor = await verifier.actor_of(provider.token())
    assert (actor.name, actor.role, actor.tenant) == ("admin@example.org", "PROJECT_ADMIN", TENANT)
    assert actor.expires is not None
    assert actor.expires > time.time()


async def test_tokens_by_a_secret_are_taken_beside_those_of_the_provider(
    provider: StandInProvider, verifier: TokenVerifier
) -> None:
    assert (await verifier.actor_of(make_token(SECRET))).tenant == TENANT
    assert not provider.asked


def public_pem(key: Any) -> bytes:
    made: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return made


def by_hmac(key: bytes, provider: StandInProvider, **header: Any) -> str:
    """Return a token of the provider's claims that is signed by a text; no library would."""
    unsigned = jwt.encode(provider.claims(), "x" * 32, "HS256", headers=header).rpartition(".")[0]
    digest = hmac.new(key, unsigned.encode(), "sha256").digest()
    return f"{unsigned}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


REFUSED: dict[str, tuple[Callable[[StandInProvider], str], str]] = {
    "for another service": (lambda p: p.token(aud="other"), "for another service"),
    "for no service": (lambda p: p.token(aud=None), "lacks aud"),
    "for several others": (lambda p: p.token(aud=["a", "b"]), "for another service"),
    "by a secret of ours": (
        lambda p: make_token(SECRET, iss=p.issuer, aud=AUDIENCE),
        "not signed in a way",
    ),
    "by the public key as a secret": (
        lambda p: by_hmac(public_pem(p.keys["first"]), p, kid="first"),
        "not signed in a way",
    ),
    "alg none": (
        lambda p: jwt.encode(p.claims(), "", "none", headers={"kid": "first"}),
        "not signed in a way",
    ),
    "by another key of the same name": (
        lambda p: jwt.encode(p.claims(), make_key(), "RS256", headers={"kid": "first"}),
        "signed by no key",
    ),
    "by another algorithm than the key is for": (
        lambda p: jwt.encode(p.claims(), p.keys["first"], "RS384", headers={"kid": "first"}),
        "signed by no key",
    ),
    "by a key in its header": (
        lambda p: jwt.encode(
            p.claims(), key := make_key(), "RS256", headers={"jwk": public_jwk(key), "kid": "x"}
        ),
        "signed by no key",
    ),
    "by a key elsewhere": (
        lambda p: p.token(header={"jku": "https://evil.example/jwks", "kid": "x"}),
        "signed by no key",
    ),
    "extensions": (lambda p: p.token(header={"crit": ["x"], "x": 1}), "extensions|not valid"),
    "expired": (lambda p: p.token(exp=int(time.time()) - 40), "expired"),
    "without an end": (lambda p: p.token(exp=None), "lacks exp"),
    "not yet": (lambda p: p.token(nbf=int(time.time()) + 100), "not good yet"),
    "from the future": (lambda p: p.token(iat=int(time.time()) + 100), "not good yet"),
    "an ID token": (lambda p: p.id_token(), "for another service"),
    "an ID token for this service": (lambda p: p.id_token(aud=AUDIENCE), "ID token opens nothing"),
    "an ID token as Keycloak marks it": (lambda p: p.token(typ="ID"), "ID token opens nothing"),
    "an ID token for this service that has no hash": (
        lambda p: p.id_token(aud=AUDIENCE, at_hash=None),
        "ID token opens nothing",
    ),
    "a refresh token": (lambda p: p.token(typ="Refresh"), "no access token"),
    "a logout token": (lambda p: p.token(header={"typ": "logout+jwt"}), "no access token"),
    "bound to a key of its client": (lambda p: p.token(cnf={"jkt": "x"}), "bound to a key"),
    "of no user": (lambda p: p.token(email=None, sub=None), "names no user"),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_the_provider_did_not_give_for_this_service_is_refused(
    provider: StandInProvider, verifier: TokenVerifier, why: str
) -> None:
    make, words = REFUSED[why]
    with pytest.raises(NotSignedInError, match=words):
        await verifier.actor_of(make(provider))


async def test_a_token_of_another_issuer_is_none_of_the_provider(
    provider: StandInProvider, known: KnownProvider
) -> None:
    verifier = verifier_of(provider, known, secret="")
    for issuer in (f"{provider.issuer}/", "https://other.example", None):
        with pytest.raises(NotSignedInError):
            await verifier.actor_of(provider.token(iss=issuer))
    assert not provider.asked


async def test_clocks_may_differ_a_little(
    provider: StandInProvider, verifier: TokenVerifier
) -> None:
    now = int(time.time())
    changes: list[dict[str, Any]] = [{"exp": now - 20}, {"iat": now + 20}, {"nbf": now + 20}]
    for skewed in changes:
        assert (await verifier.actor_of(provider.token(**skewed))).tenant == TENANT


@pytest.mark.parametrize(
    ("found", "role"),
    [
        (["offline_access", "support"], "support"),
        (["support", "ops-team", "x"], "ops-team"),
        (["ops-team", "ADMIN"], "ADMIN"),
        (["READ_ONLY", "REGISTERED_USER"], "REGISTERED_USER"),
        (["x", "READ_ONLY"], "READ_ONLY"),
        (["x", "y"], ""),
    ],
)
async def test_of_several_roles_the_one_that_stands_for_the_highest_counts(
    provider: StandInProvider, known: KnownProvider, found: list[str], role: str
) -> None:
    tokens = ProviderTokens(
        issuer=provider.issuer,
        audience=AUDIENCE,
        keys=known.keys,
        roles=role_map(("support=READ_ONLY", "ops-team=EXPLOIT")),
    )
    verifier = TokenVerifier(secret="", public_key="", provider=tokens)
    assert (await verifier.actor_of(provider.token(role=found))).role == role


@pytest.mark.parametrize(
    ("claims", "names", "role"),
    [
        ({"realm_access": {"roles": ["ADMIN"]}}, {"role": "realm_access.roles"}, "ADMIN"),
        (
            {"realm_access": {"roles": ["x", "EXPLOIT", "PROJECT_ADMIN", "ADMIN"]}},
            {"role": "realm_access.roles"},
            "PROJECT_ADMIN",
        ),
        ({"realm_access": {"roles": ["x", "y"]}}, {"role": "realm_access.roles"}, ""),
        ({"realm_access": ["ADMIN"]}, {"role": "realm_access.roles"}, ""),
        ({"https://e.org/role": "ADMIN"}, {"role": "https://e.org/role"}, "ADMIN"),
        ({"a.b": {"c.d": ["ADMIN"]}}, {"role": "a.b.c.d"}, "ADMIN"),
        ({"role": ["ADMIN", 1, None, {"x": 1}]}, {}, "ADMIN"),
        ({"role": 7}, {}, ""),
    ],
)
async def test_a_role_is_found_where_the_provider_has_it(
    provider: StandInProvider,
    known: KnownProvider,
    claims: dict[str, Any],
    names: dict[str, str],
    role: str,
) -> None:
    token = provider.token(**{"role": None} | claims)
    assert (await verifier_of(provider, known, **names).actor_of(token)).role == role


@pytest.mark.parametrize(
    ("claims", "names", "tenant"),
    [
        ({"org": {"name": "swot"}}, {"tenant": "org.name"}, "swot"),
        ({"tenant": ["swot"]}, {}, "swot"),
        ({"tenant": ["swot", TENANT]}, {}, ""),  # which of them, none can tell
        ({"tenant": "swot"}, {"fixed_tenant": TENANT}, TENANT),
        ({"tenant": None}, {"fixed_tenant": TENANT}, TENANT),
        ({"tenant": None}, {}, ""),
    ],
)
async def test_a_tenant_is_found_where_the_provider_has_it(
    provider: StandInProvider,
    known: KnownProvider,
    claims: dict[str, Any],
    names: dict[str, str],
    tenant: str,
) -> None:
    token = provider.token(**claims)
    assert (await verifier_of(provider, known, **names).actor_of(token)).tenant == tenant


@pytest.mark.parametrize(
    ("claims", "names", "name"),
    [
        ({}, {}, "admin@example.org"),
        ({"email": None}, {}, "u-1"),
        ({"email_verified": True}, {}, "admin@example.org"),
        ({"email_verified": False}, {}, "u-1"),
        ({"email_verified": "false"}, {}, "u-1"),
        ({"preferred_username": "al"}, {"users": ("preferred_username", "sub")}, "al"),
        ({"email": "a\u200bb"}, {}, "u-1"),
    ],
)
async def test_a_user_is_named_by_the_first_claim_that_may_be_believed(
    provider: StandInProvider,
    known: KnownProvider,
    claims: dict[str, Any],
    names: dict[str, Any],
    name: str,
) -> None:
    token = provider.token(**claims)
    assert (await verifier_of(provider, known, **names).actor_of(token)).name == name


async def test_a_key_that_is_new_is_looked_up_once(
    provider: StandInProvider, verifier: TokenVerifier
) -> None:
    await verifier.actor_of(provider.token())
    assert provider.asked.count("/jwks") == 1
    provider.rotate("second", keep=True)
    for _ in range(3):
        await verifier.actor_of(provider.token())
    assert provider.asked.count("/jwks") == 2


async def test_a_key_that_is_published_while_a_look_is_under_way_is_looked_up_after_it(
    provider: StandInProvider, verifier: TokenVerifier
) -> None:
    await verifier.actor_of(provider.token())
    forged = provider.token(header={"kid": "invented"})
    provider.going.clear()
    looks = asyncio.create_task(verifier.actor_of(forged))
    async with provider.came:
        await provider.came.wait_for(lambda: len(provider.asked) == 3)
    published = provider.published
    provider.rotate("second")
    provider.published, later = published, provider.published
    token = provider.token()
    came = asyncio.gather(*(verifier.actor_of(token) for _ in range(20)))
    await asyncio.sleep(0)  # they join the look
    provider.going.set()
    with pytest.raises(NotSignedInError):
        await looks
    provider.published = later
    assert {actor.tenant for actor in await came} == {TENANT}
    assert provider.asked.count("/jwks") == 3


async def test_a_key_that_a_look_did_not_find_is_not_looked_for_again_at_once(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.actor_of(provider.token())
    stale = provider.token(header={"kid": "withdrawn"})
    for _ in range(20):
        with pytest.raises(NotSignedInError, match="signed by no key"):
            await verifier.actor_of(stale)
    assert provider.asked.count("/jwks") == 2
    clock.now += 10
    with pytest.raises(NotSignedInError, match="signed by no key"):
        await verifier.actor_of(stale)
    assert provider.asked.count("/jwks") == 3


async def test_keys_that_are_old_are_looked_at_once_for_a_new_one(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.actor_of(provider.token())
    clock.now += 301
    with pytest.raises(NotSignedInError, match="signed by no key"):
        await verifier.actor_of(provider.token(header={"kid": "withdrawn"}))
    assert provider.asked.count("/jwks") == 2


async def test_a_new_key_among_invented_ones_is_told_to_come_again_and_is_taken_then(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.actor_of(provider.token())
    for number in range(2):
        with pytest.raises(NotSignedInError):
            await verifier.actor_of(provider.token(header={"kid": f"k-{number}"}))
    with pytest.raises(IdentityUnavailableError, match="looked at as often as may be"):
        await verifier.actor_of(provider.token(header={"kid": "one more"}))
    provider.rotate("second", keep=True)
    clock.now += 4
    with pytest.raises(IdentityUnavailableError) as told:  # and no 401, which ends a session
        await verifier.actor_of(provider.token())
    assert told.value.retry_after == 6
    clock.now += told.value.retry_after
    assert (await verifier.actor_of(provider.token())).tenant == TENANT


async def test_a_key_that_is_withdrawn_is_good_for_minutes_only(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    old = provider.token()
    await verifier.actor_of(old)
    provider.rotate("second")
    await verifier.actor_of(old)
    clock.now += 301
    with pytest.raises(NotSignedInError, match="signed by no key"):
        await verifier.actor_of(old)
    await verifier.actor_of(provider.token())


async def test_a_key_that_is_withdrawn_is_good_for_none_of_those_who_come_at_once(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    old = provider.token()
    await verifier.actor_of(old)
    provider.rotate("second")
    clock.now += 301
    came = await asyncio.gather(*(verifier.actor_of(old) for _ in range(4)), return_exceptions=True)
    assert [type(answer) for answer in came] == [NotSignedInError] * 4


async def test_an_access_token_that_says_what_it_is_may_tell_the_nonce(
    provider: StandInProvider, verifier: TokenVerifier
) -> None:
    """As Keycloak's did."""
    assert (await verifier.actor_of(provider.token(nonce="n-1", typ="Bearer"))).tenant == TENANT


async def test_a_token_that_names_no_key_may_be_by_any(
    provider: StandInProvider, verifier: TokenVerifier
) -> None:
    provider.rotate("second", keep=True)
    for kid in ("first", "second"):
        token = jwt.encode(provider.claims(), provider.keys[kid], "RS256")
        assert (await verifier.actor_of(token)).tenant == TENANT


async def test_invented_keys_make_few_looks(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.actor_of(provider.token())
    for number in range(200):
        clock.now += 0.1
        with pytest.raises((NotSignedInError, IdentityUnavailableError)):
            await verifier.actor_of(provider.token(header={"kid": f"k-{number}"}))
    assert provider.asked.count("/jwks") <= 5


async def test_an_outage_keeps_the_last_keys_and_no_request_waits_for_it(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.actor_of(provider.token())
    provider.away = True
    clock.now += HOUR
    await verifier.actor_of(provider.token())  # it looks, in vain
    clock.now += HOUR
    provider.going.clear()  # from now on it is silent
    assert (await verifier.actor_of(provider.token())).tenant == TENANT
    provider.going.set()


async def test_a_new_key_can_not_be_told_while_the_provider_is_away(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.actor_of(provider.token())
    provider.rotate("second")
    provider.away = True
    clock.now += 10
    with pytest.raises(IdentityUnavailableError, match="answered 503"):
        await verifier.actor_of(provider.token())
    provider.away = False
    clock.now += 10
    await verifier.actor_of(provider.token())


async def test_a_start_without_the_provider_is_made_up_for(
    provider: StandInProvider, verifier: TokenVerifier, clock: Clock
) -> None:
    provider.away = True
    for _ in range(5):
        with pytest.raises(IdentityUnavailableError):
            await verifier.actor_of(provider.token())
    assert len(provider.asked) == 1
    provider.away = False
    clock.now += 10
    await verifier.actor_of(provider.token())


def test_keys_that_are_of_no_use_are_left_out() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    good = public_jwk(make_key(), kid="good")
    keys = read_keys(
        {
            "keys": [
                {"kty": "oct", "k": "eA", "kid": "secret"},
                public_jwk(weak, kid="weak"),
                public_jwk(make_key(), kid="for encryption", use="enc"),
                public_jwk(make_key(), kid="that wraps", key_ops=["wrapKey"]),
                public_jwk(make_key(), kid="of a secret's algorithm", alg="HS256"),
                public_jwk(make_key("ES256"), kid="of another algorithm", alg="RS256"),
                {"kty": "RSA", "kid": "broken", "n": "!"},
                {**good, "d": "AQAB", "kid": "private"},
                {**good, "kid": 7},
                "nonsense",
                good,
            ]
        }
    )
    assert ([*keys.names], keys.unusable) == (["good"], 10)
    assert not keys.of("good", "HS256")
    assert len(keys.of("good", "PS512")) == 1


@pytest.mark.parametrize("nonsense", [None, [], "x", {}, {"keys": {}}])
def test_what_is_no_set_of_keys_is_told(nonsense: object) -> None:
    with pytest.raises(ValueError, match="no set of keys"):
        read_keys(nonsense)


async def test_an_identity_token_is_held_against_the_sign_in(
    provider: StandInProvider, known: KnownProvider
) -> None:
    tokens = ProviderTokens(issuer=provider.issuer, audience=AUDIENCE, keys=known.keys)
    await tokens.check_identity(provider.id_token(), client=CLIENT, nonce="n-1")
    for wrong in (
        provider.id_token(nonce="other"),
        provider.id_token(nonce=None),
        provider.id_token(aud="another client"),
        provider.id_token(azp="another client"),
        provider.id_token(iss="https://other.example"),
    ):
        with pytest.raises(NotSignedInError):
            await tokens.check_identity(wrong, client=CLIENT, nonce="n-1")
