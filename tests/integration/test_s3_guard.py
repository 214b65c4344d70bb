"""Where S3 clients connect to, and how much they listen to, whatever a server or a name says."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from pydantic import SecretStr

from app.delivery.states import Work
from app.errors import (
    ErrorType,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.network.hosts import AllowedHosts
from app.run.doctor import examine
from app.run.wiring.tenants import open_configuration
from app.settings import Settings
from app.usecases.fail import fail
from sinks.stores.breaker import Breakers
from sinks.stores.s3.breaker import SIGNS
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import make_target
from tests.client import Client
from tests.integration.conftest import Deliveries, with_keys
from tests.integration.test_sweep import key_of, sweep_of
from tests.servers import serving


def at(host: str, port: int, **changes: Any) -> S3Target:
    """Return a target."""
    return make_target(endpoint=f"http://{host}:{port}", **changes)


@pytest.fixture
def rebound(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that leads to loopback by now: no name server of a test can be asked for one."""
    name = "s3.rebound.example"
    resolve = asyncio.BaseEventLoop.getaddrinfo

    async def getaddrinfo(self: Any, host: Any, port: Any, **more: Any) -> Any:
        if host == name:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        return await resolve(self, host, port, **more)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return name


async def test_a_name_that_leads_to_loopback_by_now_is_not_connected_to(rebound: str) -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async with serving(handler) as port:
        target = at(rebound, port)
        async with open_store(hosts=AllowedHosts.of(["*"])) as sink:
            with pytest.raises(TargetForbiddenError) as raised:
                await sink.find_bucket(target)
            assert sink.breakers.trouble(target) is None
        assert asked == []
        for allowed in ("127.0.0.0/8", rebound):
            async with open_store(hosts=AllowedHosts.of([allowed])) as sink:
                await sink.find_bucket(target)
        own = AllowedHosts.of(["*"], own=target.endpoint)
        async with open_store(hosts=own) as sink:
            await sink.find_bucket(target)
        assert len(asked) == 3
    assert str(raised.value) == (
        f"nothing is sent to bucket bucket at http://{rebound}:{port}: {rebound} leads to a "
        "loopback address, where tenants may not deliver to: choose another host, or ask the "
        "operator to add it to DELIVERY_S3_ALLOWED_HOSTS"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::1]"])
async def test_a_stored_host_that_is_refused_now_is_an_error_in_words(host: str) -> None:
    async with open_store(hosts=AllowedHosts.of(["*"])) as sink:
        with pytest.raises(TargetForbiddenError, match="DELIVERY_S3_ALLOWED_HOSTS"):
            await sink.find_bucket(at(host, 9))


async def test_a_forbidden_request_says_nothing_about_its_server() -> None:
    async def probe(_target: S3Target) -> None:
        raise AssertionError

    breakers = Breakers(probe, SIGNS)
    for _ in range(5):
        with pytest.raises(TargetForbiddenError), breakers.watching(at("a", 1)):
            raise TargetForbiddenError("no")
    assert breakers.trouble(at("a", 1)) is None
    assert len(breakers) == 0
    await breakers.close()


async def test_a_redirect_is_not_followed() -> None:
    asked = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async with serving(elsewhere) as other:

        async def redirect(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{other}{request.path}")

        async with serving(redirect) as port, open_store() as sink:
            with pytest.raises(TargetUnavailableError, match="led elsewhere"):
                await sink.find_bucket(at("127.0.0.1", port))
            with pytest.raises(TargetUnavailableError, match="led elsewhere"):
                await sink.create_upload(at("127.0.0.1", port), "k")
    assert asked == []


@pytest.mark.parametrize("status", [200, 403])
async def test_an_answer_without_an_end_is_given_up(status: int) -> None:
    sent = 0
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(status=status)
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b" " * 65536)
                sent += 65536
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    async with serving(endless) as port, open_store() as sink:
        with pytest.raises(TargetUnavailableError):
            await sink.create_upload(at("127.0.0.1", port), "k")
        await gone.wait()
    # What the sockets hold comes on top.
    assert sent < (64 if status == 200 else 32) * 1024 * 1024


async def test_a_page_in_the_place_of_an_answer_is_an_error_in_words() -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html><br>maintenance", content_type="text/html")

    async with serving(page) as port, open_store() as sink:
        with pytest.raises(TargetUnavailableError):
            await sink.create_upload(at("127.0.0.1", port), "k")


async def test_a_header_that_can_not_be_sent_is_refused_for_good() -> None:
    async def handler(_request: web.Request) -> web.Response:
        raise AssertionError

    async with serving(handler) as port, open_store() as sink:
        with pytest.raises(TargetRefusedError, match="correct host, region and key"):
            await sink.find_bucket(at("127.0.0.1", port, key="a\r\nX-Evil: 1"))


async def test_a_wrong_region_of_one_tenant_stops_no_sweep_of_others(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, client: Client
) -> None:
    names = [f"c-{uuid4().hex}" for _ in range(2)]
    for name, place in zip(names, (replace(target, region="a b"), target), strict=True):
        await deliveries.ready(name)
        leases = deliveries.leases("w")
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        upload = await sink.create_upload(target, key_of(claimed, target))
        located = deliveries.uploads(sink).located(upload, place)
        assert await leases.record_upload(claimed, located)
        async with deliveries.store.transaction() as tx:
            await fail(tx, claimed, ErrorType.EXPIRED, "for the test")
    assert await sweep_of(deliveries, sink).look() == 2
    assert await deliveries.pool.fetchval("SELECT bool_and(swept) FROM delivery")
    assert await client.open_uploads(names[1]) == []


async def test_the_doctor_names_what_tenants_share_and_what_can_not_be_used(
    settings: Settings, database: str, pool: Any, keys: list[str]
) -> None:
    settings = with_keys(settings, keys).model_copy(
        update={
            "tenants": ("one", "other", "third"),
            "database_url": SecretStr(database),
            "s3_allowed_hosts": ("*",),
        }
    )
    parts = await open_configuration(settings, pool)
    server = parts.tenants.defaults("other")["s3_server"]
    for tenant, name, value in (
        ("other", "s3_server", server | {"region": "a b", "host": "s3.example.org"}),
        ("other", "delivery_targets", {}),
        ("third", "delivery_bucket", "chosen-before"),
    ):
        async with parts.store.change(tenant) as change:
            await change.set(name, value)
    async with parts.store.change("one") as change:
        far = {"s3_server": server | {"port": 9}, "bucket": "far", "addressing_style": "path"}
        same = {"s3_server": server, "bucket": "chosen-before", "addressing_style": "path"}
        await change.set("delivery_targets", {"far": far, "same": same})
    found = [finding async for finding in examine(settings)]
    told = {finding.check: finding for finding in found if not finding.ok}
    assert "a b" in told["other default: reachable"].message
    assert "DELIVERY_S3_ALLOWED_HOSTS" in told["one far: reachable"].message
    shared = told["place of their own"]
    assert "one (same), third (default)" in shared.message
    assert "{tenant}" in shared.advice
    borrowed = told["S3 key of third"]
    assert "chosen-before" in borrowed.message
    assert "DELIVERY_TENANTS_CHOOSE_BUCKETS" in borrowed.advice
    (good,) = [finding for finding in found if finding.check == "one default: writable"]
    assert good.ok
