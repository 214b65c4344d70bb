"""What is to be brought where, and a plain multipart upload for the ways that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aioboto3
from aiobotocore.config import AioConfig

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

MIB = 1024 * 1024
PART = 8 * MIB
IN_FLIGHT = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """Files at `source`, to be brought to `sink` (both addresses)."""

    source: str
    sink: str
    files: list[tuple[int, int, str]]  # id, size, MD5

    def url(self, file_id: int) -> str:
        return f"{self.source}/orders/files/{file_id}"

    @property
    def size(self) -> int:
        return sum(size for _, size, _ in self.files)


Way = Callable[[Job], Coroutine[Any, Any, str | None]]


def config() -> dict[str, Any]:
    """Return the options of botocore that ours sets, too."""
    return {
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "max_pool_connections": 64,
        "s3": {"addressing_style": "path", "payload_signing_enabled": False},
    }


class Sending:
    """Parts on their way to an upload, `IN_FLIGHT` at a time."""

    def __init__(self, tasks: TaskGroup, put: Callable[[int, bytes], Awaitable[object]]) -> None:
        self._tasks = tasks
        self._put = put
        self._free = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    @contextlib.asynccontextmanager
    async def by(cls, put: Callable[[int, bytes], Awaitable[object]]) -> AsyncIterator[Sending]:
        """Send each part by `put`; at the end all are there."""
        async with TaskGroup() as tasks:
            yield cls(tasks, put)

    async def add(self, number: int, part: bytes) -> None:
        await self._free.acquire()
        self._tasks.create_task(self._send(number, part))

    async def _send(self, number: int, part: bytes) -> None:
        await self._put(number, part)
        self._free.release()


SendTo = Callable[[str, str], contextlib.AbstractAsyncContextManager[Sending]]


def plain_s3(sink: str) -> contextlib.AbstractAsyncContextManager[S3Client]:
    """Return a client of a server."""
    return aioboto3.Session().client(
        "s3",
        endpoint_url=sink,
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=AioConfig(region_name="eu-west-1", **config()),
    )


@contextlib.asynccontextmanager
async def to_s3(sink: str, key: str) -> AsyncIterator[Sending]:
    """Make an object of parts, as aiobotocore does it."""
    etags: dict[int, str] = {}
    async with plain_s3(sink) as client:
        answer = await client.create_multipart_upload(Bucket="bench", Key=key)
        upload_id = answer["UploadId"]

        async def put(number: int, part: bytes) -> None:
            stored = await client.upload_part(
                Bucket="bench", Key=key, UploadId=upload_id, PartNumber=number, Body=part
            )
            etags[number] = stored["ETag"]

        async with Sending.by(put) as sending:
            yield sending
        parts = [{"PartNumber": n, "ETag": e} for n, e in sorted(etags.items())]
        await client.complete_multipart_upload(
            Bucket="bench",
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )
