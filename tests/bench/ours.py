"""This product's own data path, with its defaults, as a way to bring files to a place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, StoredObject, Upload
from app.delivery.progress import Progress
from app.delivery.states import State
from app.delivery.targets import Target
from app.settings import Settings
from app.store import open_pool
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience
from sinks.pipeline.budget import Budget
from sinks.pipeline.checkpoints import SaveStep
from sinks.transfer import StreamingArchiver
from streams.regards.orders import RsOrder, open_session
from streams.regards.resume import Resumption
from streams.regards.tokens import TokenSigner
from tests.bench.upload import MIB, PART, Job
from tests.builders import OpenFolder, make_lease, name_bytes, never_put, not_saved
from tests.deliveries import DeliveriesInPostgres

DATABASE = "BENCH_DATABASE_URL"  # of the way that saves how far it is
AS_FILES = MANIFEST_NAME  # in place of an archive's ending


def _drop(_progress: Progress) -> None:
    """Drop it: nothing shows a bench's progress."""


@contextlib.asynccontextmanager
async def unsaved(_upload: Upload) -> AsyncIterator[SaveStep]:
    """Give what saves nothing."""
    yield not_saved


@contextlib.asynccontextmanager
async def saved(upload: Upload) -> AsyncIterator[SaveStep]:
    """Give what saves steps in PostgreSQL, of a delivery that is claimed there."""
    async with open_pool(os.environ[DATABASE], size=2, start_timeout=10) as pool:
        deliveries = DeliveriesInPostgres(pool, Settings(tenants=("sentinel",)))
        claimed = await deliveries.claimed(uuid4().hex, owner="bench")
        assert await deliveries.leases("bench").record_upload(claimed, upload)
        yield partial(deliveries.checkpoints("bench").save, claimed, upload)


async def ours(
    job: Job,
    store: AbstractAsyncContextManager[ObjectStore[Any]],
    target: Target,
    *,
    compression: str = "auto",
    suffix: str = ".zip",
    connections: int = 8,
    saving: Callable[[Upload], AbstractAsyncContextManager[SaveStep]] = unsaved,
) -> str:
    """Run this product's own data path, with its defaults."""
    manifest = [
        ManifestFile(position=n, file_id=file_id, member=f"{n}.bin", size=size, md5=md5 or None)
        for n, (file_id, size, md5) in enumerate(job.files)
    ]

    async def files() -> AsyncIterator[ManifestFile]:
        for file in manifest:
            yield file

    async def may_complete(_result: StoredObject) -> bool:
        return True

    now = datetime.now(UTC)
    delivery = Delivery(
        id=uuid4(),
        tenant="bench",
        correlation_id="bench",
        state=State.TRANSFERRING,
        user="bench",
        target="bench",
        order={},
        origin_app=None,
        priority=1,
        requested_at=now,
        expires_at=now,
        attempt=1,
        archive_name=suffix if suffix == AS_FILES else f"a{suffix}",
        file_count=len(manifest),
        total_bytes=job.size,
    )
    async with (
        open_session(stall_timeout=30) as session,
        store as sink,
    ):
        source = RsOrder(
            session,
            TokenSigner("s" * 64, ttl=3600),
            url=job.source,
            page_size=100,
            stall_timeout=30,
            resumption=Resumption(tries=5, backoff=Backoff(first=1, longest=5)),
        )
        archiver = StreamingArchiver(
            source,
            sink,
            _drop,
            compression=compression,
            part_size=PART,
            memory=128 * MIB,
            worker_memory=Budget(1024 * MIB),
            max_object_size=5 * 1024**4,
            connections=connections,
            patience=Patience(limit=0, backoff=Backoff(first=1, longest=1)),
        )
        upload = await sink.create_upload(
            target,
            f"ours/{delivery.archive_name}",  # again and again: no run gets memory that is new
            marks_of(delivery),
            media_type=archiver.media_type(delivery),
        )
        async with saving(upload) as save:
            stored = await archiver.run(
                delivery,
                files(),
                target,
                upload,
                at_most=delivery.total_bytes,
                name_bytes=name_bytes(file.member for file in manifest),
                lease=make_lease(),
                may_complete=may_complete,
                save=save,
                put_aside=never_put,
                folder=OpenFolder(),
            )
        assert stored is not None
        return stored.md5
