"""A transfer that one worker began, and another one ends: with what is at the store."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from app.delivery.formats import AS_FILES, DEFAULT_FORMAT, FORMATS
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, StoredPart, Upload
from app.delivery.states import Work
from app.delivery.targets import DEFAULT_TARGET
from app.errors import SourceUnavailableError
from app.settings import Settings
from app.usecases.expire import expire
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import Part
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client, contents
from tests.conftest import noise
from tests.integration.transfers import MIB
from tests.integration.worker import CountingSource, TransferWorker
from tests.readers import READERS
from tests.seams import archive_in_segments, deliver_to_a_pause
from tests.unit.test_assembler import goes_on

pytestmark = [pytest.mark.stack, goes_on]

FILES = {
    "first.bin": noise(4 * MIB),
    **{f"small{number}": noise(2000, str(number)) for number in range(50)},
    "second.bin": noise(9 * MIB, "second"),
    "third.bin": noise(5 * MIB, "third"),
    "fourth.bin": noise(5 * MIB, "fourth"),
}


class CountingSink:
    """Counts the parts that are sent."""

    def __init__(self, sink: S3ObjectStore) -> None:
        self._sink = sink
        self.parts = Counter[int]()
        self.aborted = 0

    async def put_part(
        self, target: S3Target, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        stored = await self._sink.put_part(target, upload, number, part)
        self.parts[number] += 1
        return stored

    async def abort(self, target: S3Target, upload: Upload) -> None:
        self.aborted += 1
        await self._sink.abort(target, upload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class BreakingSource(CountingSource):
    """Breaks off in a file once the worker knows that two parts are stored."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self._before = _bytes_sent()

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in super().chunks(delivery, file):
                yield chunk
        except SourceUnavailableError:
            while _bytes_sent() - self._before < 2 * 5 * MIB:
                await asyncio.sleep(0.01)
            raise


def _counted(name: str, **labels: str) -> float:
    labels = {"tenant": TENANT, **labels}
    return REGISTRY.get_sample_value(f"delivery_{name}_total", labels) or 0


def _bytes_sent() -> float:
    return _counted("target_bytes", target=DEFAULT_TARGET)


class Stopped:
    """A transfer whose worker was stopped while it read a file."""

    def __init__(
        self, pool: asyncpg.Pool, settings: Settings, sink: S3ObjectStore, target: S3Target
    ) -> None:
        self.name = f"c-{uuid4().hex}"
        self.sink = CountingSink(sink)
        self.source = BreakingSource(FILES)
        parts: Any = (pool, settings, self.sink, target, self.source)
        self.worker = TransferWorker(*parts)

    async def begin(self, breaks: str, *, format_name: str = DEFAULT_FORMAT) -> None:
        """Let a worker transfer until a file breaks off."""
        worker = self.worker
        await worker.plan(self.name, format_name=format_name)
        self.source.fail = breaks
        async with worker.running():
            await worker.until(self.name, lambda row: row["tries"] > 0)
        self.source.fail = None
        await worker.deliveries.pool.execute(
            "UPDATE delivery SET not_before = now() WHERE correlation_id = $1", self.name
        )

    async def end(self) -> asyncpg.Record:
        """Let other slots end it."""
        async with self.worker.running():
            return await self.worker.ended(self.name)


@pytest.fixture
def stopped(
    pool: asyncpg.Pool, settings: Settings, sink: S3ObjectStore, target: S3Target
) -> Stopped:
    """A transfer that is to be stopped."""
    return Stopped(pool, settings, sink, target)


def undisturbed(format_name: str = DEFAULT_FORMAT) -> str:
    """Return the MD5 of the archive that no worker was stopped at."""
    return hashlib.md5(archive_in_segments(FILES, [], format_name=format_name)).hexdigest()


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != AS_FILES])
async def test_the_next_attempt_goes_on_and_sends_and_reads_nothing_again_but_at_the_seam(
    stopped: Stopped, client: Client, format_name: str
) -> None:
    files_again = _counted("source_files_again")
    await stopped.begin("third.bin", format_name=format_name)
    row = await stopped.end()
    assert (row["state"], row["attempt"], row["md5"]) == ("DONE", 2, undisturbed(format_name))
    assert READERS[f".{format_name}"](await client.fetch(row["url"])) == FILES
    assert stopped.sink.parts == Counter(range(1, max(stopped.sink.parts) + 1))
    reads = stopped.source.gets
    assert {name for name, count in reads.items() if count > 1} <= {
        "second.bin",  # the boundary may lie in it
        "third.bin",
        "fourth.bin",  # was read ahead
    }
    assert max(reads.values()) == 2
    assert 1 <= _counted("source_files_again") - files_again <= 3
    assert stopped.sink.aborted == 0
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


async def test_a_part_that_was_replaced_at_the_store_begins_it_again(
    stopped: Stopped, client: Client, sink: S3ObjectStore, target: S3Target
) -> None:
    """What is there is not what was sent."""
    await stopped.begin("third.bin")
    (key,) = await client.open_uploads(stopped.name, "P_v1.zip")
    (upload,) = await sink.open_uploads(target, key)
    await sink.put_part(target, upload, 1, Part.of(b"x" * (5 * MIB)))
    row = await stopped.end()
    assert (row["state"], row["md5"]) == ("DONE", undisturbed())
    assert stopped.source.gets["first.bin"] == 2
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


