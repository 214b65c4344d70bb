"""Files that are delivered as they are, beside their manifest: noted, found again, and removed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from app.delivery.checkpoint import noted_files_of
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, PartBody
from app.delivery.states import State, Work
from app.errors import (
    DeliveryError,
    ErrorType,
    FolderBusyError,
    ForeignObjectError,
    RetryableError,
    SourceUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongFileError,
)
from app.usecases.fail import fail
from app.usecases.folders import Folders
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import MIB, Part
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import at_any_time, list_files, make_lease
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER
from tests.store.delivering import TARGET, Delivering
from tests.twins.rs_order import CountedSource

FILES = {
    **{f"f{number}.bin": noise(1000 + number, str(number)) for number in range(40)},
    "large.bin": noise(7 * MIB),
    "last.bin": noise(400 * 1024, "last"),
}
ELSEWHERE = MemoryTarget(server="memory:1", container="elsewhere")
MANIFEST = f"c/{MANIFEST_NAME}"
LATE = timedelta(hours=2)  # after that, nothing that was asked for comes any more


class Shelf(MemoryObjectStore):
    """A store that can be silent when something is to be removed."""

    silent = refuses = False
    silent_at: MemoryTarget | None = None
    refused: str | None = None  # a key

    async def delete(self, target: MemoryTarget, key: str, *, etag: str) -> None:
        if self.silent or target == self.silent_at:
            raise TargetUnavailableError("it says nothing")
        if self.refuses or key == self.refused:
            raise TargetRefusedError("403")
        await super().delete(target, key, etag=etag)


class Folder(Delivering):
    """A client's deliveries of one correlation id, as files."""

    shelf: Shelf

    def __init__(self, deliveries: Deliveries) -> None:
        super().__init__(deliveries, Shelf(least_part=5 * MIB), FILES)
        for tenant in (TENANT, OTHER):
            deliveries.tenants.give(tenant, target=TARGET)

    async def plan(self, files: Mapping[str, bytes] = FILES, *, tenant: str = TENANT) -> None:
        self.source = CountedSource(files)
        delivery = await self.deliveries.available(tenant=tenant)
        await self.deliveries.plan(delivery, list_files(files), archive_name=MANIFEST_NAME)

    async def attempt(
        self,
        *,
        fail: str | None = None,
        settled: timedelta = timedelta(),
        tenant: str = TENANT,
    ) -> Delivery:
        """Let a worker deliver; what it raises is raised, and its lease is over then."""
        await self.deliveries.let_leases_run_out()
        self.source.fail = fail
        leases = self.deliveries.leases("w")
        claimed = await leases.claim(Work.TRANSFER)
        while claimed is not None and claimed.tenant != tenant:
            claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        await self.transfers(settled=settled).deliver(claimed, make_lease())
        return claimed

    async def current(self) -> Delivery:
        async with self.deliveries.store.transaction() as tx:
            delivery = await tx.lock(TENANT, "c")
        assert delivery is not None
        return delivery

    async def end(self) -> Delivery:
        """Let the delivery fail."""
        delivery = await self.current()
        async with self.deliveries.store.transaction() as tx:
            await fail(tx, delivery, ErrorType.EXPIRED, "its time was over")
        return delivery

    def there(self, target: MemoryTarget = TARGET) -> dict[str, bytes]:
        return {
            key.removeprefix("c/"): there.content
            for key, there in self.shelf.objects(target).items()
        }

    async def noted(self, delivery: Delivery) -> list[str | None]:
        tails = await self.deliveries.checkpoints("any").tails(delivery)
        return [tail.manifest_key for tail in tails]

    async def sweep(self) -> int:
        await self.deliveries.elapse(timedelta(minutes=1))
        return await self.sweeper().look()

    def check_delivered(
        self, files: Mapping[str, bytes] = FILES, *, listed: Mapping[str, bytes] | None = None
    ) -> None:
        there = self.there()
        manifest = json.loads(there.pop(MANIFEST_NAME))
        assert there == files
        assert {told["path"]: told["md5"] for told in manifest["files"]} == {
            name: hashlib.md5(content).hexdigest() for name, content in (listed or files).items()
        }


@pytest.fixture
async def folder(deliveries: Deliveries) -> Folder:
    """A delivery that is planned."""
    made = Folder(deliveries)
    await made.plan()
    return made


