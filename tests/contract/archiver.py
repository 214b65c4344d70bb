"""What every archiver does with the files of a delivery, however it streams them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pytest

from app.delivery.checkpoint import Step, Tail
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, PartBody, StoredObject, Upload
from app.delivery.ports import Archiver
from app.delivery.progress import Phase, Progress
from app.errors import (
    CheckpointUnusableError,
    ForeignObjectError,
    LeaseLostError,
    SourceUnavailableError,
    TargetRefusedError,
    UploadLostError,
    WrongCrc32Error,
    WrongFileError,
)
from sinks.formats import format_of
from sinks.pipeline.digest import TwoPasses, paired_md5
from sinks.pipeline.parts import MIB, Part
from sinks.stores.memory import MemoryObject, MemoryObjectStore, MemoryTarget
from tests.builders import (
    OpenFolder,
    checkpoint_of,
    make_lease,
    make_transfer,
    name_bytes,
    plan_files,
)
from tests.conftest import noise
from tests.readers import READERS
from tests.twins.rs_order import Source

PART = 5 * MIB // 64 * 64
TARGET = MemoryTarget(container="archives")
pauses = pytest.mark.skipif(
    isinstance(paired_md5(), TwoPasses), reason="not built: no state of an MD5 can be had"
)
FILES = {
    "large.bin": noise(7 * MIB),  # more than a part
    "b.csv": b"0,1,2,3\n" * 50_000,
    "empty": b"",
    **{f"s{number}": noise(100 * number, str(number)) for number in range(20)},
    "last.bin": noise(MIB, "last"),
}


@dataclass(kw_only=True)
class Making:
    """A delivery's files, the store that its archive goes to, and what makes it."""

    make: Callable[[Source, MemoryObjectStore, Callable[[Progress], None]], Archiver]
    source: Source = field(default_factory=lambda: Source(FILES))
    store: MemoryObjectStore = field(default_factory=lambda: MemoryObjectStore(least_part=PART))
    archive_name: str = "P_v1.zip"
    reports: list[Progress] = field(default_factory=list)
    asked: list[tuple[StoredObject, FoundObject | None]] = field(default_factory=list)
    allows: bool = True
    steps: list[Step] = field(default_factory=list)  # that were saved
    folder: OpenFolder = field(default_factory=OpenFolder)
    keeps: bool = True  # whether what is to be saved is still its own
    most_files: int | None = None  # that there is room for, where more may come

    def members(self, archive: bytes) -> dict[str, bytes]:
        return READERS[self.archive_name.removeprefix("P_v1")](archive)

    @property
    def key(self) -> str:
        return f"c/{self.archive_name}"

    @cached_property
    def delivery(self) -> Delivery:
        files = self.source.files
        return make_transfer(
            archive_name=self.archive_name,
            file_count=len(files),
            total_bytes=sum(map(len, files.values())),
        )

    def archiver(self) -> Archiver:
        return self.make(self.source, self.store, self.reports.append)

    async def begin(self) -> Upload:
        media_type = self.archiver().media_type(self.delivery)
        return await self.store.create_upload(
            TARGET, self.key, marks_of(self.delivery), media_type=media_type
        )

    async def run(
        self, upload: Upload, *, files: Iterable[ManifestFile] | None = None
    ) -> StoredObject:
        result = await self.follow(
            upload, plan_files(self.source.files) if files is None else files
        )
        assert result is not None
        return result

    async def follow(
        self, upload: Upload, files: Iterable[ManifestFile | Seam]
    ) -> StoredObject | None:
        """Transfer files, with seams between them."""

        async def may_complete(expected: StoredObject) -> bool:
            self.asked.append((expected, await self.store.find(TARGET, self.key)))
            return self.allows

        return await self.archiver().run(
            self.delivery,
            _each(files),
            TARGET,
            upload,
            at_most=self.delivery.total_bytes,
            name_bytes=name_bytes(self.source.files),
            most_files=self.most_files,
            lease=make_lease(),
            may_complete=may_complete,
            save=self._save,
            put_aside=self._put_aside,
            folder=self.folder,
            after=checkpoint_of(self.steps) if self.steps else None,
        )

    async def _save(self, step: Step) -> bool:
        if self.keeps:
            self.steps.append(step)
        return self.keeps

    async def _put_aside(self, rest: PartBody) -> Tail:
        key = f"{self.key}.unfinished-{len(self.steps)}"
        await self.store.put_aside(TARGET, key, rest, marks_of(self.delivery))
        return Tail(key=key, size=len(rest), md5=rest.md5)

    @property
    def object(self) -> MemoryObject | None:
        return self.store.objects(TARGET).get(self.key)


async def _each(files: Iterable[ManifestFile | Seam]) -> AsyncIterator[ManifestFile | Seam]:
    for file in files:
        yield file


