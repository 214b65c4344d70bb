"""What every archiver does with files that are delivered as they are."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app import __version__
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.marks import marks_of
from app.delivery.object_store import May, PartBody, StoredObject, StoredPart, Upload
from app.errors import (
    ForeignObjectError,
    LeaseLostError,
    SourceUnavailableError,
    WrongCrc32Error,
    WrongFileError,
)
from sinks.pipeline.parts import Part
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import at_any_time, plan_files
from tests.contract.archiver import (
    FILES,
    PART,
    TARGET,
    Making,
    listed_wrongly,
    pause_and_go_on,
    pauses,
)
from tests.twins.rs_order import Source

MANIFEST = f"c/{MANIFEST_NAME}"


class Shelf(MemoryObjectStore):
    """Notes in which order objects appear."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(**rules)
        self.appeared: list[str] = []

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
        etag = await super().put_object(target, key, body, marks, media_type=media_type, may=may)
        self.appeared.append(key)
        return etag

    async def complete(
        self,
        target: MemoryTarget,
        upload: Upload,
        parts: Any,
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        etag = await super().complete(
            target, upload, parts, size, marks=marks, md5=md5, again=again
        )
        self.appeared.append(upload.key)
        return etag


def delivered(making: Making) -> dict[str, bytes]:
    """Return the files that are there, by their paths in the folder."""
    return {
        key.removeprefix("c/"): there.content
        for key, there in making.store.objects(TARGET).items()
        if not key.startswith(MANIFEST)
    }


def manifest(making: Making) -> dict[str, Any]:
    """Return what the manifest tells."""
    assert making.object is not None
    told: dict[str, Any] = json.loads(making.object.content)
    return told


def lines(files: Mapping[str, bytes] = FILES) -> list[dict[str, Any]]:
    """Return what a manifest of these files tells of them."""
    types = {".csv": "text/csv", ".bin": "application/octet-stream"}
    return [
        {
            "path": name,
            "size": len(content),
            "md5": hashlib.md5(content).hexdigest(),
            "mediaType": types.get(name[-4:], "application/octet-stream"),
        }
        for name, content in files.items()
    ]


class FilesContract:
    """To be subclassed where there is a fixture `making`, of a delivery with a manifest."""

    async def test_each_file_is_an_object_and_the_manifest_tells_of_all(
        self, making: Making
    ) -> None:
        result = await making.run(await making.begin())
        assert delivered(making) == FILES
        assert manifest(making) == {
            "version": __version__,
            "correlationId": making.delivery.correlation_id,
            "files": lines(),
        }
        made = making.object
        assert made is not None
        assert result == StoredObject(
            url=TARGET.url_of(MANIFEST),
            md5=hashlib.md5(made.content).hexdigest(),
            size=len(made.content),
            etag=made.found.etag,
            files=len(FILES),
        )
        assert made.media_type == "application/json"
        assert making.store.open() == []

    async def test_the_manifest_appears_last(self, making: Making) -> None:
        making.store = shelf = Shelf(least_part=PART)
        await making.run(await making.begin())
        assert sorted(shelf.appeared[:-1]) == sorted(f"c/{name}" for name in FILES)
        assert shelf.appeared[-1] == MANIFEST

    async def test_each_file_has_the_delivery_s_marks_and_a_media_type(
        self, making: Making
    ) -> None:
        await making.run(await making.begin())
        for name in FILES:
            there = making.store.objects(TARGET)[f"c/{name}"]
            assert there.found.has(marks_of(making.delivery))
            assert there.md5 == hashlib.md5(FILES[name]).hexdigest()
            expected = "text/csv" if name.endswith(".csv") else "application/octet-stream"
            assert there.media_type == expected

    @pytest.mark.parametrize("member", ["large.bin", "s3", "last.bin", "empty"])
    @pytest.mark.parametrize(
        "wrong", [{"md5": "0" * 32}, {"size": 99}, {"crc32": 1}, {"crc32": 1, "md5": None}]
    )
    async def test_a_file_that_is_not_as_listed_never_appears(
        self, making: Making, member: str, wrong: dict[str, str | int | None]
    ) -> None:
        upload = await making.begin()
        with pytest.raises(WrongFileError, match="expected") as raised:
            await making.run(upload, files=listed_wrongly(member, wrong))
        told_wrongly = wrong == {"crc32": 1}  # perhaps: its MD5 is not compared any more
        assert isinstance(raised.value, WrongCrc32Error) is told_wrongly
        assert member not in delivered(making)
        assert making.object is None
        assert making.asked == []
        assert making.store.open() == [upload]  # its owner aborts it

    async def test_files_of_unknown_size_and_checksum_are_taken_as_they_come(
        self, making: Making
    ) -> None:
        files = [replace(file, size=None, md5=None) for file in plan_files(FILES)]
        await making.run(await making.begin(), files=files)
        assert delivered(making) == FILES
        assert manifest(making)["files"] == lines()

    @pauses
    @pytest.mark.parametrize("ends", [[1], [3, 9], [2, 2, 20], [0, 5, len(FILES)]])
    async def test_one_that_paused_makes_the_manifest_that_it_would_have_made(
        self, making: Making, ends: list[int]
    ) -> None:
        await pause_and_go_on(making, ends)
        assert {name: delivered(making)[name] for name in FILES} == FILES

    @pytest.mark.parametrize("broken", ["last.bin", "large.bin", "b.csv"])
    async def test_what_an_earlier_attempt_has_put_is_not_read_again(
        self, making: Making, broken: str
    ) -> None:
        """Without a checkpoint: each file is looked for."""
        making.source.fail = broken
        upload = await making.begin()
        with pytest.raises(SourceUnavailableError):
            await making.run(upload)
        there = delivered(making)
        read, making.source.fail = making.source.read, None
        making.folder.may_be_there = True
        await making.run(upload)
        assert delivered(making) == FILES
        assert manifest(making)["files"] == lines()
        missing = sum(len(content) for name, content in FILES.items() if name not in there)
        assert making.source.read - read == missing

    async def test_what_may_have_an_upload_open_is_cleared_before_it_is_put(
        self, making: Making
    ) -> None:
        making.folder.may_be_there = True
        await making.run(await making.begin())
        least = making.store.uploads_from(TARGET)
        assert sorted(making.folder.cleared) == sorted(
            f"c/{name}" for name, content in FILES.items() if len(content) >= least
        )

    @pytest.mark.parametrize("spoilt", ["s3", "large.bin"])
    async def test_what_is_there_of_another_delivery_is_replaced(
        self, making: Making, spoilt: str
    ) -> None:
        """The same file of the same client's last delivery: it may be removed with that."""
        making.folder.may_be_there = True
        before = marks_of(replace(making.delivery, id=making.delivery.id.__class__(int=7)))
        body = Part.of(FILES[spoilt])
        await making.store.put_object(
            TARGET, f"c/{spoilt}", body, before, media_type="", may=at_any_time
        )
        await making.run(await making.begin())
        there = making.store.objects(TARGET)[f"c/{spoilt}"]
        assert there.found.has(marks_of(making.delivery))
        assert there.content == FILES[spoilt]

    @pytest.mark.parametrize("member", ["s3", "large.bin"])
    async def test_the_file_of_another_user_is_left_as_it_is(
        self, making: Making, member: str
    ) -> None:
        theirs = marks_of(replace(making.delivery, user="other@example.org"))
        body = Part.of(b"theirs")
        await making.store.put_object(
            TARGET, f"c/{member}", body, theirs, media_type="", may=at_any_time
        )
        with pytest.raises(ForeignObjectError):
            await making.run(await making.begin())
        assert making.store.objects(TARGET)[f"c/{member}"].content == b"theirs"
        assert making.object is None

    async def test_nothing_is_put_without_a_lease(self, making: Making) -> None:
        making.folder.may = False
        with pytest.raises(LeaseLostError):
            await making.run(await making.begin())
        assert making.store.objects(TARGET) == {}

    async def test_one_that_is_cancelled_leaves_no_upload_of_a_file(self, making: Making) -> None:
        class Slow(MemoryObjectStore):
            sent = asyncio.Event()

            async def put_part(
                self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
            ) -> StoredPart:
                self.sent.set()
                await asyncio.Event().wait()
                raise AssertionError("that never is")

            async def put_object(self, *_: Any, **__: Any) -> str:
                self.sent.set()
                await asyncio.Event().wait()
                raise AssertionError("that never is")

        making.store = slow = Slow(least_part=PART)
        upload = await making.begin()
        running = asyncio.create_task(making.run(upload))
        await slow.sent.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert slow.open() == [upload]  # its owner aborts it
        assert slow.objects(TARGET) == {}

    async def test_a_delivery_of_one_file_has_a_manifest_too(self, making: Making) -> None:
        making.source = Source({"a.csv": b"0,1\n"})
        files: list[ManifestFile] = plan_files(making.source.files)
        await making.run(await making.begin(), files=files)
        assert manifest(making)["files"] == lines({"a.csv": b"0,1\n"})
