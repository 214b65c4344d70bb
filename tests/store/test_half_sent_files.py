"""A large file that is delivered as it is, broken off: the next attempt sends what is not there."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.delivery.kept_files import FileStep, SentPart
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, StoredPart, Upload
from app.delivery.states import State, Work
from app.errors import SourceUnavailableError
from app.usecases.uploads import Uploads
from compose.embedded.stack import TENANT
from sinks.formats.archive_format import BLOCK
from sinks.pipeline import large_file
from sinks.pipeline.parts import MIB, Part
from sinks.stores.memory import MemoryTarget
from tests.builders import list_files, make_upload
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.store.delivering import TARGET
from tests.store.test_folders import ELSEWHERE, LATE, Folder, Shelf
from tests.twins.rs_order import CHUNK, CountedSource

PART = 5 * MIB
FILES = {"a.txt": b"a", "large.bin": noise(33 * MIB + 7), "z.txt": b"z"}
PARTS = 7
UPLOAD = replace(make_upload(), target="sealed")


class Counting(Shelf):
    """Counts the parts of files that it has taken, and tells MD5s or not."""

    def __init__(self, *, tells_md5s: bool = True) -> None:
        super().__init__(least_part=PART)
        self.sent = Counter[int]()
        self.tells_md5s = tells_md5s
        self.gate: asyncio.Event | None = None  # no part goes on before it is set
        self.waiting = asyncio.Event()  # one does

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        if self.gate is not None and not upload.key.endswith(MANIFEST_NAME):
            self.waiting.set()
            await self.gate.wait()
        stored = await super().put_part(target, upload, number, part)
        if not upload.key.endswith(MANIFEST_NAME):
            self.sent[number] += 1
        return self._told(stored)

    async def part_etags(self, target: MemoryTarget, upload: Upload) -> dict[int, str]:
        there = await super().part_etags(target, upload)
        return {
            number: self._told(StoredPart(etag=etag, md5=b"")).etag
            for number, etag in there.items()
        }

    async def complete(
        self,
        target: MemoryTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        etags = [part.etag.removeprefix("opaque-") for part in parts]
        known = [StoredPart(etag=etag, md5=bytes.fromhex(etag)) for etag in etags]
        return await super().complete(
            target, upload, known, size, marks=marks, md5=md5, again=again
        )

    def _told(self, stored: StoredPart) -> StoredPart:
        return stored if self.tells_md5s else StoredPart(etag=f"opaque-{stored.etag}", md5=None)


class BreakingSource(CountedSource):
    """Breaks off behind so many bytes of the large file, once what came of them is at the store."""

    def __init__(self, files: Mapping[str, bytes], shelf: Counting) -> None:
        super().__init__(files)
        self._shelf = shelf
        self.breaks_at: int | None = None

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        given = 0
        async for chunk in super().chunks(delivery, file):
            if self.breaks_at is not None and file.member == "large.bin":
                if given >= self.breaks_at:
                    await self._stored(given)
                    raise SourceUnavailableError("broke off")
                given += len(chunk)
            yield chunk

    async def _stored(self, given: int) -> None:
        """Wait for parts that the archive's thread has surely had."""
        while len(self._shelf.sent) < (given - BLOCK - CHUNK) // PART:
            await asyncio.sleep(0.01)


class HalfSent(Folder):
    """A delivery with a large file."""

    shelf: Counting
    source: BreakingSource

    has_md5s = True  # as rs-order tells the files

    def __init__(self, deliveries: Deliveries, *, tells_md5s: bool = True) -> None:
        super().__init__(deliveries)
        self.shelf = Counting(tells_md5s=tells_md5s)
        self.uploads = replace(self.uploads, objects=self.shelf)

    async def plan(self, files: Mapping[str, bytes] = FILES, *, tenant: str = TENANT) -> None:
        delivery = await self.deliveries.available(tenant=tenant)
        listing = list_files(files)
        if not self.has_md5s:
            listing = [replace(file, md5=None) for file in listing]
        await self.deliveries.plan(delivery, listing, archive_name=MANIFEST_NAME)
        self.source = BreakingSource(files, self.shelf)

    def uploads_with(self, objects: Any) -> Uploads:
        """Return what notes uploads at another store."""
        return replace(self.uploads, objects=objects)

    async def is_done(self) -> bool:
        async with self.deliveries.store.transaction() as tx:
            return await tx.lock(TENANT, "c") is None

    async def break_off(self, at: int) -> None:
        self.source.breaks_at = at
        with pytest.raises(SourceUnavailableError):
            await self.attempt()
        self.source.breaks_at = None

    async def kept(self, delivery: Delivery) -> dict[int, str]:
        return await self.deliveries.checkpoints("any").kept_uploads(delivery)

    def open(self) -> list[str]:
        return [upload.key for upload in self.shelf.open() if "manifest" not in upload.key]


