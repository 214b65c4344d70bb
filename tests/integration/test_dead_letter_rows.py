"""Letters that a worker buries are kept, mended over HTTP and from a shell, and answered once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import asyncpg
import pytest

from app.run.worker import running_worker
from app.settings import Settings
from app.store import PostgresDeadLetters
from app.usecases.bury import keeper
from app.views.dead_letters import DeadLetterFilter, KeptLetter
from compose.embedded.processes import free_port
from streams.amqp.dead_letters import QUEUES
from streams.amqp.topology import declare_topology
from streams.kafka.log import open_event_log
from tests.builders import make_buried, make_token
from tests.client import REQUEST_QUEUE, Client
from tests.command import delivery
from tests.integration.test_dead_letters import sweep_of

TENANTS = ("sentinel", "swot", "sar")
HEADERS = {"custom": "kept", "number": 5, "nothing": None, "bytes": bytearray(b"\xff"), "x": 2**40}


@pytest.fixture
async def emptied(settings: Settings) -> AsyncIterator[None]:
    """Empty queues of requests and of dead letters; they are empty after it, too."""
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    queues = (REQUEST_QUEUE, *QUEUES.values())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
        for queue in queues:
            await (await channel.get_queue(queue)).purge()
        yield
        for queue in queues:
            await (await channel.get_queue(queue)).purge()


@pytest.fixture
def here(settings: Settings, database: str) -> Settings:
    """Settings of a worker with three tenants and a database of its own."""
    return settings.model_copy(
        update={
            "tenants": TENANTS,
            "database_url": type(settings.database_url)(database),
            "web_port": free_port(),
            "web_host": "127.0.0.1",
            "web_requests_per_second": 10_000.0,
            "web_requests_burst": 10_000.0,
        }
    )


async def kept(table: PostgresDeadLetters, count: int) -> list[KeptLetter]:
    """Wait until so many letters are kept."""
    async with asyncio.timeout(120):
        while True:
            found = await table.browse(None, DeadLetterFilter(), after=0, limit=5000)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.2)


def refused(correlation_id: str) -> dict[str, Any]:
    """Return a request that is answered at once, and once: its time was over long ago."""
    return {
        "correlationId": correlation_id,
        "order": {"user": "someone@example.org", "queries": ["x"]},
        "delivery": {"deadline": "2020-01-01T00:00:00Z"},
    }


@pytest.mark.usefixtures("emptied")
async def test_a_message_that_is_buried_has_a_row_that_its_copy_knows(
    here: Settings, pool: asyncpg.Pool, client: Client
) -> None:
    """The row is written by who buries, its id found again by who looks through the queue."""
    table = PostgresDeadLetters(pool)
    async with running_worker(here, site=False):
        for body, tenant, name in (
            (b"{", "sentinel", "m-1"),
            (b"\xff\0", "stranger", None),
            (b"[1]", None, None),
        ):
            for _ in range(2):
                await client.send(
                    body, tenant=tenant, headers=dict(HEADERS), message_id=name, priority=7
                )
        found = await kept(table, 3)
    connection = await aio_pika.connect(here.amqp_url.get_secret_value())
    async with connection, open_event_log(here) as events:
        await sweep_of(here, pool).sweep(connection, events)
    again = await table.browse(None, DeadLetterFilter(), after=0, limit=99)
    assert sorted(k.letter.id for k in again) == sorted(k.letter.id for k in found)
    assert {(k.letter.body, k.letter.tenant) for k in again} == {
        (b"{", "sentinel"),
        (b"\xff\0", "stranger"),
        (b"[1]", None),
    }
    assert {k.letter.reason.partition(":")[0] for k in again} == {
        "the body is no JSON",
        "the body is not UTF-8",
        "the header regards.tenant is missing",
    }


async def test_a_letter_that_postgresql_does_not_take_holds_nothing_up(
    pool: asyncpg.Pool,
) -> None:
    table = PostgresDeadLetters(pool)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE dead_letter IN ACCESS EXCLUSIVE MODE")
        await keeper(table, timeout=0.1)(make_buried("amqp:a"))
    assert await table.known(["amqp:a"]) == {}
    await keeper(table)(make_buried("amqp:a"))
    assert await table.known(["amqp:a"]) == {"amqp:a": False}
    await pool.close()
    await keeper(table)(make_buried("amqp:b"))


@pytest.mark.usefixtures("emptied")
async def test_what_is_buried_while_postgresql_is_away_has_its_row_later(
    here: Settings, pool: asyncpg.Pool, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.run.worker._DEAD_LETTERS_INTERVAL", 0.2)
    table = PostgresDeadLetters(pool)
    async with running_worker(here, site=False):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE dead_letter IN ACCESS EXCLUSIVE MODE")
            await client.send(b"{")
            queue = await client.channel.get_queue(QUEUES["requests"], ensure=False)
            async with asyncio.timeout(60):
                while (buried := await queue.get(fail=False)) is None:
                    await asyncio.sleep(0.1)
            await buried.nack(requeue=True)
        (letter,) = await kept(table, 1)
    assert letter.letter.body == b"{"


async def put_back(session: aiohttp.ClientSession) -> None:
    """Put all that is mended back; who is told that others do so comes again."""
    body = {"filter": {"mended": "true"}}
    left = True
    while left:
        answer = await session.post("/dead-letters/requeue", json=body, raise_for_status=False)
        told = await answer.json()
        assert answer.status in (200, 409), told
        left = answer.status == 409 or told["left"] > 0


@pytest.mark.usefixtures("emptied")
async def test_a_thousand_letters_of_three_tenants_are_mended_over_http_and_answered_once(
    here: Settings, pool: asyncpg.Pool, client: Client
) -> None:
    """As docs/operating.md has it: each tenant's administrator by a script, with its token."""
    wanted = {f"l-{number}": TENANTS[number % 3] for number in range(1000)}
    secret = here.jwt_secret.get_secret_value() or here.rs_order_token_secret.get_secret_value()
    address = f"http://127.0.0.1:{here.web_port}"
    async with running_worker(here, site=True):
        for correlation_id, tenant in wanted.items():
            broken = json.dumps(refused(correlation_id))[:-1].encode() + b",}"
            await client.send(broken, tenant=tenant)
        await kept(PostgresDeadLetters(pool), 1000)

        async def mend(tenant: str) -> int:
            headers = {"Authorization": f"Bearer {make_token(secret, tenant=tenant)}"}
            count = 0
            async with aiohttp.ClientSession(
                address, headers=headers, raise_for_status=True
            ) as session:
                path = "/dead-letters?reason=no%20JSON&mended=false&size=100"
                while path:
                    page = await (await session.get(path)).json()
                    for letter in page["content"]:
                        one = f"/dead-letters/{letter['id']}"
                        whole = await (await session.get(one)).json()
                        text = whole["body"]["text"].replace(",}", "}")
                        await session.put(one, json={"text": text})
                        count += 1
                    path = next((x["href"] for x in page["links"] if x["rel"] == "next"), "")
                await put_back(session)
                left = await (await session.get("/dead-letters")).json()
                assert left["total"] == 0
            return count

        counts = await asyncio.gather(*map(mend, TENANTS))
        assert sum(counts) == 1000
        for correlation_id in wanted:
            await client.wait_for(correlation_id, "DENIED")
    said = Counter(tuple(client.said(correlation_id)) for correlation_id in wanted)
    assert said == {("DENIED",): 1000}
    for correlation_id, tenant in wanted.items():
        (answer,) = client.messages(correlation_id)
        assert answer.headers["regards.tenant"] == tenant
    trail = await pool.fetch("SELECT tenant, action, count(*) FROM audit GROUP BY 1, 2")
    noted = {(row["tenant"], row["action"]): row["count"] for row in trail}
    assert sum(count for (_, action), count in noted.items() if action == "requeue") == 1000
    assert {tenant for tenant, _ in noted} == {*TENANTS}


