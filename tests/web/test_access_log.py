"""What is known of each request afterwards: its line of the log, its id, its figures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import LogCapture

from app.errors import StoreUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from app.views.deliveries import Filter, Tracked
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, bearer, parts_for, serve
from web.api.metrics import MetricsApi
from web.endpoint import PREFIX
from web.guard.access import Level
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.limits import RateLimit
from web.site import Site, create_probe_site, create_site


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Everything that is logged, with what is bound to it."""
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, capture],
        cache_logger_on_first_use=False,
    )
    yield capture.entries
    structlog.configure(**before)


def requests(lines: list[Any]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "request"]


async def test_a_request_leaves_a_line_with_who_what_and_how(api: Api, lines: list[Any]) -> None:
    answer = await api.call("GET", f"{PREFIX}/settings/request_ttl?token=hunter2", role="ADMIN")
    body = await answer.read()
    (line,) = requests(lines)
    assert line.pop("ms") >= 0
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "route": "/settings/{name}",
        "status": 200,
        "bytes": len(body),
        "address": "127.0.0.1",
        "tenant": TENANT,
        "actor": "admin@example.org",
        "role": "ADMIN",
        "request_id": answer.headers["X-Request-ID"],
    }


@pytest.mark.parametrize(
    ("headers", "status", "cause"),
    [
        (dict, 401, "sign in: send Authorization: Bearer <token>"),
        (lambda: {"Authorization": "Bearer a.b.c"}, 401, "the token is not valid"),
        (lambda: bearer(role="REGISTERED_USER"), 403, "this needs one of the roles"),
        (lambda: bearer(tenant="nobody"), 403, "a tenant that is not served here"),
    ],
)
async def test_a_refusal_is_in_the_log_with_its_reason(
    api: Api, lines: list[Any], headers: Callable[[], dict[str, str]], status: int, cause: str
) -> None:
    # Made now: tokens that were made with the list of tests may have expired.
    await api.client.get("/settings", headers=headers())
    (line,) = requests(lines)
    assert line["status"] == status
    assert cause in line["cause"]
    assert ("actor" in line) == (status == 403)  # a token that proves nothing names no actor


async def test_a_caller_who_asks_too_much_is_in_the_log(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, lines: list[Any]
) -> None:
    verifier = TokenVerifier(secret=SECRET, public_key="")
    limits = replace(PLENTY, rate=RateLimit(0.001, burst=1))
    gate = Gate(verifier, configuration.tenants, limits=limits)
    api = await serve(aiohttp_client, parts_for(configuration, gate=gate))
    assert [(await api.call("GET", "/settings")).status for _ in range(2)] == [200, 429]
    assert requests(lines)[1]["cause"] == "too many requests; wait a moment"
    assert requests(lines)[1]["actor"] == "admin@example.org"


class _Away:
    """A database that says more than its callers may know."""

    async def browse(
        self, tenants: object, wanted: Filter, *, before: object, limit: int
    ) -> list[Tracked]:
        raise StoreUnavailableError("no PostgreSQL at inner-host:5432")


async def test_the_log_has_the_cause_that_the_caller_is_not_told(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, lines: list[Any]
) -> None:
    api = await serve(aiohttp_client, parts_for(configuration, tracking=_Away()))
    answer = await api.call("GET", "/deliveries", role="REGISTERED_USER")
    assert "inner-host" not in await answer.text()
    (line,) = requests(lines)
    assert line["cause"] == "no PostgreSQL at inner-host:5432"