async def test_the_client_is_told_the_folder_and_the_manifests_md5(folder: Folder) -> None:
    delivery = await folder.attempt()
    folder.check_delivered()
    told = (await folder.deliveries.outgoing())[-1].body
    manifest = folder.there()[MANIFEST_NAME]
    assert told["url"] == "memory://archives/c/"
    assert told["md5"] == hashlib.md5(manifest).hexdigest()
    assert (await folder.deliveries.row(delivery)).state is State.DONE
    assert folder.shelf.open() == []


@pytest.mark.parametrize("broken", ["large.bin", "last.bin"])
async def test_the_next_attempt_fetches_what_is_not_there(folder: Folder, broken: str) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail=broken)
    there = folder.there()
    assert there.keys() < FILES.keys()
    first = Counter(folder.source.gets)
    await folder.attempt()
    folder.check_delivered()
    assert folder.source.gets - first == Counter(FILES.keys() - there.keys())
    assert folder.shelf.open() == []


@pytest.mark.parametrize("broken", ["large.bin", "last.bin"])
async def test_nothing_is_left_of_a_delivery_that_failed(folder: Folder, broken: str) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail=broken)
    delivery = await folder.end()
    assert await folder.noted(delivery) == [MANIFEST]
    await folder.sweep()
    assert folder.there() == {}
    assert folder.shelf.open() == []


async def test_what_comes_late_is_removed_too(folder: Folder) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    await folder.sweep()
    assert await folder.noted(delivery) == [MANIFEST]
    late = Part.of(FILES["f3.bin"])
    await folder.shelf.put_object(
        TARGET, "c/f3.bin", late, marks_of(delivery), media_type="", may=at_any_time
    )
    await folder.deliveries.elapse(LATE)
    assert await folder.sweep() == 1
    assert folder.there() == {}
    assert await folder.noted(delivery) == []
    assert await folder.sweep() == 0


async def test_files_are_asked_for_twice_however_many_attempts_have_noted_them(
    folder: Folder,
) -> None:
    """Once when the delivery has ended, and once when nothing comes late any more."""
    for _ in range(3):
        with pytest.raises(SourceUnavailableError):
            await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    assert await folder.noted(delivery) == [MANIFEST] * 3
    asked = Counter[str]()
    find = folder.shelf.find

    async def counted(target: MemoryTarget, key: str) -> FoundObject | None:
        asked[key] += 1
        return await find(target, key)

    folder.shelf.find = counted  # type: ignore[method-assign]
    for _ in range(3):
        await folder.sweep()
    assert asked["c/last.bin"] == 1
    await folder.deliveries.elapse(LATE)
    assert await folder.sweep() == 1
    assert asked["c/last.bin"] == 2
    assert await folder.noted(delivery) == []


async def test_uploads_of_another_tenants_delivery_that_is_under_way_stay_open(
    folder: Folder,
) -> None:
    """Of the same name, in the same place: no row tells whose a file's upload is.

    A worker from before migration 0049 has it, which notes no place and waits for none.
    """
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    another = await folder.deliveries.available(tenant=OTHER)
    await folder.deliveries.plan(another, list_files(FILES), archive_name=MANIFEST_NAME)
    await folder.deliveries.let_leases_run_out()
    claimed = await folder.deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.tenant == OTHER
    own = replace(await folder.shelf.create_upload(TARGET, MANIFEST, {}, media_type=""), target="x")
    assert await folder.deliveries.leases("w").record_upload(claimed, own)
    assert await folder.deliveries.checkpoints("w").record_tail(
        claimed, own, noted_files_of(MANIFEST, claimed.id, claimed.attempt), until=LATE
    )
    live = await folder.shelf.create_upload(
        TARGET, "c/large.bin", marks_of(claimed), media_type="application/octet-stream"
    )
    assert await folder.sweep() == 0
    assert {upload.upload_id for upload in folder.shelf.open()} >= {own.upload_id, live.upload_id}
    assert await folder.noted(delivery) == [MANIFEST]


async def test_the_files_of_another_tenants_live_delivery_are_waited_for_and_stay(
    folder: Folder,
) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    there = folder.there()
    await folder.plan({"f1.bin": b"theirs", "g.bin": b"another"}, tenant=OTHER)
    with pytest.raises(FolderBusyError, match="memory://archives/c/"):
        await folder.attempt(tenant=OTHER)
    assert folder.there() == there
    assert folder.source.gets.total() == 0
    folder.source = CountedSource(FILES)
    await folder.attempt()
    with pytest.raises(ForeignObjectError, match="another tenant's"):
        await folder.attempt(tenant=OTHER)
    folder.check_delivered()


