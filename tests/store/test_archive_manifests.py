"""The manifest beside an archive: what it tells, whichever worker writes it, and what is left."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from structlog.testing import capture_logs

from app.delivery import manifest_document
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart, Upload
from app.delivery.outgoing import Kind
from app.delivery.states import State, Work
from app.errors import (
    ErrorType,
    ForeignObjectError,
    LeaseLostError,
    SourceUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.usecases.archive_manifests import ArchiveManifests
from app.usecases.fail import fail
from app.usecases.transfer import COMPLETION
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import MIB, Part
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import list_files, make_lease, make_stored
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.store.delivering import TARGET, Delivering
from tests.twins.rs_order import CountedSource

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/manifest.json").read_text())
FILES = {
    **{f"f{number}.txt": noise(1000 + number, str(number)) for number in range(30)},
    "large.bin": noise(17 * MIB),
    "empty.bin": b"",
    "last.bin": noise(400 * 1024, "last"),
}
MANIFEST = f"c/{MANIFEST_NAME}"
ARCHIVE = "c/delivery-c.zip"
HASTY = Patience(limit=0, backoff=Backoff(first=0.01, longest=0.01), in_slot=0.05)


class Shelf(MemoryObjectStore):
    """A store that can refuse or lose manifests, and notes what happens to objects."""

    def __init__(self) -> None:
        super().__init__(least_part=5 * MIB)
        self.error: BaseException | None = None  # raised instead of a PUT
        self.answer: BaseException | None = None  # raised behind one
        self.done: list[tuple[str, str]] = []
        self.on_complete: Callable[[], object] = int

    async def put_object(self, *args: Any, **named: Any) -> str:
        if self.error is not None:
            raise self.error
        etag = await super().put_object(*args, **named)
        self.done.append(("put", args[1]))
        if self.answer is not None:
            raise self.answer
        return etag

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: Any
    ) -> StoredPart:
        if self.error is not None and upload.key == MANIFEST:
            raise self.error
        return await super().put_part(target, upload, number, part)

    async def complete(self, target: MemoryTarget, upload: Upload, *args: Any, **named: Any) -> str:
        etag = await super().complete(target, upload, *args, **named)
        self.done.append(("complete", upload.key))
        self.on_complete()
        return etag

    async def delete(self, target: MemoryTarget, key: str, *, etag: str) -> None:
        await super().delete(target, key, etag=etag)
        self.done.append(("delete", key))


class Listed(Delivering):
    """Deliveries of a client that are to have a manifest beside their archive."""

    patience = HASTY
    compression = "auto"
    shelf: Shelf

    def __init__(self, deliveries: Deliveries) -> None:
        super().__init__(deliveries, Shelf(), FILES)
        self.ask(manifest=True, sha256=True)

    def ask(self, **settings: Any) -> None:
        self.deliveries.tenants.give(TENANT, target=TARGET, **settings)

    async def plan(
        self, files: Mapping[str, bytes] = FILES, *, told: bool = True, **changes: Any
    ) -> None:
        """Plan a delivery of files; their sizes and MD5s are `told`, or not."""
        self.source = CountedSource(files)
        delivery = await self.deliveries.available(**changes)
        listing = list_files(files)
        if not told:
            listing = [replace(file, md5=None, size=None) for file in listing]
        await self.deliveries.plan(delivery, listing, archive_name="delivery-c.zip")

    def manifests(self, **changes: Any) -> ArchiveManifests:
        return replace(self.transfers().manifests, **changes)

    async def claim(self) -> Delivery:
        await self.deliveries.let_leases_run_out()
        claimed = await self.deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        return claimed

    async def attempt(self, *, breaks: str | None = None) -> Delivery:
        """Let a worker deliver; what it raises is raised, and its lease is over then."""
        claimed = await self.claim()
        self.source.fail = breaks
        await self.transfers().deliver(claimed, make_lease())
        return claimed

    async def attempt_and_fail(self) -> Delivery:
        """Let a worker write all, and the delivery fail before that was recorded."""
        delivery = await self.claim()
        transfers = self.transfers()

        async def gone(*_: Any, **__: Any) -> None:
            raise CrashError

        object.__setattr__(transfers, "finish", gone)
        with pytest.raises(CrashError):
            await transfers.deliver(delivery, make_lease())
        await self.deliveries.elapse(COMPLETION + timedelta(minutes=1))
        async with self.deliveries.store.transaction() as tx:
            current = await tx.lock(TENANT, "c")
            assert current is not None
            await fail(tx, current, ErrorType.EXPIRED, "its time was over")
        return delivery

    def there(self) -> dict[str, bytes]:
        return {key: there.content for key, there in self.shelf.objects(TARGET).items()}

    async def told(self) -> dict[str, Any]:
        """Return what the client was told last."""
        responses = [m for m in await self.deliveries.outgoing() if m.kind is Kind.RESPONSE]
        return responses[-1].body

    async def check(self, files: Mapping[str, bytes] = FILES, *, sha256: bool = True) -> None:
        """Hold the manifest against what zipfile reads of the archive, and against the answer."""
        there, told = self.there(), await self.told()
        document = json.loads(there[MANIFEST])
        jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
        archive = there[ARCHIVE]
        assert document["archive"] == {
            "key": ARCHIVE,
            "size": len(archive),
            "md5": hashlib.md5(archive).hexdigest(),
            **({"sha256": hashlib.sha256(archive).hexdigest()} if sha256 else {}),
            "etag": self.shelf.objects(TARGET)[ARCHIVE].found.etag,
        }
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            content = {info.filename: opened.read(info) for info in opened.infolist()}
        assert content == files
        assert [
            {name: value for name, value in file.items() if name not in ("product", "version")}
            for file in document["files"]
        ] == [
            {
                "path": path,
                "size": len(read),
                "md5": hashlib.md5(read).hexdigest(),
                **({"sha256": hashlib.sha256(read).hexdigest()} if sha256 else {}),
                "crc32": f"{zlib.crc32(read):08x}",
                "mediaType": "text/plain" if path.endswith(".txt") else "application/octet-stream",
            }
            for path, read in content.items()
        ]
        assert told["status"] == "DONE"
        assert told["manifestUrl"] == TARGET.url_of(MANIFEST)
        assert told["md5"] == document["archive"]["md5"]
        assert told.get("sha256") == document["archive"].get("sha256")
        assert told["size"] == len(archive)
        assert told["files"] == len(files)


@pytest.fixture
async def listed(deliveries: Deliveries) -> Listed:
    """A delivery that is planned."""
    made = Listed(deliveries)
    await made.plan()
    return made


async def test_it_tells_what_zipfile_reads_of_the_archive_and_is_told(listed: Listed) -> None:
    await listed.attempt()
    await listed.check()
    assert listed.shelf.done[-2:] == [("complete", ARCHIVE), ("put", MANIFEST)]


async def test_what_the_listing_does_not_tell_is_as_it_was_digested(
    deliveries: Deliveries,
) -> None:
    listed = Listed(deliveries)
    listed.ask(manifest=True, sha256=False)
    await listed.plan(told=False)
    await listed.attempt()
    await listed.check(sha256=False)


async def test_who_asks_for_none_gets_none_and_nothing_is_kept(listed: Listed) -> None:
    listed.ask(manifest=False, sha256=False)
    delivery = await listed.claim()
    kept: list[bytes] = []

    async def look() -> None:
        checkpoints = listed.deliveries.checkpoints("w")
        md5 = hashlib.md5(listed.there()[ARCHIVE]).hexdigest()
        kept.extend([each async for each in checkpoints.contents(delivery, md5=md5)])

    transfers = listed.transfers()
    finish = transfers.finish

    async def finishes(*args: Any, **named: Any) -> None:
        await look()
        await finish(*args, **named)

    object.__setattr__(transfers, "finish", finishes)
    await transfers.deliver(delivery, make_lease())
    assert list(listed.there()) == [ARCHIVE]
    assert kept == []
    assert {"manifestUrl", "sha256"}.isdisjoint(await listed.told())


async def test_who_goes_on_with_an_archive_tells_all_of_its_files_and_its_sha256(
    listed: Listed,
) -> None:
    with pytest.raises(SourceUnavailableError):
        await listed.attempt(breaks="large.bin")
    assert listed.source.gets["f1.txt"] == 1
    await listed.attempt()
    assert listed.source.gets["f1.txt"] == 1  # as it went on
    await listed.check()


class CrashError(BaseException):
    """The worker is gone."""


@pytest.mark.parametrize("error", [CrashError(), TargetUnavailableError("503")])
async def test_the_next_worker_writes_it_where_one_ended_behind_the_archive(
    listed: Listed, error: BaseException
) -> None:
    listed.shelf.error = error
    with pytest.raises(type(error)):
        await listed.attempt()
    assert list(listed.there()) == [ARCHIVE]
    gets = listed.source.gets.total()
    listed.shelf.error = None
    await listed.attempt()
    assert listed.source.gets.total() == gets
    await listed.check()


async def test_a_target_that_refuses_it_for_ever_leaves_the_delivery_done_without(
    listed: Listed,
) -> None:
    listed.shelf.error = TargetRefusedError("403")
    with capture_logs() as logs:
        await listed.attempt()
    (warned,) = [each for each in logs if each["event"] == "manifest_not_written"]
    assert (warned["cause"], warned["url"]) == ("403", TARGET.url_of(MANIFEST))
    told = await listed.told()
    assert told["status"] == "DONE"
    assert "manifestUrl" not in told
    assert told["sha256"] == hashlib.sha256(listed.there()[ARCHIVE]).hexdigest()


async def test_one_that_no_client_was_told_of_goes_before_its_archive_is_replaced(
    listed: Listed,
) -> None:
    """It is there, and its answer was not heard."""
    listed.shelf.answer = TargetRefusedError("403")
    await listed.attempt()
    assert "manifestUrl" not in await listed.told()
    assert set(listed.there()) == {ARCHIVE, MANIFEST}
    listed.shelf.answer = None
    listed.ask(manifest=False)
    await listed.plan({"another.txt": b"another"})
    await listed.attempt()
    assert list(listed.there()) == [ARCHIVE]
    assert listed.shelf.done[-2:] == [("delete", MANIFEST), ("complete", ARCHIVE)]


async def test_the_manifest_of_another_user_is_never_replaced(listed: Listed) -> None:
    delivery = await listed.claim()
    theirs = Part.of(b"{}")
    await listed.shelf.put_aside(
        TARGET, MANIFEST, theirs, marks_of(replace(delivery, user="another@example.com"))
    )
    with capture_logs() as logs:
        await listed.attempt()
    assert listed.there()[MANIFEST] == b"{}"
    (cause,) = [each["cause"] for each in logs if each["event"] == "manifest_not_written"]
    assert "another user's delivery" in cause
    assert "manifestUrl" not in await listed.told()


@pytest.mark.parametrize("asks", [True, False])
async def test_what_was_delivered_before_under_the_same_id_is_told_of_no_longer(
    listed: Listed, *, asks: bool
) -> None:
    await listed.attempt()
    listed.shelf.done.clear()
    listed.ask(manifest=asks, sha256=True)
    files = {"another.txt": b"another"}
    await listed.plan(files)
    await listed.attempt()
    first = [("delete", MANIFEST), ("complete", ARCHIVE)]
    assert listed.shelf.done == [*first, ("put", MANIFEST)] if asks else first
    if asks:
        await listed.check(files)
    else:
        assert MANIFEST not in listed.there()
        assert "manifestUrl" not in await listed.told()


def manifest_of(key: str | None) -> Part:
    """Return a manifest of an archive; None: of files as they are."""
    archive = None if key is None else make_stored()
    begun = manifest_document.begin("c", archive, key=key or "")
    return Part.of(begun + b"".join(manifest_document.end()))


async def test_what_tells_of_another_archive_is_not_removed_before_the_archive_appears(
    listed: Listed,
) -> None:
    marks = marks_of(replace(await listed.claim(), id=uuid4()))
    await listed.shelf.put_aside(TARGET, MANIFEST, manifest_of("c/another.zip"), marks)
    await listed.attempt()
    assert ("delete", MANIFEST) not in listed.shelf.done
    await listed.check()


async def test_what_lists_files_that_the_same_client_was_delivered_stays(listed: Listed) -> None:
    """That is what it was told: the archive is delivered without a manifest beside it."""
    marks = marks_of(replace(await listed.claim(), id=uuid4()))
    theirs = manifest_of(None)
    await listed.shelf.put_aside(TARGET, MANIFEST, theirs, marks)
    with capture_logs() as logs:
        await listed.attempt()
    assert listed.there()[MANIFEST] == theirs.read()
    (cause,) = [each["cause"] for each in logs if each["event"] == "manifest_not_written"]
    assert "an earlier delivery of the same client" in cause
    assert "manifestUrl" not in await listed.told()


async def test_what_tells_of_an_archive_stays_where_that_is_not_replaced(listed: Listed) -> None:
    """By now there is another user's: the completion is refused."""
    claimed = await listed.claim()
    of_user = marks_of(replace(claimed, id=uuid4()))
    of_another = marks_of(replace(claimed, user="another@example.com"))
    await listed.shelf.put_aside(TARGET, MANIFEST, manifest_of(ARCHIVE), of_user)
    await listed.shelf.put_aside(TARGET, ARCHIVE, Part.of(b"theirs"), of_another)
    with pytest.raises(ForeignObjectError):
        await listed.attempt()
    assert set(listed.there()) == {ARCHIVE, MANIFEST}