def in_segments(*lengths: int) -> list[ManifestFile | Seam]:
    """Return all files, with a seam between segments of so many; the last has the rest."""
    files: list[ManifestFile | Seam] = list(plan_files(FILES))
    for end in reversed(list(itertools.accumulate(lengths))):
        files.insert(end, Seam.SEGMENT)
    return files


def listed_wrongly(member: str, wrong: Mapping[str, str | int | None]) -> list[ManifestFile]:
    """Return all files, one of which is not what the manifest says."""
    return [
        replace(file, **dict[str, Any](wrong)) if file.member == member else file
        for file in plan_files(FILES)
    ]


async def pause_and_go_on(making: Making, ends: list[int]) -> None:
    """Pause after so many files each time, and go on: no file is read twice, the result is one."""
    lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
    files, upload = in_segments(*lengths), await making.begin()
    seams = [place for place, file in enumerate(files) if file is Seam.SEGMENT]
    for seam in seams:
        assert await making.follow(upload, [*files[:seam], Seam.PAUSE]) is None
        assert making.reports[-1].phase is Phase.PAUSED
    result = await making.follow(upload, files)
    undisturbed = replace(making, store=MemoryObjectStore(), source=Source(FILES), steps=[])
    assert await undisturbed.follow(await undisturbed.begin(), files) == result
    assert making.source.read == sum(map(len, FILES.values()))


