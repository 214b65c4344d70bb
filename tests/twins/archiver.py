"""The archiver in one coroutine: a file after the other, whole."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from app.delivery.checkpoint import Boundary, Checkpoint, Step, Tail
from app.delivery.contents import NOTHING, Packed, Wanted
from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.manifest_document import media_type_of
from app.delivery.marks import marks_of
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, PartBody, StoredObject, StoredPart, Upload
from app.delivery.ports import Folder, LeavesOut, OrderSource
from app.delivery.progress import Phase, Progress
from app.delivery.targets import Target
from app.errors import (
    CheckpointUnusableError,
    LeaseLostError,
    NothingAvailableError,
    SourceRefusedError,
    WrongCrc32Error,
    WrongFileError,
)
from sinks.formats import as_wanted, format_of, going_on, made_by_of
from sinks.formats.archive_format import ArchiveWriter
from sinks.formats.files import MD5_MARK, SHA256_MARK, Files, ManifestWriter, Placed
from sinks.pipeline.parts import MIB, Part
from sinks.pipeline.rechunk import rechunk


@dataclass(frozen=True, kw_only=True)
class PlainArchiver:
    """See `app.delivery.ports.Archiver`. The same files give the same object as the real one.

    What fails is not tried again, and no slot is given up: nothing here takes time but what the
    source and the store take. `clock` is in seconds.
    """

    source: OrderSource
    objects: ObjectStore[Any]
    report: Callable[[Progress], None] = lambda _progress: None
    clock: Callable[[], float] = lambda: 0.0
    compression: str = "auto"
    part_size: int = 5 * MIB

    def media_type(self, delivery: Delivery) -> str:
        """Return the media type of its archive's format."""
        return format_of(delivery.archive_name or "").media_type

    def memory_of(
        self,
        delivery: Delivery,
        *,
        at_most: int,
        name_bytes: int,
        after: Checkpoint | None = None,
        wanted: Wanted = NOTHING,
    ) -> int:
        """Return the bytes of memory that a transfer holds: none are counted here."""
        return 0

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile | Seam],
        target: Target,
        upload: Upload,
        *,
        at_most: int,
        name_bytes: int,
        most_files: int | None = None,
        lease: Lease,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        save: Callable[[Step], Awaitable[bool]],
        put_aside: Callable[[PartBody], Awaitable[Tail]],
        folder: Folder,
        keep: Callable[[StoredObject, int, bytes], Awaitable[bool]] | None = None,
        wanted: Wanted = NOTHING,
        leaving_out: LeavesOut | None = None,
        after: Checkpoint | None = None,
    ) -> StoredObject | None:
        """Transfer one delivery. Raises LeaseLostError rather than complete without a lease.

        It saves nothing before it pauses, and goes on from its own pauses alone.
        """
        began = self.clock()
        done_bytes = done_files = 0

        def tell(phase: Phase) -> None:
            self.report(
                Progress(
                    tenant=delivery.tenant,
                    correlation_id=delivery.correlation_id,
                    delivery=delivery.id,
                    attempt=delivery.attempt,
                    phase=phase,
                    bytes_done=done_bytes,
                    bytes_total=delivery.total_bytes,
                    files_done=done_files,
                    files_total=delivery.file_count,
                    elapsed=self.clock() - began,
                )
            )

        begun = _Begun(self, delivery, target, upload, after, wanted)
        try:
            tell(Phase.TRANSFERRING)
            await begun.go_on(files)
            segment: list[tuple[ManifestFile, bytes]] = []
            async for file in files:
                if isinstance(file, Seam):
                    begun.add(segment)
                    segment = []
                    if file is Seam.PAUSE:
                        await begun.pause(save, put_aside)
                        tell(Phase.PAUSED)
                        return None
                    continue
                content = await self._unless_missing(delivery, file, begun, folder, leaving_out)
                if content is None:
                    continue
                segment.append((file, content))
                done_bytes += len(segment[-1][1])
                done_files += 1
                tell(Phase.TRANSFERRING)
            begun.add(segment)
            if leaving_out is not None:
                await begun.without(leaving_out)
            archive, parts = await begun.end()
            tell(Phase.COMPLETING)
            expected = StoredObject(
                url=target.url_of(upload.key),
                md5=hashlib.md5(archive).hexdigest(),
                size=len(archive),
                etag=self.objects.etag_of(target, parts),
                files=begun.files,
                sha256=hashlib.sha256(archive).hexdigest() if wanted.sha256 else None,
            )
            if not await _kept(begun, expected, after, keep):
                raise LeaseLostError(f"the lease of {delivery} ran out before its completion")
            if not await may_complete(expected):
                raise LeaseLostError(f"the lease of {delivery} ran out before its completion")
            etag = await self.objects.complete(
                target, upload, parts, expected.size, marks=marks_of(delivery), md5=expected.md5
            )
        except BaseException:
            tell(Phase.FAILED)
            raise
        finally:
            begun.close()
        tell(Phase.DONE)
        return replace(expected, etag=etag)

    async def _unless_missing(
        self,
        delivery: Delivery,
        file: ManifestFile,
        begun: _Begun,
        folder: Folder,
        leaving_out: LeavesOut | None,
    ) -> bytes | None:
        """Return a file's bytes; None if it is left out."""
        while True:
            try:
                return await self._read(delivery, file, begun, folder)
            except (SourceRefusedError, WrongFileError) as error:
                error.position = file.position
                if leaving_out is None or isinstance(error, WrongCrc32Error):
                    raise
                if await leaving_out.leaves_out(file, error):
                    return None
                if not isinstance(error, WrongFileError):
                    raise

    async def _read(
        self, delivery: Delivery, file: ManifestFile, begun: _Begun, folder: Folder
    ) -> bytes:
        """Return a file's bytes; one that is delivered as it is, is put where it is to be.

        Raises WrongFileError unless they are what the listing says.
        """
        if begun.folder is not None and folder.may_be_there and await begun.has(file):
            return b""
        content = await self._content(delivery, file)
        if begun.folder is not None:
            await begun.put(file, content, folder)
        return content

    async def _content(self, delivery: Delivery, file: ManifestFile) -> bytes:
        async with self.source.download(delivery, file) as chunks:
            content = b"".join([chunk async for chunk in chunks])
        by_crc32 = WrongFileError if file.md5 is None else WrongCrc32Error
        for expected, found, error in (
            (file.size, len(content), WrongFileError),
            (file.crc32, zlib.crc32(content), by_crc32),
            (file.md5, hashlib.md5(content).hexdigest(), WrongFileError),
        ):
            if expected not in (found, None):
                raise error(f"file {file.file_id}: expected {expected}, got {found}")
        return content


