"""An upload that is begun to see whether it can be, and aborted; no object ever appears."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import uuid4

from app.errors import DeliveryError, TargetRefusedError, TargetUnavailableError
from sinks.stores.s3.requests import code_of, translate_errors
from sinks.stores.s3.target import S3Target

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

DENIED = ("AccessDenied", "403")
ABORT_RIGHT = "s3:AbortMultipartUpload"
_ABORT_TIMEOUT = 3.0  # seconds to abort it, however long it took to begin it
_FOLDER = ".rs-delivery-check/"


def trial_key(target: S3Target) -> str:
    """Return a key under which there is nothing, and never was."""
    return f"{target.prefix}{_FOLDER}{uuid4()}"


class Trial:
    """One upload."""

    def __init__(self, client: S3Client, target: S3Target) -> None:
        self._client = client
        self._target = target
        self._key = trial_key(target)
        self._upload_id = ""

    async def check_abort(self, seconds: float) -> None:
        """Raise TargetRefusedError where an upload could not be aborted: then none is begun.

        A store looks for a right before it looks for the upload: there is none of this id.
        """
        try:
            async with translate_errors(self._target, f"abort an upload of {self._key}", seconds):
                await self._abort(uuid4().hex)
        except TargetRefusedError as error:
            if code_of(error) in DENIED:
                raise TargetRefusedError(f"{error}; {ABORT_RIGHT} is missing") from error.__cause__

    async def begin(self, seconds: float, *, looking: bool = True) -> None:
        """Begin it. Where no answer comes it may be open all the same, and is looked for."""
        try:
            async with translate_errors(self._target, f"begin an upload of {self._key}", seconds):
                begun = await self._client.create_multipart_upload(
                    Bucket=self._target.bucket, Key=self._key
                )
                self._upload_id = begun["UploadId"]
        except (TargetUnavailableError, asyncio.CancelledError):
            if looking:
                with contextlib.suppress(DeliveryError):  # what is told is why it was not begun
                    await self._abort_all()
            raise

    async def abort(self) -> None:
        """Abort it, within seconds of its own. Raises like a sink."""
        async with translate_errors(
            self._target, f"abort an upload of {self._key}", _ABORT_TIMEOUT
        ):
            await self._abort(self._upload_id)

    async def _abort_all(self) -> None:
        async with translate_errors(self._target, f"abort uploads of {self._key}", _ABORT_TIMEOUT):
            found = await self._client.list_multipart_uploads(
                Bucket=self._target.bucket, Prefix=self._key
            )
            for upload in found.get("Uploads", []):
                await self._abort(upload["UploadId"])

    async def _abort(self, upload_id: str) -> None:
        await self._client.abort_multipart_upload(
            Bucket=self._target.bucket, Key=self._key, UploadId=upload_id
        )
