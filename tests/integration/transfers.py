"""Transfers apart from the service: an archiver before a real S3 server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

from app.delivery.manifest import ManifestFile
from app.delivery.object_store import StoredObject, Upload
from app.delivery.ports import OrderSource
from app.delivery.progress import Progress
from app.errors import DeliveryError, TargetUnavailableError
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience
from sinks.formats import formats_with
from sinks.pipeline.budget import Budget
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from sinks.transfer import StreamingArchiver
from tests.builders import OpenFolder, make_lease, make_transfer, name_bytes, never_put, not_saved
from tests.twins.rs_order import Source

MIB = 1024 * 1024
MEMORY = 32 * MIB + 12 * MIB  # of a transfer: for parts, and for two threads that compress

QUICK = Patience(limit=20, backoff=Backoff(first=0.02, longest=0.1), in_slot=0.05)


async def each(files: list[ManifestFile]) -> AsyncIterator[ManifestFile]:
    for file in files:
        yield file


class Bench:
    """One archiver with its source and its target."""

    def __init__(
        self,
        sink: S3ObjectStore,
        target: S3Target,
        source: Source,
        *,
        budget: Budget | None = None,
        patience: Patience = QUICK,
    ) -> None:
        self.patience = patience
        self.budget = budget or Budget(256 * MIB)
        self.sink = sink
        self.target = target
        self.source = source
        self.reports: list[Progress] = []
        self.max_object_size = 1024**4
        self.key = f"{uuid4().hex}/a.zip"
        manifest = source.manifest()
        self.delivery = make_transfer(
            archive_name="a.zip",
            file_count=len(manifest),
            total_bytes=sum(f.size or 0 for f in manifest),
        )

    def archiver(self, source: OrderSource | None = None) -> StreamingArchiver:
        return StreamingArchiver(
            source or self.source,
            self.sink,
            self.reports.append,
            compression="auto",
            part_size=5 * MIB,
            memory=MEMORY,
            formats=formats_with(zstd_level=3, deflate_threads=2),
            worker_memory=self.budget,
            max_object_size=self.max_object_size,
            connections=4,
            patience=self.patience,
        )

    async def run(
        self,
        *,
        may_complete: bool = True,
        files: list[ManifestFile] | None = None,
        source: OrderSource | None = None,
    ) -> tuple[str, int, Upload]:
        archiver = self.archiver(source)
        upload = await self.sink.create_upload(
            self.target, self.key, media_type=archiver.media_type(self.delivery)
        )

        async def asked(_result: StoredObject) -> bool:
            return may_complete

        try:
            result = await archiver.run(
                self.delivery,
                each(files or self.source.manifest()),
                self.target,
                upload,
                at_most=self.delivery.total_bytes,
                name_bytes=name_bytes(self.source.files),
                lease=make_lease(),
                may_complete=asked,
                save=not_saved,
                put_aside=never_put,
                folder=OpenFolder(),
            )
        except DeliveryError:
            await self._abort(upload)
            raise
        assert result is not None
        return result.md5, result.size, upload

    async def _abort(self, upload: Upload) -> None:
        """Abort as the sweep does: again, when the store is not ready (a part is being stored).

        And whatever is open under the key after that: at some stores, a part that is being stored
        opens its upload again.
        """
        left = [upload]
        for pause in Backoff(first=0.1, longest=1.0).pauses():
            try:
                for each_left in left:
                    await self.sink.abort(self.target, each_left)
                left = await self.sink.open_uploads(self.target, upload.key)
            except TargetUnavailableError:
                pass
            else:
                if not left:
                    return
            await asyncio.sleep(pause)
