"""An S3-compatible store: multipart uploads that appear complete and verified, or not at all."""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    PartBody,
    StoredPart,
    Upload,
)
from app.errors import (
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from sinks.stores.breaker import Breakers
from sinks.stores.deadlines import CALL_TIMEOUT, COMPLETION_WINDOW, for_part
from sinks.stores.expected import LEAST_PART, Expected, etag_of
from sinks.stores.reading import cut_short, gone, whole_of
from sinks.stores.s3.breaker import SIGNS
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.completion import S3Completion
from sinks.stores.s3.conditions import KnownConditions
from sinks.stores.s3.links import Door
from sinks.stores.s3.parts import ListedParts
from sinks.stores.s3.putting import S3Put
from sinks.stores.s3.requests import (
    COMPLETION_TIMEOUT,
    NO_CONDITION,
    NO_OBJECT,
    NOT_MET,
    answered,
    code_of,
    traced,
    translate_errors,
)
from sinks.stores.s3.target import S3Target

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.type_defs import PutObjectOutputTypeDef, UploadPartOutputTypeDef

_MD5 = re.compile("[0-9a-f]{32}")
_PIECE = 1024 * 1024  # bytes of an object that are read at once
_LISTED_AT_ONCE = 100  # parts: reading an answer of 1,000, the most there is, holds the loop long


def _encrypted(answer: UploadPartOutputTypeDef | PutObjectOutputTypeDef) -> bool:
    """Whether the store encrypts with keys of its own, which makes other ETags."""
    return (
        answer.get("ServerSideEncryption", "").startswith("aws:kms")
        or "SSECustomerAlgorithm" in answer
    )


class S3ObjectStore:
    """See `app.delivery.object_store`. Every call has a deadline, and none is made twice here."""

    def __init__(
        self,
        clients: S3Clients,
        *,
        up: Gauge | None = None,
        short: float = CALL_TIMEOUT,
        completion: float = COMPLETION_TIMEOUT,
        door: Door | None = None,
    ) -> None:
        self.clients = clients
        self._door = door or Door()
        self.breakers = Breakers(self.find_bucket, SIGNS, up=up)
        self.conditions = KnownConditions()  # of completions
        self.put_conditions = KnownConditions()
        self._short = short  # seconds
        self._completion = completion  # seconds

    @contextlib.asynccontextmanager
    async def _call(
        self,
        target: S3Target,
        verb: str,
        action: str,
        *,
        key: str = "",
        part: int | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[S3Client]:
        """Give the client for one call: every call goes through here, and tells the breaker."""
        async with self.clients.of(target) as client:
            with (
                traced(verb, target, key, part),
                self.breakers.watching(target, quick=seconds is None),
            ):
                async with translate_errors(target, action, seconds or self._short):
                    yield client

    async def create_upload(
        self,
        target: S3Target,
        key: str,
        marks: Mapping[str, str] | None = None,
        *,
        media_type: str = "application/octet-stream",
    ) -> Upload:
        """Open a multipart upload; its object will carry the marks as metadata."""
        asked: dict[str, Any] = dict(target.opened_with)
        async with self._call(target, "begin", f"begin an upload of {key}", key=key) as client:
            answer = await client.create_multipart_upload(
                Bucket=target.bucket,
                Key=key,
                ContentType=media_type,
                Metadata=dict(marks or {}),
                **asked,
            )
            upload_id = answer["UploadId"]
        return Upload(container=target.bucket, key=key, upload_id=upload_id)

    async def put_part(
        self, target: S3Target, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Send part `number` (from 1). Raises WrongObjectError when S3 stored other bytes.

        The store compares the MD5 that goes along (Content-MD5), and its ETag is compared here,
        where it is an MD5: that of an encrypted part need not be. Raises UploadLostError when the
        upload is gone.
        """
        try:
            async with self._call(
                target,
                "put part",
                f"take part {number} of {upload.key}",
                key=upload.key,
                part=number,
                seconds=for_part(len(part)),
            ) as client:
                answer = await client.upload_part(
                    Bucket=upload.container,
                    Key=upload.key,
                    UploadId=upload.upload_id,
                    PartNumber=number,
                    Body=part,  # type: ignore[arg-type]
                    ContentMD5=base64.b64encode(part.md5).decode(),
                )
                etag = answer["ETag"].strip('"')
        except TargetRefusedError as error:
            if code_of(error) == "NoSuchUpload":
                raise _lost(target, upload) from error
            raise
        except TargetUnavailableError as error:
            if answered(error):
                await self.check_open(target, upload)
            raise
        is_md5 = _is_md5_of(part, answer, f"part {number} of {upload.key}")
        return StoredPart(etag=etag, md5=part.md5 if is_md5 else None)

    async def check_open(self, target: S3Target, upload: Upload) -> None:
        """Raise UploadLostError unless the upload is open, or the store does not tell.

        Some stores answer 500 to a part, or the completion, of an upload that they don't know.
        """
        action = f"list the parts of {upload.key}"
        try:
            async with self._call(target, "list parts", action, key=upload.key) as client:
                await client.list_parts(
                    Bucket=upload.container, Key=upload.key, UploadId=upload.upload_id, MaxParts=1
                )
        except (TargetRefusedError, TargetUnavailableError) as error:
            if code_of(error) == "NoSuchUpload":
                raise _lost(target, upload) from error

    def uploads_from(self, target: S3Target) -> int:  # noqa: ARG002
        """Return the bytes from which on an object may have an upload: S3's least part."""
        return LEAST_PART

    def etag_of(self, target: S3Target, parts: Sequence[StoredPart]) -> str | None:  # noqa: ARG002
        """Return the ETag that the whole object must have; None where ETags are no MD5s."""
        return etag_of(parts)

    async def complete(
        self,
        target: S3Target,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,  # noqa: ARG002
        again: bool = False,
    ) -> str:
        """Make the object appear, and verify it: by size, and by ETag where ETags are MD5s.

        Returns its ETag. What is there already is replaced if it is of the same tenant and user, or
        carries no marks; ForeignObjectError if it is another's. On a condition (`If-None-Match`,
        `If-Match`), so that nothing may come in between; where the store is not known to keep it,
        after a look. `again`, if an earlier call was in doubt, looks, too. Where the ETag is not
        known in advance, the marks tell whether an object is this one. Raises
        TargetUnavailableError while the object is not there, UploadLostError when it can't come any
        more, and WrongObjectError when another one came.
        """
        completion = S3Completion(
            sink=self,
            target=target,
            upload=upload,
            parts=parts,
            expected=Expected(size=size, etag=self.etag_of(target, parts), marks=marks),
            ask_until=time.monotonic() + COMPLETION_WINDOW,
        )
        return await completion.run(again=again)

    async def ask_to_complete(
        self,
        target: S3Target,
        upload: Upload,
        parts: Sequence[StoredPart],
        condition: Mapping[str, str],
    ) -> str:
        """Ask for a completion, once; return the ETag that is told.

        Raises UploadLostError if the store knows no such upload: completed by a request whose
        answer was lost, or aborted.
        """
        try:
            async with self._call(
                target,
                "complete",
                f"complete the upload of {upload.key}",
                key=upload.key,
                seconds=self._completion,
            ) as client:
                answer = await client.complete_multipart_upload(
                    Bucket=upload.container,
                    Key=upload.key,
                    UploadId=upload.upload_id,
                    MultipartUpload=ListedParts(parts),  # type: ignore[arg-type]
                    **condition,  # type: ignore[arg-type]
                )
                return answer["ETag"].strip('"')
        except TargetRefusedError as error:
            if code_of(error) == "NoSuchUpload":
                raise _lost(target, upload) from error
            if code_of(error) == "InvalidPart":
                raise UploadLostError(
                    f"parts of the upload of {upload.key} in {target} are not those that were sent "
                    "(InvalidPart): a worker that had lost its lease has sent others, or the store "
                    "has lost some; it begins again"
                ) from error
            raise

    async def part_etags(self, target: S3Target, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there, by their numbers."""
        found: dict[int, str] = {}
        marker = 0
        try:
            while True:
                async with self._call(
                    target, "list parts", f"list the parts of {upload.key}", key=upload.key
                ) as client:
                    answer = await client.list_parts(
                        Bucket=upload.container,
                        Key=upload.key,
                        UploadId=upload.upload_id,
                        PartNumberMarker=marker,
                        MaxParts=_LISTED_AT_ONCE,
                    )
                listed = answer.get("Parts", [])
                found |= {part["PartNumber"]: part["ETag"].strip('"') for part in listed}
                last = max(found, default=0)
                if not answer.get("IsTruncated") or last <= marker:
                    return found
                marker = last
        except TargetRefusedError as error:
            if code_of(error) == "NoSuchUpload":
                raise _lost(target, upload) from error
            raise

    async def find(self, target: S3Target, key: str) -> FoundObject | None:
        """Describe the object with this key; None if there is none."""
        try:
            async with self._call(target, "look", f"describe {key}", key=key) as client:
                head = await client.head_object(Bucket=target.bucket, Key=key)
                return FoundObject(
                    size=head["ContentLength"],
                    etag=head["ETag"].strip('"'),
                    # Some stores write names of headers as Go does: Rs-Delivery-Id.
                    marks={name.lower(): value for name, value in head["Metadata"].items()},
                )
        except TargetRefusedError as error:
            if code_of(error) in NO_OBJECT:
                return None
            raise

    async def put_object(
        self,
        target: S3Target,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str = "application/octet-stream",
        may: May,
    ) -> str:
        """Make an object at once; its MD5 goes along, as that of a part.

        On a condition, as `complete` does, where the store is known to keep it; else after a look.
        """
        asked: dict[str, Any] = dict(target.opened_with)
        what: dict[str, Any] = {
            "Bucket": target.bucket,
            "Key": key,
            "Body": body,
            "ContentMD5": base64.b64encode(body.md5).decode(),
            "ContentType": media_type,
            "Metadata": dict(marks),
            **asked,
        }

        async def put(condition: Mapping[str, str]) -> str:
            async with self._call(
                target, "put", f"take {key}", key=key, seconds=for_part(len(body))
            ) as client:
                answer = await client.put_object(**(what | dict(condition)))
                etag = answer["ETag"].strip('"')
            _is_md5_of(body, answer, key)
            return etag

        size, etag = len(body), body.md5.hex()
        expected = Expected(size=size, etag=etag, marks=marks)
        return await S3Put(
            sink=self, target=target, key=key, put=put, expected=expected, may=may
        ).run()

    async def link(self, target: S3Target, key: str, asked: LinkAsked) -> str:
        """Return a presigned URL; the server is asked for nothing."""
        return self._door.link(target, key, asked)

    async def read(
        self, target: S3Target, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object, on condition that it has this ETag.

        The ETag that comes with them is compared, too: not every store knows that condition.
        """
        pieces: list[bytes] = []
        left = length
        try:
            async with self._call(
                target, "read", f"give {key}", key=key, seconds=for_part(length)
            ) as client:
                answer = await client.get_object(
                    Bucket=target.bucket,
                    Key=key,
                    Range=f"bytes={offset}-{offset + length - 1}",
                    IfMatch=f'"{etag}"',
                )
                async with (body := answer["Body"]):
                    if answer["ETag"].strip('"') != etag:
                        raise gone(target, key, etag)
                    if answer["ContentLength"] != length:
                        raise cut_short(target, key)
                    while left and (piece := await body.read(min(left, _PIECE))):
                        pieces.append(piece)
                        left -= len(piece)
        except TargetRefusedError as error:
            if code_of(error) in (*NO_OBJECT, *NOT_MET):
                raise gone(target, key, etag) from error
            raise
        return whole_of(target, key, length, pieces)

    async def put_aside(
        self, target: S3Target, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object at once, by one request; its MD5 goes along, as that of a part.

        It is encrypted as archives are, and in the store's usual class: it is soon read.
        """
        kept: dict[str, Any] = dict(target.opened_with)
        kept.pop("StorageClass", None)
        async with self._call(
            target, "put aside", f"take {key}", key=key, seconds=for_part(len(body))
        ) as client:
            answer = await client.put_object(
                Bucket=target.bucket,
                Key=key,
                Body=body,  # type: ignore[arg-type]
                ContentMD5=base64.b64encode(body.md5).decode(),
                Metadata=dict(marks),
                **kept,
            )
        _is_md5_of(body, answer, key)

    async def read_aside(self, target: S3Target, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside, in pieces; none if it is gone."""
        pieces: list[bytes] = []
        left = size + 1
        try:
            async with self._call(
                target, "read aside", f"give {key}", key=key, seconds=for_part(size)
            ) as client:
                answer = await client.get_object(Bucket=target.bucket, Key=key)
                async with (body := answer["Body"]):
                    while left and (piece := await body.read(min(left, _PIECE))):
                        pieces.append(piece)
                        left -= len(piece)
        except TargetRefusedError as error:
            if code_of(error) in NO_OBJECT:
                return []
            raise
        return pieces

    async def drop_aside(self, target: S3Target, key: str) -> None:
        """Remove an object that was put aside; one that is gone already is fine."""
        try:
            await self._delete(target, key, None)
        except TargetRefusedError as error:
            if code_of(error) not in NO_OBJECT:
                raise

    async def delete(self, target: S3Target, key: str, *, etag: str) -> None:
        """Remove the object with this key, as long as it has this ETag.

        Not every store knows that condition; the caller has just looked.
        """
        try:
            await self._delete(target, key, etag)
        except TargetRefusedError as error:
            if code_of(error) not in NO_CONDITION:
                raise
            await self._delete(target, key, None)

    async def _delete(self, target: S3Target, key: str, etag: str | None) -> None:
        condition = {"IfMatch": f'"{etag}"'} if etag is not None else {}
        async with self._call(target, "delete", f"remove {key}", key=key) as client:
            await client.delete_object(
                Bucket=target.bucket,
                Key=key,
                **condition,  # type: ignore[arg-type]
            )

    async def abort(self, target: S3Target, upload: Upload) -> None:
        """Abort an upload, also of a predecessor; one that is gone already is fine."""
        try:
            async with self._call(
                target, "abort", f"abort the upload of {upload.key}", key=upload.key
            ) as client:
                await client.abort_multipart_upload(
                    Bucket=upload.container, Key=upload.key, UploadId=upload.upload_id
                )
        except TargetRefusedError as error:
            if code_of(error) not in ("NoSuchUpload", "NoSuchBucket", "404"):
                raise

    async def reach(self, target: S3Target) -> None:
        """Raise TargetUnavailableError unless the server answers, whatever it says."""
        try:
            await self.find_bucket(target)
        except TargetRefusedError as error:
            if not answered(error):
                raise  # it was not even asked

    async def find_bucket(self, target: S3Target) -> None:
        """Raise DeliveryError unless the credentials are good and the bucket exists."""
        async with self._call(target, "look", "look") as client:
            await client.head_bucket(Bucket=target.bucket)

    async def open_uploads(self, target: S3Target, key: str) -> list[Upload]:
        """Return every open upload of this key."""
        async with self._call(
            target, "list uploads", f"list the uploads of {key}", key=key
        ) as client:
            answer = await client.list_multipart_uploads(Bucket=target.bucket, Prefix=key)
        return [
            Upload(container=target.bucket, key=key, upload_id=listed["UploadId"])
            for listed in answer.get("Uploads", [])
            if listed["Key"] == key
        ]

    async def aclose(self) -> None:
        """End all probes, close all clients."""
        await self.breakers.close()
        await self.clients.aclose()


def _is_md5_of(
    body: PartBody, answer: UploadPartOutputTypeDef | PutObjectOutputTypeDef, what: str
) -> bool:
    """Whether a store shows by its ETag that it has the same bytes.

    Raises WrongObjectError when it shows that it has others.
    """
    etag, md5 = answer["ETag"].strip('"'), body.md5.hex()
    if etag != md5 and _MD5.fullmatch(etag) and not _encrypted(answer):
        raise WrongObjectError(f"S3 stored {what} as {etag}, sent was {md5}")
    return etag == md5


def _lost(target: S3Target, upload: Upload) -> UploadLostError:
    return UploadLostError(
        f"{target} knows the upload of {upload.key} no more (NoSuchUpload): another "
        "client, or a life-cycle rule of the bucket, has aborted it; it begins again"
    )
