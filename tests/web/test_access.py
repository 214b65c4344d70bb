"""Who may do what over HTTP, and within what limits."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from app.delivery.targets import Target
from app.errors import ConfigurationError
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresTracking, open_pool
from tests.builders import make_claims
from tests.web.conftest import (
    PLENTY,
    SECRET,
    TENANT,
    Api,
    MakeClient,
    bearer,
    parts_for,
    serve,
    token,
)
from web.api.targets import TargetsApi
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.limits import RateLimit, Turns
from web.site import Parts

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = _RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE = _RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def by_hand(
    header: dict[str, Any], payload: Any, key: bytes = SECRET.encode(), algorithm: str = "HS256"
) -> str:
    """Return a token that no library would make, with a good HMAC by the key."""

    def part(value: Any) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(hmac.new(key, signed.encode(), f'sha{algorithm[2:]}').digest())}"


def _unsigned(algorithm: str) -> str:
    head, body, _ = by_hand({"alg": algorithm, "typ": "JWT"}, make_claims()).split(".")
    return f"{head}.{body}."


# Made when they are used: some depend on the time.
HOSTILE: dict[str, Callable[[], str | None]] = {
    "none at all": lambda: None,
    "empty": lambda: "",
    "nonsense": lambda: "x",
    "three dots": lambda: "a.b.c",
    "alg none": lambda: _unsigned("none"),
    "alg None": lambda: _unsigned("None"),
    "no signature": lambda: _unsigned("HS256"),
    "no alg": lambda: by_hand({"typ": "JWT"}, make_claims()),
    "alg is no text": lambda: by_hand({"alg": ["HS256"]}, make_claims()),
    "another secret": lambda: token(key="x" * 64),
    "an empty secret": lambda: by_hand({"alg": "HS256"}, make_claims(), key=b""),
    "the public key as a secret": lambda: by_hand(
        {"alg": "HS256"}, make_claims(), key=PUBLIC.encode()
    ),
    "RS256 by a key of its own": lambda: jwt.encode(
        make_claims(), rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"
    ),
    "the caller's own key in the header": lambda: by_hand(
        {"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}, make_claims(), key=b"x"
    ),
    "kid that is a path": lambda: by_hand(
        {"alg": "HS256", "kid": "/dev/null"}, make_claims(), key=b""
    ),
    "kid that is SQL": lambda: by_hand(
        {"alg": "HS256", "kid": "x' UNION SELECT 'x"}, make_claims(), key=b"x"
    ),
    "unknown extensions": lambda: by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, make_claims()),
    "expired": lambda: token(exp=int(time.time()) - 40),
    "without exp": lambda: token(exp=None),
    "exp is no number": lambda: by_hand({"alg": "HS256"}, make_claims(exp="tomorrow")),
    "not yet": lambda: token(nbf=int(time.time()) + 100),
    "no name": lambda: token(email=None, sub=None),
    "names that are no text": lambda: token(email=["a"], sub=None),
    "a name that is empty": lambda: token(email="", sub=None),
    "a name of blanks": lambda: token(email=" \u2003", sub=None),
    "a name of 256 characters": lambda: token(email="a" * 256, sub=None),
    "a name that can't be seen": lambda: token(email="a\u200bb", sub="\x1b[2J"),
    "claims are a list": lambda: by_hand({"alg": "HS256"}, [1]),
    "claims are no JSON": lambda: by_hand({"alg": "HS256"}, b"\xff\xfe"),
    "claims nested deeply": lambda: by_hand({"alg": "HS256"}, b'{"exp":' + b"[" * 5000),
    "cut short": lambda: token()[:-10],
    "huge": lambda: by_hand({"alg": "HS256"}, make_claims(more="x" * 16_000)),
}
FORBIDDEN: dict[str, dict[str, Any]] = {
    "no role": {"role": None},
    "a lesser role": {"role": "REGISTERED_USER"},
    "the role in small letters": {"role": "project_admin"},
    "a list of roles": {"role": ["PROJECT_ADMIN"]},
    "no tenant": {"tenant": None},
    "an unknown tenant": {"tenant": "nobody"},
    "a tenant with blanks": {"tenant": f" {TENANT}"},
    "a tenant that is no text": {"tenant": {"a": 1}},
}
PATHS = [
    ("GET", "/settings"),
    ("PUT", "/settings/request_ttl"),
    ("DELETE", "/settings/request_ttl"),
    ("GET", "/microservice/configuration"),
    ("POST", "/microservice/configuration"),
    ("GET", "/microservice/ready"),
    ("GET", "/maintenance"),
    ("PUT", f"/maintenance/{TENANT}/enable"),
    ("GET", "/security/resources"),
    ("GET", "/audit"),
]


@pytest.fixture
async def both(configuration: ConfigurationParts, aiohttp_client: MakeClient) -> Api:
    """An application that takes both kinds of keys."""
    gate = Gate(
        TokenVerifier(secret=SECRET, public_key=PUBLIC), configuration.tenants, limits=PLENTY
    )
    return await serve(aiohttp_client, parts_for(configuration, gate=gate))


@pytest.mark.parametrize("why", HOSTILE)
async def test_a_token_that_proves_nothing_is_refused(both: Api, why: str) -> None:
    given = HOSTILE[why]()
    headers = {} if given is None else {"Authorization": f"Bearer {given}"}
    for method, path in PATHS:
        answer = await both.client.request(method, path, headers=headers)
        assert answer.status == 401, (method, path)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await answer.json())["message"]
    assert await both.value("request_ttl") == 12


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "bearer", "Token x.y.z"])
async def test_other_kinds_of_credentials_are_refused(both: Api, header: str) -> None:
    answer = await both.client.get("/settings", headers={"Authorization": header})
    assert answer.status == 401


async def test_two_tokens_are_refused(both: Api) -> None:
    headers = [("Authorization", f"Bearer {token()}"), ("Authorization", f"Bearer {token()}")]
    answer = await both.client.get("/settings", headers=headers)
    assert answer.status == 401


@pytest.mark.parametrize("why", FORBIDDEN)
async def test_a_good_token_that_does_not_suffice_is_forbidden(both: Api, why: str) -> None:
    for method, path in PATHS:
        answer = await both.client.request(method, path, headers=bearer(**FORBIDDEN[why]))
        assert answer.status == 403, (method, path)


@pytest.mark.parametrize("role", ["ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN"])
async def test_roles_open_what_they_are_for(api: Api, role: str) -> None:
    assert (await api.call("GET", "/settings", role=role)).status == 200
    assert (await api.call("GET", "/maintenance", role=role)).status == 200
    expected = 403 if role == "ADMIN" else 200
    assert (await api.call("GET", "/microservice/configuration", role=role)).status == expected


@pytest.mark.parametrize("role", ["PROJECT_ADMIN", "INSTANCE_ADMIN"])
async def test_no_caller_touches_another_tenant(api: Api, role: str) -> None:
    answer = await api.call("PUT", "/maintenance/swot/enable", role=role)
    assert answer.status == 403
    assert await (await api.call("GET", "/maintenance", tenant="swot")).json() == {
        "content": {},
        "links": [],
    }


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512"])
async def test_tokens_of_regards_are_accepted(both: Api, algorithm: str) -> None:
    key = PRIVATE if algorithm.startswith("RS") else SECRET
    signed = token(key=key, algorithm=algorithm)
    answer = await both.client.get("/settings", headers={"Authorization": f"Bearer {signed}"})
    assert answer.status == 200


@pytest.mark.parametrize("claim", ["sub", "email"])
async def test_one_claim_names_the_caller(api: Api, claim: str) -> None:
    """A token that one service of REGARDS gives another may have only one of them."""
    other = {"sub": "email", "email": "sub"}[claim]
    names: dict[str, Any] = {claim: "somebody@example.org", other: None}
    named = token(**names)
    headers = {"Authorization": f"Bearer {named}"}
    answer = await api.client.put(
        "/settings/request_ttl", headers=headers, json={"name": "request_ttl", "value": 7}
    )
    assert answer.status == 200
    (entry,) = (await (await api.call("GET", "/audit")).json())["content"]
    assert entry["actor"] == "somebody@example.org"


async def test_clocks_may_differ_a_little(api: Api) -> None:
    headers = {"Authorization": f"Bearer {token(exp=int(time.time()) - 20)}"}
    assert (await api.client.get("/settings", headers=headers)).status == 200


@pytest.mark.parametrize("key", ["nonsense", PRIVATE])
def test_a_public_key_that_is_none_is_told(key: str) -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY_JWT_PUBLIC_KEY") as raised:
        TokenVerifier(secret="", public_key=key)
    assert "PRIVATE" not in str(raised.value)


def test_a_site_without_any_key_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY_JWT_SECRET"):
        TokenVerifier(secret="", public_key="")


async def test_too_many_requests_are_told_when_to_come_back(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    gate = Gate(
        TokenVerifier(secret=SECRET, public_key=""),
        configuration.tenants,
        limits=replace(
            PLENTY, rate=RateLimit(0.001, burst=5)
        ),  # then none for a quarter of an hour
    )
    api = await serve(aiohttp_client, parts_for(configuration, gate=gate))
    statuses = [(await api.call("GET", "/settings")).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    refused = await api.call("GET", "/settings")
    assert int(refused.headers["Retry-After"]) >= 1
    other = await api.call("GET", "/settings", tenant="swot")
    assert other.status == 200


async def test_a_caller_who_asks_for_much_at_once_waits_and_no_other_does(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    running = most = 0
    go_on = asyncio.Event()

    async def look(target: Target) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    targets = TargetsApi(
        configuration.tenants, look=look, trouble=lambda _: None, fresh=0.0, at_once=100
    )
    gate = Gate(
        TokenVerifier(secret=SECRET, public_key=""),
        configuration.tenants,
        limits=replace(PLENTY, requests=Turns(2, waiting=3)),
    )
    api = await serve(aiohttp_client, parts_for(configuration, gate=gate, targets=targets))
    asked = [asyncio.ensure_future(api.call("GET", "/health/targets")) for _ in range(6)]
    (refused,), _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert (await refused).status == 429
    assert (await refused).headers["Retry-After"] == "1"
    assert most == 2
    other = await api.call("GET", "/settings", tenant="swot")
    assert other.status == 200
    go_on.set()
    statuses = [(await answer).status for answer in asked]
    assert sorted(statuses) == [200] * 5 + [429]
    assert most == 2
    assert (await api.call("GET", "/settings")).status == 200


def limited(configuration: ConfigurationParts, **changes: Any) -> Parts:
    verifier = TokenVerifier(secret=SECRET, public_key="")
    gate = Gate(verifier, configuration.tenants, limits=replace(PLENTY, **changes))
    return parts_for(configuration, gate=gate)


async def test_a_caller_has_so_many_streams_and_others_have_theirs(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    api = await serve(aiohttp_client, limited(configuration, streams=Turns(2)))
    streams = [await api.call("GET", "/deliveries/events") for _ in range(2)]
    assert [stream.status for stream in streams] == [200, 200]
    refused = await api.call("GET", "/deliveries/events")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert "too many streams of yours" in (await refused.json())["message"]
    assert (await api.call("GET", "/deliveries/events", tenant="swot")).status == 200
    assert (await api.call("GET", "/settings")).status == 200
    streams[0].close()
    async with asyncio.timeout(20):  # until the server sees it
        while (await api.call("GET", "/deliveries/events")).status == 503:
            await asyncio.sleep(0.05)


async def test_a_process_has_so_many_streams_of_all_callers(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    api = await serve(aiohttp_client, limited(configuration, all_streams=Turns(2)))
    first = await api.call("GET", "/deliveries/events")
    assert (await api.call("GET", "/deliveries/events", tenant="swot")).status == 200
    refused = await api.call("GET", "/deliveries/events", tenant="swot")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert "too many streams are open here" in (await refused.json())["message"]
    first.close()
    async with asyncio.timeout(20):  # until the server sees it
        while (await api.call("GET", "/deliveries/events")).status == 503:
            await asyncio.sleep(0.05)


async def test_the_administrator_of_all_tenants_sees_what_is_of_none(api: Api) -> None:
    """REGARDS gives such tokens the tenant `instance`, which is no tenant with deliveries."""
    instance: dict[str, Any] = {"tenant": "instance", "role": "INSTANCE_ADMIN"}
    for path, status in (
        ("/dead-letters", 200),
        ("/workers", 200),
        ("/settings", 403),
        ("/deliveries", 403),
        ("/deliveries/events", 403),
        ("/audit", 200),  # what was changed for no tenant, or for all
    ):
        assert (await api.call("GET", path, **instance)).status == status, path
    for role in ("ADMIN", "PROJECT_ADMIN"):
        lesser = await api.call("GET", "/dead-letters", tenant="instance", role=role)
        assert lesser.status == 403
    elsewhere = await api.call("GET", "/dead-letters", tenant="nobody", role="INSTANCE_ADMIN")
    assert elsewhere.status == 403


async def test_a_statement_that_takes_too_long_is_ended_and_told_in_words(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    database: str,
    pool: asyncpg.Pool,
) -> None:
    """So that slow requests can't take all connections for long; leases have others anyway."""
    async with open_pool(database, size=2, start_timeout=30, statement_timeout=0.3) as short:
        api = await serve(
            aiohttp_client, parts_for(configuration, tracking=PostgresTracking(short))
        )
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE delivery IN ACCESS EXCLUSIVE MODE")
            answer = await api.call("GET", "/deliveries")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert "it took too long" in (await answer.json())["message"]
    others = await serve(aiohttp_client, parts_for(configuration, tracking=PostgresTracking(pool)))
    assert (await others.call("GET", "/deliveries")).status == 200