async def test_an_upload_that_was_aborted_meanwhile_begins_again(
    stopped: Stopped, client: Client, sink: S3ObjectStore, target: S3Target
) -> None:
    await stopped.begin("third.bin")
    (key,) = await client.open_uploads(stopped.name, "P_v1.zip")
    (upload,) = await sink.open_uploads(target, key)
    await sink.abort(target, upload)
    row = await stopped.end()
    assert (row["state"], row["md5"]) == ("DONE", undisturbed())
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


async def test_a_file_that_is_another_one_by_now_begins_it_again(
    stopped: Stopped, client: Client, pool: asyncpg.Pool
) -> None:
    """What is made again before the boundary differs: the CRC tells."""
    await stopped.begin("third.bin")
    await pool.execute("UPDATE checkpoint SET crc = crc # 1")
    row = await stopped.end()
    assert (row["state"], row["md5"]) == ("DONE", undisturbed())
    assert stopped.source.gets["first.bin"] == 2
    assert stopped.sink.aborted >= 1
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


async def test_what_ends_while_it_is_half_made_leaves_nothing(
    stopped: Stopped, client: Client, pool: asyncpg.Pool
) -> None:
    await stopped.begin("third.bin")
    assert await pool.fetchval("SELECT count(*) FROM checkpoint") > 0
    assert len(await client.open_uploads(stopped.name, "P_v1.zip")) == 1
    await pool.execute(
        "UPDATE delivery SET expires_at = now() WHERE correlation_id = $1", stopped.name
    )
    worker = stopped.worker
    assert await expire(store=worker.deliveries.store, limit=9) == 1
    assert await pool.fetchval("SELECT count(*) FROM checkpoint") == 0
    assert await worker.sweep() == 1
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


# Archives that pause.

ENDS = [1, 30, 52]  # files up to a pause: before the first part is full, and behind it


async def attempt(stopped: Stopped, pause_after: int | None) -> Delivery:
    """Let a worker make as much of an archive as there is; its lease is over then."""
    deliveries = stopped.worker.deliveries
    await deliveries.let_leases_run_out()
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    transfers = stopped.worker.transfers
    await deliver_to_a_pause(transfers, claimed, ends=ENDS, pause_after=pause_after)
    return claimed


def in_segments() -> str:
    """Return the MD5 of the archive that never paused."""
    return hashlib.md5(archive_in_segments(FILES, ENDS)).hexdigest()


async def test_an_archive_that_pauses_fetches_every_file_once_and_leaves_nothing(
    stopped: Stopped, client: Client, pool: asyncpg.Pool, sink: S3ObjectStore, target: S3Target
) -> None:
    await stopped.worker.plan(stopped.name)
    for end in ENDS:
        delivery = await attempt(stopped, end)
    keys = [row["key"] for row in await pool.fetch("SELECT key FROM tail ORDER BY attempt")]
    there = [key for key in keys if await sink.find(target, key) is not None]
    assert there == keys[-1:], "each is dropped when the next step is saved"
    assert len(await client.open_uploads(stopped.name, "P_v1.zip")) == 1
    delivery = await attempt(stopped, None)
    row = await stopped.worker.row(stopped.name)
    assert (row["state"], row["attempt"], row["md5"]) == ("DONE", 4, in_segments())
    assert contents(await client.fetch(row["url"])) == FILES
    assert stopped.source.gets == Counter(list(FILES))
    assert stopped.sink.parts == Counter(range(1, max(stopped.sink.parts) + 1))
    assert [key for key in keys if await sink.find(target, key) is not None] == []
    assert await stopped.worker.deliveries.checkpoints("any").tails(delivery) == []
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


async def test_a_tail_is_kept_until_the_one_that_goes_on_has_saved_a_step(
    stopped: Stopped, client: Client, pool: asyncpg.Pool
) -> None:
    """Workers may die before that. One that finds it gone begins again."""
    await stopped.worker.plan(stopped.name)
    delivery = await attempt(stopped, 30)
    for _ in range(2):
        await stopped.worker.deliveries.let_leases_run_out()
        claimed = await stopped.worker.deliveries.leases("dies").claim(Work.TRANSFER)
        assert claimed is not None
    (tail,) = await stopped.worker.deliveries.checkpoints("any").tails(delivery)
    await attempt(stopped, 52)
    assert stopped.source.gets["first.bin"] == 1
    keys = [row["key"] for row in await pool.fetch("SELECT key FROM tail WHERE NOT dropped")]
    assert tail.key not in keys
    place = stopped.worker.target
    for key in keys:
        await stopped.sink.drop_aside(place, key)
    await attempt(stopped, None)
    row = await stopped.worker.row(stopped.name)
    assert (row["state"], row["md5"]) == ("DONE", in_segments())
    assert stopped.source.gets["first.bin"] == 2
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []


async def test_what_expires_while_it_is_paused_leaves_nothing(
    stopped: Stopped, client: Client, pool: asyncpg.Pool, sink: S3ObjectStore, target: S3Target
) -> None:
    await stopped.worker.plan(stopped.name)
    delivery = await attempt(stopped, 30)
    (tail,) = await stopped.worker.deliveries.checkpoints("any").tails(delivery)
    assert await sink.find(target, tail.key) is not None
    await pool.execute("UPDATE delivery SET expires_at = now() WHERE id = $1", delivery.id)
    assert await expire(store=stopped.worker.deliveries.store, limit=9) == 1
    assert await stopped.worker.sweep() == 1
    assert await sink.find(target, tail.key) is None
    assert await client.open_uploads(stopped.name, "P_v1.zip") == []
