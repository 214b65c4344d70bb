"""Files on their way to the store, each an object of its own: many small ones at the same time.

The archive's thread brings their bytes, one file after the other, and goes on with the next one
while the event loop sends them. A file that fits into a part is whole in memory, and verified,
before it is sent; of a larger one parts are sent as they come, and it is completed once it is
verified (`large_file`). So no wrong file ever appears.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from isal import isal_zlib

from app.delivery.kept_files import KeptFile
from app.delivery.manifest import ManifestFile
from app.delivery.manifest_document import media_type_of
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore
from app.delivery.ports import Folder
from app.delivery.targets import Target
from app.errors import ArchiveTooLargeError
from sinks.formats.files import MD5_MARK, SHA256_MARK, Placed
from sinks.pipeline.digest import paired_md5
from sinks.pipeline.handover import AbortedError
from sinks.pipeline.large_file import LargeFile, named, wrong
from sinks.pipeline.parts import MAX_PARTS, FolderPlan, Part
from sinks.pipeline.prefetch import FileSource
from sinks.pipeline.room import Room
from sinks.pipeline.verify import check_crc32

T = TypeVar("T")

# Seconds in which files that are half-sent are kept, and uploads aborted that lead to nothing; what
# isn't done then, others do.
_CLEARING = 3.0

# Does something at the store, again and again while it is away; a body of so many bytes is sent.
Send = Callable[[Part | None, Callable[[], Awaitable[Any]]], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Placing:
    """Where files are put, and as whose."""

    objects: ObjectStore[Any]
    target: Target
    folder: str  # what their keys begin with
    marks: Mapping[str, str]
    plan: FolderPlan
    max_object_size: int  # bytes
    may: Folder
    send: Send
    sha256: bool = False  # whether it is told of each file
    failed: Callable[[BaseException], None]  # told of what ends it
    kept: Callable[[int], object]  # told of bytes that need not be sent again


class Placer:
    """Puts files. `place` is for the archive's thread, all else for the event loop."""

    def __init__(self, by: Placing) -> None:
        self._by = by
        self._loop = asyncio.get_running_loop()
        self._room = Room(by.plan.files)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: set[LargeFile] = set()
        self._stopped = False
        # By position: files that need not be put, or not all of them.
        self.there: dict[int, Placed] = {}
        self.kept: dict[int, KeptFile] = {}

    def place(self, file: ManifestFile, blocks: Iterator[bytes]) -> Future[Placed]:
        """Take a file's bytes, and begin to put it; return what tells when it is there.

        Raises WrongFileError, and what reading it, or putting an earlier one, raises.
        """
        key = self._by.folder + file.member
        digests = paired_md5()
        kept: KeptFile | None = None
        large: LargeFile | None = None
        sha256 = hashlib.sha256() if self._by.sha256 else None
        pieces: list[bytes | memoryview] = []
        part_size = have = size = crc32 = 0
        for block in blocks:
            if not part_size:  # by then it is known what an earlier attempt has sent
                kept = self.kept.pop(file.position, None)
                part_size = kept.part_size if kept else self._by.plan.part_size_of(file)
            size += len(block)
            self._check_size(file, size, part_size)
            crc32 = isal_zlib.crc32(block, crc32)
            if sha256 is not None:
                sha256.update(block)
            self._room.take(len(block))
            rest = memoryview(block)
            while have + len(rest) > part_size:
                pieces.append(rest[: part_size - have])
                digests.update(pieces[-1])
                rest = rest[part_size - have :]
                large = large or LargeFile(self, file, key, part_size, kept)
                large.put(Part(pieces, part_size, digests.next_part()))
                pieces, have = [], 0
            digests.update(rest)
            pieces.append(rest)
            have += len(rest)
        if not size and (there := self.there.pop(file.position, None)) is not None:
            done: Future[Placed] = Future()
            done.set_result(there)
            return done
        if file.size is not None and size != file.size:
            raise wrong(file, f"expected {file.size} bytes, got {size}")
        check_crc32(file, crc32)
        last = Part(pieces, have, digests.next_part())
        placed = Placed(
            size=size,
            md5=digests.digest().hex(),
            sha256=None if sha256 is None else sha256.hexdigest(),
        )
        if file.md5 is not None and placed.md5 != file.md5:
            raise wrong(file, f"expected MD5 {file.md5}, got {placed.md5}")
        if large is None:
            return self.submit(partial(self._put, key, file, last, placed))
        large.put(last)
        return large.complete(placed)

    def _check_size(self, file: ManifestFile, size: int, part_size: int) -> None:
        if file.size is not None and size > file.size:
            raise wrong(file, f"expected {file.size} bytes, got more")
        most = min(self._by.max_object_size, MAX_PARTS * part_size)
        if size > most:
            raise ArchiveTooLargeError(
                f"{named(file)} is larger than {most} bytes, which is all that one object takes "
                "here: raise DELIVERY_MAX_OBJECT_SIZE if the target takes more; a file whose size "
                "rs-order does not tell may need a larger DELIVERY_PART_SIZE"
            )

    def submit(self, act: Callable[[], Awaitable[T]]) -> Future[T]:
        """Have something done in the event loop; for the archive's thread."""
        return asyncio.run_coroutine_threadsafe(self._tracked(act), self._loop)

    def _tracked(self, act: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        async def run() -> T:
            if self._stopped:
                raise AbortedError
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - `submit` made one
            self._tasks.add(task)
            try:
                return await act()
            except Exception as error:
                self._room.fail(error)
                self._by.failed(error)
                raise
            finally:
                self._tasks.discard(task)

        return run()

    async def _put(self, key: str, file: ManifestFile, body: Part, placed: Placed) -> Placed:
        """Put a file that is whole, and verified."""
        by = self._by
        marks = {**by.marks, MD5_MARK: placed.md5}
        if placed.sha256 is not None:
            marks[SHA256_MARK] = placed.sha256
        media_type = media_type_of(file)
        has_upload = len(body) >= by.objects.uploads_from(by.target)

        async def put() -> str:
            await by.may.may_put()  # so that the store, which has looked then, need not wait for it
            if has_upload:
                await by.may.clear(key)
            try:
                return await by.objects.put_object(
                    by.target, key, body, marks, media_type=media_type, may=by.may.may_put
                )
            except BaseException:
                if has_upload:
                    by.may.leaves_open()  # what it was put by, if it was not aborted
                raise

        try:
            await by.send(body, put)
        finally:
            self._room.give(len(body))
        return placed

    def abort(self) -> None:
        """Send nothing more; a thread that waits for room or for a file goes on with an error."""
        self._stopped = True
        self._room.fail(AbortedError())
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Return when nothing is on its way any more; leave no upload open that is not kept."""
        self.abort()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEARING):
                await asyncio.gather(*(large.end() for large in set(self._open)))

    # Of the files that are larger than a part.

    @property
    def by(self) -> Placing:
        """Where they are put."""
        return self._by

    def opened(self, large: LargeFile) -> None:
        """Note that an upload is open."""
        self._open.add(large)

    def closed(self, large: LargeFile) -> None:
        """Note that it is an object."""
        self._open.discard(large)

    def sent(self, part: Part) -> None:
        """Note that a part has left memory."""
        self._room.give(len(part))


class UnlessThere:
    """Files of a delivery, but for those that an earlier attempt has put: they are not read again.

    An object counts that has the marks of this very delivery, and the size and MD5 that the file is
    to have: such an object appears only once its file is verified. Of one that is not there, it is
    looked whether a part of it was sent.
    """

    def __init__(
        self,
        source: FileSource,
        placer: Placer,
        count: Callable[[int], object],
    ) -> None:
        self._source = source
        self._placer = placer
        self._count = count

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes: none of one that is there, which is noted before."""
        placing = self._placer.by
        placed = await found_before(placing, file)
        if placed is not None:
            self._placer.there[file.position] = placed
            self._count(placed.size)
            yield _nothing()
            return
        if (kept := await kept_before(placing, file)) is not None:
            self._placer.kept[file.position] = kept
        async with self._source.download(delivery, file) as chunks:
            yield chunks


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


async def found_before(placing: Placing, file: ManifestFile) -> Placed | None:
    """Return a file that an earlier attempt of the delivery has put."""
    key = placing.folder + file.member
    find = partial(placing.objects.find, placing.target, key)
    found = await placing.send(None, find)
    if found is None or not found.has(placing.marks):
        return None
    md5 = found.marks.get(MD5_MARK)
    if md5 is None or file.md5 not in (None, md5) or file.size not in (None, found.size):
        return None
    sha256 = found.marks.get(SHA256_MARK)
    if placing.sha256 and sha256 is None:  # it is to be told, so the file is read again
        return None
    return Placed(size=found.size, md5=md5, sha256=sha256)


async def kept_before(placing: Placing, file: ManifestFile) -> KeptFile | None:
    """Return what an earlier attempt of the delivery has sent of a file that has several parts."""
    if file.size is None or file.size <= placing.plan.part_size_of(file):
        return None
    resume = partial(placing.may.resume, file, at_most=placing.plan.largest_part)
    kept: KeptFile | None = await placing.send(None, resume)
    return kept
