"""A ZIP that is half made, and whose compressed files are: the next worker makes the same bytes.

Whatever its threads, its tenant's threshold, or the version that began it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace

import pytest

from app.delivery.contents import Wanted
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.errors import CheckpointUnusableError, SourceUnavailableError
from sinks.formats.archive_format import BLOCK
from sinks.formats.deflate import DeflatePool
from sinks.formats.zip import Zip
from sinks.pipeline.rechunk import rechunk
from sinks.stores.memory import MemoryObjectStore
from tests.builders import OpenFolder, archive_blocks, make_file, make_lease, name_bytes, never_put
from tests.conftest import noise
from tests.integration.transfers import MIB
from tests.readers import READERS
from tests.unit.test_assembler import goes_on
from tests.unit.test_deflate import rows, threads_left
from tests.unit.test_transfer import TARGET, Counted, Saved, archiver_of, delivery_of

LARGE = {"second.csv": rows(9 * MIB + 1)[::-1], "third.csv": rows(6 * MIB)}
FILES = {
    "first.csv": rows(7 * MIB),
    "noise.bin": noise(2 * MIB),
    **{f"small/{number}": rows(20_000 + number) for number in range(50)},
    "second.csv": LARGE["second.csv"],
    "little.csv": rows(600_000),
    "third.csv": LARGE["third.csv"],
    "last.csv": rows(5 * MIB),
}
NOW = Zip(pool=DeflatePool(2))
EARLIER = replace(NOW, in_blocks=False)  # what a version before blocks made, with 0.95


def zipped(form: Zip) -> bytes:
    members = ((make_file(name, content), rechunk([content])) for name, content in FILES.items())
    return b"".join(archive_blocks(form, members, compression="auto"))


class Telling(Counted):
    """Tells when a file is begun."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.begins: dict[str, Callable[[], object]] = {}

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        self.begins.pop(file.member, int)()
        async for chunk in super().chunks(delivery, file):
            yield chunk


class HalfMade:
    """A delivery whose attempts break off in a file, or not."""

    def __init__(self, files: Mapping[str, bytes] = FILES) -> None:
        self.source, self.saved = Telling(files), Saved()
        self.store = MemoryObjectStore(least_part=MIB)
        self.delivery = delivery_of("P_v1.zip", self.source)
        self.upload: Upload | None = None

    @property
    def remade(self) -> int:
        """Bytes that the next attempt makes again, of what was saved."""
        after = self.saved.checkpoint()
        return 0 if after is None else after.remade

    @property
    def content(self) -> bytes:
        return self.store.objects(TARGET)["key"].content

    async def attempt(self, form: Zip, *, threshold: float = 0.9, breaks: str | None) -> None:
        """Make an attempt, by a worker that makes ZIPs so, for a tenant with this threshold."""
        if self.upload is None:
            self.upload = await self.store.create_upload(TARGET, "key", {}, media_type="")

        async def allowed(_result: StoredObject) -> bool:
            return True

        async def files() -> AsyncIterator[ManifestFile]:
            for file in self.source.manifest():
                yield file

        self.source.fail = breaks
        archiver = replace(
            archiver_of(self.source, self.store),
            formats=(form,),
            compression="auto",
            part_size=MIB,
            connections=1,
        )
        running = archiver.run(
            self.delivery,
            files(),
            TARGET,
            self.upload,
            at_most=self.delivery.total_bytes,
            name_bytes=name_bytes(self.source.files),
            lease=make_lease(),
            may_complete=allowed,
            save=self.saved.save,
            put_aside=never_put,
            folder=OpenFolder(),
            after=self.saved.checkpoint(),
            wanted=Wanted(compression_threshold=threshold),
        )
        try:
            if breaks is None:
                assert await running is not None
            else:
                with pytest.raises(SourceUnavailableError):
                    await running
        finally:
            assert not threads_left()


@goes_on
@pytest.mark.parametrize("breaks", list(LARGE))
@pytest.mark.parametrize("then", [1, 8])
async def test_another_number_of_threads_goes_on_with_the_same_bytes(
    breaks: str, then: int
) -> None:
    half = HalfMade()
    await half.attempt(NOW, breaks=breaks)
    await half.attempt(NOW, breaks="third.csv")
    assert half.remade > 0
    half.source.reads.clear()
    await half.attempt(Zip(pool=DeflatePool(then)), breaks=None)
    assert half.source.reads["first.csv"] == 0
    assert half.content == zipped(NOW)
    assert READERS[".zip"](half.content) == FILES


@goes_on
@pytest.mark.parametrize("at", list(LARGE))
async def test_what_is_cancelled_in_the_midst_leaves_no_thread(at: str) -> None:
    """And the next one goes on with what was saved."""
    half, reached = HalfMade(), asyncio.Event()
    half.source.begins[at] = reached.set
    cancelled = asyncio.create_task(half.attempt(NOW, breaks=None))
    await reached.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):  # and nothing of threads: `attempt` looks
        await cancelled
    await half.attempt(NOW, breaks=None)
    assert half.content == zipped(NOW)


@goes_on
@pytest.mark.parametrize("breaks", ["second.csv", "third.csv", "last.csv"])
async def test_what_a_version_before_blocks_has_begun_goes_on_as_it_was(breaks: str) -> None:
    """And so do the attempts behind that: what they save tells no more than it did."""
    half = HalfMade()
    await half.attempt(EARLIER, threshold=0.95, breaks=breaks)
    assert half.remade > 0
    assert {step.made_by for step in half.saved.steps} == {""}
    await half.attempt(NOW, breaks="last.csv")
    half.source.reads.clear()
    await half.attempt(NOW, breaks=None)
    assert half.source.reads["first.csv"] == 0
    assert half.content == zipped(replace(EARLIER, threshold=0.95))
    assert zipped(replace(EARLIER, threshold=0.95)) != zipped(NOW)


@goes_on
async def test_a_threshold_that_is_changed_meanwhile_is_that_of_later_deliveries() -> None:
    half = HalfMade()
    await half.attempt(NOW, threshold=0.9, breaks="third.csv")
    assert half.remade > 0
    await half.attempt(NOW, threshold=0.1, breaks="last.csv")
    await half.attempt(NOW, threshold=0.0, breaks=None)
    assert half.content == zipped(NOW)
    assert {step.made_by for step in half.saved.steps} == {NOW.made_by}


@goes_on
async def test_what_a_later_version_has_begun_is_left_before_a_file_is_read() -> None:
    half = HalfMade()
    await half.attempt(NOW, breaks="third.csv")
    half.saved.steps[-1] = replace(half.saved.steps[-1], made_by="deflate by a third kind")
    half.source.reads.clear()
    with pytest.raises(CheckpointUnusableError, match="by deflate by a third kind, which this"):
        await half.attempt(NOW, breaks=None)
    assert half.source.reads.total() == 0


@goes_on
async def test_a_version_before_blocks_finds_that_they_are_other_bytes() -> None:
    """It knows nothing of `made_by`, compares, and begins again: no archive is of two kinds."""
    half = HalfMade()
    await half.attempt(NOW, breaks="third.csv")
    assert half.remade > BLOCK
    # As if it were of its own version.
    half.saved.steps[:] = [replace(step, made_by="") for step in half.saved.steps]
    with pytest.raises(CheckpointUnusableError, match="is another one before byte"):
        await half.attempt(NOW, breaks=None)
    assert half.store.objects(TARGET) == {}
