"""Whatever call to the file system fails, or is the last of a worker: no half of anything."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import Upload
from app.errors import (
    DeliveryError,
    ForeignObjectError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.settings import Settings
from sinks.pipeline.parts import Part
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget
from tests.builders import make_delivery
from tests.contract.object_store import ZIP
from tests.unit.test_file_store import make_settings

KEY = "in/c/a.zip"
OLD, NEW = b"old", b"first," + b"second" + b"end"
FIRST, SECOND, END = b"first,", b"second", b"end"


class KilledError(BaseException):
    """The worker is no more."""


class Quick(System):
    """Trusts this machine not to crash."""

    def sync(self, fd: int) -> None:
        """Do nothing."""


class Faulty(Quick):
    """Fails at one call: before it is made, or after; or is killed there, and does nothing more."""

    def __init__(self, at: int, how: str, number: int = errno.EIO) -> None:
        self.at = at
        self.how = how
        self.number = number
        self.calls: list[str] = []
        self.dead = False

    def __getattribute__(self, name: str) -> Any:
        real = super().__getattribute__(name)
        if name.startswith("_") or name == "close" or not hasattr(System, name):
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            if self.dead:
                raise KilledError
            self.calls.append(name)
            now = len(self.calls) == self.at
            if now and self.how != "after":
                self._fail()
            done = real(*arguments, **named)
            if now:
                if isinstance(done, int) and name.startswith(("open", "make_file")):
                    os.close(done)
                self._fail()
            return done

        return call

    def _fail(self) -> None:
        if self.how == "killed":
            self.dead = True
            raise KilledError
        raise OSError(self.number, os.strerror(self.number))


def store_of(root: Path, system: System | None = None) -> FileObjectStore:
    return FileObjectStore(settings_of(root.parent), system=system or Quick())


@functools.cache
def settings_of(root: Path) -> Settings:
    return make_settings(root)


def target_of(root: Path) -> FileTarget:
    return FileTarget(path=str(root), prefix="in/")


def hidden_in(root: Path) -> list[str]:
    """Return all of the service's own names, but for the folder that they are in."""
    return [path.name for path in root.rglob(".rs-delivery-*/*")]


class Life:
    """An archive on its way, in the place of another one."""

    def __init__(self, root: Path, *, replaces: bool) -> None:
        self.root = root
        self.target = target_of(root)
        self.replaces = replaces
        self.old_marks = marks_of(make_delivery())
        self.marks = marks_of(make_delivery())
        self.upload: Upload | None = None

    async def prepare(self) -> None:
        if self.replaces:
            await self.deliver(store_of(self.root), self.old_marks, OLD)
        self.upload = None

    async def deliver(
        self, store: FileObjectStore, marks: dict[str, str], *contents: bytes, again: bool = False
    ) -> None:
        upload = await store.create_upload(self.target, KEY, marks, media_type=ZIP)
        self.upload = upload
        parts: dict[int, Any] = {}
        for number in sorted(range(1, len(contents) + 1), key=lambda number: number == 1):
            parts[number] = await store.put_part(
                self.target, upload, number, Part.of(contents[number - 1])
            )
        await store.complete(
            self.target,
            upload,
            [parts[number] for number in sorted(parts)],
            sum(map(len, contents)),
            marks=marks,
            again=again,
        )

    async def run(self, system: Faulty) -> None:
        await self.deliver(store_of(self.root, system), self.marks, FIRST, SECOND, END)

    def content(self) -> bytes | None:
        path = self.root / KEY
        return path.read_bytes() if path.exists() else None

    async def check(self) -> None:
        """Look what came of it, as another worker that goes on."""
        store = store_of(self.root)
        content = self.content()
        assert content in (NEW, OLD if self.replaces else None)
        found = await store.find(self.target, KEY)
        if content is None:
            assert found is None
        else:
            assert found is not None
            assert found.size == len(content)
            assert found.marks == (self.marks if content == NEW else self.old_marks)
        for upload in await store.open_uploads(self.target, KEY):
            with contextlib.suppress(UploadLostError):
                etags = await store.part_etags(self.target, upload)
                assert len(etags) <= 3
            await store.abort(self.target, upload)
        if self.upload is not None:
            await store.abort(self.target, self.upload)
        assert await store.open_uploads(self.target, KEY) == []
        assert self.content() == content
        assert len(hidden_in(self.root)) == (0 if content is None else 1)
        assert content is not None or list((self.root / "in").glob("*/*")) == []
        # And the next one ends well.
        await self.deliver(store, self.marks, FIRST, SECOND, END)
        assert self.content() == NEW
        assert len(hidden_in(self.root)) == 1


