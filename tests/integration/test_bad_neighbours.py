"""One tenant's S3 takes everything and says nothing: no other tenant notices."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from compose.embedded import s3
from compose.embedded.stack import TENANT, Stack
from tests.client import Client, request_for
from tests.command import delivery
from tests.integration.gate import Gate, gate
from tests.service import running_service

OTHER = "swot"  # whose server it is


@dataclass
class Neighbours:
    """A running service of two tenants, and the door to the server of one of them."""

    url: str
    door: Gate
    database: asyncpg.Connection
    token: str

    async def ask(self, method: str, path: str) -> tuple[int, object]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(self.url, headers=headers) as session,
            session.request(method, path) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def up(self) -> str | None:
        """Return what the gauge of the server says."""
        _, figures = await self.ask("GET", "/metrics")
        port = urlsplit(self.door.url).port
        found = re.search(rf'delivery_target_up{{server="127.0.0.1:{port}"}} (\S+)', str(figures))
        return found[1] if found else None

    async def until(self, up: str) -> None:
        """Return once the gauge says so."""
        async with asyncio.timeout(90):
            while await self.up() != up:
                await asyncio.sleep(0.1)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return await self.database.fetch(query, *arguments)


@pytest.fixture
async def neighbours(stack: Stack, apart: dict[str, str]) -> AsyncIterator[Neighbours]:
    extra = apart | {
        "DELIVERY_TENANTS": f"{TENANT},{OTHER}",
        "DELIVERY_MAX_TRANSFERS": "2",
        "DELIVERY_LEASE_TTL": "6",
        "DELIVERY_RECONCILE_INTERVAL": "1",
        "DELIVERY_EXPIRY_INTERVAL": "1",
        "DELIVERY_EVENT_ALLOWANCE": "5",
    }
    environment = {**stack.environment, **extra}
    async with gate(stack.environment["DELIVERY_S3_ENDPOINT"]) as door:
        address = urlsplit(door.url)
        server = {
            "scheme": "http",
            "host": address.hostname,
            "port": address.port,
            "region": s3.REGION,
            "key": s3.KEY,
            "secret": s3.SECRET,
        }
        async with running_service(stack, extra=extra) as (_, url):
            at = ("settings", "--tenant", OTHER, "set", "s3_server", json.dumps(server))
            assert delivery(*at, **environment).returncode == 0
            # Figures of a server are for who administers all tenants.
            admin = ("token", "--tenant", OTHER, "--role", "INSTANCE_ADMIN")
            token = delivery(*admin, **environment).stdout.strip()
            connection = await asyncpg.connect(apart["DELIVERY_DATABASE_URL"])
            yield Neighbours(url=url, door=door, database=connection, token=token)
            await connection.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
async def test_a_server_that_does_not_answer_holds_up_its_tenant_alone(
    neighbours: Neighbours,
    client: Client,
    make_product: Callable[..., str],
    silent: bool,
) -> None:
    product = make_product({"a": b"a"})
    theirs = [request_for(product) for _ in range(8)]
    ids = [body["correlationId"] for body in theirs]
    await (neighbours.door.hush() if silent else neighbours.door.shut())
    for body in theirs:
        await client.send(body, tenant=OTHER)
    for correlation_id in ids:
        await client.wait_for(correlation_id, "GRANTED")
    ours = request_for(product)
    assert (await client.answer(ours))["status"] == "DONE"
    assert (await neighbours.ask("GET", "/health/ready"))[0] == 200

    # Its server is left alone: what waits for it is not tried, and says why it waits.
    await neighbours.until("0.0")
    waiting = "SELECT count(*) FROM delivery WHERE state = 'READY' AND last_cause LIKE $1"
    async with asyncio.timeout(30):
        while (await neighbours.rows(waiting, "%does not answer%"))[0]["count"] < 3:
            await asyncio.sleep(0.1)
    tried = "SELECT correlation_id, attempt FROM delivery WHERE tenant = $1 ORDER BY 1"
    before = await neighbours.rows(tried, OTHER)
    for _ in range(3):
        assert (await client.answer(request_for(product)))["status"] == "DONE"
    assert await neighbours.rows(tried, OTHER) == before
    status, told = await neighbours.ask("GET", "/health/targets")
    assert status == 200
    assert isinstance(told, dict)
    (target,) = told["content"]
    assert target["status"] == "DOWN"
    assert "heldBack" not in target  # it is a place of the tenant's choice

    # Cancels and expiry end deliveries all the same, whether they were begun or not.
    status, _ = await neighbours.ask("POST", f"/deliveries/{ids[0]}/cancel")
    assert status == 200
    assert (await client.wait_for(ids[0], "ERROR", seconds=30))["status"] == "ERROR"
    await neighbours.rows(
        "UPDATE delivery SET expires_at = now() WHERE correlation_id = ANY ($1)", ids[1:4]
    )
    for correlation_id in ids[1:4]:
        told = await client.wait_for(correlation_id, "ERROR", seconds=30)
        assert told["errorType"] == "EXPIRED"

    # It is back: a probe finds out, and the others are delivered.
    await (neighbours.door.speak() if silent else neighbours.door.let())
    for correlation_id in ids[4:]:
        told = await client.wait_for(correlation_id, "DONE", "ERROR", seconds=90)
        assert told["status"] == "DONE"
    await neighbours.until("1.0")
    left = "SELECT last_cause FROM delivery WHERE last_cause LIKE '%does not answer%' AND state "
    assert await neighbours.rows(left + "NOT IN ('DONE', 'ERROR')") == []
