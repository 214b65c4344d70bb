"""What one worker does to an upload of a folder while another has it, or had it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import StoredPart, Upload
from app.errors import ForeignObjectError, TargetUnavailableError, UploadLostError
from sinks.pipeline.parts import Part
from sinks.stores.file.names import MARKER, beside
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget
from tests.builders import make_delivery
from tests.contract.object_store import ZIP
from tests.unit.test_file_store import left_in, make_settings

KEY = "c/a.zip"
MARKS = marks_of(make_delivery())


class Stuck(System):
    """A worker that stands still in the midst of writing a part."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.there = threading.Event()
        self.goes_on = threading.Event()

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if bytes(data) == self._text:
            self.there.set()
            self.goes_on.wait(30)
        return super().write(fd, data, offset)


@pytest.fixture
def target(tmp_path: Path) -> FileTarget:
    return FileTarget(path=str(tmp_path))


def store_of(target: FileTarget, system: System | None = None) -> FileObjectStore:
    return FileObjectStore(make_settings(Path(target.path)), system=system, lock=0.1)


async def begin(
    store: FileObjectStore, target: FileTarget, *contents: bytes
) -> tuple[Upload, list[StoredPart]]:
    upload = await store.create_upload(target, KEY, MARKS, media_type=ZIP)
    return upload, [
        await store.put_part(target, upload, number, Part.of(content))
        for number, content in enumerate(contents, start=1)
    ]


@pytest.fixture
async def stuck(target: FileTarget) -> tuple[Stuck, asyncio.Task[StoredPart], Upload]:
    """A worker that writes other bytes than those of the first part, and does not get on."""
    system = Stuck(b"late!")
    upload, _ = await begin(store_of(target), target, b"first")
    late = store_of(target, system).put_part(target, upload, 1, Part.of(b"late!"))
    writing = asyncio.create_task(late)
    await asyncio.to_thread(system.there.wait, 30)
    return system, writing, upload


StuckWorker = tuple[Stuck, "asyncio.Task[StoredPart]", Upload]


async def test_no_object_appears_while_a_part_is_being_written(
    target: FileTarget, stuck: StuckWorker
) -> None:
    """It would be written over, once it is there."""
    system, writing, upload = stuck
    store = store_of(target)
    first = StoredPart(etag=Part.of(b"first").md5.hex(), md5=Part.of(b"first").md5)
    with pytest.raises(UploadLostError, match=r"a part is still being written after 0.1 s"):
        await store.complete(target, upload, [first], 5, marks=MARKS)
    with pytest.raises(TargetUnavailableError, match=r"part 1 of c/a.zip .* is just being written"):
        await store.put_part(target, upload, 1, Part.of(b"first"))
    assert await store.find(target, KEY) is None
    system.goes_on.set()
    late = await writing
    # What was named before is not there any more; what is there can be.
    with pytest.raises(UploadLostError, match=r"part 1 .* is not the one that was sent"):
        await store.complete(target, upload, [first], 5, marks=MARKS)
    await store.complete(target, upload, [late], 5, marks=MARKS)
    assert (Path(target.path) / KEY).read_bytes() == b"late!"


async def test_an_abort_waits_for_no_writer_and_what_is_written_late_is_nowhere(
    target: FileTarget, stuck: StuckWorker
) -> None:
    system, writing, upload = stuck
    store = store_of(target)
    await store.abort(target, upload)
    assert left_in(Path(target.path)) == []
    successor, parts = await begin(store, target, b"other")
    await store.complete(target, successor, parts, 5, marks=MARKS)
    system.goes_on.set()
    late = await writing
    with pytest.raises(UploadLostError):
        await store.complete(target, upload, [late], 5, marks=marks_of(make_delivery()))
    assert (Path(target.path) / KEY).read_bytes() == b"other"


