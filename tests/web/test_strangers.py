"""What a client without a token can read: whatever is asked, and whatever is broken meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from app.errors import (
    BrokerUnavailableError,
    SecretUnreadableError,
    SourceUnavailableError,
    StoreUnavailableError,
)
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresStore, PostgresTracking, open_pool
from app.telemetry.metrics import REQUESTS, TARGET_UP
from app.usecases.intervene import Interventions
from app.waiting.wakeup import Wakeup
from streams.regards.users import AnyUser
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, bearer, parts_for, serve
from web.api.console import Console
from web.api.health import Check, Health
from web.api.metrics import MetricsApi
from web.api.sign_in import SignIns
from web.endpoint import PREFIX
from web.feed import Feed
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.site import Site, create_probe_site, create_site

ADDRESS = "inner-host.example.org:7777"
CANARIES = (
    TENANT,
    "swot",
    "inner-host",
    ":7777",  # the digits alone may be in the id of a request
    "127.0.0.1",
    "localhost",
    "hunter2",
    # Drivers and what they are written in.
    *("asyncpg", "aiohttp", "aio_pika", "aiormq", "aiokafka", "botocore", "boto3", "faust"),
    *("Traceback", "site-packages", "Python/", ".py"),
)
METRICS_TOKEN = "a-token-for-prometheus-that-is-long-enough-0123456789"


def said(error: Exception) -> Check:
    """Return a check that fails like that."""

    async def check() -> None:
        raise error

    return check


CHECKS: dict[str, Check] = {
    "postgresql": said(
        StoreUnavailableError(f"asyncpg.InterfaceError: no PostgreSQL answers at {ADDRESS}")
    ),
    "rabbitmq": said(BrokerUnavailableError(f"aiormq: amqp://u:hunter2@{ADDRESS}/v")),
    "secret keys": said(SecretUnreadableError(f"a secret of tenant {TENANT} can't be read")),
}


async def _away(tenant: str, user: str, password: str) -> str:
    raise SourceUnavailableError(f"REGARDS' authentication does not answer at http://{ADDRESS}")


@pytest.fixture(params=["well", "broken"])
async def api(
    request: pytest.FixtureRequest,
    configuration: ConfigurationParts,
    database: str,
    aiohttp_client: MakeClient,
) -> Any:
    """The application on its own, or with everything that it needs away."""
    TARGET_UP.labels(ADDRESS).set(1)
    REQUESTS.labels(TENANT, "granted").inc()
    if request.param == "well":
        yield await serve(aiohttp_client, parts_for(configuration))
        return
    async with open_pool(database, size=2, start_timeout=30) as pool:
        broken = replace(configuration, store=configuration.over(pool).store)
        tracking = PostgresTracking(pool)
        parts = parts_for(
            configuration.over(pool),
            CHECKS,
            tracking=tracking,
            changes=tracking,
            overview=tracking,
            feed=Feed(tracking, list),
            console=Console(SignIns(_away, served=lambda _tenant: True, per_minute=1000)),
            interventions=Interventions(
                store=PostgresStore(pool, Wakeup()),
                tracking=tracking,
                tenants=broken.tenants,
                users=AnyUser(),
            ),
        )
        served = await serve(aiohttp_client, parts)
        await pool.close()
        yield served


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Leave no figures behind."""
    yield
    TARGET_UP.clear()


def read(text: str) -> list[str]:
    """Return the canaries that a text names."""
    return [canary for canary in CANARIES if canary.lower() in text.lower()]


async def everything(api: Api, method: str, path: str, **arguments: Any) -> tuple[int, str]:
    """Return the status, and all of an answer as one text."""
    async with api.client.request(method, path, allow_redirects=False, **arguments) as answer:
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        return answer.status, f"{head}\n\n{await answer.text()}"


async def test_no_path_of_the_api_tells_a_stranger_of_tenants_addresses_or_drivers(
    api: Api,
) -> None:
    described = (await (await api.client.get("/openapi.json")).json())["paths"]
    opened = set()
    for path, operations in described.items():
        filled = re.sub(r"\{\w+\}", "request_ttl", path)
        for method in [*operations, "head", "options", "patch", "trace", "propfind"]:
            for prefix in ("", PREFIX):
                status, text = await everything(
                    api,
                    method.upper(),
                    prefix + filled,
                    json={"tenant": "t", "user": "u", "password": "p"}
                    if method in ("post", "put")
                    else None,
                )
                assert not read(text), (method, path, status, text)
                if "security" in operations.get(method, {}) and method in operations:
                    optional = {} in operations[method]["security"]
                    assert (status == 401) != optional, (method, path, status)
                elif method in operations:
                    opened.add(f"{method.upper()} {path}")
    assert opened == {
        "GET /console/options",
        "POST /console/sign-in",
        "GET /console/provider",
        "POST /console/sign-in/code",
        "POST /console/sign-in/refresh",
        "GET /health/live",
    }


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_no_other_path_tells_a_stranger_of_them_either(api: Api, prefix: str) -> None:
    page = await (await api.client.get(f"{prefix}/console")).text()
    files = re.findall(r'(?:src|href)="([^"#]+)"', page)
    scripts = [f"{prefix}/{name}" for name in files if name.startswith("console/")]
    imported = [
        f"{prefix}/console/{name}"
        for script in scripts
        for name in re.findall(r'from "\./([^"]+)"', await (await api.client.get(script)).text())
    ]
    paths = [
        "/docs",
        "/docs.css",
        "/openapi.json",
        "/console",
        "/",
        "",
        "/favicon.ico",
        "/robots.txt",
        "/.env",
        "/actuator/env",
        "/nothing?tenant=x",
        "/%00",
        "/..%2f..%2fetc/passwd",
        "/deliveries/%ff/files",
    ]
    for path in [*(prefix + route for route in paths), *scripts, *imported]:
        status, text = await everything(api, "GET", path or "/")
        # The console's scripts name each other: that is all that ends in .py elsewhere.
        assert not read(text), (path, status, read(text))
        assert status < 500 or "/health/" in path, (path, status)
    assert len(scripts) > 1
    assert len(imported) > 3


