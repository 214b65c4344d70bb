"""Every token on every path of the description: who is let through, and who is told what."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from app.roles import READ_ONLY
from app.run.wiring.tenants import ConfigurationParts
from app.settings import Settings
from app.tenants.secret_rules import token_secret
from tests.builders import make_buried, make_claims, make_token
from tests.integration.conftest import Deliveries
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, parts_for, serve
from tests.web.test_access import PRIVATE, PUBLIC, by_hand
from web.endpoint import PREFIX
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate

# Paths that need no token. One that is added is added here, too, on purpose.
OPEN = {
    *("/docs", "/docs.css", "/openapi.json"),
    *("/health/live", "/health/ready"),
    *("/console/options", "/console/sign-in", "/console/provider"),
    *("/console/sign-in/code", "/console/sign-in/refresh"),
}
# From the least to the most. A role that REGARDS has and this service does not know is the least.
ROLES = ("PUBLIC", "REGISTERED_USER", "EXPLOIT", "ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN")
OTHER_PRIVATE = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
SHARED = "rs-order's-secret-that-all-of-REGARDS-knows-0123456789-abcdef-ghijk"
# An application by the settings that name its keys.
KEYS: dict[str, dict[str, Any]] = {
    "a secret": {"jwt_secret": SecretStr(SECRET)},
    "rs-order's secret alone": {"rs_order_token_secret": SecretStr(SECRET)},
    "an RSA key": {"jwt_public_key": PUBLIC},
    "both": {"jwt_secret": SecretStr(SECRET), "jwt_public_key": PUBLIC},
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A method and a path of the description, and who may use it."""

    method: str
    path: str
    roles: frozenset[str] | None  # None: it needs no token


def signed(algorithm: str, key: str = "", **changes: Any) -> str:
    """Return a token, by the right key unless another is given."""
    right = PRIVATE if algorithm.startswith("RS") else SECRET
    return make_token(key or right, algorithm=algorithm, **changes)


def good(keys: str, **changes: Any) -> str:
    """Return a token as the application takes it."""
    return signed("RS256" if keys == "an RSA key" else "HS512", **changes)


# By keys: tokens that are not believed, whatever they say.
NOT_BELIEVED: Mapping[str, Callable[[str], str | None]] = {
    "none": lambda _: None,
    "empty": lambda _: "",
    "expired": lambda keys: good(keys, exp=int(time.time()) - 60),
    "alg none": lambda _: f"{by_hand({'alg': 'none'}, make_claims()).rpartition('.')[0]}.",
    "HS256 by the public key": lambda _: by_hand({"alg": "HS256"}, make_claims(), PUBLIC.encode()),
    "HS256 by the public key, stripped": lambda _: by_hand(
        {"alg": "HS256"}, make_claims(), PUBLIC.strip().encode()
    ),
    "RS256 that was signed by the secret": lambda _: by_hand({"alg": "RS256"}, make_claims()),
    "HS512 by rs-order's secret": lambda _: signed("HS512", SHARED),
    "another key": lambda keys: (
        signed("RS256", OTHER_PRIVATE) if keys == "an RSA key" else signed("HS512", "x" * 64)
    ),
    "no name": lambda keys: good(keys, sub=None, email=None),
    "a name that is empty": lambda keys: good(keys, sub="", email=""),
}


async def operations(api: Api) -> list[Operation]:
    """Return what the description names."""
    described = await (await api.client.get("/openapi.json")).json()
    found = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            roles = None
            # (Where none is needed, and more is told to who has one, the first entry is empty.)
            if operation.get("security", [{}])[0]:
                told = re.search(r"Roles: ([A-Z_, ]+)\.", operation["description"])
                assert told is not None, path
                roles = frozenset(told[1].split(", "))
            found.append(Operation(method=method.upper(), path=path, roles=roles))
    assert len(found) > 30
    return found


async def asked(
    api: Api,
    operation: Operation,
    given: str | None,
    prefix: str = "",
    body: dict[str, Any] | None = None,
) -> int:
    """Return the status of an operation's answer to a token; a stream is left at once."""
    path = prefix + re.sub(
        r"\{(\w+)\}", lambda m: TENANT if m[1] == "tenant" else "x", operation.path
    )
    headers = {} if given is None else {"Authorization": f"Bearer {given}"}
    async with api.client.request(operation.method, path, headers=headers, json=body) as answer:
        return answer.status


@pytest.fixture
async def api(
    configuration: ConfigurationParts,
    web_settings: Settings,
    aiohttp_client: MakeClient,
    request: pytest.FixtureRequest,
) -> Api:
    """The application with the keys that the test names, chosen as a process chooses them."""
    none = {"jwt_secret": SecretStr(""), "jwt_public_key": ""}
    shared = {"rs_order_token_secret": SecretStr(SHARED)}
    settings = web_settings.model_copy(update=none | shared | KEYS[request.param])
    verifier = TokenVerifier(secret=token_secret(settings), public_key=settings.jwt_public_key)
    gate = Gate(verifier, configuration.tenants, limits=PLENTY)
    return await serve(aiohttp_client, parts_for(configuration, gate=gate))


def each(*keys: str) -> pytest.MarkDecorator:
    """Run a test with each of these keys; it is told which."""
    return pytest.mark.parametrize(("api", "keys"), [(key, key) for key in keys], indirect=["api"])


