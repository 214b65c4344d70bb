"""No way leads out of the folders that an operator allows, and none that hangs holds up others."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.delivery.marks import marks_of
from app.delivery.targets import TargetKinds
from app.errors import (
    ConfigurationError,
    DeliveryError,
    InvalidSettingError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.run.wiring.kinds import KINDS
from app.run.wiring.targets import check_stores, open_targets
from app.settings import Settings, load_settings
from app.tenants.definitions import Definitions
from app.waiting.backoff import Backoff
from sinks.pipeline.parts import Part
from sinks.stores.file.faults import PlaceBusyError
from sinks.stores.file.managed import FileStore
from sinks.stores.file.names import MARKER
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget
from sinks.stores.file.threads import Call, Threads
from sinks.stores.s3.target import S3Target
from tests.builders import make_delivery
from tests.contract.object_store import ZIP
from tests.unit.test_file_store import content_of, left_in, make_settings, mark


class DyingError(BaseException):
    """A worker is no more."""


Act = Callable[[FileObjectStore, FileTarget, str], Awaitable[object]]

ACTS: list[Act] = [
    lambda store, target, key: store.create_upload(target, key, {}, media_type=ZIP),
    lambda store, target, key: store.open_uploads(target, key),
    lambda store, target, key: store.find(target, key),
    lambda store, target, key: store.put_aside(target, key, Part.of(b"x"), {}),
    lambda store, target, key: store.read_aside(target, key, size=9),
    lambda store, target, key: store.drop_aside(target, key),
    lambda store, target, key: store.delete(target, key, etag="e"),
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is not allowed, with a file that must stay as it is."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a.zip").write_bytes(b"theirs")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that is allowed."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def untouched(outside: Path) -> bool:
    return {path.name: path.read_bytes() for path in outside.iterdir()} == {"a.zip": b"theirs"}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "key",
    [
        *("../outside/a.zip", "c/../../outside/a.zip", "/etc/a.zip", "c//a.zip", "c/./a.zip"),
        *("c/", "..", "c/a\0.zip", ".rs-delivery-x/a.zip", "c/.rs-delivery-x", ""),
    ],
)
async def test_no_key_leads_out_of_its_folder_or_to_the_services_own_names(
    root: Path, outside: Path, act: Act, key: str
) -> None:
    with pytest.raises(TargetRefusedError, match="is no name of a file"):
        await act(FileObjectStore(make_settings(root)), FileTarget(path=str(root)), key)
    assert untouched(outside)
    assert left_in(root) == []


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("where", ["path", "folder", "file"])
async def test_no_link_is_followed(root: Path, outside: Path, act: Act, where: str) -> None:
    target = FileTarget(path=f"{root}/archives")
    if where == "path":
        (root / "archives").symlink_to(outside)
    else:
        (root / "archives").mkdir()
    if where == "folder":
        (root / "archives" / "c").symlink_to(outside)
    elif where == "file":
        (root / "archives" / "c").mkdir()
        (root / "archives" / "c" / "a.zip").symlink_to(outside / "a.zip")
    store = FileObjectStore(make_settings(root))
    key = "a.zip" if where == "path" else "c/a.zip"
    if where != "file":
        with pytest.raises(TargetRefusedError, match="is a link or no folder"):
            await act(store, target, key)
    else:  # what takes its place, or it away, takes the link
        try:
            await act(store, target, key)
        except TargetRefusedError as error:
            assert "link" in str(error)  # noqa: PT017 - not each of them looks at it
    assert untouched(outside)


async def test_no_archive_takes_the_place_of_a_link(root: Path, outside: Path) -> None:
    store, target = FileObjectStore(make_settings(root)), FileTarget(path=str(root))
    upload = await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    part = await store.put_part(target, upload, 1, Part.of(b"mine"))
    (root / "c" / "a.zip").symlink_to(outside / "a.zip")
    with pytest.raises(TargetRefusedError, match="is a link or a folder"):
        await store.complete(target, upload, [part], 4, marks={})
    assert untouched(outside)


@pytest.mark.parametrize("what", ["upload", "data", "parts", "about.json"])
async def test_a_link_in_an_upload_is_not_followed(root: Path, outside: Path, what: str) -> None:
    store, target = FileObjectStore(make_settings(root)), FileTarget(path=str(root))
    upload = await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    part = await store.put_part(target, upload, 1, Part.of(b"mine"))
    (folder,) = root.rglob("*.upload")
    moved = folder if what == "upload" else folder / what
    moved.rename(outside.parent / "moved")
    moved.symlink_to(outside if what == "upload" else outside / "a.zip")
    if what != "about.json":
        with pytest.raises(TargetRefusedError, match="link"):
            await store.put_part(target, upload, 1, Part.of(b"again"))
    with pytest.raises(TargetRefusedError, match="link"):
        await store.complete(target, upload, [part], 4, marks={})
    assert untouched(outside)


async def test_a_link_that_comes_in_between_leads_nowhere(root: Path, outside: Path) -> None:
    """What is opened is looked up in what was opened before."""

    class Swapping(System):
        def open_folder(self, name: str, *, at: int) -> int:
            opened = super().open_folder(name, at=at)
            if name == "c":
                (root / "c").rename(root / "before")
                (root / "c").symlink_to(outside)
            return opened

    (root / "c").mkdir()
    store = FileObjectStore(make_settings(root), system=Swapping())
    await store.put_aside(FileTarget(path=str(root)), "c/a.zip", Part.of(b"mine"), {})
    assert untouched(outside)
    assert (root / "before" / "a.zip").read_bytes() == b"mine"


# Which folders are allowed.


@pytest.mark.parametrize("act", ACTS)
async def test_nothing_is_touched_outside_of_what_is_allowed(
    root: Path, outside: Path, act: Act
) -> None:
    beside = root.with_name("root-2")
    beside.mkdir()
    for path in (outside, beside, root.parent):
        with pytest.raises(TargetForbiddenError, match="DELIVERY_FILE_ROOTS"):
            await act(FileObjectStore(make_settings(root)), FileTarget(path=str(path)), "a.zip")
    assert untouched(outside)


def parse(settings: Settings, **entry: Any) -> Any:
    value = {"far": {"type": "file"} | entry}
    return Definitions(TargetKinds(S3Target, FileTarget)).parse(
        "delivery_targets", value, current={}, settings=settings
    )["far"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"path": "/mnt/b"}, ".path: is in none of the folders that are allowed: choose a folder"),
        ({"path": "/mnt"}, ".path: is in none of the folders"),
        ({"path": "/mnt/ab"}, ".path: is in none of the folders"),
        ({"path": "mnt/a"}, ".path: must be an absolute path"),
        ({"path": "/mnt/a/../b"}, ".path: must be an absolute path, with no empty part, . or .."),
        ({"path": "/"}, ".path: must be an absolute path"),
        ({"path": "/mnt/a", "mode": "0999"}, ".mode: "),
        ({"path": "/mnt/a", "mode": "0040"}, ".mode: "),
        ({"path": "/mnt/a", "group": "a b"}, ".group: "),
        ({"path": "/mnt/a", "prefix": "../b"}, ".prefix: must have no empty part"),
        ({}, ".path: Field required"),
    ],
)
def test_a_folder_that_can_not_be_is_refused_when_it_is_set(
    entry: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidSettingError) as raised:
        parse(Settings(file_roots=("/mnt/a",)), **entry)
    (said,) = raised.value.reasons
    assert said.startswith(f"delivery_targets.far{reason}")


def test_without_an_allowed_folder_the_type_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="operator has set no DELIVERY_FILE_ROOTS"):
        parse(Settings(), path="/mnt/a")


def test_an_entry_means_a_folder_with_mode_and_group() -> None:
    settings = Settings(file_roots=("/mnt/a",))
    entry = parse(settings, path="/mnt/a/x/", prefix="/in/", mode="0644", group="users")
    assert KINDS.configured(entry) == FileTarget(
        path="/mnt/a/x", prefix="in/", mode=0o644, group="users"
    )
    assert KINDS.configured(parse(settings, path="/mnt/a")) == FileTarget(path="/mnt/a")


def test_a_url_names_one_file() -> None:
    target = FileTarget(path="/mnt/a b")
    assert target.url_of("c/50%.zip") == "file:///mnt/a%20b/c/50%25.zip"
    assert target.url_of("c/") == "file:///mnt/a%20b/c/"


def test_each_tenant_may_have_folders_of_its_own() -> None:
    settings = Settings(tenants=("one", "other"), file_roots=("/mnt/{tenant}", "/mnt/all"))
    assert settings.of_tenant("one").file_roots == ("/mnt/one", "/mnt/all")
    assert parse(settings.of_tenant("one"), path="/mnt/one/x")
    assert parse(settings.of_tenant("other"), path="/mnt/all")
    with pytest.raises(InvalidSettingError, match="is in none of the folders"):
        parse(settings.of_tenant("other"), path="/mnt/one/x")


async def test_another_tenants_folder_is_refused_when_it_is_used_too(tmp_path: Path) -> None:
    """It may have been set before the operator had a folder for each."""
    (tmp_path / "sentinel").mkdir()
    mark(tmp_path / "sentinel")
    settings = make_settings(tmp_path / "{tenant}", tenants=("sentinel", "swot"))
    store, target = FileObjectStore(settings), FileTarget(path=f"{tmp_path}/sentinel")
    theirs, own = (marks_of(make_delivery(tenant=name)) for name in ("swot", "sentinel"))
    with pytest.raises(TargetForbiddenError, match="folders of tenant swot that are allowed"):
        await store.create_upload(target, "c/a.zip", theirs, media_type=ZIP)
    with pytest.raises(TargetForbiddenError):
        await store.put_aside(target, "c/a.zip", Part.of(b"x"), theirs)
    await store.create_upload(target, "c/a.zip", own, media_type=ZIP)


def test_a_tenant_whose_name_leads_out_of_its_folder_is_found_before_a_start() -> None:
    for name, why in (("..", "must be an absolute path"), ("a/b", "whose name has a /")):
        settings = Settings(tenants=(name,), file_roots=("/mnt/{tenant}",))
        ((kind, (finding,)),) = check_stores(settings).items()
        assert (kind, finding.advice) == ("file", "correct DELIVERY_FILE_ROOTS")
        assert why in finding.message


async def test_nothing_starts_with_that_either() -> None:
    settings = Settings(tenants=("..",), file_roots=("/mnt/{tenant}",))
    with pytest.raises(ConfigurationError, match="DELIVERY_FILE_ROOTS"):
        async with open_targets(settings, in_use=list):
            raise AssertionError


def test_a_root_that_is_no_folder_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_FILE_ROOTS", "/mnt/a,b")
    with pytest.raises(ConfigurationError, match="DELIVERY_FILE_ROOTS: must be an absolute path"):
        load_settings()


# What is there.


async def test_what_is_not_mounted_is_waited_for(root: Path) -> None:
    """Written to the folder below, archives would be where none looks for them."""
    store, target = FileObjectStore(make_settings(root)), FileTarget(path=str(root))
    upload = await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    part = await store.put_part(target, upload, 1, Part.of(b"mine"))
    mounted = root.rename(root.with_name("mounted"))
    root.mkdir()
    for asking in (
        store.create_upload(target, "c/b.zip", {}, media_type=ZIP),
        store.put_part(target, upload, 1, Part.of(b"mine")),
        store.find(target, "c/a.zip"),
        store.abort(target, upload),  # another worker that sees it could complete it after that
    ):
        with pytest.raises(
            TargetUnavailableError, match=rf"{root}, .* make it once: `touch '{root}/{MARKER}'`"
        ):
            await asking
    assert left_in(root) == []
    root.rmdir()
    mounted.rename(root)
    await store.complete(target, upload, [part], 4, marks={})
    gone = FileObjectStore(make_settings(root / "gone"))
    with pytest.raises(TargetUnavailableError, match="is not there: mount it"):
        await gone.find(FileTarget(path=f"{root}/gone/x"), "k")


async def test_a_mount_below_an_allowed_folder_is_none_that_its_mark_vouches_for(
    root: Path,
) -> None:
    class Mounted(System):
        def describe_open(self, fd: int) -> os.stat_result:
            found = super().describe_open(fd)
            if Path(f"/proc/self/fd/{fd}").readlink() != root / "far":
                return found
            return os.stat_result([*found[:2], found.st_dev + 1, *found[3:10]])

    (root / "far").mkdir()
    store = FileObjectStore(make_settings(root), system=Mounted())
    with pytest.raises(TargetRefusedError, match=f"another file system than {root}: .*_ROOTS"):
        await store.find(FileTarget(path=f"{root}/far"), "c/a.zip")


async def test_a_part_that_has_no_room_is_not_begun(tmp_path: Path) -> None:
    class Full(System):
        left = 150

        def free(self, fd: int) -> int:
            return self.left

    system = Full()
    store = FileObjectStore(make_settings(tmp_path, file_min_free=100), system=system)
    target = FileTarget(path=str(tmp_path))
    upload = await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    await store.put_part(target, upload, 1, Part.of(b"x" * 50))
    with pytest.raises(
        TargetUnavailableError, match=r"has 150 bytes free, of which 100 stay free .* 51 are to be"
    ):
        await store.put_part(target, upload, 2, Part.of(b"x" * 51))
    system.left = 99
    with pytest.raises(TargetUnavailableError, match="free some"):
        await store.create_upload(target, "c/b.zip", {}, media_type=ZIP)
    assert len(await store.open_uploads(target, "c/b.zip")) == 0


@pytest.mark.parametrize(("mode", "folder"), [(0o640, 0o750), (0o664, 0o775), (0o600, 0o700)])
async def test_archives_and_folders_get_mode_and_group(
    tmp_path: Path, mode: int, folder: int
) -> None:
    tmp_path.chmod(0o2755)  # its group is inherited
    group = os.getgid()
    target = FileTarget(path=str(tmp_path), prefix="in/", mode=mode, group=str(group))
    store = FileObjectStore(make_settings(tmp_path))
    before = os.umask(0o077)
    try:
        upload = await store.create_upload(target, "in/c/a.zip", {}, media_type=ZIP)
        assert [path.stat().st_mode & 0o077 for path in tmp_path.rglob("*.upload")] == [0]
        part = await store.put_part(target, upload, 1, Part.of(b"x"))
        await store.complete(target, upload, [part], 1, marks={})
    finally:
        os.umask(before)
    made = tmp_path / "in" / "c" / "a.zip"
    (note,) = made.parent.glob(".rs-delivery-*/*")
    assert [path.stat().st_mode & 0o7777 for path in (made, note)] == [mode] * 2
    folders = (note.parent, made.parent, made.parent.parent)
    assert [path.stat().st_mode & 0o7777 for path in folders] == [0o2000 | folder] * 3
    assert made.stat().st_gid == group


async def test_a_folder_whose_maker_died_is_opened_to_its_readers(tmp_path: Path) -> None:
    class Killed(System):
        def set_mode(self, fd: int, mode: int) -> None:
            raise DyingError

        def remove_folder(self, name: str, *, at: int) -> None:
            raise DyingError

    target = FileTarget(path=str(tmp_path), mode=0o644)
    dying = FileObjectStore(make_settings(tmp_path), system=Killed())
    with pytest.raises(DyingError):
        await dying.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    store = FileObjectStore(make_settings(tmp_path))
    await store.find(target, "c/a.zip")
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o755
    # What a person has set is left as it is.
    (tmp_path / "c").chmod(0o711)
    await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o711


async def test_a_group_that_there_is_not_is_refused_in_words(tmp_path: Path) -> None:
    target = FileTarget(path=str(tmp_path), group="no-such-group")
    with pytest.raises(TargetRefusedError, match="knows no group 'no-such-group'"):
        await FileObjectStore(make_settings(tmp_path)).create_upload(
            target, "c/a.zip", {}, media_type=ZIP
        )
    assert left_in(tmp_path) == []


# Trying one.

STEPS = ["reachable", "free", "writable", "locked", "shared", "linked"]


async def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    store, target = FileStore(make_settings(tmp_path)), FileTarget(path=str(tmp_path))
    for tried in (await store.probe(target), await store.examine(target)):
        assert [(step.check, step.flaw) for step in tried] == [(step, "") for step in STEPS]
    assert left_in(tmp_path) == []
    await store.look(target)


@pytest.mark.parametrize(
    ("lacks", "step", "words"),
    [
        ("open_root", "reachable", "Permission denied, EACCES"),
        ("make_file", "writable", "give the service's user, or its group, the right"),
        ("lock", "locked", "EACCES"),
        ("set_mode", "shared", "EACCES"),
        ("link", "linked", "EACCES"),
    ],
)
async def test_what_a_folder_lacks_is_told_by_its_step(
    tmp_path: Path, lacks: str, step: str, words: str
) -> None:
    class Lacking(System):
        def __getattribute__(self, name: str) -> Any:
            if name == lacks:

                def denied(*_: object, **__: object) -> None:
                    raise PermissionError(13, "Permission denied")

                return denied
            return super().__getattribute__(name)

    store = FileStore(make_settings(tmp_path), system=Lacking())
    tried = await store.probe(FileTarget(path=str(tmp_path)))
    assert [found.check for found in tried] == STEPS[: STEPS.index(step) + 1]
    assert [found.ok for found in tried] == [True] * (len(tried) - 1) + [False]
    assert words in tried[-1].flaw
    assert left_in(tmp_path) == []


async def test_a_trial_removes_what_is_left_of_those_whose_worker_died(root: Path) -> None:
    store, target = FileStore(make_settings(root)), FileTarget(path=str(root))
    left, new, other = (root / f".rs-delivery-{name}" for name in ("check-1", "check-2", "x.json"))
    for path in (left, new, other):
        path.touch()
    for path in (left, other):
        os.utime(path, (0, 0))
    assert all(step.ok for step in await store.probe(target))
    assert left_in(root) == [new.name, other.name]


async def test_an_upload_is_ended_also_where_a_folder_has_the_name_of_its_object(
    root: Path,
) -> None:
    store, target = FileStore(make_settings(root)), FileTarget(path=str(root))
    upload = await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    (root / "c" / "a.zip").mkdir()
    await store.abort(target, upload)
    assert left_in(root) == ["c", "c/a.zip"]


async def test_a_folder_that_is_missing_or_not_allowed_is_told(root: Path) -> None:
    store = FileStore(make_settings(root))
    for path, words in ((f"{root}/gone", "there is no folder"), ("/elsewhere", "is in none")):
        (step,) = await store.probe(FileTarget(path=path))
        assert step.check == "reachable"
        assert words in step.flaw
        with pytest.raises(DeliveryError) as raised:
            await store.look(FileTarget(path=path))
        assert store.told(FileTarget(path=path), raised.value) is raised.value


# File systems that hang.


class Hanging(System):
    """Does not come back from a root, until it is let."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.back = threading.Event()

    def open_root(self, path: str) -> int:
        if path == self._path:
            self.back.wait(60)
        return super().open_root(path)