async def test_files_go_where_another_tenants_delivery_failed_once_none_of_it_can_come(
    folder: Folder,
) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    await folder.end()
    await folder.sweep()
    assert folder.there() == {}
    theirs = {"f1.bin": b"theirs"}
    await folder.plan(theirs, tenant=OTHER)
    with pytest.raises(FolderBusyError):
        await folder.attempt(tenant=OTHER)
    await folder.deliveries.elapse(LATE)
    await folder.attempt(tenant=OTHER)
    folder.check_delivered(theirs)


async def test_who_waits_for_a_delivery_keeps_none_of_its_files_from_being_removed(
    folder: Folder,
) -> None:
    """An upload of its own is noted, and no file: what it waits for fails meanwhile."""
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    theirs = {"f1.bin": b"theirs"}
    await folder.plan(theirs, tenant=OTHER)
    with pytest.raises(FolderBusyError):
        await folder.attempt(tenant=OTHER)
    await folder.end()
    await folder.sweep()
    assert folder.there() == {}
    await folder.deliveries.elapse(LATE)
    await folder.attempt(tenant=OTHER)
    folder.check_delivered(theirs)


async def test_a_delivery_that_another_tenants_manifest_ends_is_waited_for_by_none(
    folder: Folder,
) -> None:
    """It has put nothing, so its note would keep that tenant from its own place."""
    await folder.attempt()
    await folder.plan({"f1.bin": b"theirs"}, tenant=OTHER)
    with pytest.raises(ForeignObjectError):
        await folder.attempt(tenant=OTHER)
    await folder.plan()
    await folder.attempt()
    folder.check_delivered()


async def test_what_is_anothers_stays(folder: Folder) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    await folder.shelf.drop_aside(TARGET, "c/f3.bin")
    await folder.shelf.put_object(
        TARGET, "c/f3.bin", Part.of(b"others"), {}, media_type="", may=at_any_time
    )
    await folder.end()
    await folder.sweep()
    assert folder.there() == {"f3.bin": b"others"}


async def test_a_place_that_is_silent_is_asked_again(folder: Folder) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    await folder.end()
    folder.shelf.silent = True
    assert await folder.sweep() == 0
    assert folder.there()
    folder.shelf.silent = False
    await folder.sweep()
    assert folder.there() == {}


async def test_a_place_that_refuses_is_asked_again_an_hour_later(folder: Folder) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    folder.shelf.refuses = True
    with capture_logs() as logs:
        assert await folder.sweep() == 0
    (told,) = [entry for entry in logs if entry["event"] == "files_left"]
    assert told["cause"] == "403"
    folder.shelf.refuses = False
    assert await folder.sweep() == 0
    assert folder.there()
    await folder.deliveries.elapse(timedelta(hours=1))
    await folder.sweep()
    assert folder.there() == {}
    assert await folder.noted(delivery) == [], "nothing of it comes any more"


async def test_a_place_that_is_silent_keeps_no_other_one_from_being_cleared(
    folder: Folder,
) -> None:
    folder.deliveries.tenants.give(TENANT, target=ELSEWHERE)
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    folder.deliveries.tenants.give(TENANT, target=TARGET)
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    await folder.end()
    folder.shelf.silent_at = ELSEWHERE
    assert await folder.sweep() == 0
    assert folder.there() == {}
    assert folder.there(ELSEWHERE)
    folder.shelf.silent_at = None
    await folder.sweep()
    assert folder.there(ELSEWHERE) == {}


@pytest.mark.parametrize("turn", [20.0, 0.0])
async def test_a_file_that_is_refused_keeps_none_behind_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, turn: float
) -> None:
    """Nor is it forgotten, although others are removed in later looks."""
    monkeypatch.setattr("app.usecases.sweep._FILES_TURN", turn)
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    folder.shelf.refused = "c/f1.bin"
    await folder.deliveries.elapse(LATE)
    sweeper = folder.sweeper()
    with capture_logs() as logs:
        while not [entry for entry in logs if entry["event"] == "files_left"]:
            assert await sweeper.look() == 0
            await folder.deliveries.elapse(timedelta(seconds=2))
    assert folder.there().keys() == {"f1.bin"}
    assert await folder.noted(delivery) == [MANIFEST]
    folder.shelf.refused = None
    await folder.deliveries.elapse(LATE)
    while await folder.noted(delivery):
        await sweeper.look()
        await folder.deliveries.elapse(timedelta(seconds=2))
    assert folder.there() == {}


