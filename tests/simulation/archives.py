"""The thread that makes an archive, as a stage of the event loop: the bytes are few.

What comes before and after it is the real thing: `sinks.transfer` sends parts, waits, and
completes. The archive is the members one after the other, made by processors of two kinds.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.delivery.checkpoint import Boundary, Checkpoint, FinishedMember, Step, Tail
from app.delivery.contents import Packed
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart
from app.delivery.ports import LeavesOut, OrderSource
from app.errors import CheckpointUnusableError, SourceRefusedError, WrongFileError
from sinks.formats.files import MD5_MARK, Placed
from sinks.pipeline import parts
from sinks.pipeline.assembler import Rest
from sinks.pipeline.handover import AbortedError
from sinks.pipeline.leaving_out import FileMissingError
from sinks.pipeline.meter import Meter
from sinks.pipeline.parts import FolderPlan, Part, PartPlan
from sinks.pipeline.placing import Placing
from tests.simulation.processes import Process, current

MEMORY = "bytes of transfers"  # that their plans allow them
# How many bytes of a plan a byte of a night stands for: the files are small, and yet have several
# parts, as large ones have.
_SCALE = 8192
# Threads that compress take more than half of the memory that the workers of a night have: here a
# transfer takes no more than others, so that two have room.
_MOST_MEMORY = 32 * 1024 * 1024

Place = Callable[[ManifestFile, bytes], Awaitable[Placed]]  # puts a file


# What ends the line before a member's content, by the kind of processor that made it: libraries
# compress by what it can do.
_KINDS = (b"\n", b"\r")
_MISSING = b"- "  # so begins what tells of missing files


def _member(name: str, content: bytes, kind: bytes) -> bytes:
    return f"{name} {len(content)}".encode() + kind + content


def members_of(archive: bytes, files: Sequence[tuple[str, bytes]]) -> list[str] | None:
    """Return which of some files an archive has, in their order; None: it is of something else.

    Each may be made by another kind of processor.
    """
    found = []
    for name, content in files:
        made = next(filter(archive.startswith, (_member(name, content, k) for k in _KINDS)), None)
        if made is not None:
            found.append(name)
            archive = archive[len(made) :]
    return None if archive else found


def told_by(manifest: bytes, files: Sequence[tuple[str, bytes]]) -> list[str] | None:
    """Return which of some files a manifest tells of; None: of something else, too."""
    found = []
    for name, content in files:
        line = _line(name, Placed(size=len(content), md5=_md5(content)))
        if manifest.startswith(line):
            found.append(name)
            manifest = manifest[len(line) :]
    lines = manifest.splitlines()
    return found if all(line.startswith(_MISSING) for line in lines) else None


def told_missing(manifest: bytes) -> list[bytes]:
    """Return what a manifest of files as they are tells of those that are missing."""
    return [line for line in manifest.splitlines() if line.startswith(_MISSING)]


def missing_line(file: MissingFile) -> bytes:
    """Return what tells of missing files."""
    return _MISSING + f"{file.file_id} {file.files}".encode()


def _line(name: str, placed: Placed) -> bytes:
    return f"{name} {placed.size} {placed.md5}\n".encode()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _kind_of(process: Process) -> bytes:
    """Return what the workers with an even number have, or the others."""
    return _KINDS[int(process.name.partition(".")[0][1:]) % len(_KINDS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class _SmallParts(PartPlan):
    """A plan that needs as much memory as that of the archive which the few bytes stand for."""

    reserved: int  # bytes

    @property
    def memory(self) -> int:
        return self.reserved


def plan_parts(*args: Any, sent_in: int | None = None, **of_archive: Any) -> PartPlan:
    """Plan small parts, so that the few bytes here are several of them.

    See `sinks.pipeline.parts.plan_parts`, whose least part is a mebibyte.
    """
    sent_in = None if sent_in is None else sent_in * _SCALE
    plan = parts.plan_parts(*args, sent_in=sent_in, **of_archive)
    small = asdict(plan) | {"part_size": plan.part_size // _SCALE}
    return _SmallParts(**small, reserved=min(plan.memory, _MOST_MEMORY))


def plan_folder(*args: Any, sent_in: int | None = None, **of_folder: Any) -> FolderPlan:
    """Plan small parts of a manifest. See `sinks.pipeline.parts.plan_folder`."""
    sent_in = None if sent_in is None else sent_in * _SCALE
    plan = parts.plan_folder(*args, sent_in=sent_in, **of_folder)
    small = asdict(plan.manifest) | {"part_size": plan.manifest.part_size // _SCALE}
    manifest = _SmallParts(**small, reserved=plan.manifest.memory)
    return replace(plan, manifest=manifest)


class Prefetcher:
    """Reads one file after the other. See `sinks.pipeline.prefetch.Prefetcher`."""

    def __init__(
        self, delivery: Delivery, source: OrderSource, *, budget: int, connections: int
    ) -> None:
        del budget, connections
        self._delivery = delivery
        self._source = source
        self._files: asyncio.Queue[tuple[ManifestFile, bytes] | BaseException | None] = (
            asyncio.Queue()
        )
        self._room = asyncio.Semaphore(2)
        self._reads = False  # a file that was begun
        self._over = False  # no more files are begun
        self.paused = False  # whether more is to come than was read
        self.cut = False  # since it was told to

    async def run(self, files: AsyncIterator[ManifestFile | Seam]) -> None:
        """Read all files. Segments leave no trace: the archive is made of one file at a time."""
        async for file in files:
            if isinstance(file, Seam):
                self.paused = self.cut or file is Seam.PAUSE
                continue
            await self._room.acquire()
            if self._over:
                return
            self._reads = True
            try:
                async with self._source.download(self._delivery, file) as stream:
                    content = b"".join([chunk async for chunk in stream])
            except FileMissingError:
                self._room.release()
            except SourceRefusedError as error:
                error.position = file.position
                raise
            else:
                self._files.put_nowait((file, content))
            self._reads = False
            if self._over:
                break
        self._over = True
        self._files.put_nowait(None)

    async def read(self) -> AsyncIterator[tuple[ManifestFile, bytes]]:
        """Iterate over the files that were read."""
        while (read := await self._files.get()) is not None:
            if isinstance(read, BaseException):
                raise read
            yield read
            self._room.release()

    def pause(self) -> None:
        """Read no more files: behind those that are, the archive pauses."""
        if not self._over:
            self._over = self.cut = self.paused = True
            if not self._reads:
                self._files.put_nowait(None)

    def abort(self, error: BaseException | None = None) -> None:
        """Raise an error behind the files that were read."""
        self._over = True
        self._files.put_nowait(error or AbortedError())


class FileVerifier:
    """See `sinks.pipeline.verify.FileVerifier`."""

    def __init__(
        self, count: Any, *, lag: int, kept: Packed | None = None, sha256: bool = False
    ) -> None:
        del lag
        self._count = count
        self.kept = kept
        self._sha256 = sha256

    def verify(self, file: ManifestFile, content: bytes) -> None:
        """Raise WrongFileError unless a file is what the listing says."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        told = (file.size, file.md5, file.crc32)
        found = (len(content), digest, zlib.crc32(content))
        if any(one not in (None, other) for one, other in zip(told, found, strict=True)):
            raise WrongFileError(
                f"file {file.file_id} ({file.member}) is another one", position=file.position
            )
        if self.kept is not None:
            self.kept.add(
                file.position,
                size=len(content),
                crc32=zlib.crc32(content),
                md5=bytes.fromhex(digest),
                sha256=hashlib.sha256(content).digest() if self._sha256 else b"",
            )
        self._count(len(content))