async def test_a_file_system_that_hangs_holds_up_no_other_and_is_found_when_it_is_back(
    tmp_path: Path,
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    good.mkdir()
    system = Hanging(bad)
    mark(bad, good)
    settings = Settings(file_roots=(str(bad), str(good)), file_min_free=0)
    probes = Backoff(first=0.01, longest=0.01)
    store = FileStore(settings, system=system, short=0.05, probes=probes)
    hung, other = FileTarget(path=str(bad)), FileTarget(path=str(good))
    changed: asyncio.Queue[bool] = asyncio.Queue()
    store.serve(lambda: [hung, other])
    store.on_trouble(lambda: changed.put_nowait(store.trouble(hung) is not None))
    try:
        with pytest.raises(TargetUnavailableError, match="does not answer: to describe a file in"):
            await store.find(hung, "k")
        assert await changed.get()
        trouble = store.trouble(hung)
        assert trouble is not None
        assert (trouble.kind, trouble.server) == ("file", str(bad))
        while True:
            try:
                await store.find(hung, "k")
            except TargetUnavailableError as error:
                if "8 calls have not come back" in str(error):
                    break
        assert await store.find(other, "k") is None
        assert store.trouble(other) is None
        system.back.set()
        assert not await changed.get()
        assert await store.find(hung, "k") is None
    finally:
        system.back.set()
        await store.aclose()


async def test_a_call_that_was_given_up_goes_no_further_when_it_is_back(tmp_path: Path) -> None:
    system = Hanging(tmp_path)
    done = threading.Event()

    class Late(Hanging):
        def close(self, fd: int) -> None:
            super().close(fd)
            done.set()

    system = Late(tmp_path)
    store = FileObjectStore(make_settings(tmp_path), system=system, short=0.05)
    target = FileTarget(path=f"{tmp_path}/in")
    (tmp_path / "in").mkdir()
    with pytest.raises(TargetUnavailableError):
        await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)
    system.back.set()
    assert await asyncio.to_thread(done.wait, 30)
    assert list((tmp_path / "in").iterdir()) == []
    await store.aclose()


