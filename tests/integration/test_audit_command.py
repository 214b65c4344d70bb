"""Whatever is changed from a shell is in the audit trail, and `delivery audit` tells it."""

from __future__ import annotations

import csv
import getpass
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest

from app.settings import Settings
from app.store import PostgresArrivals
from app.tenants.vault import make_key
from compose.embedded.stack import TENANT
from streams.amqp import names
from streams.amqp.topology import declare_topology
from streams.channels import ORDER_RESPONSES, REQUESTS
from streams.kafka.agents import process
from streams.kafka.log import open_event_log
from streams.kafka.topics import ensure_topics
from tests.builders import make_event
from tests.command import delivery

ME = getpass.getuser()
TOKEN = "a-marker-that-stands-in-no-other-entry"


@pytest.fixture
def here(settings: Settings, database: str, pool: asyncpg.Pool) -> dict[str, str]:
    """The variables of commands on a database and topics of the test's own."""
    return {
        "DELIVERY_DATABASE_URL": database,
        "DELIVERY_KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
        "DELIVERY_SECRET_KEYS": make_key(),
    }


def told(here: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    """Return what the command tells as JSON lines."""
    ended = delivery("audit", "--json", *arguments, **here)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


async def test_a_maintenance_of_a_tenant_that_is_served_no_more_is_shown_and_ended(
    here: dict[str, str],
) -> None:
    both = {**here, "DELIVERY_TENANTS": f"{TENANT},left"}
    begun = delivery("maintenance", "on", "--tenant", "left", **both)
    assert begun.returncode == 0, begun.stderr
    shown = delivery("maintenance", "show", "--tenant", "left", **here)
    assert shown.stdout == begun.stdout
    assert shown.stdout.startswith("tenant left is in maintenance since "), shown.stderr
    over = delivery("maintenance", "off", "--tenant", "left", **here)
    assert over.stdout == "tenant left is in no maintenance\n", over.stderr
    again = delivery("maintenance", "on", "--tenant", "left", **here)
    assert (again.returncode, "unknown tenant left" in again.stderr) == (2, True)


async def test_settings_keys_tokens_and_topics_leave_entries_that_name_their_caller_one_way(
    here: dict[str, str],
) -> None:
    for arguments in (
        ("settings", "set", "request_ttl", "5"),
        ("settings", "export"),
        ("rotate-keys",),
        ("token", "--role", "EXPLOIT", "--user", TOKEN, "--ttl", "60"),
        ("topics", "apply"),
    ):
        ended = delivery(*arguments, **here)
        assert ended.returncode == 0, ended.stderr
        assert "audit" not in ended.stderr
    entries = told(here)
    assert {(entry["actor"], entry["role"]) for entry in entries} == {(ME, "COMMAND_LINE")}
    assert [
        (entry["tenant"], entry["action"], entry["subject"]) for entry in reversed(entries)
    ] == [
        (TENANT, "set", "request_ttl"),
        (TENANT, "export", "configuration"),
        ("instance", "rotate keys", "stored secrets"),
        (TENANT, "make token", f"token of {TOKEN}"),
        ("instance", "apply", "Kafka topics"),
    ]
    made = entries[1]
    assert made["after"] == {"role": "EXPLOIT", "seconds": 60}
    assert "ey" not in json.dumps(made)  # no token


async def test_entries_are_told_as_a_table_and_as_csv_and_narrowed(here: dict[str, str]) -> None:
    for value in ("5", "6", "7"):
        assert delivery("settings", "set", "request_ttl", value, **here).returncode == 0
    table = delivery("audit", **here).stdout
    assert "6 → 7" in " ".join(table.split())
    assert "3 changes" in table
    text = delivery("audit", "--csv", **here).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["after"] for row in rows] == ["7", "6", "5"]
    assert [entry["after"] for entry in told(here, "--limit", "2")] == [7, 6]
    assert told(here, "--tenant", "other") == []
    assert told(here, "--until", rows[0]["at"]) == told(here)[1:]
    assert [entry["after"] for entry in told(here, "--since", rows[1]["at"])] == [7, 6]
    for wrong in (["--since", "yesterday"], ["--csv", "--json"]):
        assert delivery("audit", *wrong, **here).returncode == 2


async def test_a_token_is_made_although_no_database_answers_and_that_is_told(
    environment: None,
) -> None:
    ended = delivery("token", DELIVERY_DATABASE_URL="postgresql://u:p@127.0.0.1:1/d")
    assert ended.returncode == 0
    assert ended.stdout.count(".") == 2
    assert "the token is not in the audit trail" in ended.stderr


@pytest.fixture
async def dead_lettered(settings: Settings) -> AsyncIterator[list[str]]:
    """Three dead letters: of a tenant, of none, of one that is not served."""
    marks = [f"{uuid4().hex}" for _ in range(3)]
    tenants = (TENANT, None, "nobody")
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
        for mark, tenant in zip(marks, tenants, strict=True):
            headers = {names.HEADER_REASON: "of this test"}
            if tenant is not None:
                headers[names.HEADER_TENANT] = tenant
            body = json.dumps({"correlationId": mark}).encode()
            await channel.default_exchange.publish(
                aio_pika.Message(body, headers=headers),  # type: ignore[arg-type]
                names.dead_letters_of(ORDER_RESPONSES.queue.name),
            )
        yield marks
        await (await channel.get_queue(ORDER_RESPONSES.queue.name)).purge()


