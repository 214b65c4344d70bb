"""The thread that makes the archive, the digests beside it, and the parts that it hands over."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

from app.delivery.checkpoint import Boundary, Checkpoint, Step, Tail
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.object_store import StoredPart
from app.errors import CheckpointUnusableError, WorkerStoppedError
from sinks.formats.archive_format import ArchiveWriter, Member
from sinks.pipeline.assembler import PartAssembler, Rest
from sinks.pipeline.handover import AbortedError
from sinks.pipeline.leaving_out import FileMissingError
from sinks.pipeline.meter import Meter
from sinks.pipeline.parts import Part, PartPlan
from sinks.pipeline.prefetch import Opened, Prefetcher
from sinks.pipeline.rechunk import rechunk
from sinks.pipeline.verify import FileVerifier

_CONTENTS = 65_536  # members whose contents are kept at a time
_Made = tuple[Part, Boundary | None]


class ArchiveStream:
    """The archive of what a prefetcher brings, in parts; or the rest of it, behind a checkpoint.

    `writer` makes it, in a thread of its own. (Not one of the default executor: transfers that wait
    for each other's there would stand still for ever.) It knows the members that end before the
    checkpoint; the prefetcher brings those behind. `tail` is what this has beyond its last part.
    `repeats` tells that members behind a checkpoint that does not end with one are read again,
    `takes_told_sizes` that the archive has a file's size before its bytes: where the listing does
    not tell it, the answer may. `leaves_out` tells that files may be missing, `made_by` is kept
    with each step. `sha256` has that computed.
    """

    def __init__(
        self,
        prefetcher: Prefetcher,
        verifier: FileVerifier,
        writer: ArchiveWriter,
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
        self._prefetcher = prefetcher
        self._verifier = verifier
        self._writer = writer
        self._takes_told_sizes = takes_told_sizes
        self._leaves_out = leaves_out
        self._made_by = made_by
        self._part_size = plan.part_size
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[_Made | BaseException | None] = asyncio.Queue()
        # One permit a part in flight; the one being filled has none yet.
        self._permits = threading.Semaphore(plan.in_flight)
        self._aborted = False
        self._paused = False
        self._rest: Rest | None = None  # where it pauses
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._assembler = PartAssembler(
            plan.part_size,
            lag=plan.lag,
            permit=self._wait_for_permit,
            hand_over=self._hand_over,
            after=after,
            tail=tail,
            sha256=sha256,
        )
        self._stored = dict(enumerate(() if after is None else after.parts, start=1))
        self._reached = len(self._stored)  # parts from the first that are stored without a gap
        # Parts and members of the last step that was saved; and what may be the next one's end.
        self._saved = (0, 0) if after is None else (len(after.parts), after.boundary.members)
        self._begun = self._saved[1]  # members that were in the archive before
        self._boundaries: dict[int, Boundary] = {}  # by part
        self._ended_by: Seam | None = None  # what the last segment was ended by
        # Parts to fill until this attempt is where the earlier one was: in the part behind those
        # that are there. None: there was none, or it paused, or this one is past that.
        self._repeats = (
            None
            if after is None or after.tail is not None or not repeats
            else max(after.sent, self._reached) + 1 - self._reached
        )

    async def parts(self) -> AsyncIterator[tuple[int, Part]]:
        """Iterate over the numbered parts. Raises what made the archive fail.

        Its end says that every file that came was verified.
        """
        self._thread.start()
        number = self._reached
        while (made := await self._parts.get()) is not None:
            if isinstance(made, BaseException):
                raise made
            part, boundary = made
            number += 1
            if boundary is not None:
                self._boundaries[number] = boundary
            yield number, part
            del part, made

    def sent(self, number: int, part: StoredPart) -> None:
        """Note that a part is stored, and has left memory."""
        self._stored[number] = part
        while self._reached + 1 in self._stored:
            self._reached += 1
        self._permits.release()

    def step(self) -> Step | None:
        """Return what is to be saved so that another process can go on; None if it is nothing new.

        The next attempt reads no file again that ended before: so each of these was verified.
        """
        verified = self._begun + self._verifier.passed
        # What lies in a file that is wrong is of no use.
        most = verified - 1 if self._verifier.failed else verified
        reached = [
            boundary
            for number, boundary in self._boundaries.items()
            if number <= self._reached and boundary.members <= most
        ]
        if not reached:
            return None
        boundary = max(reached, key=lambda reached: reached.parts)
        parts, members = self._saved
        return Step(
            follows=parts,
            part_size=self._part_size,
            boundary=boundary,
            parts=[self._stored[number] for number in range(parts + 1, boundary.parts + 1)],
            members=self._writer.finished(members, boundary.members),
            made_by=self._made_by,
            contents=self._contents(members, boundary.members),
        )

    def _contents(self, first: int, end: int) -> bytes | None:
        """Return what is kept of members for a manifest, from number `first` up to `end`."""
        kept = self._verifier.kept
        return None if kept is None else kept.of(first, end)

    def unsaved(self) -> Iterator[tuple[int, bytes]]:
        """Return what is kept of the members behind the last step, and their number.

        Some at a time; when parts() ended.
        """
        for first in range(self._saved[1], self._writer.count, _CONTENTS):
            kept = self._contents(first, min(first + _CONTENTS, self._writer.count))
            if kept is not None:
                yield first, kept

    def saved(self, step: Step) -> None:
        """Note that a step was saved: the next one begins there."""
        self._saved = step.boundary.parts, step.boundary.members
        if self._verifier.kept is not None:
            self._verifier.kept.forget(step.boundary.members)
        self._boundaries = {
            number: boundary
            for number, boundary in self._boundaries.items()
            if number > step.boundary.parts
        }

    @property
    def paused(self) -> bool:
        """Whether it goes on another time; when parts() ended."""
        return self._paused

    @property
    def rest(self) -> Rest | None:
        """What is not in a part where it paused; None if no member came since the last step."""
        return self._rest if self._writer.count > self._saved[1] else None

    def last_step(self, state: bytes, tail: Tail | None, sha256_state: bytes | None) -> Step:
        """Return what is to be saved where it paused, when all parts are stored.

        `state` is that of its MD5 behind them, `sha256_state` that of its SHA-256, `tail` what has
        become of the rest.
        """
        parts, members = self._saved
        count = self._writer.count
        return Step(
            follows=parts,
            part_size=self._part_size,
            boundary=Boundary(
                parts=self._reached,
                md5_state=state,
                members=count,
                crc=0,
                sha256_state=sha256_state,
            ),
            parts=[self._stored[number] for number in range(parts + 1, self._reached + 1)],
            members=self._writer.finished(members, count),
            tail=tail,
            made_by=self._made_by,
            contents=self._contents(members, count),
        )

    @property
    def size(self) -> int:
        """Bytes of the archive; when parts() ended."""
        return self._assembler.size

    @property
    def files(self) -> int:
        """Files that are in the archive; when parts() ended."""
        return self._writer.count

    def md5(self) -> str:
        """Return the MD5 of the archive, in hex; when parts() ended."""
        return self._assembler.md5()

    def sha256(self) -> str | None:
        """Return the SHA-256 of the archive, in hex, if there is one; when parts() ended."""
        return self._assembler.sha256()

    def stored(self) -> list[StoredPart]:
        """Return all parts in their order."""
        return [part for _, part in sorted(self._stored.items())]

    async def stop(self) -> None:
        """Make sure that the threads have ended, whatever they wait for."""
        self._aborted = True
        self._prefetcher.abort()
        self._permits.release()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)
        self._rest = None  # nothing else lets go of its bytes before cycles are collected
        if self._repeats is not None:
            self._meter.repeated()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            self._take_segments()
            if self._paused:
                self._rest = self._assembler.pause()
            else:
                self._assembler.take(self._writer.end(), behind=self._writer.count)
                self._assembler.finish()
            self._verifier.finish()
        except CheckpointUnusableError as error:
            end = self._cause_of(error)
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            end = error
        self._verifier.close()
        self._assembler.close()
        self._writer.close()
        self._loop.call_soon_threadsafe(self._parts.put_nowait, end)

    def _cause_of(self, unusable: CheckpointUnusableError) -> BaseException:
        """Return why an archive is another one than before: a file that is wrong now, if one is.

        Or it has not come as far, as the source was told to pause since the worker stops: that says
        nothing of what was sent.
        """
        try:
            self._verifier.finish()
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            return error
        return WorkerStoppedError() if self._prefetcher.cut else unusable

    def _wait_for_permit(self) -> None:
        if self._repeats is not None:
            self._repeats -= 1
            if not self._repeats:
                self._repeats = None
                self._meter.repeated()
        self._permits.acquire()
        if self._aborted:
            raise AbortedError

    def _hand_over(self, part: Part, boundary: Boundary | None) -> None:
        self._loop.call_soon_threadsafe(self._parts.put_nowait, (part, boundary))

    def _take_segments(self) -> None:
        """Take all members. No batch has some of two segments, however long one was awaited."""
        while not self._paused:
            for batch in self._writer.batches(self._members()):
                self._assembler.take(batch, behind=self._writer.count)
            if self._ended_by is None:
                break
            self._paused = self._ended_by is Seam.PAUSE

    def _members(self) -> Iterator[Member]:
        """Yield the members of a segment."""
        while isinstance(opened := self._prefetcher.next(), Opened):
            self._writer.look_ahead(self._prefetcher.coming())
            try:
                file, chunks = self._first_of(opened)
            except FileMissingError:
                self._prefetcher.done(opened)
                continue
            yield file, self._verifier.verified(file, rechunk(chunks))
            self._prefetcher.done(opened)
            self._meter.files += 1
        self._ended_by = opened

    def _first_of(self, opened: Opened) -> tuple[ManifestFile, Iterator[bytes]]:
        """Return a file, and its bytes. Raises FileMissingError, before any of them."""
        if opened.file.size is None and self._takes_told_sizes:
            return _told(opened)
        if self._leaves_out:
            return opened.file, itertools.chain(opened.chunks.get(), _chunks(opened))
        return opened.file, _chunks(opened)


def _told(opened: Opened) -> tuple[ManifestFile, Iterator[bytes]]:
    """Return a file with the size that its answer tells, which is verified as a listing's is."""
    first = opened.chunks.get()
    file = replace(opened.file, size=opened.chunks.total)
    return file, itertools.chain(first, _chunks(opened))


def _chunks(opened: Opened) -> Iterator[bytes]:
    while batch := opened.chunks.get():
        yield from batch