async def test_a_writer_that_comes_right_after_a_completion_writes_nothing(
    target: FileTarget,
) -> None:
    """It had found the upload before, and gets its lock when that is over."""
    store = store_of(target)
    upload, parts = await begin(store, target, b"whole")

    class Between(System):
        def lock(self, fd: int, start: int = 0, size: int = 0) -> None:
            asyncio.run(store_of(target).complete(target, upload, parts, 5, marks=MARKS))
            super().lock(fd, start, size)

    with pytest.raises(UploadLostError):
        await store_of(target, Between()).put_part(target, upload, 1, Part.of(b"wrong"))
    assert (Path(target.path) / KEY).read_bytes() == b"whole"


async def test_what_a_worker_left_that_died_between_two_steps_takes_no_part(
    target: FileTarget,
) -> None:
    """The object is there, and the upload has its file, too."""
    store = store_of(target)
    upload, _ = await begin(store, target, b"whole")
    (data,) = Path(target.path).rglob("data")
    (Path(target.path) / KEY).hardlink_to(data)
    for asking in (
        store.put_part(target, upload, 1, Part.of(b"wrong")),
        store.part_etags(target, upload),
    ):
        with pytest.raises(UploadLostError, match="its object is there"):
            await asking
    await store.abort(target, upload)
    assert (Path(target.path) / KEY).read_bytes() == b"whole"


async def test_an_upload_that_holds_what_came_out_of_an_exchange_takes_no_part(
    target: FileTarget,
) -> None:
    store = store_of(target)
    upload, parts = await begin(store, target, b"whole")
    (data,) = Path(target.path).rglob("data")
    other = Path(target.path) / "other"
    other.write_bytes(b"other")
    other.rename(data)
    for asking in (
        store.put_part(target, upload, 1, Part.of(b"wrong")),
        store.part_etags(target, upload),
        store.complete(target, upload, parts, 5, marks=MARKS),
    ):
        with pytest.raises(UploadLostError, match="its data has become another file"):
            await asking
    assert await store.find(target, KEY) is None


@pytest.mark.parametrize("same_user", [True, False])
async def test_of_two_completions_at_once_one_takes_the_place_of_the_other_or_is_refused(
    target: FileTarget, same_user: bool
) -> None:
    stores = store_of(target), store_of(target)
    users = ("u@example.org", "u@example.org" if same_user else "v@example.org")
    all_marks = [marks_of(make_delivery(user=user)) for user in users]
    for _ in range(20):
        uploads = []
        for store, marks, content in zip(stores, all_marks, (b"one", b"two"), strict=True):
            upload = await store.create_upload(target, KEY, marks, media_type=ZIP)
            uploads.append((upload, [await store.put_part(target, upload, 1, Part.of(content))]))
        ended = await asyncio.gather(
            *(
                store.complete(target, upload, parts, 3, marks=marks)
                for store, marks, (upload, parts) in zip(stores, all_marks, uploads, strict=True)
            ),
            return_exceptions=True,
        )
        for store, (upload, _) in zip(stores, uploads, strict=True):
            await store.abort(target, upload)
        failed = [error for error in ended if isinstance(error, BaseException)]
        if same_user:
            assert failed == []
        else:
            (refused,) = failed
            assert isinstance(refused, ForeignObjectError)
        found = await stores[0].find(target, KEY)
        assert found is not None
        content = (Path(target.path) / KEY).read_bytes()
        assert found.marks == all_marks[0 if content == b"one" else 1]
        assert len(list(Path(target.path).rglob("*.json"))) == 1
        assert len(left_in(Path(target.path))) == 4
        await stores[0].delete(target, KEY, etag=found.etag)


async def test_an_upload_that_was_begun_by_another_name_of_the_file_is_not_ones_own(
    target: FileTarget,
) -> None:
    """PostgreSQL is asked by container and key whose it is, and knows it by the other."""
    store = store_of(target)
    theirs = await store.create_upload(target, "in/c/a.zip", {}, media_type=ZIP)
    inner = FileTarget(path=f"{target.path}/in")
    own = await store.create_upload(inner, "c/a.zip", MARKS, media_type=ZIP)
    assert await store.open_uploads(inner, "c/a.zip") == [own]
    assert await store.open_uploads(target, "in/c/a.zip") == [theirs]


