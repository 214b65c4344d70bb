"""The archiver in one coroutine: a file after the other, whole."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from app.delivery.checkpoint import Checkpoint, Step
from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, StoredObject, Upload
from app.delivery.ports import OrderSource
from app.delivery.progress import Phase, Progress
from app.delivery.targets import Target
from app.errors import LeaseLostError, WrongFileError
from sinks.formats import format_of
from sinks.pipeline.parts import MIB, Part
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks


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

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile | Seam],
        target: Target,
        upload: Upload,
        *,
        at_most: int,
        name_bytes: int,
        lease: Lease,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        save: Callable[[Step], Awaitable[bool]],
        after: Checkpoint | None = None,
    ) -> StoredObject | None:
        """Transfer one delivery. Raises LeaseLostError rather than complete without a lease.

        It saves nothing; what was sent before a checkpoint is sent again.
        """
        del save, after
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

        try:
            tell(Phase.TRANSFERRING)
            segments: list[list[tuple[ManifestFile, bytes]]] = [[]]
            async for file in files:
                if file is Seam.PAUSE:
                    return None
                if isinstance(file, Seam):
                    segments.append([])
                    continue
                segments[-1].append((file, await self._read(delivery, file)))
                done_bytes += len(segments[-1][-1][1])
                done_files += 1
                tell(Phase.TRANSFERRING)
            archive_format = format_of(delivery.archive_name or "")
            archive = b"".join(
                archive_blocks(
                    archive_format,
                    *(
                        ((file, rechunk([content])) for file, content in members)
                        for members in segments
                    ),
                    compression=self.compression,
                )
            )
            parts = [
                await self.objects.put_part(
                    target, upload, number, Part.of(archive[start : start + self.part_size])
                )
                for number, start in enumerate(range(0, len(archive), self.part_size), start=1)
            ]
            tell(Phase.COMPLETING)
            expected = StoredObject(
                url=target.url_of(upload.key),
                md5=hashlib.md5(archive).hexdigest(),
                size=len(archive),
                etag=self.objects.etag_of(target, parts),
            )
            if not await may_complete(expected):
                raise LeaseLostError(f"the lease of {delivery} ran out before its completion")
            etag = await self.objects.complete(
                target, upload, parts, expected.size, marks=marks_of(delivery)
            )
        except BaseException:
            tell(Phase.FAILED)
            raise
        tell(Phase.DONE)
        return replace(expected, etag=etag)

    async def _read(self, delivery: Delivery, file: ManifestFile) -> bytes:
        """Return a file's bytes. Raises WrongFileError unless they are what the listing says."""
        async with self.source.download(delivery, file) as chunks:
            content = b"".join([chunk async for chunk in chunks])
        for expected, found in (
            (file.size, len(content)),
            (file.md5, hashlib.md5(content).hexdigest()),
        ):
            if expected not in (found, None):
                raise WrongFileError(f"file {file.file_id}: expected {expected}, got {found}")
        return content