async def test_one_that_is_cancelled_behind_its_archive_is_done_with_its_manifest(
    listed: Listed,
) -> None:
    listed.shelf.error = CrashError()
    with pytest.raises(CrashError):
        await listed.attempt()
    async with listed.deliveries.store.transaction() as tx:
        current = await tx.lock(TENANT, "c")
        assert current is not None
        await fail(tx, current, ErrorType.INTERNAL_ERROR, "its client cancelled it")
    listed.shelf.error = None
    await listed.attempt()
    await listed.check()


async def test_one_that_is_cancelled_does_not_wait_for_a_target_that_takes_no_manifest(
    listed: Listed,
) -> None:
    listed.shelf.error = TargetUnavailableError("503")
    with pytest.raises(TargetUnavailableError):
        await listed.attempt()
    async with listed.deliveries.store.transaction() as tx:
        current = await tx.lock(TENANT, "c")
        assert current is not None
        await fail(tx, current, ErrorType.INTERNAL_ERROR, "its client cancelled it")
    await listed.attempt()
    told = await listed.told()
    assert told["status"] == "DONE"
    assert "manifestUrl" not in told


async def test_nothing_stays_of_a_delivery_that_failed_all_the_same(listed: Listed) -> None:
    """Its target said nothing until its time was over; archive and manifest are there."""
    delivery = await listed.attempt_and_fail()
    assert set(listed.there()) == {ARCHIVE, MANIFEST}
    await listed.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    assert await listed.sweeper().look() == 1
    assert listed.there() == {}
    assert (await listed.deliveries.row(delivery)).state is State.ERROR