@pytest.fixture
async def half_sent(deliveries: Deliveries) -> HalfSent:
    """One that is planned."""
    made = HalfSent(deliveries)
    await made.plan()
    return made


def bytes_kept() -> float:
    return REGISTRY.get_sample_value("delivery_bytes_kept_total", {"tenant": TENANT}) or 0


@pytest.mark.parametrize("seed", range(3))
async def test_no_part_is_sent_twice_wherever_attempts_break_off(
    half_sent: HalfSent, seed: int
) -> None:
    draw = random.Random(seed)
    breaks = [draw.randrange(len(FILES["large.bin"])) for _ in range(3)]
    for at in breaks:
        await half_sent.break_off(at)
    await half_sent.attempt()
    half_sent.check_delivered(FILES)
    assert half_sent.shelf.sent == Counter(range(1, PARTS + 1))
    assert half_sent.source.gets["large.bin"] == 4
    assert half_sent.source.gets["a.txt"] == 1
    assert half_sent.shelf.open() == []


async def test_what_was_sent_is_told_and_counted(half_sent: HalfSent) -> None:
    await half_sent.break_off(22 * MIB)
    before, sent = bytes_kept(), len(half_sent.shelf.sent)
    assert sent >= 3
    with capture_logs() as logs:
        delivery = await half_sent.attempt()
    (told,) = [entry for entry in logs if entry["event"] == "file_resumed"]
    assert (told["key"], told["parts"], told["attempt"]) == ("c/large.bin", sent, delivery.attempt)
    assert bytes_kept() - before == sent * PART