def roots(tmp_path: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        root = tmp_path / str(number)
        root.mkdir()
        yield root


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
@pytest.mark.parametrize("how", ["before", "after", "killed", "stale"])
async def test_no_failure_leaves_half_of_an_archive_or_anything_that_an_abort_does_not_end(
    tmp_path: Path, how: str, replaces: bool
) -> None:
    failed = set()
    for at, root in enumerate(roots(tmp_path), start=1):
        life = Life(root, replaces=replaces)
        await life.prepare()
        stale = how == "stale"  # as NFS says of what it has forgotten, or what was removed
        system = Faulty(at, "before", errno.ESTALE) if stale else Faulty(at, how)
        try:
            await life.run(system)
        except (DeliveryError, KilledError) as error:
            assert (how == "killed") == isinstance(error, KilledError)  # noqa: PT017 - some calls don't matter
            failed.add(system.calls[at - 1])
        await life.check()
        if len(system.calls) < at:
            break
    # An upload that begins in a folder that was removed makes it again.
    not_failed = {"link"} if replaces else set()
    not_failed |= {"make_folder"} if how == "stale" else set()
    calls = {"make_folder", "write", "sync", "link", "unlink", "lock"}
    assert calls - failed == not_failed


@pytest.mark.parametrize("how", ["before", "after", "killed"])
async def test_what_was_in_doubt_is_completed_when_it_is_asked_for_again(
    tmp_path: Path, how: str
) -> None:
    for at, root in enumerate(roots(tmp_path), start=1):
        life = Life(root, replaces=False)
        store = store_of(root)
        upload = await store.create_upload(life.target, KEY, life.marks, media_type=ZIP)
        parts = [await store.put_part(life.target, upload, 1, Part.of(NEW))]

        async def complete(
            store: FileObjectStore,
            *,
            again: bool,
            life: Life = life,
            upload: Upload = upload,
            parts: list[Any] = parts,
        ) -> str:
            return await store.complete(
                life.target, upload, parts, len(NEW), marks=life.marks, again=again
            )

        system = Faulty(at, how)
        with contextlib.suppress(DeliveryError, KilledError):
            await complete(store_of(root, system), again=False)
        if len(system.calls) < at:
            break
        # Where the step before the last has failed, the object may be there.
        try:
            etag = await complete(store, again=True)
        except UploadLostError:
            assert how != "before" or life.content() is None
            assert life.content() is None
        else:
            assert etag == store.etag_of(life.target, parts)
            assert life.content() == NEW
            assert len(hidden_in(root)) == 1
            assert await store.open_uploads(life.target, KEY) == []


@pytest.mark.parametrize("how", ["before", "after", "killed"])
async def test_what_is_put_aside_is_whole_or_not_there(tmp_path: Path, how: str) -> None:
    for at, root in enumerate(roots(tmp_path), start=1):
        target, store = target_of(root), store_of(root)
        marks = marks_of(make_delivery())
        await store.put_aside(target, KEY, Part.of(OLD), {})
        system = Faulty(at, how)
        with contextlib.suppress(DeliveryError, KilledError):
            await store_of(root, system).put_aside(target, KEY, Part.of(NEW), marks)
        content = b"".join(await store.read_aside(target, KEY, size=100))
        assert content in (OLD, NEW)
        found = await store.find(target, KEY)
        assert found is not None
        assert found.marks == (marks if content == NEW else {})
        await store.drop_aside(target, KEY)
        assert await store.read_aside(target, KEY, size=100) == []
        left = hidden_in(root)
        assert all(name.endswith(".whole") for name in left)
        assert how == "killed" or left == []
        if len(system.calls) < at:
            break


Act = Callable[[FileObjectStore, FileTarget], Awaitable[object]]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, TargetUnavailableError, "ENOSPC.*there is no space left: free some"),
        (errno.EDQUOT, TargetUnavailableError, "EDQUOT.*quota"),
        (errno.EROFS, TargetUnavailableError, "EROFS.*read-only"),
        (errno.ESTALE, TargetUnavailableError, "ESTALE.*opened again"),
        (errno.EIO, TargetUnavailableError, "EIO.*kernel's log"),
        (errno.ETIMEDOUT, TargetUnavailableError, "ETIMEDOUT.*tried again"),
        (errno.EACCES, TargetRefusedError, "EACCES.*right to read and write"),
        (errno.ENAMETOOLONG, TargetRefusedError, "ENAMETOOLONG.*shorter"),
        (errno.ENOSYS, TargetRefusedError, "ENOSYS.*locks"),
    ],
)
async def test_an_error_of_the_file_system_is_told_in_words(
    tmp_path: Path, number: int, kind: type[DeliveryError], words: str
) -> None:
    target = target_of(tmp_path)
    store = store_of(tmp_path)
    upload = await store.create_upload(target, KEY, {}, media_type=ZIP)
    await store.put_part(target, upload, 1, Part.of(b"old"))
    counting = Faulty(0, "before")
    await store_of(tmp_path, counting).put_part(target, upload, 1, Part.of(b"old"))
    at = counting.calls.index("write", counting.calls.index("write") + 1) + 1
    system = Faulty(at, "before", number)
    with pytest.raises(kind, match=f"could not write a part in folder {tmp_path} .*{words}"):
        await store_of(tmp_path, system).put_part(target, upload, 1, Part.of(b"another"))
    # What was there has been taken back before it was written over.
    assert await store.part_etags(target, upload) == {}