async def test_a_call_that_hangs_holds_no_part_of_an_archive(tmp_path: Path) -> None:
    """The transfer may be given up, and its memory be another's, hours before it is back."""

    class Slow(System):
        there = threading.Event()
        back = threading.Event()

        def lock(self, fd: int, start: int = 0, size: int = 0) -> None:
            self.there.set()
            self.back.wait(30)
            super().lock(fd, start, size)

    system = Slow()
    store, target = (
        FileObjectStore(make_settings(tmp_path), system=system),
        FileTarget(path=str(tmp_path)),
    )
    upload = await store.create_upload(target, "c/a.zip", {}, media_type=ZIP)

    class Pieces(bytearray):
        """Can be looked at from afar."""

    whole = Pieces(b"content")
    held = weakref.ref(whole)
    part = Part([memoryview(whole)], 7, b"0" * 16)
    putting = asyncio.create_task(store.put_part(target, upload, 1, part))
    await asyncio.to_thread(system.there.wait, 30)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    del part, whole, putting
    async with asyncio.timeout(30):
        while held() is not None:
            gc.collect()
            await asyncio.sleep(0)
    assert not system.back.is_set()
    system.back.set()


async def test_calls_that_wait_for_a_thread_say_nothing_of_the_file_system(tmp_path: Path) -> None:
    """They are many, and each takes its time."""
    there, back = threading.Event(), threading.Event()
    threads = Threads(str(tmp_path), most=1)

    def stay(_: Call) -> bool:
        there.set()
        return back.wait(60)

    first = asyncio.create_task(threads.run("to be first", 60, stay))
    await asyncio.to_thread(there.wait, 60)
    with pytest.raises(PlaceBusyError, match=r"1 calls .* under way, and to be second has waited"):
        await threads.run("to be second", 0.01, lambda _: None)
    assert threads.hung == 0
    back.set()
    assert await first
    # The deadline of one begins when its turn comes.
    assert await threads.run("to be third", 60, lambda _: 3) == 3


