"""What goes wrong at an SFTP server leaves nothing half-made, and is said in words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import StoredPart, Upload
from app.errors import (
    DeliveryError,
    ForeignObjectError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.network.hosts import AllowedHosts
from app.run import doctor
from app.settings import Settings
from compose.embedded.processes import free_port
from sinks.pipeline.parts import Part
from sinks.stores.sftp import files
from sinks.stores.sftp.connections import SftpConnections
from sinks.stores.sftp.managed import SftpStore, open_store
from sinks.stores.sftp.paths import Place
from sinks.stores.sftp.probe import try_for_tenant
from sinks.stores.sftp.target import SftpTarget
from tests.builders import make_delivery, make_tenant_settings
from tests.sftp_server import PASSWORD, USER, Disk, OwnServer, own_server

KEY = "c-1/a.zip"
MARKS = marks_of(make_delivery())
PART, REST = bytes(range(256)) * 1024, b"the rest"
WHOLE = PART + REST
OBJECT = ["c-1", "c-1/.a.zip.rs-delivery", "c-1/.a.zip.rs-delivery/NOTE", "c-1/a.zip"]


class Linkless(Disk):
    """Has no hard links, as a server that is no OpenSSH's, or has a file system without."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("never heard of it")


either_way = pytest.mark.parametrize(
    "server", [Disk, Linkless], indirect=True, ids=["link", "rename"]
)


@pytest.fixture
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with own_server(tmp_path, disk=getattr(request, "param", Disk)) as running:
        yield running


@pytest.fixture
async def store() -> AsyncIterator[SftpStore]:
    async with open_store() as opened:
        yield opened


@pytest.fixture
async def other() -> AsyncIterator[SftpStore]:
    """The store of another process."""
    async with open_store() as opened:
        yield opened


async def send(store: SftpStore, target: SftpTarget, upload: Upload) -> list[StoredPart]:
    return [
        await store.put_part(target, upload, number, Part.of(content))
        for number, content in enumerate((PART, REST), start=1)
    ]


async def complete(
    store: SftpStore,
    target: SftpTarget,
    upload: Upload,
    parts: list[StoredPart],
    *,
    again: bool = False,
) -> str:
    return await store.complete(target, upload, parts, len(WHOLE), marks=MARKS, again=again)


async def begin(store: SftpStore, target: SftpTarget) -> Upload:
    return await store.create_upload(target, KEY, MARKS, media_type="application/zip")


async def begun(store: SftpStore, target: SftpTarget) -> tuple[Upload, list[StoredPart]]:
    """Begin an upload, and send all of it."""
    upload = await begin(store, target)
    return upload, await send(store, target, upload)


class At:
    """Acts once, before the server takes a certain step: the n-th of those of these names."""

    def __init__(self, act: Any, *, step: int = 0, names: str = "") -> None:
        self.act = act
        self.step = step
        self.names = names.split()
        self.count = 0
        self.acted = False

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if self.names and name not in self.names:
            return None
        self.count += 1
        if self.count - 1 != self.step or self.acted:
            return None
        self.acted = True
        return self.act()


def left(server: OwnServer) -> list[str]:
    """Return what is there; the names of notes are new each time."""
    return [re.sub(r"/[0-9a-f]{32}\.[0-9a-f]{8}\.json$", "/NOTE", name) for name in server.left()]


# The fence.


async def count_steps(server: OwnServer, store: SftpStore) -> int:
    """Return how many steps a completion takes; its object is removed."""
    upload, parts = await begun(store, server.target)
    server.faults.steps.clear()
    etag = await complete(store, server.target, upload, parts)
    steps = len(server.faults.steps)
    await store.delete(server.target, KEY, etag=etag)
    return steps


