"""How much the server takes in at once; and what it answers to a HEAD."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from app.delivery.targets import Target
from app.run.wiring.tenants import ConfigurationParts
from tests.web.conftest import Api, MakeClient, bearer, parts_for, serve
from web.api.targets import TargetsApi
from web.site import Site, create_site


async def test_requests_beyond_what_a_process_takes_are_told_to_come_again(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def look(_target: Target) -> None:
        inside.set()
        await go_on.wait()

    targets = TargetsApi(configuration.tenants, look=look, trouble=lambda _: None)
    parts = parts_for(configuration, targets=targets, requests_under_way=1)
    api = await serve(aiohttp_client, parts)
    # Of health, but no probe: it counts no more than those.
    slow = asyncio.ensure_future(api.call("GET", "/health/targets"))
    await inside.wait()
    assert (await api.call("GET", "/settings")).status == 200
    go_on.set()
    assert (await slow).status == 200


async def test_one_more_request_than_there_is_room_for_is_refused_and_probes_are_not(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_target: Target) -> list[dict[str, Any]]:
        inside.set()
        await go_on.wait()
        return []

    parts = parts_for(configuration, probe=slow, requests_under_way=1)
    api = await serve(aiohttp_client, parts)
    server = {
        "scheme": "http",
        "host": "s3.example.org",
        "port": 80,
        "region": "r",
        "key": "k",
        "secret": "s",
    }
    first = asyncio.ensure_future(
        api.call("PUT", "/settings/s3_server?check=only", json={"value": server})
    )
    await inside.wait()
    for path in ("/settings", "/nothing", "/docs"):
        refused = await api.call("GET", path)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert "too much to do" in (await refused.json())["message"]
    for path in ("/health/live", "/health/ready", "/deliveries/events"):
        answer = await api.call("GET", path)
        assert answer.status == 200
        answer.close()
    go_on.set()
    assert (await first).status == 200
    assert (await api.call("GET", "/settings")).status == 200


async def test_a_connection_too_many_is_told_to_come_again(
    configuration: ConfigurationParts,
) -> None:
    site = Site(
        create_site(parts_for(configuration)), host="127.0.0.1", port=0, tls=None, connections=2
    )
    await site.start()
    url = f"http://127.0.0.1:{site.port}/settings"
    try:
        async with aiohttp.ClientSession(headers=bearer()) as session:
            held = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(2)]
            for _, writer in held:  # that they are taken in is known by their answer
                writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            for reader, _ in held:
                assert b" 200 " in await reader.readline()
            async with session.get(url) as refused:
                assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
                told = await refused.json()
                assert "too much to do" in told["message"]
                assert told["code"] == "TOO_MANY_CALLS"
            held[0][1].close()
            async with asyncio.timeout(20):  # until the server sees it
                while True:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            break
                    await asyncio.sleep(0.05)
            held[1][1].close()
    finally:
        await site.stop()


@pytest.mark.parametrize(
    "path",
    [
        "/health/live",
        "/health/ready",
        "/health/targets",
        "/metrics",
        "/settings",
        "/settings/request_ttl",
        "/deliveries",
        "/workers",
        "/stats",
        "/audit",
        "/openapi.json",
        "/console",
        "/microservice/ready",
    ],
)
async def test_head_is_answered_like_get_without_the_body(api: Api, path: str) -> None:
    got = await api.call("GET", path)
    head = await api.call("HEAD", path)
    assert head.status == got.status == 200
    assert await head.read() == b""
    for name in ("Content-Type", "ETag"):
        assert head.headers.get(name) == got.headers.get(name)
    stranger = await api.client.head(path)
    assert stranger.status == (await api.client.get(path)).status


async def test_head_opens_no_stream(api: Api) -> None:
    assert (await api.call("HEAD", "/deliveries/events")).status in (404, 405)


async def test_scripts_of_a_configured_origin_may_read_what_they_need(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    origin = "https://admin.example.org"
    api = await serve(aiohttp_client, parts_for(configuration, cors_origins=(origin,)))
    answer = await api.call("GET", "/settings", headers={"Origin": origin})
    exposed = {
        name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")
    }
    assert {"location", "retry-after", "x-request-id", "etag"} <= exposed
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "HEAD",
        "Access-Control-Request-Headers": "authorization,x-request-id",
    }
    assert (await api.client.options("/settings", headers=asked)).status == 200