class FileCounter(FileVerifier):
    """See `sinks.pipeline.verify.FileCounter`."""

    def verify(self, file: ManifestFile, content: bytes) -> None:
        """Count a file: who puts it verifies it."""
        del file
        self._count(len(content))


class Placer:
    """Puts one file after the other. See `sinks.pipeline.placing.Placer`."""

    def __init__(self, by: Placing) -> None:
        self.by = by
        self.there: dict[int, Placed] = {}

    async def place(self, file: ManifestFile, content: bytes) -> Placed:
        """Put a file, unless it is there. Raises WrongFileError."""
        if not content and (there := self.there.pop(file.position, None)) is not None:
            return there
        placed = Placed(size=len(content), md5=_md5(content))
        if file.size not in (None, placed.size) or file.md5 not in (None, placed.md5):
            raise WrongFileError(
                f"file {file.file_id} ({file.member}) is another one", position=file.position
            )
        by, body = self.by, Part.of(content)
        marks = {**by.marks, MD5_MARK: placed.md5}

        async def put() -> str:
            await by.may.may_put()
            return await by.objects.put_object(
                by.target, by.folder + file.member, body, marks, media_type="", may=by.may.may_put
            )

        await by.send(body, put)
        return placed

    def abort(self) -> None:
        """Do nothing: the stage that puts a file is cancelled."""

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class Writer:
    """What is known of the members before a checkpoint: see `ArchiveWriter.skip`."""

    def __init__(self, *_: object) -> None:
        """Begin one of any format."""

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        """Take a member as made."""
        if finished.record != file.member.encode():
            raise CheckpointUnusableError(f"{file.member} is another member than was saved")