async def _kept(
    begun: _Begun,
    expected: StoredObject,
    after: Checkpoint | None,
    keep: Callable[[StoredObject, int, bytes], Awaitable[bool]] | None,
) -> bool:
    """Whether what a manifest tells of the files is kept, if anything is to be."""
    first = after.boundary.members if after else 0
    contents = begun.contents
    return not contents or (keep is not None and await keep(expected, first, contents))


class _Begun:
    """The bytes of an archive, from the first. They are its state between two pauses, too."""

    def __init__(
        self,
        by: PlainArchiver,
        delivery: Delivery,
        target: Target,
        upload: Upload,
        after: Checkpoint | None,
        wanted: Wanted,
    ) -> None:
        form = as_wanted(format_of(delivery.archive_name or ""), wanted)
        if after is not None:
            form = going_on(form, after)
        self._made_by = made_by_of(form)
        self._sha256 = form.sha256 if isinstance(form, Files) else wanted.sha256
        before = 0 if after is None else after.boundary.members
        listed = wanted.contents and not isinstance(form, Files)
        self._kept = Packed(before, sha256=wanted.sha256) if listed else None
        self.folder: str | None = None  # what keys of files begin with that are no archive
        self._placed: dict[int, Placed] = {}
        self.missing: list[MissingFile] = []
        self._marks = marks_of(delivery)
        self._writer: ArchiveWriter
        if isinstance(form, Files):
            self.folder = upload.key.removesuffix(form.suffix)
            self._writer = form.writer(
                delivery.correlation_id, self._there, missing=lambda: self.missing
            )
        else:
            self._writer = form.writer(compression=by.compression)
        self._by = by
        self._target = target
        self._upload = upload
        self._after = after
        self._archive = b"" if after is None else after.boundary.md5_state
        self._parts: list[StoredPart] = [] if after is None else list(after.parts)

    async def go_on(self, files: AsyncIterator[ManifestFile | Seam]) -> None:
        """Take what was saved. Raises CheckpointUnusableError when the tail is another one."""
        if (after := self._after) is None:
            return
        if (tail := after.tail) is not None:
            read = self._by.objects.read_aside
            content = b"".join(await read(self._target, tail.key, size=tail.size))
            if (len(content), hashlib.md5(content).digest()) != (tail.size, tail.md5):
                raise CheckpointUnusableError(f"{tail.key} is another one, or gone")
            self._archive += content
        async for members in after.members():
            for finished in members:
                while isinstance(file := await anext(files), Seam):
                    pass
                self._writer.skip(file, finished)

    async def has(self, file: ManifestFile) -> bool:
        """Whether an earlier attempt has put a file."""
        found = await self._by.objects.find(self._target, f"{self.folder}{file.member}")
        if found is None or not found.has(self._marks) or found.size != file.size:
            return False
        if file.md5 is None or found.marks.get(MD5_MARK) != file.md5:
            return False
        sha256 = found.marks.get(SHA256_MARK)
        if self._sha256 and sha256 is None:
            return False
        self._placed[file.position] = Placed(size=found.size, md5=file.md5, sha256=sha256)
        return True

    async def put(self, file: ManifestFile, content: bytes, folder: Folder) -> None:
        """Put a file, however large."""
        if len(content) >= self._by.objects.uploads_from(self._target):
            await folder.clear(f"{self.folder}{file.member}")
        sha256 = hashlib.sha256(content).hexdigest() if self._sha256 else None
        placed = Placed(size=len(content), md5=hashlib.md5(content).hexdigest(), sha256=sha256)
        marks = {MD5_MARK: placed.md5} | ({SHA256_MARK: sha256} if sha256 else {})
        await self._by.objects.put_object(
            self._target,
            f"{self.folder}{file.member}",
            Part.of(content),
            self._marks | marks,
            media_type=media_type_of(file),
            may=folder.may_put,
        )
        self._placed[file.position] = placed

    def _there(self, file: ManifestFile, blocks: Iterator[bytes]) -> Future[Placed]:
        for _ in blocks:
            pass
        done: Future[Placed] = Future()
        done.set_result(self._placed.pop(file.position))
        return done

    async def without(self, leaving_out: LeavesOut) -> None:
        """Take what it is without. Raises NothingAvailableError when that is all."""
        if not self.files:
            raise NothingAvailableError("each file is missing")
        self.missing += [file async for file in leaving_out.missing()]

    def add(self, members: list[tuple[ManifestFile, bytes]]) -> None:
        """Add a segment."""
        for batch in self._writer.batches((file, rechunk([c])) for file, c in members):
            self._archive += b"".join(batch)
        if self._kept is None:
            return
        for file, content in members:
            self._kept.add(
                file.position,
                size=len(content),
                crc32=zlib.crc32(content),
                md5=hashlib.md5(content).digest(),
                sha256=hashlib.sha256(content).digest() if self._sha256 else b"",
            )

    @property
    def contents(self) -> bytes | None:
        """What is known of the files that were added, for a manifest."""
        if self._kept is None:
            return None
        return self._kept.of(self._after.boundary.members if self._after else 0, self.files)

    async def pause(
        self,
        save: Callable[[Step], Awaitable[bool]],
        put_aside: Callable[[PartBody], Awaitable[Tail]],
    ) -> None:
        """Save all that was added."""
        size, before = self._by.part_size, self._after.boundary.members if self._after else 0
        if self._writer.count == before:
            return
        known = len(self._parts)
        await self._send(len(self._archive) // size)
        boundary = len(self._parts) * size
        rest = self._archive[boundary:]
        step = Step(
            follows=known,
            part_size=size,
            boundary=Boundary(
                parts=len(self._parts),
                md5_state=self._archive[:boundary],
                members=self._writer.count,
                crc=0,
            ),
            parts=self._parts[known:],
            members=self._writer.finished(before, self._writer.count),
            tail=await put_aside(Part.of(rest)) if rest else None,
            made_by=self._made_by if isinstance(self._writer, ManifestWriter) else "",
            contents=self.contents,
        )
        if not await save(step):
            raise LeaseLostError("another worker has the archive that pauses")

    @property
    def files(self) -> int:
        """Files that are in the archive."""
        return self._writer.count

    async def end(self) -> tuple[bytes, list[StoredPart]]:
        """Send the rest; return the whole archive, and its parts."""
        self._archive += b"".join(self._writer.end())
        await self._send(-(-len(self._archive) // self._by.part_size))
        return self._archive, self._parts

    def close(self) -> None:
        """End the threads of the archive's format."""
        self._writer.close()

    async def _send(self, count: int) -> None:
        """Send the first parts, so many, as far as they are not there."""
        size = self._by.part_size
        for number in range(len(self._parts), count):
            content = self._archive[number * size : (number + 1) * size]
            put = self._by.objects.put_part
            self._parts.append(await put(self._target, self._upload, number + 1, Part.of(content)))
