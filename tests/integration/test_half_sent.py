"""A large file that is delivered as it is, and its worker ends in the midst of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.delivery.formats import AS_FILES
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, StoredPart, Upload
from app.errors import SourceUnavailableError
from app.settings import Settings
from app.usecases.expire import expire
from compose.embedded.stack import Stack
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client, request_for
from tests.conftest import noise
from tests.integration.test_files import AS_FILES as ASKED_AS_FILES
from tests.integration.test_files import check_delivered
from tests.integration.transfers import MIB
from tests.integration.worker import CountingSource, TransferWorker
from tests.service import running_service
from tests.standin import StandIn

pytestmark = pytest.mark.stack

FILES = {"a.txt": b"a", "large.bin": noise(33 * MIB), "z.txt": b"z"}
PARTS = 7  # of 5 MiB


class CountingSink:
    """Counts the parts of files that S3 has taken, and the uploads that are aborted."""

    def __init__(self, sink: S3ObjectStore) -> None:
        self._sink = sink
        self.parts = Counter[int]()
        self.aborted: list[str] = []

    async def put_part(
        self, target: S3Target, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        stored = await self._sink.put_part(target, upload, number, part)
        if not upload.key.endswith(MANIFEST_NAME):
            self.parts[number] += 1
        return stored

    async def abort(self, target: S3Target, upload: Upload) -> None:
        self.aborted.append(upload.key)
        await self._sink.abort(target, upload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class BreakingSource(CountingSource):
    """Breaks off in the midst of the large file, once S3 has three parts of it."""

    def __init__(self, sink: CountingSink) -> None:
        super().__init__(FILES)
        self._sink = sink

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        given = 0
        async for chunk in super().chunks(delivery, file):
            given += len(chunk)
            if self.fail is None and self.breaks and given > 20 * MIB:
                while len(self._sink.parts) < 3:
                    await asyncio.sleep(0.01)
                self.breaks = False
                raise SourceUnavailableError("broke off")
            yield chunk

    breaks = True


class HalfSent:
    """A delivery that broke off."""

    def __init__(
        self, pool: asyncpg.Pool, settings: Settings, sink: S3ObjectStore, target: S3Target
    ) -> None:
        self.name = f"c-{uuid4().hex}"
        self.sink = CountingSink(sink)
        self.source = BreakingSource(self.sink)
        parts: Any = (pool, settings, self.sink, target, self.source)
        self.worker = TransferWorker(*parts)

    async def begin(self) -> None:
        """Let a worker transfer until the file breaks off."""
        await self.worker.plan(self.name, format_name=AS_FILES)
        async with self.worker.running():
            await self.worker.until(self.name, lambda row: row["tries"] > 0)
        await self.worker.deliveries.pool.execute(
            "UPDATE delivery SET not_before = now() WHERE correlation_id = $1", self.name
        )


@pytest.fixture
async def half_sent(
    pool: asyncpg.Pool, settings: Settings, sink: S3ObjectStore, target: S3Target
) -> HalfSent:
    """One whose large file broke off."""
    made = HalfSent(pool, settings, sink, target)
    await made.begin()
    return made


async def test_the_next_attempt_sends_the_parts_that_are_not_there(
    half_sent: HalfSent, client: Client, pool: asyncpg.Pool
) -> None:
    before = sum(half_sent.sink.parts.values())
    assert 3 <= before < PARTS
    assert await pool.fetchval("SELECT count(*) FROM file_checkpoint") > 0
    async with half_sent.worker.running():
        row = await half_sent.worker.ended(half_sent.name)
    assert (row["state"], row["attempt"]) == ("DONE", 2)
    assert half_sent.sink.parts == Counter(range(1, PARTS + 1))
    assert half_sent.source.gets["large.bin"] == 2
    for name, content in FILES.items():
        assert await client.fetch(f"{row['url'].removesuffix(MANIFEST_NAME)}{name}") == content
    assert not [key for key in half_sent.sink.aborted if key.endswith("large.bin")]
    assert await client.open_uploads(half_sent.name) == []
    assert await pool.fetchval("SELECT count(*) FROM file_checkpoint") == 0


async def test_what_ends_while_a_file_is_half_sent_leaves_nothing(
    half_sent: HalfSent, client: Client, pool: asyncpg.Pool
) -> None:
    assert len(await client.open_uploads(half_sent.name)) >= 1
    await pool.execute(
        "UPDATE delivery SET expires_at = now() WHERE correlation_id = $1", half_sent.name
    )
    worker = half_sent.worker
    assert await expire(store=worker.deliveries.store, limit=9) == 1
    assert await pool.fetchval("SELECT count(*) FROM file_checkpoint") == 0
    await worker.sweep()
    assert await client.open_uploads(half_sent.name) == []
    assert await client.objects(half_sent.name) == []


async def test_a_worker_that_is_killed_in_a_large_file_is_taken_over_where_it_was(
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    quick = apart | {
        "DELIVERY_LEASE_TTL": "3",
        "DELIVERY_SHUTDOWN_GRACE": "0",
        "DELIVERY_RECONCILE_INTERVAL": "1",
    }
    files = {"a.bin": noise(48 * MIB), "b.txt": b"b"}
    body = request_for(make_product(files), **ASKED_AS_FILES)
    await standin.misbehave(bytes_per_second=16 * MIB)
    dying = ("tests.integration.crash", "in-a-large-file")
    async with running_service(stack, extra=quick, program=dying) as (child, _):
        await client.send(body)
        await asyncio.to_thread(child.process.wait)
    patient = quick | {"DELIVERY_LEASE_TTL": "30"}  # it is not to take over from itself
    async with running_service(stack, extra=patient) as (child, _):
        answer = await client.wait_for(str(body["correlationId"]), "DONE", "ERROR")
        lines = [json.loads(line) for line in child.log.read_text().splitlines()]
    assert answer["status"] == "DONE"
    (resumed,) = [line for line in lines if line["event"] == "file_resumed"]
    assert resumed["parts"] >= 2
    await check_delivered(client, body, answer, files)