async def test_dead_letters_that_are_put_back_or_removed_leave_entries(
    here: dict[str, str], dead_lettered: list[str]
) -> None:
    listed = delivery("dlq", "list", "--json", "--queue", "order-responses", **here).stdout
    ids = {row["correlationId"]: row["id"] for row in map(json.loads, listed.splitlines())}
    mine, ownerless, strangers = (ids[mark] for mark in dead_lettered)
    assert delivery("dlq", "requeue", mine, **here).returncode == 0
    assert delivery("dlq", "purge", "--yes", ownerless, strangers, **here).returncode == 0
    entries = told(here)
    assert [
        (entry["tenant"], entry["action"], entry["subject"]) for entry in reversed(entries)
    ] == [
        (TENANT, "requeue", f"dead letter amqp:{mine}"),
        ("instance", "purge", f"dead letter amqp:{ownerless}"),
        ("instance", "purge", f"dead letter amqp:{strangers}"),
    ]
    assert entries[0]["before"]["correlationId"] == dead_lettered[2]
    assert entries[0]["before"]["reason"] == "of this test"
    assert (entries[0]["after"], entries[2]["after"]) == (None, ORDER_RESPONSES.queue.name)
    assert {(entry["actor"], entry["role"]) for entry in entries} == {(ME, "COMMAND_LINE")}


async def test_nothing_is_removed_that_could_not_be_noted(
    here: dict[str, str], dead_lettered: list[str]
) -> None:
    def ids() -> list[str]:
        listed = delivery("dlq", "list", "--json", "--queue", "order-responses", **here).stdout
        found = map(json.loads, listed.splitlines())
        return [
            dead_letter["id"]
            for dead_letter in found
            if dead_letter["correlationId"] in dead_lettered
        ]

    before = ids()
    away = here | {"DELIVERY_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    assert delivery("dlq", "purge", "--yes", *before, **away).returncode == 69
    assert delivery("dlq", "requeue", *before, **away).returncode == 69
    assert sorted(ids()) == sorted(before)
    assert delivery("dlq", "purge", "--yes", *before, **here).returncode == 0


async def test_events_that_are_put_back_leave_entries(
    here: dict[str, str],
    settings: Settings,
    arrivals: PostgresArrivals,
) -> None:

    async def fail(values: object) -> None:
        raise ZeroDivisionError("of this test")

    await ensure_topics(settings)
    async with open_event_log(settings) as events:
        event = make_event(key=f"{TENANT}/d-1".encode())
        topic = events.topics.of(REQUESTS)
        await process([event], topic=topic, handler=fail, events=events, arrivals=arrivals, tries=1)
    assert delivery("dlt", "requeue", "--all", **here).returncode == 0
    (entry,) = told(here)
    assert (entry["tenant"], entry["action"], entry["actor"]) == (TENANT, "requeue", ME)
    assert entry["subject"].startswith("dead letter event:")
    assert (entry["before"]["correlationId"], entry["after"]) == ("d-1", topic)


async def test_a_maintenance_of_a_shell_is_told_shown_and_ended(here: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        ended = delivery("maintenance", *arguments, **here)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert run("show") == f"tenant {TENANT} is in no maintenance\n"
    assert run("show", "--json") == "null\n"
    year = datetime.now(UTC).year + 2
    begun = run("on", "--reason", "rs-order is migrated", "--until", f"{year}-01-31T12:00:00Z")
    assert begun.startswith(f"tenant {TENANT} is in maintenance since ")
    assert begun.endswith(f", by {ME} until {year}-01-31 12:00:00 UTC: rs-order is migrated\n")
    assert run("show") == begun
    shown = json.loads(run("show", "--json"))
    assert (shown["active"], shown["enabledBy"]) == (True, ME)
    both = delivery("maintenance", "on", "--until", f"{year}-01-31", "--for", "2h", **here)
    assert (both.returncode, "not both" in both.stderr) == (2, True)
    past = delivery("maintenance", "on", "--until", "2020-01-31", **here)
    assert past.returncode == 1
    assert "is over by now" in past.stderr
    late = delivery("maintenance", "on", "--until", "2999-01-31", **here)
    assert (late.returncode, "ten years" in late.stderr) == (1, True)
    for asked in ("off", "show"):
        stranger = delivery("maintenance", asked, "--tenant", "norht", **here)
        assert (stranger.returncode, "unknown tenant norht" in stranger.stderr) == (2, True)
    later = run("on", "--for", "2h")  # as its finding advises: why it is stays
    assert later.endswith(" UTC: rs-order is migrated\n")
    assert later.count("until") == 1
    assert f"until {year}" not in later
    assert run("on", "--reason", "it takes longer") == later.replace(
        "rs-order is migrated", "it takes longer"
    )
    assert run("on", "--reason", "").endswith(" UTC\n")
    assert run("off") == f"tenant {TENANT} is in no maintenance\n"
    noted = [(entry["before"], entry["after"]) for entry in told(here)]
    assert noted[0][1] is False
    assert noted[-1][1]["reason"] == "rs-order is migrated"