async def test_no_path_is_in_the_log(api: Api, lines: list[Any]) -> None:
    await api.call("GET", "/deliveries/d-001/files?reason=hunter2")
    await api.call("GET", "/a-secret-path")
    assert [line["route"] for line in requests(lines)] == [
        "/deliveries/{correlation_id}/files",
        "unknown",
    ]
    assert "secret" not in str(lines)
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize("given", ["d-001", "4bf92f3577b34da6", "a" * 128, "~!/x=1;y"])
async def test_the_callers_id_of_a_request_is_kept(api: Api, lines: list[Any], given: str) -> None:
    answer = await api.client.get("/settings", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given
    assert requests(lines)[0]["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "a\tb", "caf\u00e9"])
async def test_an_id_that_is_not_fit_for_a_log_is_replaced(
    api: Api, lines: list[Any], given: str
) -> None:
    answer = await api.client.get("/settings", headers={"X-Request-ID": given})
    made = answer.headers["X-Request-ID"]
    assert made != given
    assert len(made) == 32
    assert requests(lines)[0]["request_id"] == made


async def test_two_ids_count_as_none(api: Api) -> None:
    headers = [("X-Request-ID", "a"), ("X-Request-ID", "b")]
    answer = await api.client.get("/settings", headers=headers)
    assert len(answer.headers["X-Request-ID"]) == 32


async def test_every_line_of_a_request_has_its_id_and_no_other_has(
    api: Api, lines: list[Any]
) -> None:
    """One connection serves both: what is bound must not stay."""
    await api.call(
        "PUT", "/settings/request_ttl", json={"value": 1}, headers={"X-Request-ID": "first"}
    )
    await api.call("GET", "/settings", headers={"X-Request-ID": "second"})
    ids = {(line["event"], line["request_id"]) for line in lines}
    assert ids == {("configuration_changed", "first"), ("request", "first"), ("request", "second")}


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("all", ["/health/live", "/health/ready", "/metrics", "/console", "/settings", "unknown"]),
        ("requests", ["/settings", "unknown"]),
        ("off", []),
    ],
)
async def test_probes_and_scrapes_can_be_left_out(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    lines: list[Any],
    level: Level,
    logged: list[str],
) -> None:
    api = await serve(aiohttp_client, parts_for(configuration, access_log=level))
    for path in ("/health/live", "/health/ready", "/metrics", "/console", "/settings", "/nothing"):
        await api.call("GET", path)
    assert [line["route"] for line in requests(lines)] == logged


async def test_a_probe_that_fails_is_logged(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, lines: list[Any]
) -> None:
    async def check() -> None:
        raise StoreUnavailableError("no PostgreSQL at inner-host:5432")

    api = await serve(aiohttp_client, parts_for(configuration, {"postgresql": check}))
    await api.client.get("/health/ready")
    assert [line["status"] for line in requests(lines)] == [503]
    (down,) = [line for line in lines if line["event"] == "part_down"]
    assert (down["part"], down["cause"]) == ("postgresql", "no PostgreSQL at inner-host:5432")


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_requests_are_counted_by_route_method_and_status(api: Api) -> None:
    def counted(route: str, method: str, status: str) -> float:
        return figure("http_requests_total", route=route, method=method, status=status)

    kinds = [
        ("/settings/{name}", "GET", "200"),
        ("/settings", "GET", "401"),
        ("unknown", "GET", "404"),
        ("unknown", "other", "405"),
    ]
    before = [counted(*kind) for kind in kinds]
    took = figure("http_request_duration_seconds_count", route="/settings/{name}")
    await api.call("GET", "/settings/request_ttl")
    await api.client.get("/settings")
    await api.client.get("/nothing/a")
    await api.client.get("/nothing/b")
    await api.client.request("PROPFIND", "/settings")
    assert [counted(*kind) - old for kind, old in zip(kinds, before, strict=True)] == [1, 1, 2, 1]
    assert figure("http_request_duration_seconds_count", route="/settings/{name}") == took + 1


async def test_a_stream_is_counted_at_its_end_and_not_timed(api: Api, lines: list[Any]) -> None:
    timed = figure("http_request_duration_seconds_count", route="/deliveries/events")
    stream = await api.call("GET", "/deliveries/events")
    assert stream.headers["X-Request-ID"]
    assert not requests(lines)
    stream.close()
    async with asyncio.timeout(30):
        while not requests(lines):
            await asyncio.sleep(0.05)
    assert requests(lines)[0]["route"] == "/deliveries/events"
    assert figure("http_request_duration_seconds_count", route="/deliveries/events") == timed


@pytest.mark.parametrize("path", ["/health/live", "/settings", "/no/such/path"])
async def test_an_expectation_that_is_not_met_is_a_request_like_others(
    configuration: ConfigurationParts, lines: list[Any], path: str
) -> None:
    parts = parts_for(configuration)
    probes = create_probe_site(parts.health, MetricsApi(None))
    for application in (create_site(parts), probes):
        site = Site(application, host="127.0.0.1", port=0, tls=None)
        await site.start()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            for _ in range(2):  # the connection stays open
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nExpect: anything\r\nX-Request-ID: mine\r\n"
                    "\r\n".encode()
                )
                async with asyncio.timeout(30):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"Content-Length: (\d+)", head)
                    assert length is not None
                    await reader.readexactly(int(length[1]))
                assert head.startswith(b"HTTP/1.1 417 ")
                assert b"X-Request-ID: mine\r\n" in head
                assert b"Server: rs-delivery\r\n" in head
            writer.close()
        finally:
            await site.stop()
    told = [(line["status"], line["request_id"], line["log_level"]) for line in requests(lines)]
    assert told == [(417, "mine", "info")] * 4
    assert {line["event"] for line in lines} <= {"request", "web_listening"}