@either_way
async def test_once_an_abort_has_returned_no_completion_makes_an_object(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """Whichever step it comes before: an object was there already, or never comes."""
    outcomes = set()
    for step in range(await count_steps(server, store)):
        upload, parts = await begun(store, server.target)
        there: list[bool] = []

        async def abort(upload: Upload = upload, there: list[bool] = there) -> None:
            server.faults.before = None
            await other.abort(server.target, upload)
            there.append(await other.find(server.target, KEY) is not None)

        server.faults.before = At(abort, step=step)
        try:
            etag = await complete(store, server.target, upload, parts)
        except (UploadLostError, TargetUnavailableError):
            assert there == [False]
            assert await other.find(server.target, KEY) is None
            outcomes.add("aborted")
        else:
            assert there in ([True], [])  # after its last step nothing is asked
            assert await server.content(server.target.url_of(KEY)) == WHOLE
            await store.delete(server.target, KEY, etag=etag)
            outcomes.add("completed")
        server.faults.before = None
        assert await other.open_uploads(server.target, KEY) == []
    assert outcomes == {"aborted", "completed"}


async def test_an_abort_that_breaks_off_has_fenced_all_the_same(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """Its first step is enough: one more abort removes what is left."""
    target = server.target
    upload = await begin(store, target)
    parts = await send(store, target, upload)
    server.faults.after = At(server.break_connections, names="rename")
    with pytest.raises(TargetUnavailableError):
        await other.abort(target, upload)
    with pytest.raises(UploadLostError):
        await store.put_part(target, upload, 3, Part.of(b"more"))
    with pytest.raises(UploadLostError):
        await complete(store, target, upload, parts)
    assert await other.find(target, KEY) is None
    assert await other.open_uploads(target, KEY) == [upload]
    await other.abort(target, upload)
    assert server.left() == []


async def test_another_users_object_is_not_replaced_that_came_in_place_of_ones_own(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """After the first look: so it is looked at again, once the file is ready."""
    target = server.target
    theirs = marks_of(make_delivery(tenant="swot"))
    first = await begin(store, target)
    etag = await complete(store, target, first, await send(store, target, first))
    upload = await begin(store, target)
    part = await store.put_part(target, upload, 1, Part.of(b"new"))

    async def come(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "rename" and arguments[1].endswith(b"/whole"):
            server.faults.before = None
            await other.delete(target, KEY, etag=etag)
            upload = await other.create_upload(target, KEY, theirs)
            part = await other.put_part(target, upload, 1, Part.of(b"theirs"))
            await other.complete(target, upload, [part], 6, marks=theirs)

    server.faults.before = come
    with pytest.raises(ForeignObjectError):
        await store.complete(target, upload, [part], 3, marks=MARKS)
    assert await server.content(target.url_of(KEY)) == b"theirs"


@either_way
async def test_who_takes_an_upload_over_ends_it_or_finds_it_ended(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """Whichever step of the completion of another process it comes before."""
    target = server.target
    outcomes = set()
    for step in range(await count_steps(server, store)):
        upload, parts = await begun(store, target)

        async def take_over(upload: Upload = upload) -> None:
            server.faults.before = None
            with contextlib.suppress(UploadLostError):  # it has become the object
                await other.part_etags(target, upload)

        server.faults.before = At(take_over, step=step)
        try:
            await complete(store, target, upload, parts)
        except UploadLostError:
            assert await other.find(target, KEY) is None
            outcomes.add("taken over")
        else:
            outcomes.add("completed")
        server.faults.before = None
        etag = await complete(other, target, upload, parts, again=True)
        assert await server.content(target.url_of(KEY)) == WHOLE
        assert left(server) == OBJECT
        await other.delete(target, KEY, etag=etag)
    assert outcomes == {"taken over", "completed"}


@either_way
@pytest.mark.parametrize("theirs_is", [b"theirs", bytes(len(WHOLE))], ids=["other", "same size"])
async def test_what_comes_to_the_place_meanwhile_is_not_replaced(
    server: OwnServer, store: SftpStore, other: SftpStore, theirs_is: bytes
) -> None:
    """Whichever step of the completion it comes before: the first one stays."""
    target = server.target
    theirs = marks_of(make_delivery(tenant="swot"))
    came: list[str] = []  # the ETag of what came whole

    async def come() -> None:
        server.faults.before = None
        upload = await other.create_upload(target, KEY, theirs)
        try:
            part = await other.put_part(target, upload, 1, Part.of(theirs_is))
            came.append(await other.complete(target, upload, [part], len(theirs_is), marks=theirs))
        except (ForeignObjectError, TargetUnavailableError):
            await other.abort(target, upload)

    outcomes = set()
    for step in range(await count_steps(server, store)):
        came.clear()
        upload, parts = await begun(store, target)
        server.faults.before = At(come, step=step)
        try:
            await complete(store, target, upload, parts)
        except ForeignObjectError:
            assert came, step
            outcomes.add("theirs")
            await store.abort(target, upload)
            content, marks = theirs_is, theirs
        else:
            assert not came, step
            outcomes.add("ours")
            content, marks = WHOLE, MARKS
        server.faults.before = None
        assert await server.content(target.url_of(KEY)) == content
        found = await store.find(target, KEY)
        assert found is not None
        assert (found.size, found.marks) == (len(content), marks)
        await store.delete(target, KEY, etag=found.etag)
        assert server.left() == []
    assert outcomes == {"theirs", "ours"}


async def test_an_upload_that_is_aborted_as_it_begins_is_begun_again(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    async def sweep() -> None:
        server.faults.before = None
        for upload in await other.open_uploads(server.target, KEY):
            await other.abort(server.target, upload)

    server.faults.before = At(sweep, names="open")
    with pytest.raises(TargetUnavailableError, match="was aborted as it began"):
        await begin(store, server.target)
    assert server.left() == []


async def test_a_worker_that_has_lost_its_upload_can_not_spoil_it(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """It was about to write when another one went on: the same bytes are all that may come."""
    target = server.target
    upload = await begin(store, target)
    first = await store.put_part(target, upload, 1, Part.of(PART))
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        writing.set()
        await go_on.wait()

    server.faults.before = At(hold, names="write")
    stale = asyncio.create_task(store.put_part(target, upload, 2, Part.of(REST)))
    await writing.wait()
    assert await other.part_etags(target, upload) == {1: first.etag}
    with pytest.raises(UploadLostError, match="may still be written to"):
        await other.put_part(target, upload, 2, Part.of(b"THE REST"))
    second = await other.put_part(target, upload, 2, Part.of(REST))
    with pytest.raises(UploadLostError, match="may still be written to"):  # it still may
        await other.put_part(target, upload, 2, Part.of(b"THE REST"))
    assert await other.part_etags(target, upload) == {1: first.etag, 2: second.etag}
    await complete(other, target, upload, [first, second])
    go_on.set()
    with pytest.raises(UploadLostError):
        await stale
    assert await server.content(target.url_of(KEY)) == WHOLE
    assert left(server) == OBJECT


async def test_a_completion_waits_for_no_writer_that_had_other_bytes(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    first = await store.put_part(target, upload, 1, Part.of(PART))
    server.faults.before = At(server.break_connections, names="write")
    with pytest.raises(TargetUnavailableError):
        await store.put_part(target, upload, 2, Part.of(b"other bytes"))
    with pytest.raises(UploadLostError, match="may still be written to"):
        await other.complete(target, upload, [first], len(PART), marks=MARKS)
    assert await other.find(target, KEY) is None


async def test_a_part_that_may_still_be_moved_is_not_made_of_other_bytes(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """It came before its place was known, and the completion that moved it broke off."""
    target = server.target
    upload = await begin(store, target)
    second = await store.put_part(target, upload, 2, Part.of(REST))
    first = await store.put_part(target, upload, 1, Part.of(PART))
    server.faults.before = At(server.break_connections, names="write")
    with pytest.raises(TargetUnavailableError):
        await complete(store, target, upload, [first, second])
    server.faults.before = None
    for each in (store, other):
        with pytest.raises(UploadLostError, match="may still be written to"):
            await each.put_part(target, upload, 2, Part.of(b"THE REST"))
    assert await other.part_etags(target, upload) == {1: first.etag, 2: second.etag}
    await complete(other, target, upload, [first, second])
    assert await server.content(target.url_of(KEY)) == WHOLE
    assert left(server) == OBJECT


async def test_a_part_that_is_sent_again_tells_that_its_upload_is_gone(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    part = await store.put_part(target, upload, 1, Part.of(PART))
    assert await store.put_part(target, upload, 1, Part.of(PART)) == part
    await other.abort(target, upload)
    with pytest.raises(UploadLostError):
        await store.put_part(target, upload, 1, Part.of(PART))


async def test_a_worker_whose_upload_is_taken_over_begins_again(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    target = server.target
    upload, parts = await begun(store, target)
    assert await other.part_etags(target, upload) == {1: parts[0].etag, 2: parts[1].etag}
    with pytest.raises(UploadLostError):
        await store.put_part(target, upload, 3, Part.of(b"more"))
    await complete(other, target, upload, parts)


async def test_a_worker_that_gets_its_delivery_back_goes_on_with_its_upload(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """What another one did with it meanwhile is taken over; what is still of that one, is not."""
    target = server.target
    upload = await begin(store, target)
    first = await store.put_part(target, upload, 1, Part.of(PART))
    await other.part_etags(target, upload)
    second = await other.put_part(target, upload, 2, Part.of(PART))
    assert await store.part_etags(target, upload) == {1: first.etag, 2: second.etag}
    with pytest.raises(UploadLostError):
        await other.put_part(target, upload, 3, Part.of(b"more"))
    assert await store.part_etags(target, upload) == {1: first.etag, 2: second.etag}


# Broken off.


@either_way
async def test_a_connection_that_breaks_at_any_step_costs_a_try_and_nothing_else(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target

    async def tried(call: Any, *arguments: Any, **options: Any) -> Any:
        for _ in range(3):
            try:
                return await call(*arguments, **options)
            except TargetUnavailableError:
                again.append(True)
        raise AssertionError

    async def deliver() -> Any:
        while True:
            upload = await tried(begin, store, target)
            try:
                parts = [
                    await tried(store.put_part, target, upload, number, Part.of(content))
                    for number, content in enumerate((PART, REST), start=1)
                ]
                return await tried(complete, store, target, upload, parts, again=bool(again))
            except UploadLostError:
                again.append(True)
                await tried(store.abort, target, upload)

    again: list[bool] = []
    server.faults.steps.clear()
    etag = await deliver()
    steps = len(server.faults.steps)
    assert steps > 20
    for when, act in (("before", server.break_off), ("after", server.break_connections)):
        for step in range(steps):
            again.clear()
            await tried(store.delete, target, KEY, etag=etag)
            setattr(server.faults, when, At(act, step=step))
            assert await deliver() == etag
            setattr(server.faults, when, None)
            assert await server.content(target.url_of(KEY)) == WHOLE
            for upload in await store.open_uploads(target, KEY):
                await store.abort(target, upload)
            assert left(server) == OBJECT


async def test_a_server_that_is_silent_is_waited_for_no_longer_than_a_call_may_take(
    server: OwnServer,
) -> None:
    connections = SftpConnections()
    async with (
        contextlib.aclosing(SftpStore(connections)) as store,
        contextlib.aclosing(SftpStore(connections, short=0.2)) as hasty,
    ):
        assert await store.find(server.target, KEY) is None
        released = asyncio.Event()
        server.faults.before = At(released.wait, names="stat")
        with pytest.raises(TargetUnavailableError, match="did not describe"):
            await hasty.find(server.target, KEY)
        assert len(connections) == 0
        assert await store.find(server.target, KEY) is None  # over another connection
        released.set()


async def test_a_call_that_is_not_answered_breaks_off_nothing_while_others_are(
    server: OwnServer,
) -> None:
    async with contextlib.aclosing(SftpConnections()) as connections:
        async with connections.of(server.target) as hung:
            async with connections.of(server.target, bulk=True) as part:
                pass
            hung.not_answered()
            assert len(connections) == 1
        async with connections.of(server.target, bulk=True) as part:
            async with connections.of(server.target):
                pass
            part.not_answered()  # it has bytes in memory, which nothing takes
            assert len(connections) == 0


async def test_a_part_ends_in_the_connection_in_which_another_one_hangs(server: OwnServer) -> None:
    async with contextlib.aclosing(SftpConnections()) as connections:
        async with connections.of(server.target, bulk=True) as part:
            async with connections.of(server.target, bulk=True) as hung:
                assert hung.open is part.open
            hung.not_answered()
            async with connections.of(server.target, bulk=True) as later:
                assert later.open is not part.open
            assert await part.sftp.isdir(server.target.path)
        await part.open.connection.wait_closed()
        assert not later.open.connection.is_closed()


async def test_a_part_of_which_no_write_is_answered_is_not_waited_for_as_long_as_it_may_take(
    server: OwnServer, store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = server.target
    upload = await begin(store, target)
    monkeypatch.setattr(files, "ANSWER_TIMEOUT", 0.2)
    released = asyncio.Event()
    server.faults.before = At(released.wait, names="write")
    with pytest.raises(TargetUnavailableError, match=r"a write was not answered for 0\.2 s"):
        await store.put_part(target, upload, 1, Part.of(PART))
    assert len(store.connections) == 0
    monkeypatch.undo()
    released.set()
    await complete(store, target, upload, await send(store, target, upload))
    assert left(server) == OBJECT


async def test_what_is_small_waits_for_no_part(server: OwnServer, store: SftpStore) -> None:
    target = server.target
    upload = await begin(store, target)
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        writing.set()
        await go_on.wait()

    server.faults.before = At(hold, names="write")
    part = asyncio.create_task(store.put_part(target, upload, 1, Part.of(PART)))
    await writing.wait()
    assert await store.find(target, KEY) is None
    go_on.set()
    await part
    assert len(server.connections) == 1


async def test_a_connection_that_is_made_while_all_are_closed_is_closed_too(
    server: OwnServer,
) -> None:
    connecting = asyncio.Event()

    class Hosts:
        """Tells when a connection is about to be made."""

        def flaw_of(self, _endpoint: str) -> None:
            return None

        def flaw_of_address(self, _endpoint: str, _address: str) -> None:
            connecting.set()

    hosts: Any = Hosts()
    connections = SftpConnections(hosts=hosts)
    store = SftpStore(connections)
    asking = asyncio.create_task(store.find(server.target, KEY))
    await connecting.wait()
    await connections.aclose()
    with pytest.raises(TargetUnavailableError, match="the process ends"):
        await asking
    (connection,) = server.connections
    await connection.wait_closed()


async def test_what_listens_and_says_nothing_is_no_server() -> None:
    async def hear(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    port = free_port()
    listening = await asyncio.start_server(hear, "127.0.0.1", port)
    target = make_target(port=port)
    async with contextlib.aclosing(SftpStore(SftpConnections(), short=0.2)) as store:
        with pytest.raises(TargetUnavailableError):
            await store.look(target)
        assert store.trouble(target) is not None
    gone.set()
    listening.close()
    await listening.wait_closed()


def make_target(**fields: Any) -> SftpTarget:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "user": USER,
        "host_key": f"SHA256:{'A' * 43}",
        "path": "/archives",
        "password": PASSWORD,
    }
    return SftpTarget(**given | fields)


# What a server refuses.


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (asyncssh.SFTPFailure("Failure"), TargetUnavailableError, "see the server's log"),
        (asyncssh.SFTPPermissionDenied("no"), TargetRefusedError, "give the user the right"),
        (asyncssh.SFTPFailure("\x1b[2Jno\x07"), TargetUnavailableError, r"\(\?\[2Jno\?\)"),
    ],
)
async def test_an_error_of_the_disk_is_said_in_words_and_shows_nothing(
    server: OwnServer, store: SftpStore, error: Exception, kind: type[DeliveryError], words: str
) -> None:
    def fail() -> None:
        raise error

    target = server.target
    upload = await begin(store, target)
    server.faults.before = At(fail, names="write")
    with pytest.raises(kind, match=words):
        await store.put_part(target, upload, 1, Part.of(PART))
    assert await store.find(target, KEY) is None
    assert await store.part_etags(target, upload) == {}
    parts = await send(store, target, upload)  # it has passed
    await complete(store, target, upload, parts)
    assert left(server) == OBJECT


async def test_a_full_disk_is_known_by_its_room_where_the_server_only_fails(
    server: OwnServer, store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise asyncssh.SFTPFailure("Failure")

    full = list(os.statvfs("/"))
    full[4] = 0  # blocks that are free for others than root
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(full))
    upload = await begin(store, server.target)
    server.faults.before = At(fail, names="write")
    with pytest.raises(TargetUnavailableError, match="is full"):
        await store.put_part(server.target, upload, 1, Part.of(PART))


@either_way
async def test_an_object_that_is_not_what_was_uploaded_is_said_to_be_wrong(
    server: OwnServer, store: SftpStore
) -> None:
    """As where the server's disk has lost what was written."""
    target = server.target
    upload = await begin(store, target)
    parts = await send(store, target, upload)

    def cut(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("link", "rename") and arguments[1].endswith(b"/c-1/a.zip"):
            path = server.file(target.url_of(KEY))
            times = path.stat()
            os.truncate(path, 3)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    server.faults.after = cut
    with pytest.raises(WrongObjectError, match="found 3 bytes"):
        await complete(store, target, upload, parts)


async def test_a_file_that_has_lost_bytes_before_it_appears_does_not(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    parts = await send(store, target, upload)

    def cut(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "rename" and arguments[1].endswith(b"/whole"):
            (whole,) = server.folder.rglob("whole")
            os.truncate(whole, 3)

    server.faults.after = cut
    with pytest.raises(UploadLostError, match=f"its file has 3 bytes of {len(WHOLE)}"):
        await complete(store, target, upload, parts)
    assert await store.find(target, KEY) is None


def order_of(steps: list[str], *names: str) -> list[str]:
    """Return what was done, in order: of several in a row of one name, the last."""
    done = [name for name in steps if name in names]
    return [name for name, after in zip(done, [*done[1:], ""], strict=True) if name != after]


async def test_what_was_sent_is_on_the_servers_disk_before_it_counts(
    server: OwnServer, store: SftpStore
) -> None:
    target, steps = server.target, server.faults.steps
    upload = await begin(store, target)
    names = ("write", "fsync", "posix_rename", "rename", "link")
    steps.clear()
    last = await store.put_part(target, upload, 2, Part.of(REST))
    assert order_of(steps, *names) == ["write", "fsync", "posix_rename"]
    steps.clear()
    first = await store.put_part(target, upload, 1, Part.of(PART))
    assert order_of(steps, *names) == ["write", "fsync", "posix_rename"]
    steps.clear()
    await complete(store, target, upload, [first, last])
    # The part is moved, the fence; then the note, and its place; the name; the end of the upload.
    ready = ["write", "fsync", "rename"]
    assert order_of(steps, *names)[:6] == [*ready, "link", "write", "fsync"]
    assert order_of(steps, *names)[6:] == ["rename", "link", "rename"]


async def test_a_part_that_the_disk_does_not_confirm_is_none(
    server: OwnServer, store: SftpStore
) -> None:
    def fail() -> None:
        raise asyncssh.SFTPFailure("Input/output error")

    target = server.target
    upload = await begin(store, target)
    server.faults.before = At(fail, names="fsync")
    with pytest.raises(TargetUnavailableError):
        await store.put_part(target, upload, 1, Part.of(PART))
    assert await store.part_etags(target, upload) == {}
    parts = await send(store, target, upload)
    server.faults.before = At(fail, names="fsync")
    with pytest.raises(TargetUnavailableError):
        await complete(store, target, upload, parts)
    assert await store.find(target, KEY) is None


async def test_a_server_that_can_not_ask_its_disk_is_taken_at_its_word(
    server: OwnServer, store: SftpStore
) -> None:
    def unsupported(name: str, _: tuple[Any, ...]) -> None:
        if name == "fsync":
            raise asyncssh.SFTPOpUnsupported("never heard of it")

    server.faults.before = unsupported
    target = server.target
    upload = await begin(store, target)
    await complete(store, target, upload, await send(store, target, upload))
    assert left(server) == OBJECT


async def test_a_file_that_can_not_be_replaced_in_one_step_is_not_replaced(
    server: OwnServer, store: SftpStore
) -> None:
    def unsupported(name: str, _: tuple[Any, ...]) -> None:
        if name == "posix_rename":
            raise asyncssh.SFTPOpUnsupported("never heard of it")

    server.faults.before = unsupported
    target = server.target
    first = await begin(store, target)
    await complete(store, target, first, await send(store, target, first))
    upload = await begin(store, target)
    part = await store.put_part(target, upload, 1, Part.of(b"new"))
    with pytest.raises(TargetRefusedError, match="can't replace a file in one step"):
        await store.complete(target, upload, [part], 3, marks=MARKS)
    assert await server.content(target.url_of(KEY)) == WHOLE


class Looking(Disk):
    """Looks before it renames, as most servers do; tests put in what comes in between."""

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if _there(self.map_path(newpath)):
            raise asyncssh.SFTPFailure("there")
        await self._come_to(newpath)
        Path(os.fsdecode(self.map_path(oldpath))).replace(os.fsdecode(self.map_path(newpath)))

    async def link(self, oldpath: bytes, newpath: bytes) -> None:
        await self._come_to(newpath)
        super().link(oldpath, newpath)

    async def _come_to(self, path: bytes) -> None:
        come, self.faults.between = self.faults.between, None
        if come is not None and path.endswith(b"/c-1/a.zip"):
            await come()
        else:
            self.faults.between = come


@pytest.mark.parametrize("server", [Looking], indirect=True)
async def test_what_comes_while_the_server_gives_the_name_is_not_replaced(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    target = server.target
    theirs = marks_of(make_delivery(tenant="swot"))
    upload = await begin(store, target)
    parts = await send(store, target, upload)

    async def come() -> None:
        upload = await other.create_upload(target, KEY, theirs)
        part = await other.put_part(target, upload, 1, Part.of(b"theirs"))
        await other.complete(target, upload, [part], 6, marks=theirs)

    server.faults.between = come
    with pytest.raises(ForeignObjectError):
        await complete(store, target, upload, parts)
    assert server.faults.between is None
    assert await server.content(target.url_of(KEY)) == b"theirs"
    await store.abort(target, upload)
    assert left(server) == OBJECT


class Unlinked(Disk):
    """Offers hard links, and has a file system without."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        if _there(self.map_path(newpath)):
            raise asyncssh.SFTPFailure("there")
        raise asyncssh.SFTPPermissionDenied("Operation not permitted")


class Partly(Unlinked):
    """The same, of all but this service's own folders: those lie on another one."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        if b".rs-delivery" in newpath:
            Disk.link(self, oldpath, newpath)
        else:
            super().link(oldpath, newpath)


@pytest.mark.parametrize("server", [Unlinked, Partly], indirect=True)
async def test_where_a_file_system_has_no_hard_links_an_archive_appears_by_a_rename(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    etag = await complete(store, target, upload, await send(store, target, upload))
    assert await server.content(target.url_of(KEY)) == WHOLE
    assert left(server) == OBJECT
    await store.delete(target, KEY, etag=etag)
    assert [step.ok for step in await store.examine(target)] == [True] * 3


class Busy(Disk):
    """Makes no hard link the first time: so it says where it has no room, or too many requests."""

    refused = 0

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        if not self.refused:
            self.refused += 1
            raise asyncssh.SFTPFailure("not now")
        super().link(oldpath, newpath)


@pytest.mark.parametrize("server", [Busy], indirect=True)
async def test_a_server_that_made_no_hard_link_once_is_asked_again(
    server: OwnServer, store: SftpStore
) -> None:
    """A rename is what is left where there are none: it is less sure to replace nothing."""
    target = server.target
    named: list[str] = []

    def note(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("link", "rename") and arguments[1].endswith(b"/c-1/a.zip"):
            named.append(name)

    server.faults.before = note
    for _ in range(2):
        upload, parts = await begun(store, target)
        etag = await complete(store, target, upload, parts)
        await store.delete(target, KEY, etag=etag)
    assert named[-1] == "link"


async def test_an_object_has_no_other_name_once_it_is_there(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """Else its bytes would stay when a client takes it away, though nothing shows them."""
    target = server.target
    upload, parts = await begun(store, target)
    gone = Place.of(target, KEY).gone(upload.upload_id)
    broken: list[str] = []

    def break_off(name: str, arguments: tuple[Any, ...]) -> Any:
        """Before the abort's first step."""
        if name == "rename" and os.fsdecode(arguments[1]).endswith(gone):
            broken.append(name)
            return server.break_connections()
        return None

    server.faults.before = break_off
    etag = await complete(store, target, upload, parts)
    server.faults.before = None
    assert broken
    assert [path for path in server.folder.rglob("*") if path.name == "whole"] == []
    assert server.file(target.url_of(KEY)).stat().st_nlink == 1
    [open_still] = await other.open_uploads(target, KEY)
    await other.abort(target, open_still)
    assert (await other.find(target, KEY)) == await store.find(target, KEY)
    await store.delete(target, KEY, etag=etag)


class Copying(Linkless):
    """What it calls a hard link replaces what is there."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = (Path(os.fsdecode(self.map_path(path))) for path in (oldpath, newpath))
        new.write_bytes(old.read_bytes())


@pytest.mark.parametrize("server", [Copying], indirect=True)
async def test_a_hard_link_that_replaces_files_is_not_used(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    parts = await send(store, target, upload)
    linked: list[bytes] = []

    def note(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "link":
            linked.append(arguments[1])

    server.faults.before = note
    await complete(store, target, upload, parts)
    assert linked
    assert not any(path.endswith(b"/c-1/a.zip") for path in linked)
    assert left(server) == OBJECT


@either_way
async def test_an_archive_whose_file_was_made_ready_is_not_sent_again(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """The connection broke as it was to appear; another worker goes on, and sends nothing."""
    target = server.target
    upload = await begin(store, target)
    parts = await send(store, target, upload)

    def break_off(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("link", "rename") and arguments[1].endswith(b"/c-1/a.zip"):
            server.faults.before = None
            server.break_off()

    server.faults.before = break_off
    with pytest.raises(TargetUnavailableError):
        await complete(store, target, upload, parts)
    etags = await other.part_etags(target, upload)
    assert etags == {1: parts[0].etag, 2: parts[1].etag}
    assert await complete(other, target, upload, parts, again=True) == other.etag_of(target, parts)
    assert await server.content(target.url_of(KEY)) == WHOLE
    assert left(server) == OBJECT


@either_way
async def test_a_file_that_has_become_the_object_is_not_written_to_by_a_successor(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """It appeared, and its worker died; the object was fetched, and taken away, by a client."""
    target = server.target
    upload = await begin(store, target)
    parts = await send(store, target, upload)

    def die(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("link", "rename") and arguments[1].endswith(b"/c-1/a.zip"):
            server.faults.after = None
            server.faults.before = At(server.break_off)
            server.break_connections()

    server.faults.after = die
    with pytest.raises(TargetUnavailableError):
        await complete(store, target, upload, parts)
    server.faults.before = None
    fetched = server.file(target.url_of(KEY)).rename(server.folder / "fetched.zip")
    with pytest.raises(UploadLostError):
        await other.part_etags(target, upload)
        await other.put_part(target, upload, 1, Part.of(bytes(len(PART))))
    assert fetched.read_bytes() == WHOLE


class Replacing(Linkless):
    """Renames over what is there, as some servers do, and has no other way."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        Path(os.fsdecode(self.map_path(oldpath))).replace(os.fsdecode(self.map_path(newpath)))


async def test_a_server_whose_rename_replaces_files_is_refused(
    tmp_path: Path, store: SftpStore
) -> None:
    async with own_server(tmp_path, disk=Replacing) as server:
        target = server.target
        upload, parts = await begun(store, target)
        with pytest.raises(TargetRefusedError, match="whose rename replaces what is there"):
            await complete(store, target, upload, parts)
        await store.abort(target, upload)
        assert "whose rename replaces" in (await store.probe(target))[-1].flaw
        assert server.left() == []


def _there(path: bytes) -> bool:
    return Path(os.fsdecode(path)).exists()


class Wordy(Disk):
    """Says that something is there already by a word that version 3 has not."""

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        if _there(self.map_path(path)):
            raise asyncssh.SFTPFileAlreadyExists("there")
        super().mkdir(path, attrs)

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if _there(self.map_path(newpath)):
            raise asyncssh.SFTPFileAlreadyExists("there")
        return super().rename(oldpath, newpath)

    def link(self, oldpath: bytes, newpath: bytes) -> Any:
        if _there(self.map_path(newpath)):
            raise asyncssh.SFTPFileAlreadyExists("there")
        return super().link(oldpath, newpath)


class WordyLinkless(Linkless, Wordy):
    """The same, without hard links."""


@pytest.mark.parametrize("disk", [Wordy, WordyLinkless])
async def test_a_word_for_what_is_there_already_is_understood(
    tmp_path: Path, store: SftpStore, other: SftpStore, disk: type[Disk]
) -> None:
    async with own_server(tmp_path, disk=disk) as server:
        target = server.target
        uploads = [await begin(each, target) for each in (store, other)]
        parts = [
            await send(each, target, upload)
            for each, upload in zip((store, other), uploads, strict=True)
        ]

        async def come(name: str, arguments: tuple[Any, ...]) -> None:
            if name in ("link", "rename") and arguments[1].endswith(b"/c-1/a.zip"):
                server.faults.before = None
                await complete(other, target, uploads[1], parts[1])

        server.faults.before = come
        etag = await complete(store, target, uploads[0], parts[0])
        await store.delete(target, KEY, etag=etag)
        assert server.left() == []


# What is noted of objects.


@pytest.mark.parametrize("theirs", [b"another's", bytes(len(WHOLE))], ids=["other", "same size"])
async def test_an_object_of_another_client_carries_no_marks_though_it_took_the_place_of_one(
    server: OwnServer, store: SftpStore, theirs: bytes
) -> None:
    target = server.target
    upload = await begin(store, target)
    await complete(store, target, upload, await send(store, target, upload))
    path = server.file(target.url_of(KEY))
    os.utime(path, (1, 1))  # a person has touched it
    found = await store.find(target, KEY)
    assert found is not None
    assert found.marks == MARKS
    path.write_bytes(theirs)
    os.utime(path, (2, 2))  # by chance it would have the time that the archive had
    found = await store.find(target, KEY)
    assert found is not None
    assert (found.size, found.marks) == (len(theirs), {})
    upload, parts = await begun(store, target)
    for _ in range(2):  # an abort leaves what tells so
        with pytest.raises(TargetRefusedError, match="another file than the archive"):
            await complete(store, target, upload, parts)
        await store.abort(target, upload)
        upload, parts = await begun(store, target)
    assert path.read_bytes() == theirs


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 131_072, 200_000])
async def test_an_object_that_was_touched_is_told_by_its_first_and_last_bytes(
    server: OwnServer, store: SftpStore, size: int
) -> None:
    target, content = server.target, bytes(size)
    upload = await begin(store, target)
    part = await store.put_part(target, upload, 1, Part.of(content))
    await store.complete(target, upload, [part], size, marks=MARKS)
    path = server.file(target.url_of(KEY))
    os.utime(path, (1, 1))
    found = await store.find(target, KEY)
    assert found is not None
    assert found.marks == MARKS
    for wrong in {0, size - 1} if size else ():
        path.write_bytes(content[:wrong] + b"x" + content[wrong + 1 :])
        os.utime(path, (2, 2))
        found = await store.find(target, KEY)
        assert found is not None
        assert found.marks == {}


async def test_an_object_that_an_earlier_version_noted_is_told_by_its_size_once_it_is_touched(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    await complete(store, target, upload, await send(store, target, upload))
    (note,) = (server.folder / "c-1/.a.zip.rs-delivery").iterdir()
    noted = json.loads(note.read_text())
    del noted["ends"]
    note.write_text(json.dumps(noted))
    os.utime(server.file(target.url_of(KEY)), (1, 1))
    found = await store.find(target, KEY)
    assert found is not None
    assert found.marks == MARKS


async def test_an_upload_that_never_came_is_not_taken_for_a_file_of_its_size(
    server: OwnServer, store: SftpStore
) -> None:
    """A person has put that there by hand, before: the next delivery may replace it."""
    target = server.target
    path = server.file(target.url_of(KEY))
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(len(WHOLE)))
    os.utime(path, (1, 1))
    upload, parts = await begun(store, target)
    server.faults.before = At(server.break_off, names="posix_rename")
    with pytest.raises(TargetUnavailableError):
        await complete(store, target, upload, parts)
    server.faults.before = None
    await store.abort(target, upload)
    found = await store.find(target, KEY)
    assert found is not None
    assert found.marks == {}
    upload, parts = await begun(store, target)
    await complete(store, target, upload, parts)
    assert path.read_bytes() == WHOLE


async def test_whose_an_object_is_stays_known_when_its_replacement_breaks_off(
    server: OwnServer, store: SftpStore
) -> None:
    """Twice: what was noted of those that never came is not what is there."""
    target = server.target
    theirs = marks_of(make_delivery(user="x@example.org"))
    upload = await store.create_upload(target, KEY, theirs)
    parts = await send(store, target, upload)
    await store.complete(target, upload, parts, len(WHOLE), marks=theirs)
    for content in (b"first", b"second"):
        upload = await begin(store, target)
        part = await store.put_part(target, upload, 1, Part.of(content))
        server.faults.before = At(server.break_off, names="posix_rename")
        with pytest.raises(TargetUnavailableError):
            await store.complete(target, upload, [part], len(content), marks=theirs)
        server.faults.before = None
        found = await store.find(target, KEY)
        assert found is not None
        assert (found.size, found.marks) == (len(WHOLE), theirs)
    upload = await begin(store, target)
    with pytest.raises(ForeignObjectError):
        await complete(store, target, upload, await send(store, target, upload))


async def test_an_upload_that_never_came_is_not_what_is_there_though_it_has_as_many_bytes(
    server: OwnServer, store: SftpStore, other: SftpStore
) -> None:
    """A person has touched the object, so its size is all that is left to tell it by."""
    target = server.target
    theirs = marks_of(make_delivery(user="x@example.org"))
    upload = await store.create_upload(target, KEY, theirs)
    parts = await send(store, target, upload)
    etag = await store.complete(target, upload, parts, len(WHOLE), marks=theirs)
    upload = await begin(other, target)
    part = await other.put_part(target, upload, 1, Part.of(bytes(len(WHOLE))))
    server.faults.before = At(server.break_off, names="posix_rename")
    with pytest.raises(TargetUnavailableError):
        await other.complete(target, upload, [part], len(WHOLE), marks=theirs)
    server.faults.before = None
    os.utime(server.file(target.url_of(KEY)), (1, 1))
    found = await store.find(target, KEY)
    assert found is not None
    assert (found.etag, found.marks) == (etag, theirs)
    await other.abort(target, upload)
    assert left(server) == OBJECT


@either_way
async def test_what_is_noted_of_an_upload_that_never_came_goes_with_it(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target
    upload, parts = await begun(store, target)

    def break_off(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("link", "rename") and arguments[1].endswith(b"/c-1/a.zip"):
            server.break_off()

    server.faults.before = break_off
    with pytest.raises(TargetUnavailableError):
        await complete(store, target, upload, parts)
    server.faults.before = None
    assert any("/.a.zip.rs-delivery/" in name for name in server.left())
    await store.abort(target, upload)
    assert server.left() == []


async def test_the_folder_of_a_prefix_stays(server: OwnServer, store: SftpStore) -> None:
    """An admin may have made it, with rights of its own."""
    (server.folder / "in/swot").mkdir(parents=True)
    target = replace(server.target, prefix="in/swot/")
    upload = await store.create_upload(target, "in/swot/c-1/a.zip", MARKS)
    await store.abort(target, upload)
    assert server.left() == ["in", "in/swot"]


async def test_notes_that_can_not_be_read_leave_the_object_alone(
    server: OwnServer, store: SftpStore
) -> None:
    target = server.target
    upload = await begin(store, target)
    await complete(store, target, upload, await send(store, target, upload))
    (note,) = (server.folder / "c-1/.a.zip.rs-delivery").iterdir()
    note.write_text("{}")
    upload = await begin(store, target)
    with pytest.raises(TargetRefusedError, match=r"\.a\.zip\.rs-delivery/.* can't be read"):
        await complete(store, target, upload, await send(store, target, upload))


async def test_a_look_reads_no_more_than_it_needs(server: OwnServer, store: SftpStore) -> None:
    """Of many small files, each is looked at several times: each request is a round trip."""
    target = server.target
    steps = server.faults.steps
    assert await store.find(target, KEY) is None
    own = Counter({"lstat": 99, "close": 99})  # the server's own, and what is not waited for
    assert Counter(steps) - own == Counter(["scandir", "stat"])  # both at once
    upload = await begin(store, target)
    parts = await send(store, target, upload)
    steps.clear()
    await complete(store, target, upload, parts)
    # Its two ends; and as its upload ends, not to see what it has just noted.
    assert steps.count("read") == 3
    steps.clear()
    found = await store.find(target, KEY)
    assert found is not None
    assert found.marks == MARKS
    assert Counter(steps) - own == Counter(["stat", "scandir", "open", "fstat", "read"])


async def test_an_object_that_comes_between_both_requests_of_a_look_keeps_its_marks(
    server: OwnServer, store: SftpStore, other: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may answer the second one first: what is noted was listed before the object came."""
    target = server.target
    upload = await begin(other, target)
    parts = await send(other, target, upload)
    listed, names_in, described = asyncio.Event(), files.names_in, files.described

    async def list_first(*arguments: Any, **options: Any) -> list[str]:
        monkeypatch.setattr(files, "names_in", names_in)
        try:
            return await names_in(*arguments, **options)
        finally:
            listed.set()

    async def describe_last(sftp: asyncssh.SFTPClient, path: str) -> asyncssh.SFTPAttrs | None:
        monkeypatch.setattr(files, "described", described)
        await listed.wait()
        await complete(other, target, upload, parts)
        return await described(sftp, path)

    monkeypatch.setattr(files, "names_in", list_first)
    monkeypatch.setattr(files, "described", describe_last)
    found = await store.find(target, KEY)
    assert found is not None
    assert (found.size, found.marks) == (len(WHOLE), MARKS)


# Who is spoken to.


async def test_a_server_with_another_host_key_is_told_nothing(
    server: OwnServer, store: SftpStore
) -> None:
    pinned = asyncssh.generate_private_key("ssh-ed25519")
    target = replace(
        server.target,
        host_key=pinned.export_public_key().decode(),
        key=None,
        password=PASSWORD,
    )
    with pytest.raises(TargetRefusedError, match="is not the server that is expected") as raised:
        await store.look(target)
    shown = asyncssh.import_public_key(server.host_key).get_fingerprint()
    for text in (shown, pinned.get_fingerprint(), "host_key in the tenant's settings"):
        assert text in str(raised.value)
    assert PASSWORD not in str(raised.value)
    assert server.faults.steps == []


@pytest.mark.parametrize("pinned", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
async def test_a_fingerprint_pins_a_key_of_whatever_type(tmp_path: Path, pinned: str) -> None:
    kinds = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
    order = (pinned, *(kind for kind in kinds if kind != pinned))
    async with own_server(tmp_path, host_keys=order) as server, open_store() as store:
        fingerprint = asyncssh.import_public_key(server.host_key).get_fingerprint()
        for host_key in (fingerprint, server.host_key, f"[127.0.0.1]:22 {server.host_key}"):
            await store.look(replace(server.target, host_key=host_key))


async def test_a_server_without_a_key_of_the_pinned_type_is_told_so(
    server: OwnServer, store: SftpStore
) -> None:
    pinned = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    with pytest.raises(TargetRefusedError, match="has no key of the type of host_key"):
        await store.look(replace(server.target, host_key=pinned))


async def test_a_password_lets_in_and_another_does_not(server: OwnServer, store: SftpStore) -> None:
    by_password = replace(server.target, key=None, password=PASSWORD)
    await store.look(by_password)
    with pytest.raises(TargetRefusedError, match="with this password") as raised:
        await store.look(replace(by_password, password="another made-up one"))
    assert "made-up" not in str(raised.value)
    assert "made-up" not in repr(by_password)


async def test_a_server_that_asks_for_the_password_is_given_it(
    tmp_path: Path, store: SftpStore
) -> None:
    async with own_server(tmp_path, asks=True) as server:
        by_password = replace(server.target, key=None, password=PASSWORD)
        await store.look(by_password)
        with pytest.raises(TargetRefusedError, match="with this password"):
            await store.look(replace(by_password, password="another made-up one"))


async def test_a_private_key_that_is_not_known_there_is_refused(
    server: OwnServer, store: SftpStore
) -> None:
    key = asyncssh.generate_private_key("ssh-rsa").export_private_key("pkcs8-pem").decode()
    target = replace(server.target, key=key)
    with pytest.raises(TargetRefusedError, match="with this key") as raised:
        await store.look(target)
    for text in (str(raised.value), repr(target), str(target)):
        assert "PRIVATE KEY" not in text


async def test_a_process_whose_user_has_no_name_says_what_to_set(
    server: OwnServer, store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as a user of its own number."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nameless)
    with pytest.raises(TargetUnavailableError, match="LOGNAME"):
        await store.look(server.target)


async def test_no_connection_is_opened_to_where_tenants_may_not_deliver(server: OwnServer) -> None:
    hosts = AllowedHosts.of(["*"])
    async with open_store(hosts=hosts) as store:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(TargetForbiddenError, match="loopback"):
                await store.look(replace(server.target, host=host))
    assert server.connections == set()


async def test_an_address_is_judged_when_a_name_leads_there(server: OwnServer) -> None:
    class Judge:
        """Allows the name, and not the address that it leads to."""

        def flaw_of(self, _endpoint: str) -> None:
            return None

        def flaw_of_address(self, _endpoint: str, address: str) -> str:
            return f"{address} is forbidden"

    hosts: Any = Judge()
    async with open_store(hosts=hosts) as store:
        with pytest.raises(TargetForbiddenError, match="is forbidden"):
            await store.look(server.target)
    assert server.connections == set()


# Connections.


async def test_all_calls_of_a_target_share_a_connection(
    server: OwnServer, store: SftpStore
) -> None:
    await asyncio.gather(*(store.find(server.target, f"k-{n}") for n in range(20)))
    await store.find(replace(server.target, prefix="in/"), "k")
    assert len(server.connections) == 1


async def test_a_connection_that_is_not_used_is_closed(server: OwnServer) -> None:
    async with contextlib.aclosing(SftpStore(SftpConnections(idle=0.01))) as store:
        await store.find(server.target, KEY)
        (connection,) = server.connections
        await connection.wait_closed()
        assert len(store.connections) == 0
        assert await store.find(server.target, KEY) is None


# Tried.


async def test_the_doctor_tries_every_target(server: OwnServer) -> None:
    targets = {"good": server.target, "gone": replace(server.target, path="/gone")}
    settings = make_tenant_settings(target=server.target, targets=targets)
    tenants: Any = SimpleNamespace(
        unreadable=dict, borrowing=dict, paused=lambda _: False, settings=lambda _: settings
    )
    process = Settings(tenants=("t",), s3_allowed_hosts=("127.0.0.0/8",))
    found = {
        finding.check: finding.message
        async for finding in doctor.check_targets(process, tenants)
        if finding.part == "sftp" and not finding.ok
    }
    assert found.keys() == {"t gone: credentials and folder"}
    assert "create the folder" in found["t gone: credentials and folder"]
    assert server.left() == []


async def test_a_target_that_is_good_is_said_to_be_and_nothing_is_left(
    server: OwnServer, store: SftpStore
) -> None:
    for steps in (await store.probe(server.target), await store.examine(server.target)):
        assert [(step.check, step.ok) for step in steps] == [
            ("reachable", True),
            ("credentials and folder", True),
            ("writable", True),
        ]
    assert server.left() == []


async def test_trying_a_target_ends_at_the_step_that_fails(
    server: OwnServer, store: SftpStore
) -> None:
    def denied() -> None:
        raise asyncssh.SFTPPermissionDenied("no")

    for target, failed, words in (
        (replace(server.target, key=None, password="wrong"), 1, "does not let the user"),
        (replace(server.target, path="/gone"), 1, "create the folder, or correct path"),
        (server.target, 2, "give the user the right"),
    ):
        server.faults.before = At(denied, names="mkdir")
        for steps in (await store.probe(target),):
            assert [step.ok for step in steps] == [True] * failed + [False]
            assert words in steps[-1].flaw
    assert server.left() == []


async def test_a_tenant_is_told_the_same_of_whatever_is_no_ssh_server(store: SftpStore) -> None:
    target = make_target(port=free_port())
    (step,) = await try_for_tenant(store, target, seconds=0.1)
    assert (step.check, step.ok) == ("reachable", False)
    assert step.flaw.startswith("no SFTP server can be used for folder /archives")
    with pytest.raises(TargetUnavailableError) as raised:
        await store.look(target)
    assert str(store.told(target, raised.value)) == step.flaw
    (step,) = await store.examine(target)
    assert "no SFTP server answers" in step.flaw  # what an operator is told
