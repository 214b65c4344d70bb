"""The thread that makes an archive, as a stage of the event loop: the bytes are few.

What comes before and after it is the real thing: `sinks.transfer` sends parts, waits, and
completes. The archive is the members one after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart
from app.delivery.ports import OrderSource
from app.errors import WrongFileError
from sinks.pipeline.meter import Meter
from sinks.pipeline.parts import Part, PartPlan


def archive_of(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the archive of members and their contents."""
    return b"".join(f"{name} {len(content)}\n".encode() + content for name, content in files)


class Prefetcher:
    """Reads one file after the other. See `sinks.pipeline.prefetch.Prefetcher`."""

    def __init__(
        self, delivery: Delivery, source: OrderSource, *, budget: int, connections: int
    ) -> None:
        del budget, connections
        self._delivery = delivery
        self._source = source
        self._files: asyncio.Queue[tuple[ManifestFile, bytes] | None] = asyncio.Queue(maxsize=2)

    async def run(self, files: AsyncIterator[ManifestFile]) -> None:
        """Read all files."""
        async for file in files:
            async with self._source.download(self._delivery, file) as stream:
                content = b"".join([chunk async for chunk in stream])
            await self._files.put((file, content))
        await self._files.put(None)

    async def read(self) -> AsyncIterator[tuple[ManifestFile, bytes]]:
        """Iterate over the files that were read."""
        while (read := await self._files.get()) is not None:
            yield read


class FileVerifier:
    """See `sinks.pipeline.verify.FileVerifier`."""

    def __init__(self, count: Any, *, lag: int) -> None:
        del lag
        self._count = count

    def verify(self, file: ManifestFile, content: bytes) -> None:
        """Raise WrongFileError unless a file is what the listing says."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if file.size not in (None, len(content)) or file.md5 not in (None, digest):
            raise WrongFileError(f"file {file.file_id} ({file.member}) is another one")
        self._count(len(content))


class ArchiveStream:
    """See `sinks.pipeline.archive.ArchiveStream`."""

    def __init__(
        self,
        prefetcher: Prefetcher,
        verifier: FileVerifier,
        blocks: object,
        plan: PartPlan,
        meter: Meter,
    ) -> None:
        del blocks
        self._prefetcher = prefetcher
        self._verifier = verifier
        self._plan = plan
        self._meter = meter
        self._permits = asyncio.Semaphore(plan.in_flight)
        self._digest = hashlib.md5(usedforsecurity=False)
        self._stored: dict[int, StoredPart] = {}
        self.size = 0

    async def parts(self) -> AsyncIterator[tuple[int, Part]]:
        """Iterate over the numbered parts."""
        number = 0
        buffer = b""
        async for file, content in self._prefetcher.read():
            self._verifier.verify(file, content)
            self._meter.files += 1
            buffer += archive_of([(file.member, content)])
            while len(buffer) > self._plan.part_size:
                number += 1
                yield number, await self._part(buffer[: self._plan.part_size])
                buffer = buffer[self._plan.part_size :]
        yield number + 1, await self._part(buffer)

    async def _part(self, content: bytes) -> Part:
        await self._permits.acquire()
        self.size += len(content)
        self._digest.update(content)
        return Part.of(content)

    def sent(self, number: int, part: StoredPart) -> None:
        """Note that a part is stored."""
        self._stored[number] = part
        self._permits.release()

    def md5(self) -> str:
        """Return the MD5 of the archive, in hex."""
        return self._digest.hexdigest()

    def stored(self) -> list[StoredPart]:
        """Return all parts in their order."""
        return [part for _, part in sorted(self._stored.items())]

    async def stop(self) -> None:
        """There is nothing to end."""
