"""The service as a process, configured while it works: over HTTP and by the command line."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from compose.embedded import s3
from compose.embedded.processes import Child
from compose.embedded.stack import Stack
from tests.client import Client, contents, request_for
from tests.command import delivery, logged
from tests.service import running_service

SECRET = "a-secret-key-that-must-show-nowhere"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running service."""

    child: Child
    url: str
    environment: dict[str, str]

    def command(self, *arguments: str) -> Any:
        """Run a command with the service's own settings."""
        return delivery(*arguments, **self.environment)

    def ask(self) -> aiohttp.ClientSession:
        """Return a session that is signed in."""
        token = self.command("token").stdout.strip()
        return aiohttp.ClientSession(self.url, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
async def service(stack: Stack, apart: dict[str, str]) -> AsyncIterator[Running]:
    extra = apart | {
        "DELIVERY_LOG_FORMAT": "json",
        # A bucket beside the default one, on the one server that there is.
        "DELIVERY_TENANTS_CHOOSE_BUCKETS": "true",
    }
    async with running_service(stack, extra=extra) as (child, url):
        yield Running(child=child, url=url, environment={**stack.environment, **extra})


@pytest.fixture
async def bucket(stack: Stack) -> str:
    """A bucket beside the default one."""
    name = f"second-{uuid4().hex[:8]}"
    where = stack.environment["DELIVERY_S3_ENDPOINT"]
    async with s3.client(where, s3.KEY, s3.SECRET, s3.REGION) as store:
        await store.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": s3.REGION}
        )
    return name


async def dump(database: str) -> str:
    """Return every row of every table."""
    connection = await asyncpg.connect(database)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        rows = [
            str(dict(row))
            for table in tables
            for row in await connection.fetch(f'SELECT * FROM "{table["tablename"]}"')  # noqa: S608
        ]
    finally:
        await connection.close()
    return "\n".join(rows)


@pytest.mark.timeout(600)  # two dozen commands, each a process
async def test_settings_take_effect_while_the_service_works(  # noqa: PLR0915 - one service for all of it
    service: Running,
    client: Client,
    make_product: Callable[..., str],
    bucket: str,
    database: str,
    tmp_path: Path,
) -> None:
    product = make_product({"a": b"a"})
    done = await client.answer(request_for(product))
    assert done["url"].startswith(f"s3://{s3.BUCKET}/")

    # Over HTTP, for the next delivery.
    async with service.ask() as session:
        async with session.put("/settings/delivery_bucket", json={"value": bucket}) as answer:
            assert answer.status == 200
        done = await client.answer(request_for(product))
        assert done["url"].startswith(f"s3://{bucket}/")
        assert contents(await client.fetch(done["url"])) == {"a": b"a"}

    # By the command line, on the database: the service hears of it.
    shown = service.command("settings", "get", "s3_server", "--json")
    server = json.loads(shown.stdout)["value"]
    assert server["secret"] == "*******"
    target = {"s3_server": server | {"secret": s3.SECRET}, "bucket": bucket, "prefix": "far/off"}
    changed = service.command("settings", "set", "delivery_targets", json.dumps({"far": target}))
    assert (changed.returncode, changed.stdout) == (0, "delivery_targets is set\n")
    reset = service.command("settings", "reset", "delivery_bucket")
    assert reset.stdout == "delivery_bucket has its default\n"
    body = request_for(product, targetDelivery="far")
    done = await client.answer(body)
    assert done["url"].startswith(f"s3://{bucket}/far/off/{body['correlationId']}/")
    assert contents(await client.fetch(done["url"])) == {"a": b"a"}
    denied = await client.answer(request_for(product, targetDelivery="nowhere"))
    assert (denied["status"], denied["errorType"]) == ("DENIED", "INVALID_CONTENT")

    # The command line on the server does the same as on the database.
    token = service.command("token").stdout.strip()
    at = ("settings", "--url", service.url, "--token", token)
    everywhere = [
        service.command(*at, "get", "--json"),
        service.command("settings", "get", "--json"),
    ]
    assert everywhere[0].stdout == everywhere[1].stdout != ""
    refused = service.command("settings", "--url", service.url, "get")
    assert (refused.returncode, "needs a token: --token" in refused.stderr) == (1, True)
    file = tmp_path / "settings.json"
    assert service.command(*at, "export", str(file)).returncode == 0
    assert service.command("settings", "export").stdout == file.read_text()
    for where in (("settings",), at):
        assert service.command(*where, "import", str(file)).stdout == "all of it was taken\n"

    # A tenant in maintenance waits.
    async with service.ask() as session:
        async with session.put("/maintenance/sentinel/enable") as answer:
            assert answer.status == 200
        waiting = request_for(product)
        await client.send(waiting)
        await _received(database, waiting["correlationId"])
        assert client.said(waiting["correlationId"]) == []
        async with session.get("/settings") as answer:
            assert answer.status == 503
        async with session.put("/maintenance/sentinel/disable") as answer:
            assert answer.status == 200
    await client.wait_for_said(waiting["correlationId"], "GRANTED", "DONE")

    # A secret that is set shows nowhere.
    secret = json.dumps(server | {"secret": SECRET, "port": 9})
    assert service.command("settings", "set", "s3_server", secret).returncode == 0
    await logged(service.child, "configuration_changed")
    failing = request_for(product)
    await client.send(failing)
    await logged(service.child, "work_postponed")
    async with service.ask() as session:
        for path in ("/settings", "/audit", "/microservice/configuration", "/health/ready"):
            async with session.get(path) as answer:
                assert SECRET not in await answer.text()
    assert SECRET not in service.command("settings", "get").stdout
    assert SECRET not in service.child.log.read_text()
    everything = await dump(database)
    assert "far/off" in everything
    assert SECRET not in everything
    assert s3.SECRET not in everything


