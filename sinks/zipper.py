"""The thread that zips, the digests beside it, and the parts that it hands to the loop."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial

from sinks.archive import Member, zip_blocks
from sinks.beside import Beside
from sinks.handover import AbortedError
from sinks.meter import Meter
from sinks.parts import Part, PartPlan, into_parts
from sinks.prefetch import Opened, Prefetcher
from sinks.s3 import StoredPart
from sinks.verify import Verifier

_WORTH_A_HANDOVER = 256 * 1024  # bytes; small members come in small blocks


class Zipper:
    """Makes the archive of what a prefetcher brings.

    (A thread of its own, not the default executor: transfers that wait for each other's threads
    there would stand still for ever.)
    """

    def __init__(
        self, prefetcher: Prefetcher, plan: PartPlan, compression: str, meter: Meter
    ) -> None:
        self._prefetcher = prefetcher
        self._plan = plan
        self._compression = compression
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | BaseException | None] = asyncio.Queue()
        # One permit a part in flight; the one being filled has none yet.
        self._permits = threading.Semaphore(plan.in_flight)
        self._aborted = False
        self._thread = threading.Thread(target=self._run, name="zip", daemon=True)
        self._verifier = Verifier(meter.count, lag=plan.lag)
        self._beside = Beside("archive-md5", capacity=plan.lag)
        self.md5 = hashlib.md5(usedforsecurity=False)  # of the archive; whole when parts() ended
        self.size = 0
        self._stored: dict[int, StoredPart] = {}

    async def parts(self) -> AsyncIterator[tuple[int, Part]]:
        """Iterate over the numbered parts. Raises what made the zipping fail.

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
            blocks = zip_blocks(
                self._members(), compression=self._compression, check=self._verifier.verified
            )
            for part in into_parts(self._digested(blocks), self._plan.part_size):
                self._permits.acquire()
                if self._aborted:
                    raise AbortedError
                self._loop.call_soon_threadsafe(self._parts.put_nowait, part)
            self._verifier.finish()
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            end = error
        self._verifier.close()
        self._beside.close()
        self._loop.call_soon_threadsafe(self._parts.put_nowait, end)

    def _members(self) -> Iterator[Member]:
        while (opened := self._prefetcher.next()) is not None:
            yield opened.file, _chunks(opened)
            self._prefetcher.done(opened)
            self._meter.files += 1

    def _digested(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for block in blocks:
            held.append(block)
            size += len(block)
            if size >= _WORTH_A_HANDOVER:
                self._beside.submit(partial(self._digest, held), size)
                self.size += size
                held, size = [], 0
            yield block
        # The rest here: a tiny archive needs no second thread.
        self._beside.finish()
        self._digest(held)
        self.size += size

    def _digest(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self.md5.update(block)


def _chunks(opened: Opened) -> Iterator[bytes]:
    while batch := opened.chunks.get():
        yield from batch