async def test_bytes_that_are_no_request_are_answered_without_naming_what_reads_them(
    configuration: ConfigurationParts,
) -> None:
    site = Site(create_site(parts_for(configuration)), host="127.0.0.1", port=0, tls=None)
    await site.start()
    try:
        for sent in (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\na\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(sent)
            async with asyncio.timeout(30):
                told = (await reader.read()).decode()
            assert told.startswith("HTTP/1.0 400"), told
            assert not read(told), told
            writer.close()
    finally:
        await site.stop()


async def test_a_port_for_figures_tells_nobody_why_a_part_is_down(
    aiohttp_client: MakeClient, configuration: ConfigurationParts
) -> None:
    client = await aiohttp_client(create_probe_site(Health(CHECKS), MetricsApi(None)))
    answer = await client.get("/health/ready")
    assert answer.status == 503
    assert not read(await answer.text())
    assert (await client.get("/metrics")).status == 200


@pytest.mark.parametrize(
    ("role", "told"),
    [
        ("REGISTERED_USER", False),
        ("EXPLOIT", True),
        ("ADMIN", True),
        ("PROJECT_ADMIN", True),
        ("INSTANCE_ADMIN", True),
    ],
)
async def test_operators_are_told_why_a_part_is_down(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, role: str, told: bool
) -> None:
    api = await serve(aiohttp_client, parts_for(configuration, CHECKS))
    answer = await api.call("GET", "/health/ready", role=role)
    assert answer.status == 503
    components = (await answer.json())["components"]
    assert {name: part["status"] for name, part in components.items()} == dict.fromkeys(
        CHECKS, "DOWN"
    )
    assert all(("error" in part) == told for part in components.values())
    assert all(("lastError" in part) == told for part in components.values())


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x.y.z"}, bearer(exp=1)])
async def test_a_probe_with_a_bad_token_is_answered_like_one_without(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, headers: dict[str, str]
) -> None:
    api = await serve(aiohttp_client, parts_for(configuration, CHECKS))
    answer = await api.client.get("/health/ready", headers=headers)
    assert answer.status == 503
    assert await answer.json() == {
        "status": "DOWN",
        "components": {name: {"status": "DOWN"} for name in CHECKS},
    }


async def test_an_operator_of_a_tenant_that_is_not_served_is_a_stranger(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    api = await serve(aiohttp_client, parts_for(configuration, CHECKS))
    answer = await api.call("GET", "/health/ready", tenant="nobody")
    assert not read(await answer.text())


@pytest.mark.parametrize(("role", "told"), [("REGISTERED_USER", False), ("EXPLOIT", True)])
async def test_only_operators_are_told_what_a_dependency_says(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    database: str,
    role: str,
    told: bool,
) -> None:
    async with open_pool(database, size=2, start_timeout=30) as pool:
        parts = parts_for(configuration, tracking=PostgresTracking(pool))
        api = await serve(aiohttp_client, parts)
        await pool.close()
        answer = await api.call("GET", "/deliveries", role=role)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        message = (await answer.json())["message"]
        assert ("InterfaceError" in message) == told
        assert ("X-Request-ID" in message) != told


async def test_figures_need_a_token_and_tell_a_tenant_nothing_of_others(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    verifier = TokenVerifier(secret=SECRET, public_key="")
    gate = Gate(verifier, configuration.tenants, limits=PLENTY, metrics_token=METRICS_TOKEN)
    api = await serve(aiohttp_client, parts_for(configuration, gate=gate))
    for tenant in (TENANT, "swot"):
        REQUESTS.labels(tenant, "granted").inc()
    TARGET_UP.labels(ADDRESS).set(1)
    assert (await api.client.get("/metrics")).status == 401
    assert (await api.call("GET", "/metrics", role="REGISTERED_USER")).status == 403
    wrong = {"Authorization": f"Bearer {METRICS_TOKEN[:-1]}"}
    assert (await api.client.get("/metrics", headers=wrong)).status == 401
    own = await (await api.call("GET", "/metrics", role="EXPLOIT")).text()
    assert f'tenant="{TENANT}"' in own
    assert "delivery_database_up 1.0" in own
    assert "swot" not in own
    assert ADDRESS not in own
    right = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    scraped = await api.client.get("/metrics", headers=right)
    assert scraped.status == 200
    for text in (
        await scraped.text(),
        await (await api.call("GET", "/metrics", role="INSTANCE_ADMIN")).text(),
    ):
        assert 'tenant="swot"' in text
        assert ADDRESS in text
    assert (await api.client.get("/settings", headers=right)).status == 401


async def test_the_token_for_figures_opens_nothing_where_it_is_not_set(api: Api) -> None:
    for given in ("Bearer ", "Bearer None"):
        answer = await api.client.get("/metrics", headers={"Authorization": given})
        assert answer.status == 401