async def test_bytes_that_are_not_read_as_they_were_written_are_no_part(tmp_path: Path) -> None:
    class Spoiling(System):
        def read_into(self, fd: int, buffer: bytearray, offset: int) -> int:
            size = super().read_into(fd, buffer, offset)
            buffer[:] = buffer.replace(b"x", b"y")
            return size

    target, store = target_of(tmp_path), store_of(tmp_path, Spoiling())
    upload = await store.create_upload(target, KEY, {}, media_type=ZIP)
    with pytest.raises(WrongObjectError, match="gave other bytes back than were written"):
        await store.put_part(target, upload, 1, Part.of(b"axa"))
    assert await store.part_etags(target, upload) == {}
    believing = FileObjectStore(make_settings(tmp_path, file_read_back=False), system=Spoiling())
    await believing.put_part(target, upload, 1, Part.of(b"axa"))


@pytest.mark.parametrize("wrong", [0, 99_999, 100_000, 362_143, 362_144, 700_000, 700_003])
async def test_one_byte_that_is_not_read_as_it_was_written_is_found_wherever_it_lies(
    tmp_path: Path, wrong: int
) -> None:
    class Turning(System):
        def read_into(self, fd: int, buffer: bytearray, offset: int) -> int:
            size = super().read_into(fd, buffer, offset)
            if offset <= wrong < offset + size:
                buffer[wrong - offset] ^= 1
            return size

    target, store = target_of(tmp_path), store_of(tmp_path, Turning())
    upload = await store.create_upload(target, KEY, {}, media_type=ZIP)
    pieces: list[bytes | memoryview] = [bytes(100_000), memoryview(bytes(600_000)), b"end", b"."]
    whole = b"".join(pieces)
    part = Part(pieces, len(whole), hashlib.md5(whole, usedforsecurity=False).digest())
    with pytest.raises(WrongObjectError, match="gave other bytes back than were written"):
        await store.put_part(target, upload, 1, part)
    calm = store_of(tmp_path)
    assert await calm.part_etags(target, upload) == {}
    stored = await calm.put_part(target, upload, 1, part)
    assert await calm.part_etags(target, upload) == {1: stored.etag}


async def test_a_write_that_does_less_than_it_was_asked_for_goes_on(tmp_path: Path) -> None:
    class Short(System):
        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            return super().write(fd, data if len(data) == 36 else data[:2], offset)

    life = Life(tmp_path, replaces=False)
    await life.deliver(store_of(tmp_path, Short()), life.marks, FIRST, SECOND, END)
    assert life.content() == NEW