@pytest.mark.parametrize("every", [1, 2 * PART])
async def test_a_store_that_tells_no_md5s_has_what_was_saved(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(large_file, "EVERY_BYTES", every)
    half_sent = HalfSent(deliveries, tells_md5s=False)
    await half_sent.plan()
    await half_sent.break_off(22 * MIB)
    (kept,) = await half_sent.kept(await half_sent.current())
    steps = await deliveries.checkpoints("any").file_steps(await half_sent.current(), kept)
    saved = [part.number for step in steps for part in step.parts]
    assert saved
    await half_sent.attempt()
    half_sent.check_delivered(FILES)
    assert all(half_sent.shelf.sent[number] == 1 for number in saved)


async def test_nothing_is_kept_of_a_file_that_is_there_or_a_delivery_that_is_done(
    half_sent: HalfSent,
) -> None:
    await half_sent.break_off(12 * MIB)
    delivery = await half_sent.current()
    assert list((await half_sent.kept(delivery)).values()) == [
        upload.upload_id for upload in half_sent.shelf.open() if "large" in upload.key
    ]
    await half_sent.attempt()
    assert await half_sent.kept(delivery) == {}


async def test_nothing_is_left_of_one_that_ends_half_sent(half_sent: HalfSent) -> None:
    await half_sent.break_off(22 * MIB)
    assert half_sent.open() == ["c/large.bin"]
    delivery = await half_sent.end()
    assert await half_sent.kept(delivery) == {}
    await half_sent.sweep()
    assert half_sent.open() == []
    assert half_sent.there() == {}


async def test_who_was_ended_by_an_older_worker_keeps_nothing_open(half_sent: HalfSent) -> None:
    """It knows nothing of what is saved of files, and leaves the rows."""
    await half_sent.break_off(22 * MIB)
    delivery = await half_sent.deliveries.put(await half_sent.current(), State.ERROR)
    assert await half_sent.kept(delivery) == {}
    await half_sent.sweep()
    assert half_sent.open() == []


async def test_another_file_by_now_is_sent_from_its_beginning(half_sent: HalfSent) -> None:
    """As rs-order lists it: its order was retried, and its files are others."""
    await half_sent.break_off(22 * MIB)
    checkpoints = half_sent.deliveries.checkpoints("w")
    delivery = await half_sent.current()
    (position,) = await half_sent.kept(delivery)
    (step, *_) = await checkpoints.file_steps(delivery, position)
    assert delivery.upload is not None
    other = replace(step, md5="0" * 32)
    await half_sent.deliveries.let_leases_run_out()
    claimed = await half_sent.deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.upload is not None
    assert await checkpoints.save_file(claimed, claimed.upload, other)
    half_sent.shelf.sent.clear()
    with capture_logs() as logs:
        await half_sent.attempt()
    assert "file_begins_again" in [entry["event"] for entry in logs]
    assert half_sent.shelf.sent == Counter(range(1, PARTS + 1))
    half_sent.check_delivered(FILES)
    assert half_sent.open() == []


async def test_parts_that_have_changed_are_sent_again_and_nothing_is_glued(
    deliveries: Deliveries,
) -> None:
    """A file without an MD5, of the same size: nothing but its bytes tells that it is another."""
    half_sent = HalfSent(deliveries)
    half_sent.has_md5s = False
    await half_sent.plan()
    await half_sent.break_off(22 * MIB)
    content = bytearray(FILES["large.bin"])
    content[7 * MIB] ^= 1  # in part 2
    changed = FILES | {"large.bin": bytes(content)}
    half_sent.source.files = changed
    await half_sent.attempt()
    half_sent.check_delivered(changed)
    assert half_sent.shelf.sent == Counter({**dict.fromkeys(range(1, PARTS + 1), 1), 2: 2})


async def test_an_upload_that_is_gone_begins_again(half_sent: HalfSent) -> None:
    await half_sent.break_off(22 * MIB)
    half_sent.shelf.forget_uploads()
    half_sent.shelf.sent.clear()
    await half_sent.attempt()
    half_sent.check_delivered(FILES)
    assert half_sent.shelf.sent == Counter(range(1, PARTS + 1))


async def test_another_part_at_the_store_is_sent_again(half_sent: HalfSent) -> None:
    await half_sent.break_off(22 * MIB)
    (upload,) = [upload for upload in half_sent.shelf.open() if "large" in upload.key]
    await Shelf.put_part(half_sent.shelf, TARGET, upload, 2, Part.of(noise(PART, "other")))
    await half_sent.attempt()
    half_sent.check_delivered(FILES)
    assert half_sent.shelf.sent == Counter({**dict.fromkeys(range(1, PARTS + 1), 1), 2: 2})


async def test_a_target_that_moved_has_all_of_it_and_nothing_is_left_where_it_was(
    half_sent: HalfSent,
) -> None:
    await half_sent.break_off(22 * MIB)
    half_sent.deliveries.tenants.give(TENANT, target=ELSEWHERE)
    half_sent.shelf.sent.clear()
    await half_sent.attempt()
    assert half_sent.there(ELSEWHERE)["large.bin"] == FILES["large.bin"]
    assert half_sent.shelf.sent == Counter(range(1, PARTS + 1))
    await half_sent.deliveries.elapse(LATE)
    await half_sent.sweep()
    await half_sent.deliveries.elapse(LATE)
    await half_sent.sweep()
    assert half_sent.open() == []


async def test_an_attempt_that_stood_still_neither_completes_nor_aborts(
    half_sent: HalfSent,
) -> None:
    """The upload that it sends to is the one that the next attempt goes on with."""
    await half_sent.break_off(12 * MIB)
    gate = half_sent.shelf.gate = asyncio.Event()
    standing = asyncio.create_task(half_sent.attempt())
    await half_sent.shelf.waiting.wait()
    half_sent.shelf.gate = None
    await half_sent.deliveries.let_leases_run_out()
    heir = await half_sent.deliveries.leases("heir").claim(Work.TRANSFER)
    assert heir is not None
    (before,) = (await half_sent.kept(heir)).values()
    standing.cancel()  # as its lease is seen to be gone
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await standing
    assert list((await half_sent.kept(heir)).values()) == [before]
    assert before in [upload.upload_id for upload in half_sent.shelf.open()]
    await half_sent.attempt()
    half_sent.check_delivered(FILES)


# What is saved of them.


def step(number: int, *parts: int, upload: Upload = UPLOAD, position: int = 0) -> FileStep:
    return FileStep(
        position=position,
        file_id=2**40,
        size=2**45,
        md5=None if number % 2 else "0" * 32,
        upload=upload,
        part_size=2**33,
        number=number,
        parts=tuple(
            SentPart(
                number=part,
                stored=StoredPart(etag=f"e{part}", md5=bytes(range(16)) if part % 2 else None),
                md5=bytes(range(16)),
            )
            for part in parts
        ),
    )


def as_found(steps: list[FileStep]) -> list[FileStep]:
    return [replace(each, parts=tuple(each.parts)) for each in steps]


OWN = replace(make_upload(), upload_id="own", target="sealed")


async def begun(deliveries: Deliveries, owner: str = "w") -> Delivery:
    claimed = await deliveries.claimed(owner=owner)
    assert await deliveries.leases(owner).record_upload(claimed, OWN)
    return claimed


async def test_what_is_saved_of_a_file_is_found_by_who_takes_over(deliveries: Deliveries) -> None:
    claimed = await begun(deliveries)
    checkpoints = deliveries.checkpoints("w")
    steps = [step(1, 3, 1), step(2, 2), step(1, 1, position=7)]
    for taken in steps:
        assert await checkpoints.save_file(claimed, OWN, taken)
    await deliveries.let_leases_run_out()
    heir = await deliveries.leases("heir").claim(Work.TRANSFER)
    assert heir is not None
    found = deliveries.checkpoints("heir")
    assert as_found(await found.file_steps(heir, 0)) == steps[:2]
    assert as_found(await found.file_steps(heir, 7)) == steps[2:]
    assert await found.file_steps(heir, 3) == []
    assert await found.kept_uploads(heir) == {0: "u", 7: "u"}
    # Also under another upload of the delivery's own.
    again = replace(OWN, upload_id="again")
    assert await deliveries.leases("heir").record_upload(heir, again)
    assert await found.save_file(heir, again, step(3, 4))
    assert as_found(await found.file_steps(heir, 0)) == [*steps[:2], step(3, 4)]


async def test_a_step_of_a_file_whose_answer_was_lost_is_saved_again_with_more(
    deliveries: Deliveries,
) -> None:
    claimed = await begun(deliveries)
    checkpoints = deliveries.checkpoints("w")
    for taken in (step(1, 1), step(2, 2), step(2, 2, 3), step(1, 1, position=1)):
        assert await checkpoints.save_file(claimed, OWN, taken)
    assert as_found(await checkpoints.file_steps(claimed, 0)) == [step(1, 1), step(2, 2, 3)]


async def test_another_upload_of_a_file_replaces_what_was_saved(deliveries: Deliveries) -> None:
    claimed = await begun(deliveries)
    checkpoints = deliveries.checkpoints("w")
    another = replace(UPLOAD, upload_id="another")
    for taken in (step(1, 1), step(2, 2), step(1, 1, upload=another), step(1, 9, position=1)):
        assert await checkpoints.save_file(claimed, OWN, taken)
    assert as_found(await checkpoints.file_steps(claimed, 0)) == [step(1, 1, upload=another)]
    assert await checkpoints.kept_uploads(claimed) == {0: "another", 1: "u"}


async def test_who_has_lost_the_lease_saves_and_forgets_no_file(deliveries: Deliveries) -> None:
    first = await begun(deliveries, "dead")
    assert await deliveries.checkpoints("dead").save_file(first, OWN, step(1, 1))
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("alive").claim(Work.TRANSFER)
    assert second is not None
    dead, alive = deliveries.checkpoints("dead"), deliveries.checkpoints("alive")
    for checkpoints, delivery in ((dead, first), (dead, second), (alive, first)):
        assert not await checkpoints.save_file(delivery, OWN, step(2, 2))
        assert not await checkpoints.forget_file(delivery, OWN, 0)
    other = replace(OWN, upload_id="other")
    assert not await alive.save_file(second, other, step(2, 2))
    assert not await alive.forget_file(second, other, 0)
    assert as_found(await alive.file_steps(second, 0)) == [step(1, 1)]
    assert await alive.forget_file(second, OWN, 0)
    assert await alive.file_steps(second, 0) == []
    assert await alive.kept_uploads(second) == {}


@pytest.mark.parametrize("state", [State.DONE, State.ERROR])
async def test_what_is_saved_of_files_goes_when_the_delivery_ends(
    deliveries: Deliveries, state: State
) -> None:
    claimed = await begun(deliveries)
    checkpoints = deliveries.checkpoints("w")
    assert await checkpoints.save_file(claimed, OWN, step(1, 1))
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, state)
    assert await checkpoints.kept_uploads(claimed) == {}
    assert await checkpoints.file_steps(claimed, 0) == []
    assert not await checkpoints.save_file(claimed, OWN, step(2, 2))
