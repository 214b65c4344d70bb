"""The thread that makes the archive, the digests beside it, and the parts that it hands over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from app.delivery.object_store import StoredPart
from sinks.formats.archive_format import Member
from sinks.pipeline.assembler import PartAssembler
from sinks.pipeline.handover import AbortedError
from sinks.pipeline.meter import Meter
from sinks.pipeline.parts import Part, PartPlan
from sinks.pipeline.prefetch import Opened, Prefetcher
from sinks.pipeline.rechunk import rechunk
from sinks.pipeline.verify import FileVerifier


class ArchiveStream:
    """The archive of what a prefetcher brings, in parts.

    `blocks` makes it of its members: called and iterated in a thread of its own. (Not one of the
    default executor: transfers that wait for each other's there would stand still for ever.)
    """

    def __init__(
        self,
        prefetcher: Prefetcher,
        verifier: FileVerifier,
        blocks: Callable[[Iterable[Member]], Iterator[bytes]],
        plan: PartPlan,
        meter: Meter,
    ) -> None:
        self._prefetcher = prefetcher
        self._verifier = verifier
        self._blocks = blocks
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | BaseException | None] = asyncio.Queue()
        # One permit a part in flight; the one being filled has none yet.
        self._permits = threading.Semaphore(plan.in_flight)
        self._aborted = False
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._assembler = PartAssembler(
            plan.part_size, lag=plan.lag, permit=self._wait_for_permit, hand_over=self._hand_over
        )
        self._stored: dict[int, StoredPart] = {}

    async def parts(self) -> AsyncIterator[tuple[int, Part]]:
        """Iterate over the numbered parts. Raises what made the archive fail.

        Its end says that every file was verified.
        """
        self._thread.start()
        number = 0
        while (part := await self._parts.get()) is not None:
            if isinstance(part, BaseException):
                raise part
            number += 1
            yield number, part
            del part

    def sent(self, number: int, part: StoredPart) -> None:
        """Note that a part is stored, and has left memory."""
        self._stored[number] = part
        self._permits.release()

    @property
    def size(self) -> int:
        """Bytes of the archive; when parts() ended."""
        return self._assembler.size

    def md5(self) -> str:
        """Return the MD5 of the archive, in hex; when parts() ended."""
        return self._assembler.md5()

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

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            self._assembler.assemble(self._blocks(self._members()))
            self._verifier.finish()
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            end = error
        self._verifier.close()
        self._assembler.close()
        self._loop.call_soon_threadsafe(self._parts.put_nowait, end)

    def _wait_for_permit(self) -> None:
        self._permits.acquire()
        if self._aborted:
            raise AbortedError

    def _hand_over(self, part: Part) -> None:
        self._loop.call_soon_threadsafe(self._parts.put_nowait, part)

    def _members(self) -> Iterator[Member]:
        while (opened := self._prefetcher.next()) is not None:
            blocks = rechunk(_chunks(opened))
            yield opened.file, self._verifier.verified(opened.file, blocks)
            self._prefetcher.done(opened)
            self._meter.files += 1


def _chunks(opened: Opened) -> Iterator[bytes]:
    while batch := opened.chunks.get():
        yield from batch
