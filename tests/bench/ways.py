"""The ways to bring files into an object on S3: ours, and copies that show what is possible.

Each takes a `Job` and returns when the object is complete. One runs in a process of its own
(`tests.bench.one`), so that processor time and memory are its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.progress import Progress
from app.delivery.states import State
from app.settings import Settings
from app.store import open_pool
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience
from sinks.pipeline.budget import Budget
from sinks.pipeline.checkpoints import SaveStep
from sinks.pipeline.digest import PairedMd5, paired_md5
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.target import S3Target
from sinks.transfer import StreamingArchiver
from streams.regards.orders import RsOrder, open_session
from streams.regards.resume import Resumption
from streams.regards.tokens import TokenSigner
from tests.bench.others import staged, stream_zip_defaults, zipstream_ng
from tests.bench.upload import MIB, PART, Job, Multipart, Way
from tests.builders import OpenFolder, make_lease, name_bytes, never_put, not_saved
from tests.deliveries import DeliveriesInPostgres

DATABASE = "BENCH_DATABASE_URL"  # of the way that saves how far it is


def _drop(_progress: Progress) -> None:
    """Drop it: nothing shows a bench's progress."""


@contextlib.asynccontextmanager
async def _unsaved(_upload: Upload) -> AsyncIterator[SaveStep]:
    """Give what saves nothing."""
    yield not_saved


@contextlib.asynccontextmanager
async def _saved(upload: Upload) -> AsyncIterator[SaveStep]:
    """Give what saves steps in PostgreSQL, of a delivery that is claimed there."""
    async with open_pool(os.environ[DATABASE], size=2, start_timeout=10) as pool:
        deliveries = DeliveriesInPostgres(pool, Settings(tenants=("sentinel",)))
        claimed = await deliveries.claimed(uuid4().hex, owner="bench")
        assert await deliveries.leases("bench").record_upload(claimed, upload)
        yield partial(deliveries.checkpoints("bench").save, claimed, upload)


async def _ours(
    job: Job,
    *,
    compression: str = "auto",
    suffix: str = ".zip",
    connections: int = 8,
    saving: Callable[[Upload], AbstractAsyncContextManager[SaveStep]] = _unsaved,
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
        archive_name=f"a{suffix}",
        file_count=len(manifest),
        total_bytes=job.size,
    )
    target = S3Target(endpoint=job.sink, region="eu-west-1", bucket="bench", key="k", secret="s")
    async with (
        open_session(stall_timeout=30) as session,
        open_store() as sink,
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
        upload = await sink.create_upload(target, f"ours/a{suffix}")
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


async def _parts(job: Job) -> AsyncIterator[bytes]:
    """Iterate over the files' bytes in 8 MiB parts, with sessions as ours has them."""
    async with open_session(stall_timeout=30) as session:
        lease: list[bytes] = []
        have = 0
        for file_id, _, _ in job.files:
            async with session.get(job.url(file_id)) as response:
                async for chunk in response.content.iter_any():
                    lease.append(chunk)
                    have += len(chunk)
                    if have >= PART:
                        joined = b"".join(lease)
                        yield joined[:PART]
                        lease = [joined[PART:]]
                        have = len(lease[0])
        yield b"".join(lease)


async def copy(job: Job) -> None:
    """GET → parts: no archive, nothing verified."""
    async with Multipart.opened(job.sink, "copy") as upload:
        number = 0
        async for part in _parts(job):
            number += 1
            await upload.add(number, part)


async def verified_copy(job: Job, *, etags: bool = False) -> None:
    """Copy, with the MD5 of the source and of what is sent, each in a thread of its own.

    With `etags`, also that of each part, as a client that compares S3's ETag needs it.
    """
    source, sent = (hashlib.md5(usedforsecurity=False) for _ in range(2))
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        async with Multipart.opened(job.sink, "verified") as upload:
            number = 0
            pending: asyncio.Future[Any] | None = None
            async for part in _parts(job):
                number += 1
                both = asyncio.gather(
                    loop.run_in_executor(first, source.update, part),
                    loop.run_in_executor(second, sent.update, part),
                    *([asyncio.to_thread(hashlib.md5, part)] if etags else []),
                )
                await upload.add(number, part)
                if pending is not None:
                    await pending
                pending = both
            if pending is not None:
                await pending


async def verified_by_etags(job: Job) -> None:
    """Verified copy, and the MD5 of each part: all that the contract asks for but the archive."""
    await verified_copy(job, etags=True)


async def auto(job: Job) -> str:
    return await _ours(job)


async def store(job: Job) -> str:
    return await _ours(job, compression="store")


async def deflate(job: Job) -> str:
    return await _ours(job, compression="deflate")


async def tar(job: Job) -> str:
    return await _ours(job, suffix=".tar")


async def tar_zst(job: Job) -> str:
    return await _ours(job, suffix=".tar.zst")


async def one_get(job: Job) -> str:
    return await _ours(job, connections=1)


class _Untold:
    """A digest that keeps its state to itself: nothing is computed, or kept, for checkpoints."""

    def __init__(self, pair: PairedMd5) -> None:
        self.update = pair.update
        self.next_part = pair.next_part
        self.digest = pair.digest

    def state(self) -> None:
        """Tell nothing."""


async def without_checkpoints(job: Job) -> str:
    with patch("sinks.pipeline.assembler.paired_md5", lambda: _Untold(paired_md5())):
        return await _ours(job, compression="store")


async def with_checkpoints(job: Job) -> str:
    return await _ours(job, compression="store", saving=_saved)


WAYS: dict[str, Way] = {
    "copy": copy,
    "verified copy": verified_copy,
    "verified copy, ETags": verified_by_etags,
    "ours, auto": auto,
    "ours, store": store,
    "ours, deflate": deflate,
    "ours, tar": tar,
    "ours, tar.zst": tar_zst,
    "ours, one GET at a time": one_get,
    "without checkpoints": without_checkpoints,
    "with checkpoints": with_checkpoints,
    "staged": staged,
    "stream-zip defaults": stream_zip_defaults,
    "zipstream-ng + boto3": zipstream_ng,
}
# Many times slower than the others: measured once a payload, the others in every round.
SLOW = ("staged", "stream-zip defaults", "zipstream-ng + boto3")
