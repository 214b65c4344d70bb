"""The ways to bring files into an object on S3: ours, and copies that show what is possible.

Each takes a `Job` and returns when the object is complete. One runs in a process of its own
(`tests.bench.one`), so that processor time and memory are its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from unittest.mock import patch

from sinks.pipeline.digest import PairedMd5, paired_md5
from sinks.stores.s3.managed import open_store
from streams.regards.orders import open_session
from tests.bench.others import staged, stream_zip_defaults, zipstream_ng
from tests.bench.ours import AS_FILES, ours, saved
from tests.bench.places import PLACES, Place, s3_at, target_at
from tests.bench.upload import PART, Job, Sending, SendTo, Way, plain_s3, to_s3


async def _parts(job: Job) -> AsyncIterator[bytes]:
    """Iterate over the files' bytes in 8 MiB parts, with sessions as ours has them."""
    async with open_session(stall_timeout=30) as session:
        pieces: list[bytes] = []
        have = 0
        for file_id, _, _ in job.files:
            async with session.get(job.url(file_id)) as response:
                async for chunk in response.content.iter_any():
                    pieces.append(chunk)
                    have += len(chunk)
                    if have >= PART:
                        joined = b"".join(pieces)
                        yield joined[:PART]
                        pieces = [joined[PART:]]
                        have = len(pieces[0])
        yield b"".join(pieces)


async def copy(job: Job) -> None:
    """GET → parts: no archive, nothing verified."""
    async with to_s3(job.sink, "copy") as upload:
        number = 0
        async for part in _parts(job):
            number += 1
            await upload.add(number, part)


async def verified_copy(job: Job, *, etags: bool = False, send_to: SendTo = to_s3) -> None:
    """Copy, with the MD5 of the source and of what is sent, each in a thread of its own.

    With `etags`, also that of each part, as a client that compares S3's ETag needs it.
    """
    source, sent = (hashlib.md5(usedforsecurity=False) for _ in range(2))
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        async with send_to(job.sink, "copies/verified") as upload:
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


async def _ours(job: Job, **chosen: Any) -> str:
    """Run our own data path to S3."""
    return await ours(job, open_store(), s3_at(job.sink), **chosen)


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


async def as_files(job: Job) -> str:
    return await _ours(job, suffix=AS_FILES)


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
    return await _ours(job, compression="store", saving=saved)


async def _copy_to(
    place: Place, copy: Callable[[Any, str], AbstractAsyncContextManager[Sending]], job: Job
) -> None:
    await verified_copy(job, send_to=lambda sink, key: copy(target_at(place, sink), key))


async def _ours_to(place: Place, suffix: str, job: Job) -> str:
    target = target_at(place, job.sink)
    return await ours(job, place.open(target), target, suffix=suffix)


async def one_put(job: Job) -> None:
    """Files as objects of their own, one GET and one PUT after the other."""
    async with open_session(stall_timeout=30) as session, plain_s3(job.sink) as client:
        for file_id, _, md5 in job.files:
            async with session.get(job.url(file_id)) as response:
                body = await response.read()
            assert hashlib.md5(body, usedforsecurity=False).hexdigest() == md5
            await client.put_object(Bucket="bench", Key=f"copies/{file_id}", Body=body)


FORMS = {"zip": ".zip", "tar": ".tar", "tar.zst": ".tar.zst", "files": AS_FILES}
# By the place they go to; with each, the sink of a job is a target.
TO: dict[str, dict[str, Way]] = {
    name: {
        **{
            called: partial(_copy_to, place, copy)
            for called, copy in (
                ("verified copy", place.copy),
                ("verified copy, read back,", place.copy_read_back),
            )
            if copy is not None
        },
        **{f"ours, {form}": partial(_ours_to, place, ending) for form, ending in FORMS.items()},
    }
    for name, place in PLACES.items()
}
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
    "ours, files": as_files,
    "one PUT at a time": one_put,
    **{f"{way} to {place}": run for place, ways in TO.items() for way, run in ways.items()},
}
# Many times slower than the others: measured once a payload, the others in every round.
SLOW = ("staged", "stream-zip defaults", "zipstream-ng + boto3")