class Without(System):
    """A file system that can't do some of it."""

    def __init__(self, *names: str) -> None:
        self._lacks = names

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._lacks:

            def lacking(*_: object, **__: object) -> None:
                raise OSError(errno.EINVAL, "Invalid argument")

            return lacking
        return super().__getattribute__(name)


class Nfs(Quick):
    """Keeps what is open under a name of its own, as a client of NFS does; exchanges nothing."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, int]] = {}  # inodes, by what is open
        self._kept: dict[tuple[int, int], Path] = {}

    def open_file(self, name: str, *, at: int, write: bool = False) -> int:
        return self._opened(super().open_file(name, at=at, write=write))

    def make_file(self, name: str, *, at: int) -> int:
        return self._opened(super().make_file(name, at=at))

    def _opened(self, fd: int) -> int:
        file = os.fstat(fd)
        self._open[fd] = file.st_dev, file.st_ino
        return fd

    def close(self, fd: int) -> None:
        inode = self._open.pop(fd, None)
        super().close(fd)
        if inode in self._kept and inode not in self._open.values():
            self._kept.pop(inode).unlink()

    def unlink(self, name: str, *, at: int) -> None:
        if name.startswith(".nfs"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        file = os.stat(name, dir_fd=at, follow_symlinks=False)
        inode = file.st_dev, file.st_ino
        if inode not in self._open.values():
            super().unlink(name, at=at)
            return
        kept = Path(f"/proc/self/fd/{at}").readlink() / f".nfs{file.st_ino}"
        os.rename(name, kept, src_dir_fd=at)
        self._kept[inode] = kept

    def exchange(self, name: str, to: str, *, at: int, to_at: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("replaces", [False, True])
async def test_what_nfs_keeps_of_open_files_is_gone_when_they_are_closed(
    tmp_path: Path, replaces: bool
) -> None:
    life = Life(tmp_path, replaces=replaces)
    await life.prepare()
    await life.deliver(store_of(tmp_path, Nfs()), life.marks, FIRST, SECOND, END)
    assert life.content() == NEW
    assert len(hidden_in(tmp_path)) == 1
    await life.check()


async def test_an_abort_ends_an_upload_at_once_and_is_over_when_nfs_keeps_nothing_of_it(
    tmp_path: Path,
) -> None:
    system, target = Nfs(), target_of(tmp_path)
    store = store_of(tmp_path, system)
    upload = await store.create_upload(target, KEY, {}, media_type=ZIP)
    part = await store.put_part(target, upload, 1, Part.of(NEW))
    (folder,) = tmp_path.rglob("*.upload")
    at = os.open(folder, os.O_RDONLY)
    held = system.open_file("data", at=at)
    with pytest.raises(TargetUnavailableError, match="this machine still has files of it open"):
        await store.abort(target, upload)
    with pytest.raises(UploadLostError):
        await store.complete(target, upload, [part], len(NEW), marks={})
    assert await store.find(target, KEY) is None
    assert await store.open_uploads(target, KEY) == [upload]
    system.close(held)
    os.close(at)
    await store.abort(target, upload)
    assert hidden_in(tmp_path) == []


@pytest.mark.parametrize("lacks", [("link",), ("exchange",), ("move", "exchange")])
@pytest.mark.parametrize("replaces", [False, True])
async def test_an_archive_appears_where_the_file_system_has_links_or_renames(
    tmp_path: Path, lacks: tuple[str, ...], replaces: bool
) -> None:
    life = Life(tmp_path, replaces=replaces)
    await life.prepare()
    await life.run(cast("Faulty", Without(*lacks)))
    assert life.content() == NEW
    await life.check()


@pytest.mark.parametrize("lacks", [(), ("exchange",)])
@pytest.mark.parametrize("replaces", [False, True])
async def test_another_users_archive_that_comes_after_the_look_is_not_replaced(
    tmp_path: Path, lacks: tuple[str, ...], replaces: bool
) -> None:
    theirs = marks_of(make_delivery(user="x@example.org"))
    life = Life(tmp_path, replaces=replaces)
    await life.prepare()
    came = asyncio.Event()
    before = Path(tmp_path, KEY).stat().st_ino if replaces else 0

    class Late(Without):
        def describe(self, name: str, *, at: int) -> os.stat_result:
            """Give theirs the number of the file that is gone, as file systems may."""
            found = super().describe(name, at=at)
            if not came.is_set() or not before:
                return found
            return os.stat_result(
                (found[0], before, *found[2:10]), {"st_mtime_ns": found.st_mtime_ns}
            )

        def truncate(self, fd: int, size: int) -> None:
            """Let theirs come in between: looked at was what was there before."""
            super().truncate(fd, size)
            if not came.is_set():
                came.set()
                (tmp_path / KEY).unlink(missing_ok=True)
                asyncio.run(Life(tmp_path, replaces=False).deliver(other, theirs, b"theirs"))

    other = store_of(tmp_path)
    with pytest.raises(ForeignObjectError, match="another user's delivery"):
        await life.run(cast("Faulty", Late(*lacks)))
    assert life.content() == b"theirs"
    found = await store_of(tmp_path).find(life.target, KEY)
    assert found is not None
    assert found.marks == theirs
    for upload in await store_of(tmp_path).open_uploads(life.target, KEY):
        await store_of(tmp_path).abort(life.target, upload)
    assert len(hidden_in(tmp_path)) == 1


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
async def test_an_upload_that_is_ended_while_it_begins_is_begun_under_another_id(
    tmp_path: Path, number: int
) -> None:
    """Who ended it has no reason to look for it again."""

    class Removed(Quick):
        ended: tuple[Upload, ...] = ()

        def make_file(self, name: str, *, at: int) -> int:
            if not self.ended:
                self.ended = tuple(asyncio.run(other.open_uploads(target, KEY)))
                asyncio.run(other.abort(target, self.ended[0]))
                raise OSError(number, os.strerror(number))
            return super().make_file(name, at=at)

    target, other, system = target_of(tmp_path), store_of(tmp_path), Removed()
    upload = await store_of(tmp_path, system).create_upload(target, KEY, {}, media_type=ZIP)
    assert await other.open_uploads(target, KEY) == [upload]
    assert upload not in system.ended


async def test_what_is_put_aside_is_put_into_its_folder_again_where_nfs_calls_that_stale(
    tmp_path: Path,
) -> None:
    class Stale(Quick):
        failed = False

        def make_file(self, name: str, *, at: int) -> int:
            if not self.failed:
                self.failed = True
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return super().make_file(name, at=at)

    target = target_of(tmp_path)
    await store_of(tmp_path, Stale()).put_aside(target, KEY, Part.of(NEW), {})
    assert await store_of(tmp_path).read_aside(target, KEY, size=100) == [NEW]


@pytest.mark.parametrize("replaces", [False, True])
async def test_an_archive_is_there_although_the_answer_to_its_rename_was_lost(
    tmp_path: Path, replaces: bool
) -> None:
    """NFS asks again by itself, and is told that there is no file any more."""

    class Resent(Without):
        def move(self, name: str, to: str, *, at: int, to_at: int) -> None:
            super().move(name, to, at=at, to_at=to_at)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

        def rename(self, name: str, to: str, *, at: int, to_at: int) -> None:
            super().rename(name, to, at=at, to_at=to_at)
            if name == "data":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    life = Life(tmp_path, replaces=replaces)
    await life.prepare()
    await life.run(cast("Faulty", Resent("link", "exchange")))
    assert life.content() == NEW
    await life.check()


@pytest.mark.parametrize("flaw", [b"END", b"en"])
async def test_a_part_that_lay_apart_is_no_part_when_it_is_read_otherwise(
    tmp_path: Path, flaw: bytes
) -> None:
    target, store = target_of(tmp_path), store_of(tmp_path)
    upload = await store.create_upload(target, KEY, {}, media_type=ZIP)
    end = await store.put_part(target, upload, 2, Part.of(END))
    parts = [await store.put_part(target, upload, 1, Part.of(FIRST)), end]
    (apart,) = tmp_path.rglob("2.aside")
    apart.write_bytes(flaw)
    with pytest.raises(UploadLostError, match="part 2 is not read as it was written"):
        await store.complete(target, upload, parts, len(FIRST + END), marks={})
    assert await store.find(target, KEY) is None