async def test_what_was_to_be_replaced_is_removed_look_by_look_too(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files these are: no look takes longer than its turn, and none is lost."""
    await folder.attempt()
    await folder.plan({"f1.bin": b"another", "z.bin": noise(400 * 1024)})
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="z.bin")
    delivery = await folder.current()
    before = await folder.deliveries.store.delivered_before(
        delivery, f"memory://archives/{MANIFEST}"
    )
    assert before is not None
    for name, content in FILES.items():  # as if that worker had died once the manifest was gone
        await put(folder, name, content, marks_of(before))
    await folder.end()
    monkeypatch.setattr("app.usecases.sweep._FILES_TURN", 0.0)
    await folder.deliveries.elapse(LATE)
    sweeper = folder.sweeper()
    left = [len(folder.there())]
    while await folder.noted(delivery):
        await sweeper.look()
        left.append(len(folder.there()))
        await folder.deliveries.elapse(timedelta(seconds=2))
    assert left == [42, 42, 10, 0, 0]


async def test_many_files_are_removed_look_by_look(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    await folder.end()
    monkeypatch.setattr("app.usecases.sweep._FILES_TURN", 0.0)
    await folder.deliveries.elapse(timedelta(minutes=1))
    sweeper = folder.sweeper()
    forgotten: list[timedelta] = []
    forget_tails = sweeper.checkpoints.forget_tails

    async def forget(delivery: Delivery, keys: Sequence[str], *, took: timedelta) -> None:
        forgotten.append(took)
        await forget_tails(delivery, keys, took=took)

    monkeypatch.setattr(sweeper.checkpoints, "forget_tails", forget)
    left = [len(folder.there())]
    looked: list[float] = []
    while not forgotten:
        looked.append(time.monotonic())
        assert await sweeper.look() == 0
        left.append(len(folder.there()))
        await folder.deliveries.elapse(timedelta(seconds=2))
    assert left == [40, 40 - 32, 0, 0]
    # What came late since the first of them was looked for, is looked for again.
    assert forgotten[0].total_seconds() >= looked[-1] - looked[1]


async def test_what_is_delivered_later_is_no_business_of_one_that_failed(folder: Folder) -> None:
    """A worker that stood still may replace only what was there before its delivery."""
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    stale = await folder.end()
    await folder.deliveries.elapse(timedelta(minutes=1))
    await folder.plan()
    await folder.attempt()
    folders = Folders(
        store=folder.deliveries.store,
        checkpoints=folder.deliveries.checkpoints("w"),
        uploads=folder.uploads,
    )
    await folders.replace(stale, TARGET, MANIFEST)
    assert [cleared async for cleared in folders.remove_replaced(stale, TARGET, MANIFEST)] == []
    folder.check_delivered()


async def test_what_a_worker_that_died_had_begun_is_removed(folder: Folder) -> None:
    """Uploads of files that no process knows of any more."""
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    await folder.shelf.create_upload(
        TARGET, "c/large.bin", marks_of(delivery), media_type="application/octet-stream"
    )
    await folder.sweep()
    assert folder.shelf.open() == []


async def test_the_media_type_of_a_file_is_kept_as_rs_order_has_told_it(
    deliveries: Deliveries,
) -> None:
    folder = Folder(deliveries)
    folder.source = CountedSource({"a.csv": b"1", "b.csv": b"2"})
    told, untold = list_files(folder.source.files)
    listing = [replace(told, media_type="application/netcdf"), untold]
    await deliveries.plan(await deliveries.available(), listing, archive_name=MANIFEST_NAME)
    await folder.attempt()
    there = folder.shelf.objects(TARGET)
    assert there["c/a.csv"].media_type == "application/netcdf"
    assert there["c/b.csv"].media_type == "text/csv"


async def test_an_upload_that_a_put_has_left_open_is_swept_though_all_went_well(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that puts by uploads went away in the midst of one, so it was not aborted either."""
    put = folder.shelf.put_object

    async def put_object(target: MemoryTarget, key: str, *given: Any, **how: Any) -> str:
        if key == "c/f1.bin" and not await folder.shelf.open_uploads(target, key):
            await folder.shelf.create_upload(target, key, {}, media_type="")
            raise TargetUnavailableError("503")
        return await put(target, key, *given, **how)

    monkeypatch.setattr(folder.shelf, "uploads_from", lambda _target: 0)
    monkeypatch.setattr(folder.shelf, "put_object", put_object)
    delivery = await folder.attempt()
    assert delivery.attempt == 1
    assert (await folder.deliveries.row(delivery)).state is State.DONE
    assert len(folder.shelf.open()) == 1
    await folder.sweep()
    assert folder.shelf.open() == []
    folder.check_delivered()


async def test_a_delivery_that_left_nothing_open_is_not_looked_at_again(folder: Folder) -> None:
    await folder.attempt()
    assert await folder.sweep() == 0


async def test_small_files_may_have_uploads_where_a_store_has_no_other_way(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder.shelf, "uploads_from", lambda _target: 0)
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    delivery = await folder.end()
    await folder.shelf.create_upload(TARGET, "c/f1.bin", marks_of(delivery), media_type="")
    await folder.sweep()
    assert folder.shelf.open() == []


async def test_the_next_attempt_aborts_what_the_last_one_had_open(folder: Folder) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="large.bin")
    delivery = await folder.current()
    await folder.shelf.create_upload(TARGET, "c/large.bin", marks_of(delivery), media_type="")
    await folder.attempt()
    folder.check_delivered()
    assert folder.shelf.open() == []


