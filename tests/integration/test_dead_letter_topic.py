"""The dead-letter topic on the command line: what is there, why, and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import asyncpg
import pytest

from app.run.worker import running_worker
from app.settings import Settings
from app.store import PostgresArrivals, alone
from app.views.dead_letters import DEAD_LETTERS_JOB
from streams.channels import CANCELS, REQUESTS
from streams.events import CancelRequested, RequestReceived
from streams.kafka.agents import process
from streams.kafka.dead_letters import DeadEvent, look, put_back
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import ensure_topics
from tests.builders import make_event, make_message
from tests.client import Client, request_for
from tests.command import delivery
from tests.deliveries import blocked_sessions


@pytest.fixture
async def events(settings: Settings) -> AsyncIterator[EventLog]:
    """A log with topics of the test's own."""
    await ensure_topics(settings)
    async with open_event_log(settings) as opened:
        yield opened


@pytest.fixture
def here(settings: Settings, database: str) -> dict[str, str]:
    """Where the command finds what these tests have made."""
    return {
        "DELIVERY_KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
        "DELIVERY_DATABASE_URL": database,
    }


async def bury(value: bytes, key: bytes, events: EventLog, arrivals: PostgresArrivals) -> None:
    """Let an event fail for good."""

    async def fail(values: object) -> None:
        raise ZeroDivisionError("of this test")

    await process(
        [make_event(value, key=key)],
        topic=events.topics.of(REQUESTS),
        handler=fail,
        events=events,
        arrivals=arrivals,
        tries=1,
    )


async def test_events_that_failed_are_listed_and_put_back(
    here: dict[str, str], events: EventLog, arrivals: PostgresArrivals
) -> None:
    assert delivery("dlt", "list", **here).stdout == "no dead events\n"
    for number in range(3):
        key, value = f"sentinel/c-{number}".encode(), f"event {number}".encode()
        await bury(value, key, events, arrivals)

    listed = delivery("dlt", "list", "--json", **here).stdout.splitlines()
    found = {entry["key"]: entry for entry in map(json.loads, listed)}
    assert found.keys() == {f"sentinel/c-{number}" for number in range(3)}
    one = found["sentinel/c-1"]
    assert (one["topic"], one["bytes"]) == (events.topics.of(REQUESTS), 7)
    assert one["reason"] == "ZeroDivisionError('of this test')"
    shown = json.loads(delivery("dlt", "show", one["id"], **here).stdout)
    assert shown == one | {"value": "event 1"}
    assert one["id"] in delivery("dlt", "list", **here).stdout

    back = delivery("dlt", "requeue", one["id"], **here)
    assert back.stdout == f"{one['id']} put back into {events.topics.of(REQUESTS)}\n"
    left = delivery("dlt", "list", "--json", **here).stdout.splitlines()
    assert {json.loads(line)["key"] for line in left} == found.keys() - {one["key"]}
    again = delivery("dlt", "requeue", one["id"], **here)
    assert (again.returncode, "no dead event" in again.stderr) == (1, True)
    assert delivery("dlt", "requeue", "--all", **here).stdout.count("put back") == 2
    assert delivery("dlt", "list", **here).stdout == "no dead events\n"


async def test_what_is_put_back_is_looked_for_once_none_else_has_letters_in_its_hands(
    settings: Settings,
    here: dict[str, str],
    pool: asyncpg.Pool,
    events: EventLog,
    arrivals: PostgresArrivals,
) -> None:
    """What another had put back meanwhile went back twice."""
    await bury(b"event", b"sentinel/c", events, arrivals)
    (dead,) = await look(settings)
    async with alone(pool, DEAD_LETTERS_JOB):
        asked = asyncio.to_thread(delivery, "dlt", "requeue", "--all", **here)
        putting = asyncio.create_task(asked)
        while not putting.done() and not await blocked_sessions(pool):
            await asyncio.sleep(0.05)
        assert not putting.done()
        await put_back(dead, events)
    put = await putting
    assert (put.returncode, put.stdout, put.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("requeue",), 2, "give IDs"),
        (("requeue", "0:0", "--all"), 2, "give IDs"),
        (("show", "99:99"), 1, "no dead event 99:99"),
    ],
)
def test_a_mistake_is_one_sentence(
    environment: None, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ended = delivery("dlt", *arguments, DELIVERY_KAFKA_TOPIC_PREFIX="none.")
    assert (ended.returncode, sentence in ended.stderr) == (code, True)
    assert "Traceback" not in ended.stderr


def test_a_broker_that_is_away_is_told(environment: None) -> None:
    ended = delivery("dlt", "list", DELIVERY_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (ended.returncode, "127.0.0.1:1 does not hand over" in ended.stderr) == (1, True)


async def test_a_request_of_a_tenant_that_is_not_served_here_waits_for_an_operator(
    settings: Settings,
    pool: asyncpg.Pool,
    database: str,
    client: Client,
    make_product: Callable[..., str],
) -> None:
    """A client that can write to the topic can name any tenant; what is behind it goes on."""
    here = settings.model_copy(
        update={"kafka_partitions": 1, "database_url": type(settings.database_url)(database)}
    )
    cancel = CancelRequested(
        tenant="stranger", correlation_id="c", ingress_id=uuid4(), origin_app=None
    )
    request = request_for(make_product({"a": b"a"}))
    await ensure_topics(here)

    async def dead_letters(count: int) -> list[DeadEvent]:
        async with asyncio.timeout(30):
            while len(dead := await look(here)) < count:
                await asyncio.sleep(0.1)
        return dead

    async with open_event_log(here) as events:
        strange = make_message("c", tenant="stranger", body=request)
        value = RequestReceived.read(strange).encode()
        await events.append(events.topics.of(REQUESTS), key=b"stranger/c", value=value)
        async with running_worker(here, site=False):
            await client.send(request)
            await client.wait_for(request["correlationId"], "DONE")
            await dead_letters(1)
            await events.append(events.topics.of(CANCELS), key=b"stranger/c", value=cancel.encode())
            dead = await dead_letters(2)
    assert {dead_letter.topic for dead_letter in dead} == {
        events.topics.of(REQUESTS),
        events.topics.of(CANCELS),
    }
    assert all(dead_letter.reason.startswith("unknown tenant 'stranger'") for dead_letter in dead)
    assert await pool.fetch("SELECT tenant FROM delivery WHERE tenant = 'stranger'") == []
    assert client.said(request["correlationId"]) == ["GRANTED", "DONE"]
