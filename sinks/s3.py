"""An S3-compatible store: multipart uploads that appear complete and verified, or not at all."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aioboto3
from prometheus_client import Gauge

from app.errors import (
    DeliveryError,
    RetryableError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongObjectError,
)
from app.model import S3Target, Upload
from sinks.breaker import Breakers
from sinks.parts import Part
from sinks.s3_requests import (
    code_of,
    config_for,
    count_retries,
    kept_as,
    send_at_once,
    traced,
    wrapped,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.type_defs import UploadPartOutputTypeDef

# A part may take so many seconds, and those that its bytes take at the slowest pace.
_PART_TIMEOUT = 120.0
_SLOWEST = 256 * 1024  # bytes a second

_MD5 = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPart:
    """A part that S3 has."""

    etag: str  # what S3 calls it
    md5: bytes | None  # its MD5, where the ETag shows that S3 has the same


def _etag_of(parts: Sequence[StoredPart]) -> str | None:
    """Return the ETag that the whole object must have; None where ETags are no MD5s."""
    digests = [part.md5 for part in parts if part.md5 is not None]
    if len(digests) < len(parts):
        return None
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f"{whole}-{len(parts)}"


def _encrypted(answer: UploadPartOutputTypeDef) -> bool:
    """Whether the store encrypts with keys of its own, which makes other ETags."""
    return (
        answer.get("ServerSideEncryption", "").startswith("aws:kms")
        or "SSECustomerAlgorithm" in answer
    )


class S3Sink:
    """See `app.ports.ArchiveSink`. Clients are made once for each target, and kept."""

    def __init__(self, stack: contextlib.AsyncExitStack, *, up: Gauge | None = None) -> None:
        self._stack = stack
        self.breakers = Breakers(self.find_bucket, up=up)
        self._session = aioboto3.Session()
        self._clients: dict[tuple[str, ...], S3Client] = {}
        self._opening = asyncio.Lock()

    async def _client(self, target: S3Target) -> S3Client:
        signed_in = (
            target.endpoint,
            target.region,
            target.key,
            target.secret,
            target.addressing_style,
        )
        async with self._opening:
            if signed_in not in self._clients:
                client = await self._stack.enter_async_context(
                    self._session.client(
                        "s3",
                        endpoint_url=target.endpoint,
                        aws_access_key_id=target.key,
                        aws_secret_access_key=target.secret,
                        config=config_for(target),
                    )
                )
                client.meta.events.register("before-sign.s3.UploadPart", send_at_once)
                client.meta.events.register("needs-retry.s3", count_retries)
                self._clients[signed_in] = client
            return self._clients[signed_in]

    @contextlib.contextmanager
    def _asking(self, target: S3Target, action: str) -> Iterator[None]:
        """Sort the answer to a request, and let the breaker of its server know."""
        with self.breakers.watching(target), wrapped(target, action):
            yield

    async def begin(self, target: S3Target, key: str) -> Upload:
        """Open a multipart upload."""
        client = await self._client(target)
        with traced("begin", target, key), self._asking(target, f"begin an upload of {key}"):
            answer = await client.create_multipart_upload(
                Bucket=target.bucket, Key=key, ContentType="application/zip", **kept_as(target)
            )
        return Upload(bucket=target.bucket, key=key, upload_id=answer["UploadId"])

    async def put_part(
        self, target: S3Target, upload: Upload, number: int, part: Part
    ) -> StoredPart:
        """Send part `number` (from 1). Raises WrongObjectError when S3 stored other bytes.

        The store compares the MD5 that goes along (Content-MD5), and its ETag is compared here,
        where it is an MD5: that of an encrypted part need not be.
        """
        client = await self._client(target)
        action = f"take part {number} of {upload.key}"
        with traced("put part", target, upload.key, number), self._asking(target, action):
            async with asyncio.timeout(_PART_TIMEOUT + len(part) / _SLOWEST):
                answer = await client.upload_part(
                    Bucket=upload.bucket,
                    Key=upload.key,
                    UploadId=upload.upload_id,
                    PartNumber=number,
                    Body=part,  # type: ignore[arg-type]
                    ContentMD5=base64.b64encode(part.md5).decode(),
                )
        etag = answer["ETag"].strip('"')
        is_md5 = etag == part.md5.hex()
        if not is_md5 and _MD5.fullmatch(etag) and not _encrypted(answer):
            raise WrongObjectError(
                f"S3 stored part {number} of {upload.key} as {etag}, sent was {part.md5.hex()}"
            )
        return StoredPart(etag=etag, md5=part.md5 if is_md5 else None)

    async def complete(
        self, target: S3Target, upload: Upload, parts: Sequence[StoredPart], size: int
    ) -> None:
        """Make the object appear, and verify it: by size, and by ETag where ETags are MD5s.

        An answer that is lost or in doubt is settled by looking at the object. Raises
        WrongObjectError when another object is there.
        """
        client = await self._client(target)
        listed = [
            {"PartNumber": number, "ETag": f'"{part.etag}"'}
            for number, part in enumerate(parts, start=1)
        ]
        etag = _etag_of(parts)
        doubt: DeliveryError | None = None
        try:
            action = f"complete the upload of {upload.key}"
            with traced("complete", target, upload.key), self._asking(target, action):
                answer = await client.complete_multipart_upload(
                    Bucket=upload.bucket,
                    Key=upload.key,
                    UploadId=upload.upload_id,
                    MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]
                )
                etag = etag or answer["ETag"].strip('"')
        except TargetUnavailableError as error:
            doubt = error
        except TargetRefusedError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            # Completed by a request whose answer was lost, or aborted by a successor.
            doubt = error
        found = await self._look(target, upload)
        if found is not None and found[0] == size and etag in (None, found[1]):
            return
        if doubt is not None:
            raise RetryableError(f"{doubt}; the object is not there") from doubt
        raise WrongObjectError(
            f"{upload.key} in {target} should have {size} bytes and ETag {etag}, found {found}"
        )

    async def _look(self, target: S3Target, upload: Upload) -> tuple[int, str] | None:
        client = await self._client(target)
        try:
            with self._asking(target, f"describe {upload.key}"):
                head = await client.head_object(Bucket=upload.bucket, Key=upload.key)
        except TargetRefusedError as error:
            if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return head["ContentLength"], head["ETag"].strip('"')

    async def abort(self, target: S3Target, upload: Upload) -> None:
        """Abort an upload, also of a predecessor; one that is gone already is fine."""
        client = await self._client(target)
        try:
            action = f"abort the upload of {upload.key}"
            with traced("abort", target, upload.key), self._asking(target, action):
                await client.abort_multipart_upload(
                    Bucket=upload.bucket, Key=upload.key, UploadId=upload.upload_id
                )
        except TargetRefusedError as error:
            if code_of(error) not in ("NoSuchUpload", "NoSuchBucket", "404"):
                raise

    async def reach(self, target: S3Target) -> None:
        """Return if the server answers, whatever it says. Raises TargetUnavailableError."""
        with contextlib.suppress(TargetRefusedError):
            await self.find_bucket(target)

    async def find_bucket(self, target: S3Target) -> None:
        """Return if the credentials are good and the bucket is there. Raises like all here."""
        client = await self._client(target)
        with self._asking(target, "look"):
            await client.head_bucket(Bucket=target.bucket)

    async def open_uploads(self, target: S3Target, key: str) -> list[Upload]:
        """Return every open upload of this key."""
        client = await self._client(target)
        with self._asking(target, f"list the uploads of {key}"):
            answer = await client.list_multipart_uploads(Bucket=target.bucket, Prefix=key)
        return [
            Upload(bucket=target.bucket, key=key, upload_id=found["UploadId"])
            for found in answer.get("Uploads", [])
            if found["Key"] == key
        ]


@contextlib.asynccontextmanager
async def open_sink(*, up: Gauge | None = None) -> AsyncIterator[S3Sink]:
    """Open the sink; its clients are closed at the end. `up` shows which servers answer."""
    async with contextlib.AsyncExitStack() as stack:
        sink = S3Sink(stack, up=up)
        try:
            yield sink
        finally:
            await sink.breakers.close()