async def test_what_an_attempt_put_elsewhere_is_removed_when_it_is_done(folder: Folder) -> None:
    """The tenant has changed its target meanwhile."""
    folder.deliveries.tenants.give(TENANT, target=ELSEWHERE)
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    folder.deliveries.tenants.give(TENANT, target=TARGET)
    delivery = await folder.attempt()
    assert folder.there(ELSEWHERE)
    await folder.sweep()
    assert folder.there(ELSEWHERE) == {}
    folder.check_delivered()
    await folder.deliveries.elapse(LATE)
    assert await folder.sweep() == 1
    folder.check_delivered()
    assert await folder.noted(delivery) == []


async def test_a_wrong_file_never_appears(folder: Folder) -> None:
    folder.source.files = {**FILES, "last.bin": noise(400 * 1024, "another")}
    with pytest.raises(WrongFileError):
        await folder.attempt()
    assert {"last.bin", MANIFEST_NAME}.isdisjoint(folder.there())


async def test_an_id_that_is_used_again_replaces_the_files_before(folder: Folder) -> None:
    await folder.attempt()
    again = {"f1.bin": b"another", "g.bin": b"new"}
    await folder.plan(again)
    await folder.attempt()
    folder.check_delivered(again)


async def test_what_the_one_before_has_open_is_aborted_before_its_files_are_replaced(
    folder: Folder,
) -> None:
    """It is done, and not swept yet: an attempt that stood still would complete it over the new."""
    delivery = await folder.attempt()
    late = await folder.shelf.create_upload(
        TARGET, "c/large.bin", marks_of(delivery), media_type=""
    )
    part = await folder.shelf.put_part(TARGET, late, 1, Part.of(FILES["large.bin"]))
    again = {"large.bin": noise(7 * MIB, "again"), "g.bin": b"new"}
    await folder.plan(again)
    await folder.attempt()
    with pytest.raises(DeliveryError):
        await folder.shelf.complete(TARGET, late, [part], 7 * MIB, marks=marks_of(delivery))
    folder.check_delivered(again)


