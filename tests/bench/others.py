"""Other ways to the same object: upstream's, and those that a library offers ready-made."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import stream_zip
import urllib3
import zipstream
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from streams.regards.orders import open_session
from tests.bench.upload import IN_FLIGHT, PART, Job, config, to_s3


async def staged(job: Job) -> None:
    """Upstream's way: all to disk, zipped there at level 6, its MD5 read, then sent."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_session(stall_timeout=30) as session:
            for file_id, _, _ in job.files:
                async with session.get(job.url(file_id)) as response:
                    with (folder / f"{file_id}.bin").open("wb") as file:
                        async for chunk in response.content.iter_any():
                            file.write(chunk)
        await asyncio.to_thread(_zip_and_send, folder, job)


def _zip_and_send(folder: Path, job: Job) -> None:
    archive = folder / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as zipped:
        for file_id, _, expected in job.files:
            path = folder / f"{file_id}.bin"
            with path.open("rb") as file:
                assert hashlib.file_digest(file, "md5").hexdigest() == expected
            zipped.write(path, path.name)
    with archive.open("rb") as file:
        hashlib.file_digest(file, "md5")
    _boto3(job.sink).upload_file(str(archive), "bench", "staged", Config=_transfer())


def _boto3(sink: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=sink,
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=Config(region_name="eu-west-1", **config()),
    )


def _transfer() -> TransferConfig:
    return TransferConfig(
        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=IN_FLIGHT
    )


async def stream_zip_defaults(job: Job) -> None:
    """stream-zip's asynchronous wrapper as its documentation shows it: level 9."""
    async with open_session(stall_timeout=30) as session:

        async def content(file_id: int) -> AsyncIterator[bytes]:
            async with session.get(job.url(file_id)) as response:
                async for chunk in response.content.iter_chunked(65536):
                    yield chunk

        async def members() -> AsyncIterator[Any]:
            for file_id, size, _ in job.files:
                method = stream_zip.ZIP_AUTO(size)
                yield f"{file_id}.bin", datetime.now(UTC), 0o600, method, content(file_id)

        async with to_s3(job.sink, "stream-zip") as upload:
            number, held, have = 0, list[bytes](), 0
            async for block in stream_zip.async_stream_zip(members()):
                held.append(block)
                have += len(block)
                if have >= PART:
                    number += 1
                    await upload.add(number, b"".join(held))
                    held, have = [], 0
            await upload.add(number + 1, b"".join(held))


class _Readable:
    """A file object over an iterator, for boto3."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        held, have = [self._rest], len(self._rest)
        while size < 0 or have < size:
            block = next(self._blocks, None)
            if block is None:
                break
            held.append(block)
            have += len(block)
        joined = b"".join(held)
        if size < 0:
            size = len(joined)
        self._rest = joined[size:]
        return joined[:size]


async def zipstream_ng(job: Job) -> None:
    """zipstream-ng, and boto3's upload_fileobj: threads and blocking reads."""

    def run() -> None:
        pool = urllib3.PoolManager()

        def content(file_id: int) -> Iterator[bytes]:
            response = pool.request("GET", job.url(file_id), preload_content=False)
            yield from response.stream(256 * 1024)
            response.release_conn()

        stream = zipstream.ZipStream(compress_type=zipfile.ZIP_DEFLATED)
        for file_id, _, _ in job.files:
            stream.add(content(file_id), f"{file_id}.bin")
        _boto3(job.sink).upload_fileobj(
            _Readable(iter(stream)), "bench", "zipstream-ng", Config=_transfer()
        )

    await asyncio.to_thread(run)