@each(*KEYS)
async def test_a_token_that_is_not_believed_opens_nothing(api: Api, keys: str) -> None:
    """401 wherever a token is needed; where none is, it is as good as none."""
    given = {why: make(keys) for why, make in NOT_BELIEVED.items()}
    for operation in await operations(api):
        for prefix in ("", PREFIX):
            without = await asked(api, operation, None, prefix)
            assert operation.roles is None or without == 401, operation
            for why, token in given.items():
                assert await asked(api, operation, token, prefix) == without, (operation, why)


@each("an RSA key")
async def test_no_shared_secret_lets_in_beside_an_rsa_key(api: Api, keys: str) -> None:
    given = [
        by_hand({"alg": algorithm}, make_claims(), secret.encode(), algorithm)
        for algorithm in ("HS256", "HS384", "HS512")
        for secret in (SECRET, SHARED, PUBLIC)  # no library signs with the last
    ]
    await refused(api, given, 401)


@each("a secret", "rs-order's secret alone")
async def test_no_rsa_key_lets_in_beside_a_secret(api: Api, keys: str) -> None:
    await refused(api, [signed(algorithm) for algorithm in ("RS256", "RS384", "RS512")], 401)


@each(*KEYS)
async def test_a_token_of_a_tenant_that_is_not_served_opens_nothing(api: Api, keys: str) -> None:
    tenants = (None, "", "nobody", TENANT.upper(), f"{TENANT} ")
    await refused(
        api, [good(keys, tenant=tenant, role="INSTANCE_ADMIN") for tenant in tenants], 403
    )


@each("a secret", "an RSA key")
async def test_a_role_opens_what_it_is_for_and_nothing_else(api: Api, keys: str) -> None:
    names = (None, "", "admin", "ADMIN ", "read_only", READ_ONLY, *ROLES)
    given = {role: good(keys, role=role) for role in names}
    for operation in await operations(api):
        if operation.roles is None or operation.path.endswith("/enable"):
            continue  # (in maintenance, all that follow would be answered 503)
        for role, token in given.items():
            status = await asked(api, operation, token)
            if role in operation.roles:
                assert status not in (401, 403), (operation, role)
            else:
                assert status == 403, (operation, role)


@each("a secret")
async def test_a_greater_role_may_do_what_a_lesser_one_may(api: Api, keys: str) -> None:
    for operation in await operations(api):
        if operation.roles is not None:
            least = min(ROLES.index(role) for role in operation.roles - {READ_ONLY})
            assert operation.roles - {READ_ONLY} == frozenset(ROLES[least:]), operation
            assert least > 0, operation


@each("a secret")
async def test_one_who_only_looks_sees_all_of_a_tenant_and_changes_nothing(
    api: Api, keys: str
) -> None:
    """Neither content nor a configuration to take along is among what is seen."""
    found = [operation for operation in await operations(api) if operation.roles is not None]
    open_to = {operation for operation in found if READ_ONLY in (operation.roles or ())}
    assert {operation.method for operation in open_to} == {"GET"}
    kept = {
        operation.path
        for operation in found
        if operation.method == "GET" and operation not in open_to
    }
    assert kept == {
        "/deliveries/{correlation_id}/content",
        "/deliveries/by-id/{id}/content",
        "/microservice/configuration",
        "/microservice/configuration/enabled",
        "/microservice/ready",
        "/microservice/ready/enabled",
        "/security/resources",
    }


@each("a secret")
async def test_no_path_is_open_but_those_that_are_meant_to_be(api: Api, keys: str) -> None:
    found = [operation for operation in await operations(api) if operation.roles is None]
    assert {operation.path for operation in found} <= OPEN
    for operation in found:
        if not operation.path.startswith(("/console/sign-in", "/console/provider")):
            assert await asked(api, operation, None) < 400, operation


@each("a secret")
async def test_a_token_of_another_tenant_finds_nothing_of_this_one(
    api: Api, keys: str, pool: asyncpg.Pool, web_settings: Settings
) -> None:
    """Whatever the role: 404, or 403 where the path names the tenant."""
    deliveries = Deliveries(pool, web_settings)
    mine = await deliveries.granted("x")
    await deliveries.dead_letters().keep(
        [make_buried(str(mine.id))], again=False
    )  # of that id, too
    given = good(keys, tenant="swot", role="INSTANCE_ADMIN")
    of_no_instance = good(keys, tenant="swot", role="PROJECT_ADMIN")
    for operation in await operations(api):
        if "{tenant}" in operation.path:
            assert await asked(api, operation, given) == 403, operation
        elif "{correlation_id}" in operation.path or "{id}" in operation.path:
            known = replace(operation, path=operation.path.replace("{id}", str(mine.id)))
            # The instance's administrators see the letters of all tenants.
            of_letter = operation.path.startswith("/dead-letters/")
            foreign = of_no_instance if of_letter else given
            mended = {"text": "{}"} if of_letter and operation.method == "PUT" else None
            assert await asked(api, known, foreign, body=mended) == 404, operation
            if operation.method == "GET":
                own = 403 if operation.path.endswith("/content") else 200  # downloads are off
                assert await asked(api, known, good(keys)) == own, operation


async def refused(api: Api, given: Sequence[str], status: int) -> None:
    """Show that none of these tokens opens anything."""
    for operation in await operations(api):
        for token in given:
            if operation.roles is not None:
                assert await asked(api, operation, token) == status, (operation, token)