async def test_what_another_user_has_put_just_then_leaves_no_note_that_others_wait_for(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came between the look whose the manifest is and the first file: so none was put."""
    another = marks_of(replace(await folder.current(), id=uuid4(), user="another@cnes.fr"))
    make_room = Folders.make_room

    async def late(by: Folders, *given: Any) -> None:
        await make_room(by, *given)
        await put(folder, MANIFEST_NAME, b"{}", another)

    monkeypatch.setattr(Folders, "make_room", late)
    with pytest.raises(ForeignObjectError, match="another user's"):
        await folder.attempt()
    (noted,) = await folder.deliveries.checkpoints("any").tails(await folder.current())
    assert noted.may_come == timedelta()


async def test_what_is_kept_no_more_is_replaced_by_what_its_manifest_tells(
    folder: Folder,
) -> None:
    """The row of its delivery is gone, as rows of long ago are."""
    old = marks_of(replace(await folder.current(), id=uuid4()))
    told = json.dumps({"files": [{"path": "x.bin"}, {"path": "theirs.bin"}, {"path": "gone"}]})
    await put(folder, MANIFEST_NAME, told.encode(), old)
    await put(folder, "x.bin", b"x", old)
    await put(folder, "theirs.bin", b"theirs", {})
    await folder.attempt()
    folder.check_delivered({**FILES, "theirs.bin": b"theirs"}, listed=FILES)


async def test_a_manifest_that_tells_nothing_is_replaced_all_the_same(folder: Folder) -> None:
    old = marks_of(replace(await folder.current(), id=uuid4()))
    await put(folder, MANIFEST_NAME, b"[1, 2]", old)
    with capture_logs() as logs:
        await folder.attempt()
    assert [entry["key"] for entry in logs if entry["event"] == "files_left"] == [MANIFEST]
    folder.check_delivered()


async def test_a_manifest_of_unknown_origin_goes_before_the_first_file(folder: Folder) -> None:
    await put(folder, MANIFEST_NAME, b"{}", {})
    await put(folder, "theirs.bin", b"theirs", {})
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="large.bin")
    assert MANIFEST_NAME not in folder.there()
    assert folder.there()["theirs.bin"] == b"theirs"


async def test_a_manifest_of_another_user_is_met_before_the_first_file(folder: Folder) -> None:
    another = marks_of(replace(await folder.current(), id=uuid4(), user="another@cnes.fr"))
    await put(folder, MANIFEST_NAME, b"{}", another)
    with pytest.raises(ForeignObjectError, match="another user's"):
        await folder.attempt()
    assert folder.there() == {MANIFEST_NAME: b"{}"}
    assert folder.source.gets.total() == 0
    assert folder.shelf.open() == []


async def put(folder: Folder, name: str, content: bytes, marks: Mapping[str, str]) -> None:
    await folder.shelf.put_object(
        TARGET, f"c/{name}", Part.of(content), marks, media_type="", may=at_any_time
    )


async def test_the_old_manifest_goes_before_any_file_is_replaced(folder: Folder) -> None:
    await folder.attempt()
    seen: list[bool] = []

    async def put_object(
        target: MemoryTarget, key: str, body: PartBody, marks: Mapping[str, str], **how: Any
    ) -> str:
        seen.append(bool(folder.there()))
        return await MemoryObjectStore.put_object(folder.shelf, target, key, body, marks, **how)

    again = {"f1.bin": b"another"}
    await folder.plan(again)
    folder.shelf.put_object = put_object  # type: ignore[method-assign]
    await folder.attempt()
    assert seen == [False]
    folder.check_delivered(again)


async def test_what_a_delivery_that_failed_had_begun_to_replace_is_removed(folder: Folder) -> None:
    await folder.attempt()
    await folder.plan({"f1.bin": b"another"})
    folder.shelf.silent = True
    with pytest.raises(DeliveryError):
        await folder.attempt()
    folder.shelf.silent = False
    folder.check_delivered()  # nothing of it was removed yet: it stays
    await folder.end()
    await folder.sweep()
    folder.check_delivered()
    await folder.plan({"f1.bin": b"another", "z.bin": noise(400 * 1024)})
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="z.bin")
    await folder.end()
    await folder.sweep()
    assert folder.there() == {}


async def test_what_a_delivery_that_failed_has_left_goes_before_the_next_one_puts_a_file(
    folder: Folder,
) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    failed = await folder.end()
    await folder.shelf.create_upload(TARGET, "c/large.bin", marks_of(failed), media_type="")
    again = {"f1.bin": b"another", "g.bin": b"new"}
    await folder.plan(again)
    await folder.attempt()
    folder.check_delivered(again)
    assert folder.shelf.open() == []


async def test_the_next_delivery_waits_until_the_one_that_failed_puts_nothing_more(
    folder: Folder,
) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    failed = await folder.end()
    again = {"f1.bin": b"another"}
    await folder.plan(again)
    before = folder.there()
    with pytest.raises(RetryableError, match="has just failed"):
        await folder.attempt(settled=timedelta(minutes=5))
    assert folder.there() == before
    await put(folder, "f1.bin", FILES["f1.bin"], marks_of(failed))  # by its worker
    await folder.deliveries.elapse(timedelta(minutes=6))
    await folder.attempt(settled=timedelta(minutes=5))
    folder.check_delivered(again)
    await folder.deliveries.elapse(LATE)
    await folder.sweep()
    folder.check_delivered(again)


async def test_files_of_a_delivery_that_failed_stay_while_the_next_one_is_under_way(
    folder: Folder,
) -> None:
    with pytest.raises(SourceUnavailableError):
        await folder.attempt(fail="last.bin")
    await folder.end()
    await folder.plan()
    assert await folder.sweep() == 0
    await folder.attempt()
    await folder.sweep()
    folder.check_delivered()
