"""A worker takes messages before it reads events: its group need not have answered."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import psutil
import pytest

from app.run.wiring import worker
from app.run.worker import running_worker
from app.settings import Settings
from compose.embedded.processes import Child, running, start
from compose.embedded.stack import ROOT, Stack
from streams.kafka import faust_app
from streams.kafka.faust_app import DeliveryApp
from tests.client import Client, request_for
from tests.command import logged
from tests.integration.gate import Gate


async def test_messages_are_kept_while_the_group_does_not_answer(
    settings: Settings,
    pool: asyncpg.Pool,
    database: str,
    client: Client,
    make_product: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = asyncio.Event()

    def create(*args: object, **options: object) -> DeliveryApp:
        app = faust_app.create_app(*args, **options)  # type: ignore[arg-type]
        begin = app.start

        async def later() -> None:
            await answers.wait()
            await begin()

        monkeypatch.setattr(app, "start", later)
        return app

    monkeypatch.setattr(worker, "create_app", create)
    here = settings.model_copy(update={"database_url": type(settings.database_url)(database)})
    body = request_for(make_product({"a": b"a"}))
    async with running_worker(here, site=False):
        await client.send(body)
        async with asyncio.timeout(30):
            while not await pool.fetchval("SELECT count(*) FROM arrival"):
                await asyncio.sleep(0.05)
        assert client.said(body["correlationId"]) == []
        answers.set()
        await client.wait_for(body["correlationId"], "DONE")


@asynccontextmanager
async def starting(stack: Stack, settings: dict[str, str]) -> AsyncIterator[Child]:
    """Start a worker; it is gone at the end."""
    child = start(
        "worker",
        [sys.executable, "-m", "app.cli", "worker"],
        log=stack.folder / f"worker-{uuid4().hex[:8]}.log",
        environment={**stack.environment, **settings},
        cwd=ROOT,
    )
    async with running(child):
        yield child


async def ends_well(child: Child) -> None:
    """Tell a worker to stop, and look that its process is gone."""
    (process,) = psutil.Process(child.process.pid).children()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(40):
        assert await asyncio.to_thread(child.process.wait) == 0, child.tail()
    assert '"stopped"' in child.log.read_text()


@pytest.mark.parametrize("event", ["migration_applied", "worker_ready", "consumer_ready"])
async def test_a_worker_is_told_to_stop_in_its_start_and_ends_well(
    stack: Stack, apart: dict[str, str], event: str
) -> None:
    async with starting(stack, apart) as child:
        await logged(child, f'"{event}"')
        await ends_well(child)


@pytest.mark.parametrize(
    ("part", "variable"),
    [
        ("PostgreSQL", "DELIVERY_DATABASE_URL"),
        ("RabbitMQ", "DELIVERY_AMQP_URL"),
        ("Kafka", "DELIVERY_KAFKA_BOOTSTRAP_SERVERS"),
    ],
)
async def test_a_worker_that_waits_for_one_that_is_silent_is_told_to_stop_and_ends_well(
    stack: Stack, apart: dict[str, str], part: str, variable: str
) -> None:
    address = {**stack.environment, **apart}[variable]
    gate = Gate(address if part != "Kafka" else f"//{address}")
    await gate.hush()
    try:
        url = gate.url.removeprefix("//")
        async with starting(stack, apart | {variable: url}) as child:
            async with asyncio.timeout(40):
                while not gate.unheard:
                    await asyncio.sleep(0.05)
            await ends_well(child)
    finally:
        await gate.shut()
