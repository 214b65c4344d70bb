"""The whole service with the rights of docs/least-rights.md, and no other."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest

from compose.embedded import rabbitmq, s3
from compose.embedded.stack import TENANT, Stack
from streams.amqp import names, rights
from streams.channels import CANCELS
from tests.client import Client, contents, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.integration.guarded import DOCUMENT, Guarded, guarded_s3
from tests.service import running_service
from tests.standin import StandIn

SQL = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
REFUSALS = ("Traceback", "denied", "ACCESS_REFUSED", "AccessDenied")


@dataclass(frozen=True, kw_only=True)
class Roles:
    """A database with its owner and the role of the service."""

    name: str
    address: str  # host and port
    admin: asyncpg.Connection  # of a superuser, in that database

    @property
    def service(self) -> str:
        return f"{self.name}_service"

    def url(self, role: str) -> str:
        """Return the address for the role `owner` or `service`."""
        password = {"owner": "change-me-1", "service": "change-me-2"}[role]
        return f"postgresql://{self.name}_{role}:{password}@{self.address}/{self.name}"

    async def migrate(self) -> str:
        """Do what is to be done before each version; return what was said."""
        ended = await asyncio.to_thread(
            delivery, "migrate", "--grant-to", self.service, DELIVERY_DATABASE_URL=self.url("owner")
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


async def follow(sql: str, name: str, admin: asyncpg.Connection) -> None:
    """Do what the document says, for another database and other roles."""
    text = re.sub(r"\bdelivery(?=_owner|_service|;| OWNER| FROM| TO)", name, sql)
    for statement in filter(str.strip, text.split(";")):
        await admin.execute(statement)


@pytest.fixture
async def roles(stack: Stack) -> AsyncIterator[Roles]:
    """A database that was set up as the document says."""
    url = stack.environment["DELIVERY_DATABASE_URL"]
    name = f"r{uuid4().hex[:8]}"
    admin = await asyncpg.connect(url)
    await follow(SQL[0], name, admin)
    inside = await asyncpg.connect(f"{url.rpartition('/')[0]}/{name}")
    await follow(SQL[1], name, inside)
    address = url.rpartition("@")[2].partition("/")[0]
    yield Roles(name=name, address=address, admin=inside)
    await inside.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    for role in ("owner", "service"):
        await admin.execute(f"DROP ROLE {name}_{role}")
    await admin.close()


@asynccontextmanager
async def rabbitmq_user(
    stack: Stack, folder: Path, permissions: rights.Permissions
) -> AsyncIterator[str]:
    """Give the address for a user of RabbitMQ with these rights alone."""
    if "DELIVERY_AMQP_URL" not in stack.servers:
        pytest.skip("the users of a given RabbitMQ are not the tests' to make")
    name = f"u{uuid4().hex[:8]}"
    three = zip(("configure", "write", "read"), permissions.patterns, strict=True)
    file = folder / "user.json"
    file.write_text(
        json.dumps(
            {
                "users": [{"name": name, "password": "x", "tags": ""}],
                "permissions": [{"user": name, "vhost": rabbitmq.VHOST} | dict(three)],
            }
        )
    )
    await rabbitmq.control(stack.folder, "import_definitions", file)
    yield f"amqp://{name}:x@" + stack.environment["DELIVERY_AMQP_URL"].rpartition("@")[2]
    await rabbitmq.control(stack.folder, "delete_user", name)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded_s3(tmp_path) as opened:
        yield opened


async def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run the command beside this loop, which must hear on."""
    ended = await asyncio.to_thread(
        delivery, *arguments, **environment | {"DELIVERY_START_TIMEOUT": "30"}
    )
    return ended.returncode, ended.stdout, ended.stderr


async def settings_of(
    stack: Stack, roles: Roles, guarded: Guarded, amqp: str, *, declares: bool
) -> dict[str, str]:
    """Return what such a service is started with."""
    target = await guarded.user()
    name = uuid4().hex[:8]
    return {
        "DELIVERY_AMQP_URL": amqp,
        "DELIVERY_AMQP_DECLARE": str(declares),
        "DELIVERY_DATABASE_URL": roles.url("service"),
        "DELIVERY_MIGRATE_AT_START": str(declares),  # it may not, either way
        "DELIVERY_S3_ENDPOINT": target.endpoint,
        "DELIVERY_S3_REGION": s3.REGION,
        "DELIVERY_S3_KEY": target.key,
        "DELIVERY_S3_SECRET": target.secret,
        "DELIVERY_DELIVERY_BUCKET": target.bucket,
        "DELIVERY_KAFKA_TOPIC_PREFIX": f"{name}.",
        "DELIVERY_KAFKA_GROUP": name,
        "DELIVERY_LEASE_TTL": "3",
        "DELIVERY_RECONCILE_INTERVAL": "1",
        "DELIVERY_EXPIRY_INTERVAL": "1",
    }


