"""A rolling upgrade: a worker of the version before, on the schema and beside a worker of this one.

The version before is the parent of the commit that first had the newest migration, by its number;
`UPGRADE_FROM` names another. It is taken from the history: where that is not at hand (a release's
archive), nothing can be tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil
import pytest

from app.store import migrate
from compose.embedded.processes import Child, running, start
from compose.embedded.stack import ROOT, Stack
from tests.client import Client, contents, request_for
from tests.command import logged
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(400)

MIGRATIONS = "app/store/migrations"


def git(*arguments: str) -> bytes:
    """Ask the history. Skips the test where there is none."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no history, so that the version before is not at hand: {error}")


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the version before."""
    wanted = os.environ.get("UPGRADE_FROM")
    if wanted is None:
        newest = max(path.name for path in (ROOT / MIGRATIONS).glob("*.sql")).partition("_")[0]
        added = git("log", "--diff-filter=A", "--format=%H", "--", f"{MIGRATIONS}/{newest}_*.sql")
        wanted = f"{added.decode().split()[-1]}^"
    folder = tmp_path_factory.mktemp("before")
    packed = git("archive", wanted)
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    return folder


class Worker:
    """A worker process by a name, and what it wrote down of deliveries."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def did(self, event: str) -> set[str]:
        """Return the deliveries of which it logged this."""
        lines = self.child.log.read_text().splitlines()
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        return {line["correlation_id"] for line in logged if line.get("event") == event}

    def kill(self) -> None:
        """End it as a machine ends that loses its power."""
        for program in psutil.Process(self.child.process.pid).children():
            program.send_signal(signal.SIGKILL)


Start = Callable[[str, Path], Any]


@pytest.fixture
def quick(stack: Stack, apart: dict[str, str]) -> dict[str, str]:
    """Settings of workers that do one transfer at a time, and notice soon that one is dead."""
    return {
        **stack.environment,
        **apart,
        "DELIVERY_KAFKA_PARTITIONS": "4",
        "DELIVERY_LEASE_TTL": "3",
        "DELIVERY_MAX_TRANSFERS": "1",
        "DELIVERY_LOG_FORMAT": "json",
    }


@contextlib.asynccontextmanager
async def worker(
    name: str, folder: Path, stack: Stack, settings: Mapping[str, str]
) -> AsyncIterator[Worker]:
    """Run a worker of the version that lies in a folder."""
    child = start(
        name,
        [sys.executable, "-m", "app.cli", "worker"],
        log=stack.folder / f"{name}-{uuid4().hex[:8]}.log",
        environment={**settings, "DELIVERY_WORKER_ID": name, "PYTHONPATH": str(folder)},
        cwd=folder,
    )
    async with running(child):
        await logged(child, '"worker_ready"')
        yield Worker(child)


async def transfers(pool: asyncpg.Pool) -> dict[str, str]:
    """Return which deliveries are being transferred, by worker."""
    rows = await pool.fetch(
        "SELECT lease_owner, correlation_id FROM delivery "
        "WHERE state = 'TRANSFERRING' AND upload_id IS NOT NULL AND lease_until > now()"
    )
    return {row["lease_owner"]: row["correlation_id"] for row in rows}


async def test_workers_of_the_version_before_and_of_this_one_share_the_work(
    before: Path,
    stack: Stack,
    quick: dict[str, str],
    database: str,
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    """Each grants what the other transfers; each goes on with what the other left when it died."""
    files = {"a.bin": noise(2_000_000), "b.txt": b"b"}
    product = make_product(files)

    async def ask(count: int) -> list[str]:
        bodies = [request_for(product) for _ in range(count)]
        for body in bodies:
            await client.send(body)
        return [body["correlationId"] for body in bodies]

    async def done(names: list[str]) -> None:
        for name in names:
            answer = await client.wait_for(name, "DONE", "ERROR", "DENIED")
            assert answer["status"] == "DONE", answer
            assert client.said(name) == ["GRANTED", "DONE"]
            assert contents(await client.fetch(answer["url"])) == files
            assert await client.open_uploads(name) == []

    async def both_transfer(pool: asyncpg.Pool) -> dict[str, str]:
        """Return what each of them transfers, slowly."""
        await standin.misbehave(bytes_per_second=50_000)
        await ask(2)
        while len(found := await transfers(pool)) < 2:
            await asyncio.sleep(0.1)
        return found

    async with asyncpg.create_pool(database, min_size=1) as pool, contextlib.AsyncExitStack() as up:
        old = await up.enter_async_context(worker("old", before, stack, quick))
        await done(await ask(2))
        assert await migrate(pool)
        async with worker("new", ROOT, stack, quick) as new:
            # Until each has granted what the other transferred.
            while not (
                old.did("delivery_granted") & new.did("delivery_done")
                and new.did("delivery_granted") & old.did("delivery_done")
            ):
                await done(await ask(6))
            left = await both_transfer(pool)
            new.kill()
            await standin.behave()
            await done(list(left.values()))
            assert left["new"] in old.did("delivery_done")
        async with worker("new", ROOT, stack, quick) as new:
            left = await both_transfer(pool)
            old.kill()
            await standin.behave()
            await done(list(left.values()))
            assert left["old"] in new.did("delivery_done")
        for process in (old, new):
            assert not process.did("upload_left_open")
            assert not process.did("work_failed")
