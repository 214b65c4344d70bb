"""The pipeline from end to end, without a network: each format on the store in memory."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Mapping

import pytest

from app.delivery.checkpoint import Checkpoint, Step
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.progress import Progress
from app.errors import RetryableError, SourceUnavailableError
from sinks import formats
from sinks.formats.archive_format import ArchiveFormat
from sinks.pipeline.budget import Budget
from sinks.pipeline.checkpoints import SaveStep
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.transfer import StreamingArchiver
from tests.builders import make_lease, make_transfer, name_bytes, not_saved
from tests.conftest import noise
from tests.integration.transfers import MIB, QUICK, each
from tests.tar_format import Tar
from tests.twins.rs_order import Source
from tests.unit.test_assembler import goes_on
from tests.unit.test_formats import FILES, READERS, each_format, made

PART = 5 * MIB // 64 * 64
TARGET = MemoryTarget(container="archives")
CONTENT = {**FILES, "large.csv": b"0,1,2,3\n" * MIB, "tiny": b"!"}


def delivery_of(archive_name: str, source: Source) -> Delivery:
    return make_transfer(
        archive_name=archive_name,
        file_count=len(source.files),
        total_bytes=sum(map(len, source.files.values())),
    )


def archiver_of(source: Source, store: MemoryObjectStore) -> StreamingArchiver:
    reports: list[Progress] = []
    return StreamingArchiver(
        source,
        store,
        reports.append,
        compression="store",
        part_size=PART,
        memory=32 * MIB,
        worker_memory=Budget(64 * MIB),
        max_object_size=1024**4,
        connections=4,
        patience=QUICK,
    )


async def run(
    source: Source,
    store: MemoryObjectStore,
    delivery: Delivery,
    upload: Upload,
    *,
    save: SaveStep = not_saved,
    after: Checkpoint | None = None,
) -> StoredObject:
    """Transfer all files of a source; the archive may appear."""

    async def allowed(_result: StoredObject) -> bool:
        return True

    result = await archiver_of(source, store).run(
        delivery,
        each(source.manifest()),
        TARGET,
        upload,
        at_most=delivery.total_bytes,
        name_bytes=name_bytes(source.files),
        lease=make_lease(),
        may_complete=allowed,
        save=save,
        after=after,
    )
    assert result is not None
    return result


@each_format
async def test_the_object_is_what_the_format_makes(
    archive_format: ArchiveFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever format: the stages around it, and the store, know nothing of it."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, Tar()))
    source, store = Source(CONTENT), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    media_type = archiver_of(source, store).media_type(delivery)
    upload = await store.create_upload(TARGET, "key", {}, media_type=media_type)

    result = await run(source, store, delivery, upload)
    found = store.objects(TARGET)["key"]
    assert found.media_type == archive_format.media_type
    assert found.content == made(archive_format, CONTENT, compression="store")
    assert READERS[archive_format.suffix](found.content) == CONTENT
    assert (result.size, result.etag) == (len(found.content), found.found.etag)
    assert len(found.parts) > 1


async def test_what_another_version_planned_is_left_to_it() -> None:
    """Before an upload is opened, and for this attempt alone."""
    source = Source({})
    with pytest.raises(RetryableError, match=r"P_v1\.cab"):
        archiver_of(source, MemoryObjectStore()).media_type(delivery_of("P_v1.cab", source))


class Counted(Source):
    """Counts how often a file was asked for."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.reads = Counter[str]()

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        self.reads[file.member] += 1
        async for chunk in super().chunks(delivery, file):
            yield chunk


class Saved:
    """What is saved of a half-made archive."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    async def save(self, step: Step) -> bool:
        self.steps.append(step)
        return True

    def checkpoint(self) -> Checkpoint | None:
        return Checkpoint.of(self.steps) if self.steps else None


LARGE = {
    "first.bin": noise(3 * MIB),
    **{f"small/{number}": noise(1000 + number, str(number)) for number in range(300)},
    "second.bin": noise(13 * MIB, "second"),
    "third.csv": b"0,1,2,3\n" * (2 * MIB),
    "fourth.bin": noise(7 * MIB, "fourth"),
    "last": b"!",
}
BREAKS = ["second.bin", "third.csv", "fourth.bin"]  # behind the first part


@goes_on
@each_format
@pytest.mark.parametrize("seed", range(4))
async def test_who_goes_on_makes_the_same_object_and_reads_no_file_again_but_one(
    archive_format: ArchiveFormat, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt breaks off at a file that is drawn; the next one goes on from what was saved."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, Tar()))
    chance = random.Random(seed)
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved()
    breaks: list[str | None] = [*chance.sample(BREAKS, 2), None]
    for source.fail in breaks:
        after = saved.checkpoint()
        try:
            result = await run(source, store, delivery, upload, save=saved.save, after=after)
        except SourceUnavailableError:
            assert source.fail is not None
    found = store.objects(TARGET)["key"]
    assert after is not None
    assert found.content == made(archive_format, LARGE, compression="store")
    assert result.md5 == hashlib.md5(found.content).hexdigest()
    assert source.reads["first.bin"] == 1
    assert {source.reads[f"small/{number}"] for number in range(300)} == {1}
    assert max(source.reads.values()) <= len(breaks)