async def uploads(guarded: Guarded) -> list[Any]:
    """Return the uploads that are open."""
    answer = await guarded.store.list_multipart_uploads(Bucket="deliveries")
    found: list[Any] = answer.get("Uploads", [])
    return found


async def cancel(client: Client, name: str) -> None:
    """Ask over AMQP that a delivery ends."""
    exchange = await client.channel.get_exchange(CANCELS.exchange.name, ensure=False)
    body = json.dumps({"correlationId": name}).encode()
    await exchange.publish(
        aio_pika.Message(body, headers={"regards.tenant": TENANT}, app_id="a"), ""
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("declares", [True, False], ids=["declares", "declares-nothing"])
async def test_the_service_does_its_work_with_least_rights(
    stack: Stack,
    roles: Roles,
    guarded: Guarded,
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
    tmp_path: Path,
    declares: bool,
) -> None:
    """A delivery, a cancel in its transfer, an expiry, the sweep; the doctor and commands."""
    assert roles.service in await roles.migrate()
    files = {"a.bin": noise(6_000_000), "b.txt": b"b"}
    whole = rights.needed(declares=declares)
    async with rabbitmq_user(stack, tmp_path, whole) as amqp:
        extra = await settings_of(stack, roles, guarded, amqp, declares=declares)
        if not declares:
            code, _, said = await run({**stack.environment}, "topology", "apply")
            assert code == 0, said
        async with running_service(stack, extra=extra) as (child, _):
            done = await client.answer(request_for(make_product(files)))
            assert done["status"] == "DONE", done
            key = done["url"].removeprefix("s3://deliveries/")
            stored = await guarded.store.get_object(Bucket="deliveries", Key=key)
            assert contents(await stored["Body"].read()) == files

            await standin.misbehave(bytes_per_second=500_000)
            slow = request_for(make_product({"a.bin": noise(20_000_000)}))
            await client.send(slow)
            async with asyncio.timeout(60):
                while not await uploads(guarded):
                    await asyncio.sleep(0.1)
                await cancel(client, slow["correlationId"])
                await client.wait_for(slow["correlationId"], "ERROR")
                while await uploads(guarded):
                    await asyncio.sleep(0.1)

            await standin.misbehave(order="silent")
            late = request_for(make_product({"c": b"c"}))
            await client.send(late)
            await client.wait_for(late["correlationId"], "GRANTED")
            await roles.admin.execute(
                "UPDATE delivery SET expires_at = now() WHERE correlation_id = $1",
                late["correlationId"],
            )
            ended = await client.wait_for(late["correlationId"], "ERROR")
            assert ended["errorType"] == "EXPIRED"
            await standin.behave()

            async with asyncio.timeout(120):  # the sweep has looked for uploads that were left
                while not await roles.admin.fetchval(
                    "SELECT swept FROM delivery WHERE correlation_id = $1", slow["correlationId"]
                ):
                    await asyncio.sleep(0.1)

            as_service = {**stack.environment, **extra}
            _, out, said = await run(as_service, "doctor")
            problems = [line for line in out.splitlines() if line.startswith("PROBLEM")]
            # Two of three deliveries were ended here; letters are other tests'.
            others = ("dead letters", "attention, DEAD_LETTER", "ended in")
            left = [line for line in problems if not any(words in line for words in others)]
            assert left == [], said
            for part in ("postgresql, rights", "rabbitmq, rights"):
                assert f"ok       {part}: " in out
            assert f"ok       s3, {TENANT} default: removable: " in out
            for command in (
                "list",
                "stats",
                "settings get request_ttl",
                "dlq list",
                "topics check",
            ):
                code, _, said = await run(as_service, *command.split())
                assert code == 0, said
        log = child.log.read_text()
    assert [line for line in log.splitlines() if any(word in line for word in REFUSALS)] == []


async def test_a_service_that_lacks_a_right_at_its_start_says_which(
    stack: Stack, roles: Roles, guarded: Guarded, tmp_path: Path
) -> None:
    await roles.migrate()
    lacking = rights.Permissions(
        **{
            **rights.needed(declares=True).__dict__,
            "configure": [names.DEAD_LETTER_EXCHANGE, *names.EXCHANGES],
        }
    )
    async with rabbitmq_user(stack, tmp_path, lacking) as amqp:
        extra = {
            **stack.environment,
            **await settings_of(stack, roles, guarded, amqp, declares=True),
        }
        code, _, said = await run(extra, "worker")
        assert code == 2
        assert re.search(r"delivery: RabbitMQ's user .* lacks a right: ACCESS_REFUSED .*DLQ", said)
        await roles.admin.execute(f"REVOKE UPDATE ON delivery FROM {roles.service}")
        code, _, said = await run(extra, "worker")
        assert code == 2
        assert (
            "delivery: PostgreSQL's role of DELIVERY_DATABASE_URL lacks UPDATE on delivery" in said
        )
        assert "Traceback" not in said
        assert (
            await roles.migrate()
            == f"nothing to do\ngranted {roles.service} what the service needs\n"
        )
        code, _, said = await run(extra, "worker")
        assert "RabbitMQ's user" in said


async def test_a_service_that_may_not_migrate_says_who_may(
    stack: Stack, roles: Roles, guarded: Guarded
) -> None:
    extra = {**stack.environment, "DELIVERY_DATABASE_URL": roles.url("service")}
    for command in ("worker", "migrate"):
        code, _, said = await run(extra, command)
        assert code == 2
        assert "run `delivery migrate`, as the role that owns the tables" in said
        assert "Traceback" not in said
    await roles.migrate()
    for command in ("migrate", "list"):
        assert (await run(extra, command))[0] == 0
    code, _, said = await run(extra, "migrate", "--grant-to", roles.service)
    assert code == 2
    assert "Only the owner of the tables may" in said


async def test_a_delivery_to_a_bucket_that_lacks_a_right_says_which(
    stack: Stack, roles: Roles, guarded: Guarded, client: Client, make_product: Callable[..., str]
) -> None:
    await roles.migrate()
    target = await guarded.user(without=["s3:PutObject"])
    extra = await settings_of(
        stack, roles, guarded, stack.environment["DELIVERY_AMQP_URL"], declares=True
    )
    extra |= {"DELIVERY_S3_KEY": target.key, "DELIVERY_S3_SECRET": target.secret}
    async with running_service(stack, extra=extra):
        answer = await client.answer(request_for(make_product({"a.txt": b"a"})))
        assert answer["status"] == "ERROR"
        assert "(AccessDenied): give the key the right to put" in answer["message"]
        _, out, _ = await run({**stack.environment, **extra}, "doctor")
    assert re.search(r"PROBLEM  s3, .* writable: .*; s3:PutObject is missing", out)


async def test_a_database_of_one_role_is_handed_over_to_an_owner(
    stack: Stack, roles: Roles
) -> None:
    """As the document says for those who have one role for all."""
    old = f"{roles.name}_old"
    await roles.admin.execute(f"CREATE ROLE {old} LOGIN PASSWORD 'x'")
    await roles.admin.execute(f"GRANT ALL ON DATABASE {roles.name} TO {old}")
    await roles.admin.execute(f"GRANT ALL ON SCHEMA public TO {old}")
    url = f"postgresql://{old}:x@{roles.address}/{roles.name}"
    assert (await run({"DELIVERY_DATABASE_URL": url}, "migrate"))[0] == 0
    await roles.admin.execute(
        SQL[2]
        .replace("BY delivery ", f"BY {old} ")
        .replace("delivery_owner", f"{roles.name}_owner")
    )
    await roles.migrate()
    environment = {**stack.environment, "DELIVERY_DATABASE_URL": roles.url("service")}
    code, out, _ = await run(environment, "list")
    assert (code, out) == (0, "no deliveries\n")
    _, out, _ = await run(environment, "doctor")
    assert "ok       postgresql, rights: " in out
    await roles.admin.execute(f"DROP OWNED BY {old}")
    await roles.admin.execute(f"DROP ROLE {old}")
