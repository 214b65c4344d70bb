"""Transfers apart from the service: a source in memory, and an archiver before a real S3 server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.ports import OrderSource
from app.delivery.progress import Progress
from app.errors import DeliveryError, SourceUnavailableError, TargetUnavailableError
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience
from sinks.pipeline.budget import Budget
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from sinks.transfer import StreamingArchiver
from tests.builders import make_transfer, plan_files

MIB = 1024 * 1024


class Source:
    """Files from memory, cut as a network would; one of them can fail half-way."""

    def __init__(self, files: dict[str, bytes], *, fail: str | None = None) -> None:
        self.files = files
        self.fail = fail
        self.read = 0
        self.pause: asyncio.Event | None = None  # no byte comes before it is set
        self.open = 0
        self.most_open = 0

    def manifest(self) -> list[ManifestFile]:
        return plan_files(self.files)

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            yield self._chunks(file)
        finally:
            self.open -= 1

    async def _chunks(self, file: ManifestFile) -> AsyncIterator[bytes]:
        content = self.files[file.member]
        if self.pause is not None:
            await self.pause.wait()
        for start in range(0, len(content), 300_000):
            if file.member == self.fail and start > len(content) // 2:
                raise SourceUnavailableError("broke off")
            await asyncio.sleep(0)
            piece = content[start : start + 300_000]
            self.read += len(piece)
            yield piece

    def listing(self, delivery: Delivery) -> AsyncIterator[ListedFile]:
        raise AssertionError("a transfer reads the manifest, not the listing")


class FreeHold:
    """A lease that holds, and a slot that is always free; it counts who gives it up."""

    def __init__(self) -> None:
        self.asides = 0
        self.waiting = 0

    def safe_to_complete(self) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def aside(self, *, claims: bool = True) -> AsyncIterator[None]:
        self.asides += 1
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def leave(self) -> None:
        """There are always others."""

    async def come_back(self) -> None:
        """There is always one."""

    def completes(self) -> None:
        """Nothing ends the work anyway."""

    def finishes(self) -> None:
        """Nothing ends the work anyway."""


QUICK = Patience(limit=20, backoff=Backoff(first=0.02, longest=0.1), in_slot=0.05)


class Listener:
    """Keeps every report."""

    def __init__(self) -> None:
        self.reports: list[Progress] = []

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)


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
        self.hold = FreeHold()
        self.patience = patience
        self.budget = budget or Budget(256 * MIB)
        self.sink = sink
        self.target = target
        self.source = source
        self.listener = Listener()
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
            self.listener,
            compression="auto",
            part_size=5 * MIB,
            memory=32 * MIB,
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
                lease=self.hold,
                may_complete=asked,
            )
        except DeliveryError:
            await self._abort(upload)
            raise
        return result.md5, result.size, upload

    async def _abort(self, upload: Upload) -> None:
        """Abort as the sweep does: again, when the store is not ready (a part is being stored)."""
        for pause in Backoff(first=0.1, longest=1.0).pauses():
            try:
                await self.sink.abort(self.target, upload)
            except TargetUnavailableError:
                await asyncio.sleep(pause)
            else:
                return