async def test_every_answer_carries_what_protects_the_caller(api: Api) -> None:
    for path in ("/settings", "/docs", "/health/live", "/nothing"):
        headers = (await api.call("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Server"] == "rs-delivery"
        assert "Access-Control-Allow-Origin" not in headers


async def test_errors_are_json_in_words(api: Api) -> None:
    missing = await api.call("GET", "/nothing")
    assert (missing.status, "openapi" in (await missing.json())["message"]) == (404, True)
    wrong = await api.call("PATCH", "/settings")
    assert wrong.status == 405
    assert "GET" in wrong.headers["Allow"]
    assert "GET" in (await wrong.json())["message"]
    typed = await api.call("PUT", "/settings/request_ttl", data="value=1")
    assert typed.status == 415
    assert (await typed.json())["message"] == "the body must be application/json"


async def test_pages_of_a_configured_origin_may_call(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    parts = parts_for(configuration, cors_origins=("https://admin.example.org",))
    api = await serve(aiohttp_client, parts)
    for origin, allowed in (("https://admin.example.org", True), ("https://evil.example", False)):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        before = await api.client.options("/settings/request_ttl", headers=asked)
        assert (before.status == 200) == allowed
        answer = await api.call("GET", "/settings", headers={"Origin": origin})
        assert ("Access-Control-Allow-Origin" in answer.headers) == allowed