async def test_an_upload_whose_worker_died_while_it_began_is_found(target: FileTarget) -> None:
    store = store_of(target)
    upload = await store.create_upload(target, KEY, MARKS, media_type=ZIP)
    (about,) = Path(target.path).rglob("about.json")
    about.unlink()
    assert await store.open_uploads(target, KEY) == [upload]
    await store.abort(target, upload)
    assert [path.name for path in Path(target.path).iterdir()] == [MARKER]


async def test_what_appears_outlives_a_crash_of_the_machine(target: FileTarget) -> None:
    """It is synced before it has its name, and its name before the completion is told."""

    class Recording(System):
        def __init__(self) -> None:
            self.done: list[str] = []

        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            self.done.append(f"write {name_of(fd)}")
            return super().write(fd, data, offset)

        def sync(self, fd: int) -> None:
            self.done.append(f"sync {name_of(fd)}")
            super().sync(fd)

        def link(self, name: str, to: str, *, at: int, to_at: int) -> None:
            self.done.append("link")
            super().link(name, to, at=at, to_at=to_at)

    def name_of(fd: int) -> str:
        """Return what is open: `note` for one, as the name is drawn, `hidden` for their folder."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.name == beside("a.zip"):
            return "hidden"
        return "note" if path.suffix == ".new" else path.name

    system = Recording()
    store = store_of(target, system)
    upload, parts = await begin(store, target, b"first", b"last")
    assert system.done[-4:] == ["write data", "sync data", "write parts", "sync parts"]
    system.done.clear()
    await store.complete(target, upload, parts, 9, marks=MARKS)
    assert system.done == ["sync data", "write note", "sync note", "sync hidden", "link", "sync c"]


async def test_an_object_that_was_copied_with_its_times_is_still_whose_it_was(
    target: FileTarget,
) -> None:
    """As from a backup: its inode is another."""
    store = store_of(target)
    upload, parts = await begin(store, target, b"whole")
    await store.complete(target, upload, parts, 5, marks=MARKS)
    path = Path(target.path) / KEY
    before = await store.find(target, KEY)
    file = path.stat()
    path.unlink()
    path.write_bytes(b"whole")
    assert (found := await store.find(target, KEY)) is not None
    assert found.marks == {}

    os.utime(path, ns=(file.st_atime_ns, file.st_mtime_ns))
    assert await store.find(target, KEY) == before


async def test_an_upload_is_listed_by_the_names_that_it_was_opened_by_alone(
    target: FileTarget,
) -> None:
    """Another tenant's folder may be one in this one's: it may be in use there."""
    inner = FileTarget(path=f"{target.path}/c")
    Path(inner.path).mkdir()
    store = store_of(target)
    upload, _ = await begin(store, target, b"whole")
    theirs = await store.create_upload(inner, "a.zip", MARKS, media_type=ZIP)
    assert await store.open_uploads(target, KEY) == [upload]
    assert await store.open_uploads(inner, "a.zip") == [theirs]
    for about in Path(target.path).rglob("about.json"):
        about.unlink()
    ids = {one.upload_id for one in await store.open_uploads(target, KEY)}
    assert ids == {upload.upload_id, theirs.upload_id}


async def test_the_lock_of_a_part_is_on_the_file_that_is_written(target: FileTarget) -> None:
    """A worker that has lost its lock can't write by what it has open then."""
    seen: list[str] = []

    class Seen(System):
        def lock(self, fd: int, start: int = 0, size: int = 0) -> None:
            super().lock(fd, start, size)
            seen.append(f"lock {Path(f'/proc/self/fd/{fd}').readlink().name}")

        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            seen.append(f"write {Path(f'/proc/self/fd/{fd}').readlink().name}")
            return super().write(fd, data, offset)

        def describe_open(self, fd: int) -> os.stat_result:
            seen.append(f"look {Path(f'/proc/self/fd/{fd}').readlink().name}")
            return super().describe_open(fd)

    upload, _ = await begin(store_of(target), target, b"whole")
    await store_of(target, Seen()).put_part(target, upload, 1, Part.of(b"again"))
    of_data = [each for each in seen if each.endswith(" data")]
    assert of_data[:3] == ["lock data", "look data", "write data"]