class ManifestWriter(Writer):
    """Puts files; its members are the lines that tell of them."""

    def __init__(self, correlation_id: str, place: Place, form: object, missing: Any) -> None:
        del correlation_id, form
        self._place = place
        self._missing: LeavesOut | None = missing.args[0]

    async def line(self, file: ManifestFile, content: bytes) -> bytes:
        """Return what tells of a file, once it is there."""
        return _line(file.member, await self._place(file, content))

    async def end(self) -> bytes:
        """Return what tells of the files that are missing."""
        if self._missing is None:
            return b""
        return b"".join([missing_line(file) + b"\n" async for file in self._missing.missing()])


class ArchiveStream:
    """See `sinks.pipeline.archive.ArchiveStream`.

    The state of its MD5 is what was digested: the bytes are few.
    """

    def __init__(
        self,
        prefetcher: Prefetcher,
        verifier: FileVerifier,
        writer: object,
        plan: PartPlan,
        meter: Meter,
        *,
        after: Checkpoint | None = None,
        tail: Sequence[bytes] = (),
        repeats: bool = True,
        takes_told_sizes: bool = False,
        leaves_out: bool = False,
        made_by: str = "",
        sha256: bool = False,
    ) -> None:
        self._sha256 = sha256
        del takes_told_sizes, leaves_out  # answers have no headers here
        self._made_by = made_by
        self._lines = writer if isinstance(writer, ManifestWriter) else None
        self._prefetcher = prefetcher
        self._verifier = verifier
        self._plan = plan
        self._process = current()
        self._process.take(MEMORY, plan.memory)
        self._meter = meter
        self._tail = b"".join(tail)
        self._permits = asyncio.Semaphore(plan.in_flight)
        self._after = None if tail else after
        self._digested = b"" if after is None else after.boundary.md5_state
        self._stored = dict(enumerate(() if after is None else after.parts, start=1))
        self._finished: list[FinishedMember] = []  # behind the checkpoint
        self._before = 0 if after is None else after.boundary.members
        self._boundaries: list[Boundary] = []
        self._saved = (0, 0) if after is None else (len(after.parts), after.boundary.members)

    @property
    def _members(self) -> int:
        return self._before + len(self._finished)

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return len(self._digested)

    @property
    def files(self) -> int:
        """Files that are in it."""
        return self._members

    def sha256(self) -> str | None:
        """Return the SHA-256 of the archive, where it is asked for."""
        return hashlib.sha256(self._digested).hexdigest() if self._sha256 else None

    def _contents(self, first: int, end: int) -> bytes | None:
        kept = self._verifier.kept
        return None if kept is None else kept.of(first, end)

    def unsaved(self) -> Iterator[tuple[int, bytes]]:
        """Iterate over what is kept of the members behind the last step."""
        if (kept := self._contents(self._saved[1], self._members)) is not None:
            yield self._saved[1], kept

    async def parts(self) -> AsyncIterator[tuple[int, Part]]:
        """Iterate over the numbered parts."""
        number = len(self._stored)
        buffer = self._tail
        size = self._plan.part_size
        async for file, content in self._prefetcher.read():
            self._verifier.verify(file, content)
            self._meter.files += 1
            if self._lines is not None:
                member = await self._lines.line(file, content)
            else:
                member = _member(file.member, content, _kind_of(self._process))
            before = self._members
            buffer += self._unsent(member)
            while len(buffer) > size:
                number += 1
                part = await self._part(buffer[:size])
                buffer = buffer[size:]
                crc = zlib.crc32(member[: max(0, len(member) - len(buffer))])
                self._boundaries.append(
                    Boundary(parts=number, md5_state=self._digested, members=before, crc=crc)
                )
                yield number, part
            self._finished.append(FinishedMember(len(member), file.member.encode()))
        self._tail = buffer
        if self.paused:
            return
        if self._lines is not None:
            buffer += await self._lines.end()
            while len(buffer) > size:
                number += 1
                yield number, await self._part(buffer[:size])
                buffer = buffer[size:]
        yield number + 1, await self._part(buffer)

    @property
    def paused(self) -> bool:
        """Whether it goes on another time."""
        return self._prefetcher.paused

    @property
    def rest(self) -> Rest | None:
        """What is in no part where it paused; None if nothing came."""
        if self._members == self._saved[1]:
            return None
        return Rest(self._digested, Part.of(self._tail) if self._tail else None)

    def last_step(self, state: bytes, tail: Tail | None, sha256_state: bytes | None) -> Step:
        """Return what is to be saved where it paused."""
        del sha256_state  # the bytes are few
        parts, members = self._saved
        stored = self.stored()
        return Step(
            follows=parts,
            part_size=self._plan.part_size,
            boundary=Boundary(parts=len(stored), md5_state=state, members=self._members, crc=0),
            parts=stored[parts:],
            members=self._finished[members - self._before :],
            tail=tail,
            made_by=self._made_by,
            contents=self._contents(members, self._members),
        )

    def _unsent(self, member: bytes) -> bytes:
        """Return what is behind the checkpoint, once what is before it was compared."""
        if self._after is None:
            return member
        after, self._after = self._after, None
        if zlib.crc32(member[: after.remade]) != after.boundary.crc:
            raise CheckpointUnusableError("the archive made again is another one")
        return member[after.remade :]

    async def _part(self, content: bytes) -> Part:
        await self._permits.acquire()
        self._digested += content
        return Part.of(content)

    def sent(self, number: int, part: StoredPart) -> None:
        """Note that a part is stored."""
        self._stored[number] = part
        self._permits.release()

    def step(self) -> Step | None:
        """Return what is to be saved."""
        reached = 0
        while reached + 1 in self._stored:
            reached += 1
        ends = [boundary for boundary in self._boundaries if boundary.parts <= reached]
        parts, members = self._saved
        if not ends or ends[-1].parts <= parts:
            return None
        boundary = ends[-1]
        return Step(
            follows=parts,
            part_size=self._plan.part_size,
            boundary=boundary,
            parts=[self._stored[number] for number in range(parts + 1, boundary.parts + 1)],
            members=self._finished[members - self._before : boundary.members - self._before],
            made_by=self._made_by,
            contents=self._contents(members, boundary.members),
        )

    def saved(self, step: Step) -> None:
        """Note that a step was saved."""
        self._saved = step.boundary.parts, step.boundary.members
        if self._verifier.kept is not None:
            self._verifier.kept.forget(step.boundary.members)

    def md5(self) -> str:
        """Return the MD5 of the archive, in hex."""
        return hashlib.md5(self._digested, usedforsecurity=False).hexdigest()

    def stored(self) -> list[StoredPart]:
        """Return all parts in their order."""
        return [part for _, part in sorted(self._stored.items())]

    async def stop(self) -> None:
        """Note that it needs no memory any more."""
        self._process.give(MEMORY, self._plan.memory)
