"""Workers that end in the middle: killed, stopped, or by a fault of their own."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Callable

import asyncpg
import psutil
import pytest

from app.cli.serving import run_until
from app.run.worker import running_worker
from app.settings import Settings
from app.store import PostgresOutbox
from compose.embedded.processes import Child
from compose.embedded.stack import TENANT, Stack
from streams.kafka.progress import watch_progress
from tests.client import ORDER_CANCELS, Client, contents, request_for
from tests.command import logged
from tests.conftest import noise
from tests.service import running_service
from tests.standin import StandIn

MIB = 1024 * 1024


@pytest.fixture
def quick(apart: dict[str, str]) -> dict[str, str]:
    """Settings of workers that notice soon, apart from other tests."""
    return apart | {"DELIVERY_LEASE_TTL": "3", "DELIVERY_SHUTDOWN_GRACE": "0"}


@pytest.fixture
async def slow_delivery(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> dict[str, object]:
    """A request whose transfer takes minutes until the stand-in behaves again."""
    await standin.misbehave(bytes_per_second=200_000)
    return request_for(make_product({"a.bin": noise(30 * MIB), "b.txt": b"b"}))


async def in_transfer(
    stack: Stack, quick: dict[str, str], client: Client, body: dict[str, object]
) -> None:
    """Send the request, and return once bytes flow."""
    started = asyncio.Event()
    ticks = watch_progress(
        Settings(
            kafka_bootstrap_servers=stack.environment["DELIVERY_KAFKA_BOOTSTRAP_SERVERS"],
            kafka_topic_prefix=quick["DELIVERY_KAFKA_TOPIC_PREFIX"],
        ),
        tenant=TENANT,
        correlation_id=str(body["correlationId"]),
        started=started,
    )
    first = asyncio.ensure_future(anext(ticks))
    await started.wait()
    await client.send(body)
    async with asyncio.timeout(60):
        tick = await first
        while tick.bytes_done == 0:
            tick = await anext(ticks)
    await ticks.aclose()


def program(child: Child) -> psutil.Process:
    """Return the worker itself, which runs under a guard."""
    (worker,) = psutil.Process(child.process.pid).children()
    return worker


async def finished_by_another(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    body: dict[str, object],
) -> None:
    """Start a new worker; the delivery must be done, once, and nothing may be left."""
    correlation_id = str(body["correlationId"])
    await standin.behave()
    async with running_service(stack, extra=quick):
        answer = await client.wait_for(correlation_id, "DONE", "ERROR")
    assert answer["status"] == "DONE"
    assert [r["status"] for r in client.heard(correlation_id)] == ["GRANTED", "DONE"]
    assert await client.open_uploads(correlation_id) == []
    assert len(await standin.orders(correlation_id)) == 1


async def test_a_worker_that_is_killed_in_a_transfer_is_taken_over(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    slow_delivery: dict[str, object],
) -> None:
    async with running_service(stack, extra=quick) as (child, _):
        await in_transfer(stack, quick, client, slow_delivery)
        program(child).send_signal(signal.SIGKILL)
        await asyncio.to_thread(child.process.wait)
    assert len(await client.open_uploads(str(slow_delivery["correlationId"]))) == 1
    await finished_by_another(stack, quick, client, standin, slow_delivery)


async def test_a_worker_that_is_stopped_hands_its_transfer_back(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    slow_delivery: dict[str, object],
) -> None:
    async with running_service(stack, extra=quick) as (child, _):
        await in_transfer(stack, quick, client, slow_delivery)
        program(child).send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.process.wait) == 0, child.tail()
    assert await client.open_uploads(str(slow_delivery["correlationId"])) == []
    await finished_by_another(stack, quick, client, standin, slow_delivery)


async def test_a_worker_that_stood_still_at_its_completion_changes_nothing(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    make_product: Callable[..., str],
) -> None:
    """Its lease ran out meanwhile; another worker delivered, and fenced it off."""
    files = {"a.bin": noise(6 * MIB), "b.txt": b"b"}
    body = request_for(make_product(files))
    correlation_id = str(body["correlationId"])
    still = ("tests.integration.crash", "still-at-completion")
    async with running_service(stack, extra=quick, program=still) as (first, _):
        await client.send(body)
        stopped = program(first)
        async with asyncio.timeout(60):
            while stopped.status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.05)
        async with running_service(stack, extra=quick) as (_, _):
            done = await client.wait_for(correlation_id, "DONE", "ERROR")
            stopped.send_signal(signal.SIGCONT)
            await logged(first, "lease_lost")
    assert client.said(correlation_id) == ["GRANTED", "DONE"]
    archive = await client.fetch(done["url"])
    assert hashlib.md5(archive).hexdigest() == done["md5"]
    assert contents(archive) == files
    assert await client.open_uploads(correlation_id) == []


async def test_a_running_transfer_is_stopped_when_its_time_is_over(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    slow_delivery: dict[str, object],
) -> None:
    """Long before its lease would be renewed: the worker looks at it all the time."""
    correlation_id = str(slow_delivery["correlationId"])
    extra = quick | {"DELIVERY_LEASE_TTL": "3600", "DELIVERY_EXPIRY_INTERVAL": "0.2"}
    async with running_service(stack, extra=extra) as (child, _):
        await in_transfer(stack, quick, client, slow_delivery)
        connection = await asyncpg.connect(quick["DELIVERY_DATABASE_URL"])
        await connection.execute("UPDATE delivery SET expires_at = now()")
        await connection.close()
        answer = await client.wait_for(correlation_id, "DONE", "ERROR")
        assert answer["errorType"] == "EXPIRED"
        assert answer["message"].endswith("it was TRANSFERRING at the end")
        await logged(child, '"lease_lost"')
        assert await client.open_uploads(correlation_id) == []
        cancel = await client.wait_for(correlation_id, exchange=ORDER_CANCELS)
        (order,) = await standin.orders(correlation_id)
        assert cancel["orderId"] == order["orderId"]


async def test_a_request_that_may_take_no_time_ends_at_the_next_look(
    stack: Stack, quick: dict[str, str], client: Client, standin: StandIn
) -> None:
    # Its user is not looked up: a look could come before that answer, and before GRANTED.
    extra = quick | {
        "DELIVERY_REQUEST_TTL_HOURS": "0",
        "DELIVERY_EXPIRY_INTERVAL": "0.2",
        "DELIVERY_RS_ADMIN_URL": "",
    }
    await standin.misbehave(order="silent")
    body = request_for("P")
    async with running_service(stack, extra=extra):
        answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "EXPIRED")
    assert answer["message"] == "not done within 0 hours; it was GRANTED at the end"
    statuses = [response["status"] for response in client.heard(body["correlationId"])]
    assert statuses == ["GRANTED", "ERROR"]


async def test_a_part_that_crashes_ends_the_worker(
    settings: Settings, pool: object, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-dead process would look alive to its supervisor."""

    class BrokenError(RuntimeError):
        pass

    async def broken(*_args: object) -> tuple[int, int]:
        raise BrokenError

    changed = settings.model_copy(update={"database_url": type(settings.database_url)(database)})
    async with running_worker(changed, site=False) as service:
        monkeypatch.setattr(PostgresOutbox, "relay", broken)
        with pytest.raises(BrokenError):
            async with asyncio.timeout(30):
                await run_until(asyncio.Event(), service)
