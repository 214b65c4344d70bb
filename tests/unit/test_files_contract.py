"""Files that are delivered as they are: the archiver in use, and its twin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.delivery.manifest import MANIFEST_NAME, ManifestFile, Seam
from app.delivery.manifest_document import media_type_of
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, May, PartBody, StoredPart, Upload
from app.delivery.progress import Phase
from app.errors import ArchiveTooLargeError, LeaseLostError, TargetUnavailableError
from sinks.formats.files import AT_ONCE, Files
from sinks.pipeline.parts import MAX_PARTS, MIB, plan_folder
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import make_file, plan_files
from tests.conftest import noise
from tests.contract.archiver import PART, TARGET, Making, in_segments, pauses
from tests.contract.files import FilesContract, delivered, manifest
from tests.twins.rs_order import Source
from tests.unit.test_archiver_contract import plain, streaming


class TestStreaming(FilesContract):
    """All that is asked of an archiver, of the one in use."""

    @pytest.fixture
    def making(self) -> Making:
        """Files, a store, and the archiver that streams."""
        return Making(make=streaming, archive_name=MANIFEST_NAME)


class TestTwin(FilesContract):
    """The same of its twin."""

    @pytest.fixture
    def making(self) -> Making:
        """Files, a store, and the archiver in one coroutine."""
        return Making(make=plain, archive_name=MANIFEST_NAME)


@pytest.fixture
def making() -> Making:
    """Files, a store, and the archiver that streams."""
    return Making(make=streaming, archive_name=MANIFEST_NAME)


async def test_both_make_the_same_manifest() -> None:
    made = []
    for make in (streaming, plain):
        each = Making(make=make, archive_name=MANIFEST_NAME)
        result = await each.follow(await each.begin(), in_segments(4, 1, 0, 7))
        assert each.object is not None
        made.append((result, each.object.parts))
    assert made[0] == made[1]


class Crowded(MemoryObjectStore):
    """Answers no PUT before as many wait as are to be on their way at once."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.waiting = self.most = self.bytes = self.most_bytes = 0
        self.enough = asyncio.Event()

    @contextlib.asynccontextmanager
    async def _holds(self, body: PartBody) -> AsyncIterator[None]:
        self.waiting += 1
        self.bytes += len(body)
        self.most = max(self.most, self.waiting)
        self.most_bytes = max(self.most_bytes, self.bytes)
        if self.waiting >= self.wanted:
            self.enough.set()
        await self.enough.wait()
        yield
        self.waiting -= 1
        self.bytes -= len(body)

    async def put_object(
        self,
        target: MemoryTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        async with self._holds(body):
            return await super().put_object(
                target, key, body, marks, media_type=media_type, may=may
            )

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        async with self._holds(part):
            return await super().put_part(target, upload, number, part)


async def test_many_small_files_are_on_their_way_at_the_same_time(making: Making) -> None:
    making.source = Source({f"{number}": noise(1000, str(number)) for number in range(200)})
    making.store = crowded = Crowded(AT_ONCE)
    await making.run(await making.begin())
    assert crowded.most == AT_ONCE
    assert delivered(making) == making.source.files


async def test_no_more_is_on_its_way_than_there_is_memory_for(making: Making) -> None:
    files = {f"{number}": noise(3 * MIB, str(number)) for number in range(12)}
    files["large"] = noise(23 * MIB)
    making.source = Source(files)
    making.store = crowded = Crowded(2)
    await making.run(await making.begin())
    plan = plan_folder(
        Files(),
        total_bytes=sum(map(len, files.values())),
        file_count=len(files),
        name_bytes=0,
        part_size=PART,
        memory=32 * MIB,
        worker_memory=64 * MIB,
        max_object_size=1024**4,
    )
    assert 2 * 3 * MIB <= crowded.most_bytes <= plan.files
    assert plan.memory <= 32 * MIB
    assert delivered(making) == files


async def test_a_target_that_is_away_for_a_moment_is_asked_again(making: Making) -> None:
    class Hiccup(MemoryObjectStore):
        failures = 3

        async def put_object(self, *args: Any, **named: Any) -> str:
            if self.failures:
                self.failures -= 1
                raise TargetUnavailableError("503")
            return await super().put_object(*args, **named)

    making.store = Hiccup(least_part=PART)
    await making.run(await making.begin())
    assert delivered(making) == making.source.files


async def test_a_file_that_can_t_be_put_ends_it_while_the_next_one_is_awaited(
    making: Making,
) -> None:
    """Its cause is told, however long the source is silent."""

    class Full(MemoryObjectStore):
        async def put_object(self, *_args: Any, **_named: Any) -> str:
            raise ArchiveTooLargeError("full")

    class Silent(Source):
        @contextlib.asynccontextmanager
        async def download(
            self, delivery: Delivery, file: ManifestFile
        ) -> AsyncIterator[AsyncIterator[bytes]]:
            if file.position > 0:
                await asyncio.Event().wait()
            async with super().download(delivery, file) as chunks:
                yield chunks

    making.source = Silent({"a": b"1", "b": b"2"})
    making.store = Full()
    with pytest.raises(ArchiveTooLargeError, match="full"):
        await making.run(await making.begin())
    assert making.reports[-1].phase is Phase.FAILED


@pauses
async def test_a_pause_waits_for_what_is_on_its_way(making: Making) -> None:
    making.store = crowded = Crowded(3)
    files: list[ManifestFile | Seam] = [*in_segments()[3:6], Seam.PAUSE]
    assert await making.follow(await making.begin(), files) is None
    assert crowded.waiting == 0
    (step,) = making.steps
    assert step.boundary.members == 3
    assert len([name for name in delivered(making) if "unfinished" not in name]) == 3


def test_a_large_file_has_parts_that_10_000_are_enough_of() -> None:
    size = 3 * 1024**4
    plan = plan_folder(
        Files(),
        total_bytes=size,
        file_count=1,
        name_bytes=10,
        part_size=8 * MIB,
        memory=128 * MIB,
        worker_memory=1280 * MIB,
        max_object_size=5 * 1024**4,
    )
    file = make_file(size=size, md5=None)
    assert plan.part_size_of(file) * MAX_PARTS >= size
    assert plan.part_size_of(file) % 64 == 0
    assert plan.files >= 2 * plan.part_size_of(file)
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_WORKER_MEMORY"):
        plan_folder(
            Files(),
            total_bytes=size,
            file_count=1,
            name_bytes=10,
            part_size=8 * MIB,
            memory=128 * MIB,
            worker_memory=256 * MIB,
            max_object_size=5 * 1024**4,
        )


@pytest.mark.parametrize("memory", [32, 128, 1024])
@pytest.mark.parametrize("part_size", [5, 8, 64])
def test_it_gets_along_with_the_memory_of_a_transfer(memory: int, part_size: int) -> None:
    plan = plan_folder(
        Files(),
        total_bytes=70_000 * 20_000,
        file_count=70_000,
        name_bytes=70_000 * 100,
        part_size=part_size * MIB,
        memory=memory * MIB,
        worker_memory=memory * MIB,
        max_object_size=5 * 1024**4,
    )
    assert plan.memory <= memory * MIB


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ("a.tif", "image/tiff"),
        ("P_v1/a.json", "application/json"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("http:/a.xml", "text/xml"),
    ],
)
def test_the_media_type_is_told_by_the_name(member: str, kind: str) -> None:
    assert media_type_of(make_file(member)) == kind


async def test_the_media_type_that_rs_order_has_told_counts(making: Making) -> None:
    making.source = Source({"a.csv": b"1", "b.csv": b"2"})
    first, second = plan_files(making.source.files)
    told = replace(first, media_type="application/netcdf")
    await making.run(await making.begin(), files=[told, second])
    kinds = {path: there.media_type for path, there in making.store.objects(TARGET).items()}
    assert kinds["c/a.csv"] == "application/netcdf"
    assert kinds["c/b.csv"] == "text/csv"
    assert [line["mediaType"] for line in manifest(making)["files"]] == [
        "application/netcdf",
        "text/csv",
    ]


async def test_a_store_asks_itself_whether_a_file_may_be_put(making: Making) -> None:
    """The lease is lost while it looks at the file's place."""

    class Looks(MemoryObjectStore):
        async def find(self, target: MemoryTarget, key: str) -> FoundObject | None:
            making.folder.may = False
            return await super().find(target, key)

        async def put_object(self, *args: Any, **named: Any) -> str:
            await self.find(args[0], args[1])
            return await super().put_object(*args, **named)

    making.store = looks = Looks(least_part=PART)
    with pytest.raises(LeaseLostError):
        await making.run(await making.begin())
    assert looks.objects(TARGET) == {}
