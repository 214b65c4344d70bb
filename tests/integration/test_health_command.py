"""`delivery health`: what a container's health check calls, beside a real process."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from app.store import PostgresWorkers
from compose.embedded.processes import free_port, running
from compose.embedded.stack import ROOT, Stack
from tests import nursery
from tests.command import delivery, logged
from tests.integration.gate import Gate, gate
from tests.service import running_service
from web.site import Site


async def health(stack: Stack, *sets: Mapping[str, str]) -> tuple[int, str]:
    """Run the command, as the container of the service would."""
    environment = dict(stack.environment)
    for some in sets:
        environment |= some
    ended = await asyncio.to_thread(delivery, "health", **environment)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
async def rabbitmq(stack: Stack) -> AsyncIterator[Gate]:
    """RabbitMQ behind a gate."""
    async with gate(stack.environment["DELIVERY_AMQP_URL"]) as opened:
        yield opened


async def test_a_service_lives_although_rabbitmq_and_s3_are_away(
    stack: Stack, apart: dict[str, str], rabbitmq: Gate
) -> None:
    port = {"DELIVERY_WEB_PORT": str(free_port())}
    away = {"DELIVERY_AMQP_URL": rabbitmq.url, "DELIVERY_S3_ENDPOINT": "http://127.0.0.1:9"}
    own = apart | port | away
    assert (await health(stack, own))[0] == 2  # nothing listens, and the database is empty
    async with running_service(stack, extra=own) as (_, url):
        assert await health(stack, own) == (0, f"{url}/health/live answers\n")
        await rabbitmq.shut()
        async with aiohttp.ClientSession(url) as http, asyncio.timeout(60):
            while (await http.get("/health/ready")).status != 503:
                await asyncio.sleep(0.1)
        assert (await health(stack, own))[0] == 0
    code, told = await health(stack, own)
    assert code == 1
    assert f"nothing listens on port {port['DELIVERY_WEB_PORT']}" in told


async def test_a_service_with_https_is_asked_by_https(
    stack: Stack, apart: dict[str, str], tmp_path: Path
) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=delivery.example.org"
    files = ["-keyout", str(key), "-out", str(chain)]
    subprocess.run([*request.split(), *files], check=True, capture_output=True)
    own = apart | {
        "DELIVERY_WEB_PORT": str(free_port()),
        "DELIVERY_WEB_TLS_CERTIFICATE": str(chain),
        "DELIVERY_WEB_TLS_KEY": str(key),
    }
    async with running_service(stack, command="web", extra=own):
        code, told = await health(stack, own)
    assert code == 0
    assert told.startswith("https://127.0.0.1:")


async def test_a_service_whose_connections_are_all_taken_lives(
    stack: Stack, apart: dict[str, str]
) -> None:
    site = Site(web.Application(), host="127.0.0.1", port=0, tls=None, connections=1)
    await site.start()
    try:
        _, stranger = await asyncio.open_connection("127.0.0.1", site.port)
        code, told = await health(stack, apart, {"DELIVERY_WEB_PORT": str(site.port)})
        stranger.close()
    finally:
        await site.stop()
    assert code == 0
    assert "answers that too many connections are open" in told


async def test_a_process_that_answers_nothing_does_not_live(
    stack: Stack, apart: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        code, told = await health(stack, apart, {"DELIVERY_WEB_PORT": str(port)})
    assert code == 1
    assert "does not answer" in told


async def test_a_worker_without_http_is_known_by_its_row(
    stack: Stack, pool: asyncpg.Pool, apart: dict[str, str], tmp_path: Path
) -> None:
    """So it is where the name is given, and where it is made of the host's."""
    nowhere = {"DELIVERY_WEB_PORT": str(free_port())}
    own = apart | nowhere
    child = nursery.start(
        "the service",
        [sys.executable, "-m", "app.cli", "worker"],
        log=tmp_path / "log",
        environment={**stack.environment, **own},
        cwd=ROOT,
    )
    async with running(child):
        await logged(child, '"worker_ready"')
        async with asyncio.timeout(30):
            while not await pool.fetchval("SELECT count(*) FROM worker"):
                await asyncio.sleep(0.05)
        code, told = await health(stack, own)
        assert code == 0, told
        assert told.startswith(f"worker {socket.gethostname()}-")
        assert (await health(stack, own, {"DELIVERY_WORKER_ID": "another"}))[0] == 1


async def test_a_worker_that_is_silent_does_not_live(
    stack: Stack, pool: asyncpg.Pool, apart: dict[str, str]
) -> None:
    own = apart | {"DELIVERY_WEB_PORT": str(free_port()), "DELIVERY_WORKER_ID": "w-1"}
    await PostgresWorkers(pool, worker="w-1", version="1", slots=1).heartbeat()
    assert (await health(stack, own))[0] == 0
    await pool.execute("UPDATE worker SET seen_at = now() - interval '5 minutes'")
    code, told = await health(stack, own)
    assert code == 1
    assert "worker w-1 has been silent for " in told


async def test_a_worker_lives_while_postgresql_is_away(stack: Stack) -> None:
    away = {"DELIVERY_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    code, told = await health(stack, away, {"DELIVERY_WEB_PORT": str(free_port())})
    assert code == 0
    assert "can't be read now" in told
