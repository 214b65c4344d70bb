"""A Faust app that crashed, or reads no more, is replaced by a new one; the process goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.run.wiring import worker
from app.run.worker import running_worker
from app.settings import Settings
from streams.kafka import faust_app
from streams.kafka.faust_app import DeliveryApp
from streams.kafka.lag import ConsumerLag, GroupLag
from streams.kafka.supervisor import CHECKS_UNTIL_STUCK
from streams.kafka.topics import Topics, ensure_topics, partitions_of
from tests.client import Client, request_for


@pytest.fixture
def changed(settings: Settings, pool: object, database: str) -> Settings:
    """Settings of a worker that notices soon, with a database of the test's own."""
    url = type(settings.database_url)(database)
    return settings.model_copy(update={"database_url": url, "kafka_stuck_after": 5})


@pytest.fixture
async def apps(
    changed: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[DeliveryApp]]:
    """The Faust apps of a worker that runs, the newest last."""
    made: list[DeliveryApp] = []

    def create(*args: object, **options: object) -> DeliveryApp:
        made.append(faust_app.create_app(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(worker, "create_app", create)
    async with running_worker(changed, site=False):
        async with asyncio.timeout(60):
            while not made[0].consumer.assignment():
                await asyncio.sleep(0.05)
        yield made


async def test_an_app_that_crashed_is_replaced(
    apps: list[DeliveryApp], client: Client, make_product: Callable[..., str]
) -> None:
    with capture_logs() as logs:
        await apps[0].crash(RuntimeError("of this test"))
        answer = await client.answer(request_for(make_product({"a": b"a"})))
    assert answer["status"] == "DONE"
    assert len(apps) == 2
    (entry,) = (entry for entry in logs if entry["event"] == "consumer_restarts")
    assert "of this test" in entry["cause"]


async def test_an_app_that_reads_no_more_is_replaced(
    apps: list[DeliveryApp], client: Client, make_product: Callable[..., str]
) -> None:
    """As after some outages: it believes that it consumes."""
    body = request_for(make_product({"a": b"a"}))
    with capture_logs() as logs:
        consumer = apps[0].consumer
        consumer.pause_partitions(consumer.assignment())
        answer = await client.answer(body)
    assert answer["status"] == "DONE"
    assert len(apps) == 2
    (entry,) = (entry for entry in logs if entry["event"] == "consumer_restarts")
    assert "delivery.requests" in entry["cause"]
    assert client.said(body["correlationId"]) == ["GRANTED", "DONE"]


async def test_a_healthy_app_stays(
    apps: list[DeliveryApp],
    client: Client,
    make_product: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: asyncio.Queue[None] = asyncio.Queue()
    measure = ConsumerLag.measure

    async def noted(lag: ConsumerLag) -> GroupLag:
        found = await measure(lag)
        measured.put_nowait(None)
        return found

    monkeypatch.setattr(ConsumerLag, "measure", noted)
    product = make_product({"a": b"a"})
    for _ in range(6):
        assert (await client.answer(request_for(product)))["status"] == "DONE"
    async with asyncio.timeout(60):
        for _ in range(2 * CHECKS_UNTIL_STUCK):  # longer than it may be stuck
            await measured.get()
    assert len(apps) == 1


async def test_a_consumer_that_is_stopped_while_it_connects_ends_at_once_and_without_a_word(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """To a broker that takes the connection and says nothing, for a minute and a half."""
    connected, gone = asyncio.Event(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        app = DeliveryApp("of-this-test", broker=f"kafka://127.0.0.1:{port}", store="memory://")
        app.fetch_max_wait_ms = 50
        consumer: Any = app.consumer
        thread = consumer._thread  # noqa: SLF001 - it has no other name
        starting = asyncio.create_task(thread.start())
        async with asyncio.timeout(30):
            await connected.wait()
            await thread.stop()
            await starting
            await gone.wait()
    assert capfd.readouterr().err == ""


async def test_topics_that_are_missing_are_told_and_not_made(settings: Settings) -> None:
    """The doctor measures, too, and changes nothing."""
    lag, topics = ConsumerLag(settings), Topics(prefix=settings.kafka_topic_prefix)
    nothing = GroupLag(behind={}, missing=list(topics.all), unread=list(topics.consumed))
    assert await lag.measure() == nothing
    assert not set(topics.all) & set(await partitions_of(settings))
    await ensure_topics(settings)
    async with asyncio.timeout(30):  # brokers hear of new topics a moment later
        while {partition.topic for partition in (await lag.measure()).behind} != set(
            topics.consumed
        ):
            await asyncio.sleep(0.1)
    assert (await lag.measure()).missing == []