async def test_a_worker_that_was_taken_over_writes_nothing(listed: Listed) -> None:
    first = await listed.claim()
    lease = make_lease()

    def takes_over() -> None:
        lease.renewed(-(10.0**9))  # by its own clock, too

    listed.shelf.on_complete = takes_over
    with pytest.raises(LeaseLostError):
        await listed.transfers().deliver(first, lease)
    assert list(listed.there()) == [ARCHIVE]
    listed.shelf.on_complete = int
    await listed.attempt()
    await listed.check()


async def test_a_large_one_is_sent_in_parts_and_none_is_left_open(listed: Listed) -> None:
    listed.shelf.error = CrashError()
    with pytest.raises(CrashError):
        await listed.attempt()
    delivery = await listed.claim()
    assert delivery.completing is not None
    listed.shelf.least_part = 1
    small = listed.manifests(part_size=1000)
    write = small.write
    with pytest.raises(CrashError):
        await write(delivery, TARGET, ARCHIVE, delivery.completing, make_lease())
    assert listed.shelf.open() == []
    listed.shelf.error = None
    written = await write(delivery, TARGET, ARCHIVE, delivery.completing, make_lease())
    assert (written.url, written.left_open) == (TARGET.url_of(MANIFEST), False)
    in_parts = listed.there()[MANIFEST]
    assert len(listed.shelf.objects(TARGET)[MANIFEST].parts) > 3
    await listed.attempt()
    await listed.check()
    assert listed.there()[MANIFEST] == in_parts
