"""What is to be brought where, and a plain multipart upload for the ways that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Awaitable, Callable
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


Way = Callable[[Job], Awaitable[str | None]]


def config() -> dict[str, Any]:
    """Return the options of botocore that ours sets, too."""
    return {
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "max_pool_connections": 64,
        "s3": {"addressing_style": "path", "payload_signing_enabled": False},
    }


class Multipart:
    """A plain multipart upload, `IN_FLIGHT` parts at a time, as aiobotocore does it."""

    def __init__(self, client: S3Client, key: str, upload_id: str, tasks: TaskGroup) -> None:
        self._client = client
        self._key = key
        self._id = upload_id
        self._tasks = tasks
        self._etags: dict[int, str] = {}
        self._free = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, sink: str, key: str) -> AsyncIterator[Multipart]:
        async with aioboto3.Session().client(
            "s3",
            endpoint_url=sink,
            aws_access_key_id="k",
            aws_secret_access_key="s",
            config=AioConfig(region_name="eu-west-1", **config()),
        ) as client:
            answer = await client.create_multipart_upload(Bucket="bench", Key=key)
            async with TaskGroup() as tasks:
                upload = cls(client, key, answer["UploadId"], tasks)
                yield upload
            parts = [{"PartNumber": n, "ETag": e} for n, e in sorted(upload._etags.items())]
            await client.complete_multipart_upload(
                Bucket="bench",
                Key=key,
                UploadId=answer["UploadId"],
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
            )

    async def add(self, number: int, part: bytes) -> None:
        await self._free.acquire()
        self._tasks.create_task(self._send(number, part))

    async def _send(self, number: int, part: bytes) -> None:
        answer = await self._client.upload_part(
            Bucket="bench", Key=self._key, UploadId=self._id, PartNumber=number, Body=part
        )
        self._etags[number] = answer["ETag"]
        self._free.release()
