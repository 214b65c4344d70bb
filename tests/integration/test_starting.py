"""A worker takes messages before it reads events: its group need not have answered."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from uuid import uuid4

import asyncpg
import psutil
import pytest

from app import worker
from app.settings import Settings
from app.worker import running_worker
from compose.embedded.processes import running, start
from compose.embedded.stack import ROOT, Stack
from streams import faust_app
from streams.faust_app import DeliveryApp
from tests.client import Client, request_for
from tests.command import logged


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


async def test_a_worker_that_is_told_to_stop_while_it_joins_ends_well(
    stack: Stack, database: str
) -> None:
    name = uuid4().hex[:8]
    child = start(
        "worker",
        [sys.executable, "-m", "app.cli", "worker"],
        log=stack.folder / f"worker-{name}.log",
        environment={
            **stack.environment,
            "DELIVERY_DATABASE_URL": database,
            "DELIVERY_KAFKA_TOPIC_PREFIX": f"{name}.",
            "DELIVERY_KAFKA_GROUP": name,
        },
        cwd=ROOT,
    )
    async with running(child):
        await logged(child, '"worker_ready"')
        assert '"consumer_ready"' not in child.log.read_text()
        (process,) = psutil.Process(child.process.pid).children()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await asyncio.to_thread(child.process.wait) == 0
    assert '"stopped"' in child.log.read_text()
