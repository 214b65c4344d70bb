"""The pipeline from end to end, without a network: each format on the store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import threading
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from app.delivery.checkpoint import Boundary, Checkpoint, FinishedMember, SavedStep, Step, Tail
from app.delivery.contents import Wanted
from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, StoredObject, StoredPart, Upload
from app.delivery.ports import Folder
from app.delivery.progress import Progress
from app.errors import (
    ArchiveTooLargeError,
    CheckpointUnusableError,
    RetryableError,
    SizeNotToldError,
    SourceUnavailableError,
    StoreUnavailableError,
    TargetRefusedError,
    WorkerStoppedError,
    WrongFileError,
)
from sinks import formats, transfer
from sinks.formats import formats_with, has_sizes_first
from sinks.formats.archive_format import ArchiveFormat
from sinks.formats.tar import Tar
from sinks.formats.tar_zst import TarZst
from sinks.formats.zip import Zip
from sinks.pipeline import checkpoints
from sinks.pipeline.budget import Budget
from sinks.pipeline.checkpoints import SaveStep
from sinks.pipeline.rechunk import rechunk
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.transfer import PutAside, StreamingArchiver
from tests.builders import (
    OpenFolder,
    archive_blocks,
    checkpoint_of,
    make_lease,
    make_transfer,
    name_bytes,
    never_put,
    not_saved,
)
from tests.conftest import noise
from tests.integration.transfers import MIB, QUICK
from tests.readers import READERS
from tests.twins.rs_order import Source
from tests.unit.test_assembler import goes_on
from tests.unit.test_formats import FILES, each_format, made

PART = 5 * MIB // 64 * 64
TARGET = MemoryTarget(container="archives")
CONTENT = {**FILES, "large.csv": b"0,1,2,3\n" * MIB, "large.bin": noise(6 * MIB), "tiny": b"!"}


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
    put_aside: PutAside = never_put,
    after: Checkpoint | None = None,
    lease: Lease | None = None,
    level: int = 3,
) -> StoredObject:
    """Transfer all files of a source; the archive may appear."""
    result = await follow(
        source,
        store,
        delivery,
        upload,
        source.manifest(),
        save=save,
        put_aside=put_aside,
        after=after,
        lease=lease,
        level=level,
    )
    assert result is not None
    return result


async def follow(
    source: Source,
    store: MemoryObjectStore,
    delivery: Delivery,
    upload: Upload,
    files: Iterable[ManifestFile | Seam] | AsyncIterator[ManifestFile | Seam],
    *,
    save: SaveStep = not_saved,
    put_aside: PutAside = never_put,
    after: Checkpoint | None = None,
    lease: Lease | None = None,
    budget: Budget | None = None,
    folder: Folder | None = None,
    level: int = 3,
) -> StoredObject | None:
    """Transfer files with seams between them."""

    async def allowed(_result: StoredObject) -> bool:
        return True

    async def given(files: Iterable[ManifestFile | Seam]) -> AsyncIterator[ManifestFile | Seam]:
        for file in files:
            yield file

    archiver = replace(archiver_of(source, store), formats=formats_with(zstd_level=level))
    return await replace(archiver, worker_memory=budget or archiver.worker_memory).run(
        delivery,
        files if isinstance(files, AsyncIterator) else given(files),
        TARGET,
        upload,
        at_most=delivery.total_bytes,
        name_bytes=name_bytes(source.files),
        lease=lease or make_lease(),
        may_complete=allowed,
        save=save,
        put_aside=put_aside,
        folder=folder or OpenFolder(),
        after=after,
    )


@each_format
async def test_the_object_is_what_the_format_makes(
    archive_format: ArchiveFormat,
) -> None:
    """Whatever format: the stages around it, and the store, know nothing of it."""
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

    def __init__(self, store: MemoryObjectStore | None = None) -> None:
        self.steps: list[Step] = []
        self.asides: list[str] = []
        self.away = False  # PostgreSQL
        self._store = store

    async def put_aside(self, rest: PartBody) -> Tail:
        assert self._store is not None
        self.asides.append(f"key.unfinished-{len(self.asides)}")
        await self._store.put_aside(TARGET, self.asides[-1], rest, {})
        return Tail(key=self.asides[-1], size=len(rest), md5=rest.md5)

    async def save(self, step: Step) -> bool:
        if self.away:
            raise StoreUnavailableError("away")
        self.steps.append(step)
        return True

    def checkpoint(self) -> Checkpoint | None:
        return checkpoint_of(self.steps) if self.steps else None


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
    archive_format: ArchiveFormat, seed: int
) -> None:
    """Each attempt breaks off at a file that is drawn; the next one goes on from what was saved."""
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


@goes_on
@pytest.mark.parametrize("seed", range(4))
async def test_who_goes_on_in_a_member_that_is_stored_makes_the_same_object(seed: int) -> None:
    """Of some files the CRC-32 is known; the header of such a member tells it before its bytes."""
    chance = random.Random(seed)
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    files = [
        replace(file, crc32=zlib.crc32(LARGE[file.member]))
        if file.member in BREAKS or chance.random() < 0.5
        else file
        for file in source.manifest()
    ]
    members = ((file, rechunk([LARGE[file.member]])) for file in files)
    archive = b"".join(archive_blocks(Zip(), members, compression="store"))
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved, within = Saved(), 0
    for source.fail in [*sorted(chance.sample(BREAKS, 2), key=BREAKS.index), None]:
        after = saved.checkpoint()
        within += after is not None and after.remade > 0
        with contextlib.suppress(SourceUnavailableError):
            await follow(source, store, delivery, upload, files, save=saved.save, after=after)
    assert within, "an attempt went on in the middle of a member"
    assert store.objects(TARGET)["key"].content == archive
    assert READERS[".zip"](archive) == LARGE
    assert source.reads["first.bin"] == 1


@goes_on
async def test_what_was_saved_is_read_once_there_is_memory_for_it() -> None:
    """Of a million files it takes 200 MB; so none waits for memory with that in its hands."""
    source, store, saved = Counted(LARGE), MemoryObjectStore(least_part=PART), Saved()
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    source.fail = "fourth.bin"
    with pytest.raises(SourceUnavailableError):
        await run(source, store, delivery, upload, save=saved.save)
    source.fail = None
    checkpoint = saved.checkpoint()
    assert checkpoint is not None
    loaded: list[SavedStep] = []

    async def load(step: SavedStep) -> Sequence[FinishedMember]:
        loaded.append(step)
        return await checkpoint.load(step)

    budget = Budget(64 * MIB)
    after = replace(checkpoint, load=load)
    async with budget.reserve(budget.size):
        running = asyncio.create_task(
            follow(source, store, delivery, upload, source.manifest(), after=after, budget=budget)
        )
        while not budget.is_wanted():
            await asyncio.sleep(0)
        assert loaded == []
    assert await running is not None
    assert loaded == checkpoint.steps != []


async def test_the_memory_that_a_transfer_holds_is_known_before() -> None:
    source, store = Source(FILES), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    budget = Budget(64 * MIB)
    held: list[bool] = []

    async def files() -> AsyncIterator[ManifestFile | Seam]:
        for file in source.manifest():
            held.append(budget.has(free) and not budget.has(free + 1))
            yield file

    free = budget.size - archiver_of(source, store).memory_of(
        delivery, at_most=delivery.total_bytes, name_bytes=name_bytes(source.files)
    )
    assert await follow(source, store, delivery, upload, files(), budget=budget) is not None
    assert set(held) == {True}


def begun_at_a_seam() -> Checkpoint:
    """Return what was sent of an archive whose first part ends with a member."""
    boundary = Boundary(parts=1, md5_state=bytes(16), members=1, crc=0)
    step = SavedStep(
        follows=0, part_size=PART, boundary=boundary, parts=[], members=1, finished=PART
    )

    async def load(_step: SavedStep) -> Sequence[FinishedMember]:
        raise AssertionError("it is not asked for members")

    return Checkpoint(part_size=PART, boundary=boundary, parts=[], steps=[step], load=load)


@pytest.mark.parametrize("threshold", [0.0, 0.9, 0.95])
@pytest.mark.parametrize("after", [None, begun_at_a_seam()], ids=["begins", "goes on"])
def test_an_archive_that_is_too_large_is_so_at_any_threshold(
    threshold: float, after: Checkpoint | None
) -> None:
    """No further attempt makes it smaller, and what was sent is not to blame."""
    source, store = Source(CONTENT), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_MAX_OBJECT_SIZE"):
        replace(archiver_of(source, store), max_object_size=MIB).memory_of(
            delivery,
            at_most=delivery.total_bytes,
            name_bytes=name_bytes(source.files),
            after=after,
            wanted=Wanted(compression_threshold=threshold),
        )


async def test_an_archive_that_has_more_parts_than_an_upload_takes_ends_in_words_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files whose size rs-order does not tell: no store is asked for a part that it must refuse."""
    monkeypatch.setattr("sinks.pipeline.parts.MAX_PARTS", 3)
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    delivery = replace(delivery_of("P_v1.zip", source), total_bytes=0)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    files = [replace(file, size=None) for file in source.manifest()]
    with pytest.raises(ArchiveTooLargeError, match=rf"3 parts of {PART}.*order_size_limit_bytes"):
        await follow(source, store, delivery, upload, files)
    assert set(await store.part_etags(TARGET, upload)) <= {1, 2, 3}