async def test_a_folder_that_holds_all_its_threads_holds_up_no_other_in_the_same_root(
    root: Path,
) -> None:
    class Dead(System):
        back = threading.Event()

        def open_folder(self, name: str, *, at: int) -> int:
            if name == "dead":
                self.back.wait(60)
            return super().open_folder(name, at=at)

    (root / "dead").mkdir()
    system = Dead()
    store = FileStore(make_settings(root), system=system, short=0.05)
    dead, good = FileTarget(path=f"{root}/dead"), FileTarget(path=str(root))
    try:
        for _ in range(9):
            with pytest.raises(TargetUnavailableError):
                await store.find(dead, "k")
        assert await store.find(good, "k") is None
        assert store.trouble(good) is None
    finally:
        system.back.set()
        await store.aclose()


async def test_nothing_more_is_written_where_writes_hang(tmp_path: Path) -> None:
    """Each may keep its part in memory, which its transfer counts no more."""
    threads, back = Threads(str(tmp_path)), threading.Event()
    for _ in range(2):
        with pytest.raises(TargetUnavailableError, match="was not done within"):
            await threads.run("to write", 0.01, lambda _: back.wait(60), holds=[b"part"])
    with pytest.raises(TargetUnavailableError, match="2 calls have not come back"):
        await threads.run("to write", 60, lambda _: None, holds=[b"part"])
    assert await threads.run("to look", 60, lambda _: 1) == 1
    back.set()