async def _received(database: str, correlation_id: str) -> None:
    """Return once a request is saved, and nothing more."""
    connection = await asyncpg.connect(database)
    try:
        async with asyncio.timeout(20):
            query = "SELECT state FROM delivery WHERE correlation_id = $1"
            while await connection.fetchval(query, correlation_id) != "RECEIVED":
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("set", "request_ttl", "soon"), 1, "delivery: request_ttl: Input should be a valid int"),
        (("set", "nonsense", "1"), 1, "there is no setting 'nonsense'"),
        (("get", "nonsense"), 2, "there is no setting nonsense"),
        (("--tenant", "nobody", "get"), 2, "unknown tenant nobody"),
        (("--url", "http://127.0.0.1:9", "get"), 1, "http://127.0.0.1:9 does not answer"),
        (("--url", "http://x", "--tenant", "t", "get"), 2, "leave out --tenant"),
        (("import", "/no/such/file"), 2, "can't read /no/such/file"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    environment: None,
    database: str,
    pool: asyncpg.Pool,
    arguments: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    ended = delivery("settings", *arguments, DELIVERY_DATABASE_URL=database)
    assert ended.returncode == code
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_refused_file_is_told_entry_by_entry(
    environment: None, database: str, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    file = tmp_path / "file.json"
    file.write_text("{}")
    ended = delivery("settings", "import", str(file), DELIVERY_DATABASE_URL=database)
    assert (ended.returncode, 'a list "modules"' in ended.stderr) == (1, True)
    exported = json.loads(delivery("settings", "export", DELIVERY_DATABASE_URL=database).stdout)
    exported["modules"][0]["configuration"][0]["value"]["value"] = "-1"
    file.write_text(json.dumps(exported))
    ended = delivery("settings", "import", str(file), DELIVERY_DATABASE_URL=database)
    assert ended.returncode == 1
    assert "entry 1: request_ttl: " in ended.stderr
    assert "a part was taken, the above was not" in ended.stderr


def test_keys_are_made_and_changed(environment: None, database: str, pool: asyncpg.Pool) -> None:
    old = os.environ["DELIVERY_SECRET_KEYS"]
    new = delivery("make-key").stdout.strip()
    server = json.dumps(
        {"scheme": "http", "host": "h", "port": 1, "region": "r", "key": "k", "secret": SECRET}
    )
    both = {"DELIVERY_DATABASE_URL": database, "DELIVERY_SECRET_KEYS": f"{new},{old}"}
    one = both | {"DELIVERY_SECRET_KEYS": new}
    assert delivery("settings", "set", "s3_server", server, DELIVERY_DATABASE_URL=database)
    refused = delivery("rotate-keys", **one)
    assert (refused.returncode, "DELIVERY_SECRET_KEYS" in refused.stderr) == (1, True)
    assert delivery("rotate-keys", **both).stdout == "values sealed again: 1\n"
    assert delivery("rotate-keys", **one).stdout == "values sealed again: 1\n"
    without = delivery(
        "worker",
        DELIVERY_DATABASE_URL=database,
        DELIVERY_SECRET_KEYS="",
        DELIVERY_DEVELOPMENT="false",
    )
    assert (without.returncode, "delivery make-key" in without.stderr) == (2, True)