@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
async def test_a_tar_of_a_large_file_whose_size_is_not_told_ends_in_words(suffix: str) -> None:
    """No object appears, and no thread is left that waits for the rest."""
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    source.tells_sizes = False
    delivery = delivery_of(f"P_v1{suffix}", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    files = [replace(file, size=None) for file in source.manifest()]
    before = set(threading.enumerate())
    with pytest.raises(SizeNotToldError, match=r"second\.bin.*Ask for these files as zip"):
        await follow(source, store, delivery, upload, files)
    assert store.objects(TARGET) == {}
    left = set(threading.enumerate()) - before
    assert [thread for thread in left if thread.name.startswith("archive")] == []


@each_format
@pytest.mark.parametrize("tells", [True, False])
async def test_a_size_that_the_answer_tells_is_as_good_as_the_listings(
    archive_format: ArchiveFormat, tells: bool
) -> None:
    """Of a file that can be held, the archive is the same whether an answer tells it or not."""
    files = LARGE if tells else {n: c for n, c in LARGE.items() if len(c) < 8 * MIB}
    source, store = Counted(files), MemoryObjectStore(least_part=PART)
    source.tells_sizes = tells
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    unlisted = [replace(file, size=None) for file in source.manifest()]
    assert await follow(source, store, delivery, upload, unlisted) is not None
    content = store.objects(TARGET)["key"].content
    assert READERS[archive_format.suffix](content) == files
    if has_sizes_first(archive_format):
        assert content == made(archive_format, files)


@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
@pytest.mark.parametrize("more", [1, -1])
async def test_a_size_that_the_answer_tells_is_verified(suffix: str, more: int) -> None:
    class Wrong(Counted):
        async def chunks(
            self, delivery: Delivery, file: ManifestFile
        ) -> AsyncGenerator[bytes, None]:
            async for chunk in super().chunks(delivery, file):
                if file.member == "second.bin":
                    self._streams[file.file_id].size = len(self.files["second.bin"]) + more
                yield chunk

    source, store = Wrong(LARGE), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{suffix}", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    files = [replace(file, size=None, md5=None) for file in source.manifest()]
    with pytest.raises(WrongFileError, match=rf"second\.bin.*expected {13 * MIB + more} bytes"):
        await follow(source, store, delivery, upload, files)
    assert store.objects(TARGET) == {}


async def half_made(
    level: int, *, at: str = "third.csv"
) -> tuple[Counted, MemoryObjectStore, Delivery, Upload, Saved]:
    """Return a tar.zst of a level that broke off in a file."""
    source, store, saved = Counted(LARGE), MemoryObjectStore(least_part=PART), Saved()
    delivery = delivery_of("P_v1.tar.zst", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    source.fail = at
    with pytest.raises(SourceUnavailableError):
        await run(source, store, delivery, upload, save=saved.save, level=level)
    source.fail = None
    source.reads.clear()
    return source, store, delivery, upload, saved


@goes_on
async def test_a_tar_zst_goes_on_at_the_level_that_it_was_begun_at() -> None:
    """Whichever its new worker has: else all that was sent would be in vain."""
    source, store, delivery, upload, saved = await half_made(1)
    after = saved.checkpoint()
    assert after is not None
    assert after.remade > 0
    await run(source, store, delivery, upload, after=after, save=saved.save, level=5)
    assert source.reads["first.bin"] == 0
    assert store.objects(TARGET)["key"].content == made(TarZst(1), LARGE)
    assert {step.made_by for step in saved.steps} == {TarZst(1).made_by}


@goes_on
async def test_another_library_of_zstandard_is_found_before_a_file_is_read_again() -> None:
    source, store, delivery, upload, saved = await half_made(3)
    saved.steps[-1] = replace(saved.steps[-1], made_by="libzstd 1.4.0 at level 3")
    with pytest.raises(CheckpointUnusableError, match=r"by libzstd 1\.4\.0, and this worker has"):
        await run(source, store, delivery, upload, after=saved.checkpoint())
    assert source.reads.total() == 0
    # What a version before saved, which did not tell, is compared as it is made again.
    saved.steps[-1] = replace(saved.steps[-1], made_by="")
    await run(source, store, delivery, upload, after=saved.checkpoint())
    assert store.objects(TARGET)["key"].content == made(TarZst(3), LARGE)


@goes_on
async def test_a_level_that_this_worker_has_no_memory_for_begins_again() -> None:
    """It could make the archive at its own: only what was sent is in the way."""
    source, store, delivery, upload, saved = await half_made(1)
    last = saved.steps[-1]
    saved.steps[-1] = replace(last, made_by=last.made_by.replace("level 1", "level 19"))
    with pytest.raises(
        CheckpointUnusableError, match="at level 19: going on so, the archive needs"
    ):
        await run(source, store, delivery, upload, after=saved.checkpoint())
    assert source.reads.total() == 0


def segmented(
    archive_format: ArchiveFormat, source: Source, ends: Sequence[int]
) -> tuple[list[ManifestFile | Seam], bytes]:
    """Return files with seams behind so many of them each, and the archive that they become."""
    files = source.manifest()
    edges = [0, *ends, len(files)]
    segments = [files[start:end] for start, end in itertools.pairwise(edges)]
    seamed: list[ManifestFile | Seam] = []
    for segment in segments:
        seamed += [*segment, Seam.SEGMENT]
    archive = archive_blocks(
        archive_format,
        *(((file, rechunk([source.files[file.member]])) for file in part) for part in segments),
        compression="store",
    )
    return seamed[:-1], b"".join(archive)


class Stopping(Counted):
    """Its worker is stopped while a file is read."""

    def __init__(self, files: Mapping[str, bytes], *, at: str) -> None:
        super().__init__(files)
        self.at = at
        self.lease = make_lease()
        self.hangs = False  # what is read then never ends

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        async for chunk in super().chunks(delivery, file):
            yield chunk
            if file.member == self.at:
                self.lease.stopping.set()
                if self.hangs:
                    await asyncio.Event().wait()


@goes_on
@each_format
@pytest.mark.parametrize("seed", range(6))
async def test_an_archive_that_pauses_and_breaks_off_is_the_one_that_does_not(
    archive_format: ArchiveFormat, seed: int
) -> None:
    """Of what paused no file is read again; of what broke off, those behind the last step.

    Breaks are behind a pause and before the next boundary, too: the tail is still there.
    """
    chance = random.Random(seed)
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    ends = sorted(chance.sample(range(1, len(LARGE)), 4))
    files, archive = segmented(archive_format, source, ends)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved(store)
    seams = [place for place, file in enumerate(files) if file is Seam.SEGMENT]
    broke = 0
    for seam in [*seams, None]:
        given = files if seam is None else [*files[:seam], Seam.PAUSE]
        for breaks in (chance.choice([None, *BREAKS]), None):
            source.fail, after = breaks, saved.checkpoint()
            try:
                result = await follow(
                    source,
                    store,
                    delivery,
                    upload,
                    given,
                    save=saved.save,
                    put_aside=saved.put_aside,
                    after=after,
                )
            except SourceUnavailableError:
                broke += 1
                continue
            break
        assert (result is None) == (seam is not None)
    assert store.objects(TARGET)["key"].content == archive
    assert result is not None
    assert result.md5 == hashlib.md5(archive).hexdigest()
    assert READERS[archive_format.suffix](archive) == LARGE
    assert max(source.reads.values()) <= 1 + broke
    assert source.reads["first.bin"] <= 1 + (files.index(Seam.SEGMENT) > 300) * broke


@goes_on
async def test_an_archive_pauses_exactly_at_the_end_of_a_part() -> None:
    """Then nothing is put aside."""
    overhead = len(made(Tar(), {"a": b""}, compression="store")) - 1024
    source = Counted({"a": bytes(PART - overhead), "b": bytes(1000)})
    assert len(segmented(Tar(), source, [1])[1]) > PART
    store, saved = MemoryObjectStore(least_part=PART), Saved()
    delivery = delivery_of("P_v1.tar", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    files, archive = segmented(Tar(), source, [1])
    paused: list[ManifestFile | Seam] = [files[0], Seam.PAUSE]
    for _ in range(2):
        after = saved.checkpoint()
        assert (
            await follow(source, store, delivery, upload, paused, save=saved.save, after=after)
            is None
        )
    (step,) = saved.steps
    assert (step.boundary.parts, step.boundary.members, step.tail) == (1, 1, None)
    after = saved.checkpoint()
    await follow(source, store, delivery, upload, files, save=saved.save, after=after)
    assert store.objects(TARGET)["key"].content == archive
    assert source.reads == {"a": 1, "b": 1}


@goes_on
async def test_a_pause_that_can_not_be_saved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is away, and the lease is over: the next attempt goes on from the step before."""
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    delivery, saved = delivery_of("P_v1.zip", source), Saved(store)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    files: list[ManifestFile | Seam] = [*source.manifest()[:200], Seam.PAUSE]
    saved.away = True
    monkeypatch.setattr("app.delivery.lease.Lease.safe_to_complete", lambda _: False)
    with pytest.raises(StoreUnavailableError):
        await follow(
            source,
            store,
            delivery,
            upload,
            files,
            save=saved.save,
            put_aside=saved.put_aside,
        )
    assert saved.steps == []


# What a worker is stopped in the midst of.
MORE = {name: content for name, content in LARGE.items() if name != "last"} | {
    f"more/{number}": bytes([number]) * (6 * MIB) for number in range(12)
}


@goes_on
@each_format
@pytest.mark.parametrize("at", ["first.bin", *BREAKS])
async def test_a_stopped_worker_ends_what_it_reads_and_no_file_is_read_again(
    archive_format: ArchiveFormat, at: str
) -> None:
    """What lies behind its last part, which may be the first one, is put aside."""
    source, store = Stopping(MORE, at=at), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved(store)
    with pytest.raises(WorkerStoppedError):
        await run(
            source,
            store,
            delivery,
            upload,
            save=saved.save,
            put_aside=saved.put_aside,
            lease=source.lease,
        )
    assert source.reads.total() < len(MORE)
    result = await run(source, store, delivery, upload, after=saved.checkpoint())
    found = store.objects(TARGET)["key"]
    assert found.content == made(archive_format, MORE, compression="store")
    assert result.md5 == hashlib.md5(found.content).hexdigest()
    assert source.reads == Counter(list(MORE))


SMALL = {
    **{f"{number:03}": noise(20_000, str(number)) for number in range(650)},
    "breaks": noise(MIB),
    **{f"behind/{number}": noise(20_000, str(number)) for number in range(300)},
}


@goes_on
@each_format
@pytest.mark.parametrize("at", [None, "the first file that is read again"])
async def test_a_worker_that_is_stopped_as_it_goes_on_leaves_what_was_sent(
    archive_format: ArchiveFormat, at: str | None
) -> None:
    """It has not made again what lies before the last part's end: that tells of no other library.

    Whether it is told before a file is open, or as the first ones are.
    """
    source, store = Stopping(SMALL, at=""), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved(store)
    source.fail = "breaks"
    with pytest.raises(SourceUnavailableError):
        await run(source, store, delivery, upload, save=saved.save, put_aside=saved.put_aside)
    source.fail = None
    after = saved.checkpoint()
    assert after is not None
    source.reads.clear()
    if at is None:
        source.lease.stopping.set()
    else:
        source.at = f"{after.boundary.members:03}"
    with pytest.raises(WorkerStoppedError):
        await run(
            source,
            store,
            delivery,
            upload,
            save=saved.save,
            put_aside=saved.put_aside,
            after=after,
            lease=source.lease,
        )
    assert source.reads.total() < len(SMALL) / 10
    assert (source.reads.total() == 0) == (at is None)
    result = await run(source, store, delivery, upload, after=saved.checkpoint())
    found = store.objects(TARGET)["key"]
    assert found.content == made(archive_format, SMALL, compression="store")
    assert result.md5 == hashlib.md5(found.content).hexdigest()


@goes_on
async def test_a_stopped_worker_waits_for_no_suborder() -> None:
    """Its archive would go on, here or elsewhere, when the next one is there."""
    source, store = Stopping(LARGE, at="last"), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved(store)
    given_up = asyncio.Event()

    async def first_suborder() -> AsyncIterator[ManifestFile | Seam]:
        for file in source.manifest():
            yield file
        yield Seam.SEGMENT
        yield Seam.WAIT
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    with pytest.raises(WorkerStoppedError):
        await follow(
            source,
            store,
            delivery,
            upload,
            first_suborder(),
            save=saved.save,
            put_aside=saved.put_aside,
            lease=source.lease,
        )
    assert given_up.is_set()
    checkpoint = saved.checkpoint()
    assert checkpoint is not None
    assert (checkpoint.boundary.members, checkpoint.remade) == (len(LARGE), 0)


@goes_on
@pytest.mark.parametrize("hangs", [False, True])
async def test_a_stopped_worker_that_can_put_nothing_aside_ends_at_the_last_part(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may be slow, or refuse it: that holds up no stop."""
    monkeypatch.setattr(transfer, "_READING", 1)
    monkeypatch.setattr(transfer, "_SENDING", 0)
    source, store = Stopping(MORE, at="second.bin"), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved(store)

    async def put_aside(_rest: PartBody) -> Tail:
        if hangs:
            await asyncio.Event().wait()
        raise TargetRefusedError("AccessDenied")

    with pytest.raises(WorkerStoppedError):
        await run(
            source,
            store,
            delivery,
            upload,
            save=saved.save,
            put_aside=put_aside,
            lease=source.lease,
        )
    checkpoint = saved.checkpoint()
    assert checkpoint is not None
    assert (checkpoint.tail, checkpoint.boundary.parts > 0) == (None, True)


@goes_on
async def test_a_stopped_worker_waits_for_a_silent_database_no_longer_than_for_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty seconds are all that a hand-over has: the last step is saved within them, or not."""
    monkeypatch.setattr(checkpoints, "_TIMEOUT", 3600)
    monkeypatch.setattr(transfer, "_SAVING", 0)
    source, store = Stopping(MORE, at="second.bin"), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    asked = asyncio.Event()

    async def save(_step: Step) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    async def put_aside(_rest: PartBody) -> Tail:
        raise TargetRefusedError("AccessDenied")

    async with asyncio.timeout(60):
        with pytest.raises(WorkerStoppedError):
            await run(
                source,
                store,
                delivery,
                upload,
                save=save,
                put_aside=put_aside,
                lease=source.lease,
            )
    assert asked.is_set()


@goes_on
async def test_a_stopped_worker_does_not_wait_for_a_file_that_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "_READING", 0)
    source, store = Stopping(LARGE, at="second.bin"), MemoryObjectStore(least_part=PART)
    source.hangs = True
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    with pytest.raises(WorkerStoppedError):
        await run(source, store, delivery, upload, lease=source.lease)


@goes_on
async def test_a_stopped_worker_lets_an_archive_end_of_which_every_file_is_open() -> None:
    files = {"one": b"1", "two": b"2"}
    source, store = Stopping(files, at="two"), MemoryObjectStore()
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    await run(source, store, delivery, upload, lease=source.lease)
    assert store.objects(TARGET)["key"].content == made(formats.FORMATS[0], files)


async def test_a_stopped_worker_goes_on_with_what_no_other_could_go_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All would be done again: it has the grace of the worker to end."""
    monkeypatch.setattr(transfer, "without_checkpoints", lambda: "not built")
    source, store = Stopping(LARGE, at="second.bin"), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    await run(source, store, delivery, upload, lease=source.lease)
    assert source.reads.total() == len(source.files)


class SlowStore(MemoryObjectStore):
    """Takes no part before it is told."""

    def __init__(self) -> None:
        super().__init__(least_part=PART)
        self.takes = asyncio.Event()

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        await self.takes.wait()
        return await super().put_part(target, upload, number, part)


class BreaksOff(Source):
    """Breaks off in a file; lets the store take parts then."""

    def __init__(self, files: Mapping[str, bytes], *, at: str, store: SlowStore) -> None:
        super().__init__(files, fail=at)
        self.store = store

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in super().chunks(delivery, file):
                yield chunk
        except SourceUnavailableError:
            loop = asyncio.get_running_loop()
            loop.call_later(0.2, self.store.takes.set)  # the transfer has heard of it
            raise


@goes_on
async def test_parts_that_are_on_their_way_arrive_when_the_source_breaks_off() -> None:
    """They are not sent again, and what is before their end is not read again."""
    store = SlowStore()
    source = BreaksOff(LARGE, at="second.bin", store=store)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved()
    with pytest.raises(SourceUnavailableError):
        await run(source, store, delivery, upload, save=saved.save)
    checkpoint = saved.checkpoint()
    assert checkpoint is not None
    assert checkpoint.boundary.parts >= 1


def fetched_again() -> tuple[float, float]:
    """Return bytes and files that attempts fetched, and earlier ones had fetched."""
    labels = {"tenant": make_transfer().tenant}
    names = ("delivery_source_bytes_again_total", "delivery_source_files_again_total")
    counted = [REGISTRY.get_sample_value(name, labels) or 0 for name in names]
    return counted[0], counted[1]


@goes_on
async def test_what_an_earlier_attempt_had_read_counts_as_fetched_again() -> None:
    """As far as the store has its parts, to within one."""
    source, store = Counted(LARGE), MemoryObjectStore(least_part=PART)
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    saved = Saved()
    before = fetched_again()
    source.fail = "third.csv"
    with pytest.raises(SourceUnavailableError):
        await run(source, store, delivery, upload, save=saved.save)
    assert fetched_again() == before
    source.fail = None
    checkpoint = saved.checkpoint()
    assert checkpoint is not None
    there = await store.part_etags(TARGET, upload)
    after = replace(checkpoint, sent=max(there))
    await run(source, store, delivery, upload, save=saved.save, after=after)
    now = fetched_again()
    repeated = {name for name, reads in source.reads.items() if reads > 1}
    of_these = sum(len(LARGE[name]) for name in repeated)
    assert 0 < now[0] - before[0] <= of_these + PART
    assert 1 <= now[1] - before[1] <= len(repeated)


@goes_on
async def test_an_archive_that_is_whole_needs_no_checkpoint() -> None:
    source, store, saved = Source(LARGE), MemoryObjectStore(), Saved()
    delivery = delivery_of("P_v1.zip", source)
    upload = await store.create_upload(TARGET, "key", {}, media_type="")
    await run(source, store, delivery, upload, save=saved.save)
    assert saved.steps == []