@pytest.mark.usefixtures("emptied")
async def test_letters_are_mended_and_put_back_from_a_shell(
    here: Settings, database: str, pool: asyncpg.Pool, client: Client, tmp_path: Path
) -> None:
    environment = {
        "DELIVERY_DATABASE_URL": database,
        "DELIVERY_KAFKA_TOPIC_PREFIX": here.kafka_topic_prefix,
        "DELIVERY_TENANTS": ",".join(TENANTS),
    }

    def command(*arguments: str) -> Any:
        return delivery("dead-letters", *arguments, **environment)

    async with running_worker(here, site=False):
        await client.send(b"{", tenant="swot")
        await client.send(b"[]", tenant="sentinel")
        await kept(PostgresDeadLetters(pool), 2)
        listed = await asyncio.to_thread(command, "list", "--tenant", "swot", "--json")
        (letter,) = map(json.loads, listed.stdout.splitlines())
        table = await asyncio.to_thread(command, "list")
        assert letter["id"] in table.stdout
        assert "2 dead letters" in table.stdout
        shown = await asyncio.to_thread(command, "show", letter["id"])
        assert json.loads(shown.stdout)["body"] == {"text": "{"}
        raw = await asyncio.to_thread(command, "show", letter["id"], "--body")
        assert raw.stdout == "{"
        mended = tmp_path / "mended.json"
        mended.write_text("{}")
        wrong = await asyncio.to_thread(command, "mend", letter["id"], "--body", str(mended))
        assert (wrong.returncode, "no correlationId" in wrong.stderr) == (1, True)
        mended.write_text(json.dumps(refused("from-a-shell")))
        good = await asyncio.to_thread(command, "mend", letter["id"], "--body", str(mended))
        assert good.returncode == 0, good.stderr
        dry = await asyncio.to_thread(command, "requeue", "--mended", "--dry-run")
        assert dry.stdout.endswith("1 dead letters would be put back; nothing was done\n")
        back = await asyncio.to_thread(command, "requeue", "--mended")
        assert f"{letter['id']} put back into {REQUEST_QUEUE}\n" in back.stdout
        await client.wait_for("from-a-shell", "DENIED")
        asked = await asyncio.to_thread(command, "remove", "--all")
        assert asked.returncode == 130  # no user there to say yes
        gone = await asyncio.to_thread(command, "remove", "--reason", "no JSON object", "--yes")
        assert gone.stdout.endswith("1 of 1 dead letters removed\n")
        assert (await asyncio.to_thread(command, "list")).stdout == "no dead letters\n"
    trail = await pool.fetch("SELECT tenant, role, action FROM audit ORDER BY id")
    assert [tuple(row) for row in trail] == [
        ("swot", "COMMAND_LINE", "mend"),
        ("swot", "COMMAND_LINE", "requeue"),
        ("sentinel", "COMMAND_LINE", "purge"),
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("requeue",), "give IDs (`delivery dead-letters list` shows them), a filter, or --all"),
        (("remove", "x", "--all"), "give IDs"),
        (("requeue", "x", "--mended"), "give IDs"),
        (("mend", "x"), "give --body, --tenant, or both"),
        (("list", "--since", "yesterday"), "is no time"),
    ],
)
def test_a_mistake_in_the_call_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    ended = delivery("dead-letters", *arguments)
    assert ended.returncode == 2
    assert sentence in ended.stderr