async def test_who_waits_for_a_lock_opens_no_circuit_and_shows_none_its_keys(
    tmp_path: Path,
) -> None:
    class Locked(System):
        def lock(self, fd: int, start: int = 0, size: int = 0) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    store = FileStore(make_settings(tmp_path), system=Locked())
    target = FileTarget(path=str(tmp_path))
    upload = await store.create_upload(target, "secret/a.zip", {}, media_type=ZIP)
    for _ in range(4):
        with pytest.raises(PlaceBusyError, match="is just being written"):
            await store.put_part(target, upload, 1, Part.of(b"x"))
    assert store.trouble(target) is None
    await store.aclose()


async def test_three_failures_in_a_row_hold_back_what_would_go_there(tmp_path: Path) -> None:
    class Full(System):
        left = 0

        def free(self, fd: int) -> int:
            return self.left

    system = Full()
    store = FileStore(
        make_settings(tmp_path, file_min_free=1),
        system=system,
        probes=Backoff(first=0.01, longest=0.01),
    )
    target = FileTarget(path=str(tmp_path))
    back = asyncio.Event()
    for expected in (False, False, True):
        with pytest.raises(TargetUnavailableError):
            await store.look(target)
        assert (store.trouble(target) is not None) == expected
    store.on_trouble(back.set)
    system.left = 10
    async with asyncio.timeout(30):
        await back.wait()
    assert store.trouble(target) is None
    await store.aclose()


async def test_folders_that_no_tenant_has_any_more_are_forgotten(tmp_path: Path) -> None:
    store = FileStore(make_settings(tmp_path / "gone"))
    target = FileTarget(path=f"{tmp_path}/gone")
    for _ in range(3):
        with pytest.raises(TargetUnavailableError):
            await store.look(target)
    assert store.trouble(target) is not None
    store.serve(list)
    store.forget_unused()
    assert store.trouble(target) is None
    await store.aclose()


async def test_content_is_found_by_its_url(tmp_path: Path) -> None:
    store, target = FileObjectStore(make_settings(tmp_path)), FileTarget(path=str(tmp_path))
    await store.put_aside(target, "c d/é%.zip", Part.of(b"x"), {})
    assert await content_of(target.url_of("c d/é%.zip")) == b"x"
