"""Several failures in the life of one archive, at random calls: it is there, whole, or it is not.

Each single call is failed one by one in `test_file_faults` and `test_sftp_faults`; here some fail
together, and workers take the upload over from each other in between.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import ObjectStore, StoredPart, Upload
from app.delivery.targets import Target
from app.errors import TargetUnavailableError, UploadLostError
from sinks.pipeline.parts import Part
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget
from sinks.stores.sftp.managed import open_store
from tests.builders import at_any_time, make_delivery
from tests.contract.object_store import ZIP
from tests.sftp_server import OwnServer, own_server
from tests.unit.test_file_store import left_in, make_settings

KEY = "c/a.zip"
OLD, PARTS = b"old", (b"1" * 5000, b"2" * 5000, b"3" * 5000, b"the end")
WHOLE = b"".join(PARTS)
ATTEMPTS = 40
SFTP_SEEDS, FILE_SEEDS = range(60), range(200)


class Weather:
    """Says at which calls it strikes: a few times, and not again."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.left = random.randint(1, 5)
        self.calm = random.randrange(80)  # calls till it strikes

    def strikes(self) -> bool:
        """Whether it does at this call."""
        self.calm -= 1
        if self.calm >= 0 or not self.left:
            return False
        self.left -= 1
        self.calm = self.random.randrange(80)
        return True


class Stopped(BaseException):
    """The worker is no more."""


@dataclass(kw_only=True)
class Archive:
    """One that workers put, each with a store of its own."""

    random: Random
    target: Target
    workers: list[Callable[[], ObjectStore[Any]]]  # the store that each of them has by then
    content: Callable[[], bytes | None]  # of the object
    marks: dict[str, str] = field(default_factory=lambda: marks_of(make_delivery()))
    upload: Upload | None = None
    asked: bool = False  # for its completion

    async def live(self, before: bytes | None) -> None:
        """Attempt it until it is there, or is given up."""
        for _ in range(ATTEMPTS):
            try:
                await self.attempt(self.random.choice(self.workers)())
            except UploadLostError:
                self.upload, self.asked = None, False
            except (TargetUnavailableError, Stopped):
                pass
            else:
                assert self.content() == WHOLE
                return
            assert self.content() in (before, WHOLE)
            if self.random.random() < 0.1:
                return
        pytest.fail(f"it was attempted {ATTEMPTS} times")

    async def attempt(self, store: ObjectStore[Any]) -> None:
        there: dict[int, str] = {}
        if self.upload is None:
            for upload in await store.open_uploads(self.target, KEY):
                await store.abort(self.target, upload)
            self.upload = await store.create_upload(self.target, KEY, self.marks, media_type=ZIP)
        else:
            there = await store.part_etags(self.target, self.upload)
        parts: dict[int, StoredPart] = {}
        for number in self.random.sample(range(1, len(PARTS) + 1), len(PARTS)):
            part = Part.of(PARTS[number - 1])
            if there.get(number) == part.md5.hex():
                parts[number] = StoredPart(etag=part.md5.hex(), md5=part.md5)
            else:
                parts[number] = await store.put_part(self.target, self.upload, number, part)
        again, self.asked = self.asked, True
        named = [parts[number] for number in sorted(parts)]
        await store.complete(
            self.target, self.upload, named, len(WHOLE), marks=self.marks, again=again
        )

    async def end(self, store: ObjectStore[Any], old: dict[str, str]) -> None:
        """End what is open; what is there is told as what it is."""
        own = [] if self.upload is None else [self.upload]  # known, though its worker died
        for upload in [*await store.open_uploads(self.target, KEY), *own]:
            await store.abort(self.target, upload)
        assert await store.open_uploads(self.target, KEY) == []
        found, content = await store.find(self.target, KEY), self.content()
        if content is None:
            assert found is None
        else:
            assert found is not None
            assert found.size == len(content)
            assert found.marks == (self.marks if content == WHOLE else old)


async def put(store: ObjectStore[Any], target: Target, marks: dict[str, str]) -> None:
    """Make what is there before."""
    await store.put_object(target, KEY, Part.of(OLD), marks, media_type=ZIP, may=at_any_time)


def hidden(left: list[str]) -> list[str]:
    return [name for name in left if "rs-delivery" in name]


# A connection that breaks.


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with own_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("seed", SFTP_SEEDS)
async def test_an_archive_on_an_sftp_server_is_whole_however_often_connections_break(
    server: OwnServer, seed: int
) -> None:
    random, target, old = Random(seed), server.target, marks_of(make_delivery())
    path = server.folder / KEY
    async with open_store() as one, open_store() as other:
        before = OLD if random.random() < 0.5 else None
        if before is not None:
            await put(one, target, old)
        archive = Archive(
            random=random,
            target=target,
            workers=[lambda: one, lambda: other],
            content=lambda: path.read_bytes() if path.exists() else None,
        )
        weather = Weather(random)

        def break_before(_name: str, _: tuple[Any, ...]) -> None:
            if weather.strikes():
                if random.random() < 0.5:
                    server.break_off()
                server.break_connections()  # and the step is taken all the same

        server.faults.before = break_before
        await archive.live(before)
        server.faults.before = None
        await archive.end(one, old)
    # A folder, and in it a note.
    assert len(hidden(server.left())) == (0 if archive.content() is None else 2)


# A file system that fails.


class Failing(System):
    """Fails at some calls, before they are made or after; or its worker is killed there."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.dead = False

    def __getattribute__(self, name: str) -> Any:
        real = super().__getattribute__(name)
        if name.startswith("_") or name == "close" or not hasattr(System, name):
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            if self.dead:
                raise Stopped
            strikes, random = self.weather.strikes(), self.weather.random
            if strikes and random.random() < 0.5:
                self._fail(random)
            done = real(*arguments, **named)
            if strikes:
                if isinstance(done, int) and name.startswith(("open", "make_file")):
                    os.close(done)
                self._fail(random)
            return done

        return call

    def _fail(self, random: Random) -> None:
        number = random.choice([errno.ENOSPC, errno.EIO, errno.ESTALE, None])
        if number is None:
            self.dead = True
            raise Stopped
        raise OSError(number, os.strerror(number))

    def sync(self, fd: int) -> None:
        """Do nothing: this machine does not crash."""


@pytest.mark.parametrize("seed", FILE_SEEDS)
async def test_an_archive_in_a_folder_is_whole_however_often_the_file_system_fails(
    tmp_path: Path, seed: int
) -> None:
    random, old = Random(seed), marks_of(make_delivery())
    path, settings = tmp_path / KEY, make_settings(tmp_path)
    target, calm = FileTarget(path=str(tmp_path)), FileObjectStore(settings)
    before = OLD if random.random() < 0.5 else None
    if before is not None:
        await put(calm, target, old)
    weather = Weather(random)
    systems = [Failing(weather), Failing(weather)]

    def worker(number: int) -> FileObjectStore:
        if systems[number].dead:  # another one has its place
            systems[number] = Failing(weather)
        return FileObjectStore(settings, system=systems[number])

    archive = Archive(
        random=random,
        target=target,
        workers=[lambda: worker(0), lambda: worker(1)],
        content=lambda: path.read_bytes() if path.exists() else None,
    )
    await archive.live(before)
    await archive.end(calm, old)
    assert len(hidden(left_in(tmp_path))) == (0 if archive.content() is None else 2)