class ArchiverContract:
    """To be subclassed where there is a fixture `making`."""

    async def test_the_files_become_one_object_that_is_told_as_it_is(self, making: Making) -> None:
        upload = await making.begin()
        result = await making.run(upload)
        made = making.object
        assert made is not None
        assert making.members(made.content) == FILES
        assert list(making.members(made.content)) == list(FILES)
        assert result == StoredObject(
            url=TARGET.url_of(making.key),
            md5=hashlib.md5(made.content).hexdigest(),
            size=len(made.content),
            etag=made.found.etag,
            files=len(FILES),
        )
        assert made.md5 == result.md5
        assert len(made.parts) > 1
        assert await making.store.open_uploads(TARGET, making.key) == []

    async def test_the_object_has_the_media_type_of_its_format(self, making: Making) -> None:
        await making.run(await making.begin())
        assert making.object is not None
        assert making.object.media_type == format_of(making.key).media_type

    async def test_it_is_asked_for_the_whole_object_before_that_appears(
        self, making: Making
    ) -> None:
        result = await making.run(await making.begin())
        assert making.asked == [(result, None)]

    async def test_segments_are_one_archive(self, making: Making) -> None:
        await making.follow(await making.begin(), in_segments(4, 1, 0, 7))
        assert making.object is not None
        assert list(making.members(making.object.content).items()) == list(FILES.items())

    @pauses
    @pytest.mark.parametrize("ends", [[1], [3, 9], [2, 2, 20], [0, 5, len(FILES)]])
    async def test_one_that_paused_makes_the_object_that_it_would_have_made(
        self, making: Making, ends: list[int]
    ) -> None:
        """It goes on from what was saved, and asks for no file again."""
        await pause_and_go_on(making, ends)
        assert making.object is not None
        assert list(making.members(making.object.content).items()) == list(FILES.items())
        assert making.reports[-1].files_done == len(FILES)

    @pauses
    async def test_a_pause_without_anything_new_saves_nothing(self, making: Making) -> None:
        upload = await making.begin()
        assert await making.follow(upload, [Seam.PAUSE]) is None
        assert making.steps == []
        files: list[ManifestFile | Seam] = [*plan_files(FILES)[:9], Seam.PAUSE]
        assert await making.follow(upload, files) is None
        (step,) = making.steps
        assert await making.follow(upload, files) is None
        assert making.steps == [step]
        assert step.tail is not None
        assert list(making.store.objects(TARGET)) == [step.tail.key]

    @pauses
    async def test_what_is_another_workers_by_now_does_not_pause(self, making: Making) -> None:
        making.keeps = False
        with pytest.raises(LeaseLostError):
            await making.follow(await making.begin(), [*plan_files(FILES)[:9], Seam.PAUSE])

    @pauses
    @pytest.mark.parametrize("change", [None, b"", b"x", b"y" * 7 * MIB])
    async def test_a_tail_that_is_gone_or_another_one_is_told(
        self, making: Making, change: bytes | None
    ) -> None:
        upload = await making.begin()
        await making.follow(upload, [*plan_files(FILES)[:9], Seam.PAUSE])
        tail = making.steps[-1].tail
        assert tail is not None
        if change is None:
            await making.store.drop_aside(TARGET, tail.key)
        else:
            await making.store.put_aside(TARGET, tail.key, Part.of(change), {})
        with pytest.raises(CheckpointUnusableError, match=tail.key):
            await making.run(upload)
        assert making.object is None

    async def test_what_pauses_makes_no_object(self, making: Making) -> None:
        upload = await making.begin()
        files: list[ManifestFile | Seam] = [*plan_files(FILES)[:9], Seam.PAUSE]
        assert await making.follow(upload, files) is None
        assert making.object is None
        assert making.asked == []
        assert await making.store.open_uploads(TARGET, making.key) == [upload]

    async def test_nothing_appears_that_is_not_allowed(self, making: Making) -> None:
        making.allows = False
        upload = await making.begin()
        with pytest.raises(LeaseLostError):
            await making.run(upload)
        assert making.object is None
        # Its owner aborts it.
        assert await making.store.open_uploads(TARGET, making.key) == [upload]

    async def test_a_source_that_breaks_off_makes_no_object(self, making: Making) -> None:
        making.source.fail = "large.bin"
        upload = await making.begin()
        with pytest.raises(SourceUnavailableError, match="broke off"):
            await making.run(upload)
        assert making.object is None
        assert making.asked == []
        assert making.source.open == 0

    @pytest.mark.parametrize("member", ["large.bin", "s3", "last.bin"])
    @pytest.mark.parametrize(
        "wrong", [{"md5": "0" * 32}, {"size": 99}, {"crc32": 1}, {"crc32": 1, "md5": None}]
    )
    async def test_a_file_that_is_not_as_listed_makes_no_object(
        self, making: Making, member: str, wrong: dict[str, str | int | None]
    ) -> None:
        with pytest.raises(WrongFileError, match="expected") as raised:
            await making.run(await making.begin(), files=listed_wrongly(member, wrong))
        told_wrongly = wrong == {"crc32": 1}  # perhaps: its MD5 is not compared any more
        assert isinstance(raised.value, WrongCrc32Error) is told_wrongly
        assert making.object is None
        assert making.asked == []

    async def test_files_of_unknown_size_and_checksum_are_taken_as_they_come(
        self, making: Making
    ) -> None:
        files = [replace(file, size=None, md5=None) for file in plan_files(FILES)]
        await making.run(await making.begin(), files=files)
        assert making.object is not None
        assert making.members(making.object.content) == FILES

    async def test_an_upload_that_is_gone_is_told(self, making: Making) -> None:
        upload = await making.begin()
        await making.store.abort(TARGET, upload)
        with pytest.raises(UploadLostError):
            await making.run(upload)
        assert making.object is None

    async def test_a_container_that_is_gone_is_told(self, making: Making) -> None:
        upload = await making.begin()
        making.store.without = frozenset({TARGET.container})
        with pytest.raises(TargetRefusedError):
            await making.run(upload)

    async def test_the_object_of_another_user_is_left_as_it_is(self, making: Making) -> None:
        theirs = marks_of(replace(making.delivery, user="other@example.org"))
        other = await making.store.create_upload(
            TARGET, making.key, theirs, media_type="application/zip"
        )
        part = await making.store.put_part(TARGET, other, 1, Part.of(b"theirs"))
        await making.store.complete(TARGET, other, [part], 6, marks=theirs)
        with pytest.raises(ForeignObjectError):
            await making.run(await making.begin())
        assert making.object is not None
        assert making.object.content == b"theirs"

    async def test_how_far_it_is_is_told_until_its_end(self, making: Making) -> None:
        await making.run(await making.begin())
        first, *_, last = making.reports
        total = sum(map(len, FILES.values()))
        assert (first.phase, first.bytes_total, first.files_total) == (
            Phase.TRANSFERRING,
            total,
            len(FILES),
        )
        assert [report.phase for report in making.reports[-2:]] == [Phase.COMPLETING, Phase.DONE]
        assert (last.bytes_done, last.files_done) == (total, len(FILES))
        done = [report.bytes_done for report in making.reports]
        assert done == sorted(done)

    async def test_files_that_there_is_room_for_are_not_told_as_files(self, making: Making) -> None:
        making.most_files = len(FILES) + 100
        await making.run(await making.begin())
        assert {report.files_total for report in making.reports} == {len(FILES)}

    async def test_a_failure_is_the_last_that_is_told(self, making: Making) -> None:
        making.source.fail = "large.bin"
        with pytest.raises(SourceUnavailableError):
            await making.run(await making.begin())
        assert [report.phase.ended for report in making.reports].index(True) == (
            len(making.reports) - 1
        )
        assert making.reports[-1].phase is Phase.FAILED

    async def test_one_that_is_cancelled_reads_no_more(self, making: Making) -> None:
        making.source.pause = asyncio.Event()
        running = asyncio.create_task(making.run(await making.begin()))
        while not making.source.open:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (making.source.open, making.source.read) == (0, 0)
        assert making.object is None
        assert making.reports[-1].phase is Phase.FAILED
