"""Azure's blob storage: block blobs that appear complete and verified, or not at all."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    PartBody,
    StoredPart,
    Upload,
)
from app.errors import TargetRefusedError, TargetUnavailableError
from sinks.stores.azure.blocks import BlockId, new_upload_id, of_upload
from sinks.stores.azure.calls import AzureCalls, BlocksGoneError, NotMetError
from sinks.stores.azure.completion import AzureCompletion
from sinks.stores.azure.fence import end_upload
from sinks.stores.azure.links import link
from sinks.stores.azure.metadata import ETAG, as_metadata
from sinks.stores.azure.objects import check_no_folder, object_of, version_of
from sinks.stores.azure.records import UploadRecords
from sinks.stores.azure.target import AzureTarget
from sinks.stores.deadlines import COMPLETION_WINDOW
from sinks.stores.expected import LEAST_PART, Expected, etag_of
from sinks.stores.reading import gone, whole_of

_ASIDE_TYPE = "application/octet-stream"
_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at


class AzureObjectStore:
    """See `app.delivery.object_store`; what makes an upload a fence is in `fence`.

    A part is a block, whose MD5 Azure compares when it takes it, and which its id tells. So the
    list that makes the object names what was verified, and its ETag is told in advance, as S3 makes
    it; Azure's own is opaque.
    """

    def __init__(self, calls: AzureCalls) -> None:
        self.calls = calls
        self._records = UploadRecords(calls)

    async def create_upload(
        self, target: AzureTarget, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload: a record of it beside the object's name."""
        self.calls.check_tenant(target, marks)
        return await self._records.begin(target, key, marks, media_type=media_type)

    async def put_part(
        self, target: AzureTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Stage part `number` (from 1) as a block of its own, each time it is sent.

        Raises WrongObjectError when Azure stored other bytes, UploadLostError when the upload is
        gone.
        """
        await self._records.check(target, upload)
        block = BlockId.new(upload.upload_id, number, part.md5)
        await self.calls.stage(target, upload.key, block, part)
        return StoredPart(etag=part.md5.hex(), md5=part.md5)

    async def part_etags(self, target: AzureTarget, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there; of one that was sent again, the last."""
        await self._records.check(target, upload)
        staged = of_upload(await self.calls.staged(target, upload.key), upload.upload_id)
        return {number: blocks[-1].id.md5.hex() for number, blocks in staged.items()}

    def uploads_from(self, target: AzureTarget) -> int:  # noqa: ARG002
        """Return the bytes from which on an object may have an upload: as much as a part has."""
        return LEAST_PART

    def etag_of(self, target: AzureTarget, parts: Sequence[StoredPart]) -> str | None:  # noqa: ARG002
        """Return the ETag that an object of these parts must have."""
        return etag_of(parts)

    async def complete(
        self,
        target: AzureTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        """Make the object appear, and verify it by size and ETag; return that.

        What is there already is replaced if it is of the same tenant and user, or carries no marks;
        ForeignObjectError if it is another's. On a condition, so that nothing may come in between.
        Raises TargetUnavailableError while the object is not there, UploadLostError when it can't
        come any more, and WrongObjectError when another one came, or would.
        """
        self.calls.check_tenant(target, marks)
        completion = AzureCompletion(
            calls=self.calls,
            records=self._records,
            target=target,
            upload=upload,
            parts=parts,
            expected=Expected(size=size, etag=etag_of(parts), marks=marks),
            md5=None if md5 is None else bytes.fromhex(md5),
            ask_until=time.monotonic() + COMPLETION_WINDOW,
        )
        return await completion.run(again=again)

    async def abort(self, target: AzureTarget, upload: Upload) -> None:
        """End an upload, also of a predecessor; one that is gone already is fine."""
        await end_upload(self.calls, self._records, target, upload)

    async def open_uploads(self, target: AzureTarget, key: str) -> list[Upload]:
        """Return every open upload of this key."""
        return await self._records.of_key(target, key)

    async def find(self, target: AzureTarget, key: str) -> FoundObject | None:
        """Describe the object with this key; None if there is none."""
        return object_of(await self.calls.describe(target, key))

    async def put_object(
        self,
        target: AzureTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Make an object of one block, on condition that nothing comes after the look before."""
        self.calls.check_tenant(target, marks)
        etag = etag_of([StoredPart(etag=body.md5.hex(), md5=body.md5)])
        assert etag is not None  # noqa: S101 - the part has an MD5
        expected = Expected(size=len(body), etag=etag, marks=marks)
        for _ in range(_MAX_ROUNDS):
            blob = await self.calls.describe(target, key)
            check_no_folder(blob, target, key)
            found = object_of(blob)
            if found is not None:
                expected.check_replaceable(found, target, key)
            await may()
            blocks = await self._staged(target, key, body)
            await may()
            try:
                await self.calls.commit(
                    target,
                    key,
                    blocks,
                    metadata=as_metadata(marks) | {ETAG: etag},
                    media_type=media_type,
                    md5=body.md5,
                    version=version_of(blob),
                )
            except (NotMetError, BlocksGoneError):
                continue  # something else is there by now, and has discarded what was staged
            if found is not None:
                expected.tell_others_replaced(found, target, key)
            return etag
        raise TargetUnavailableError(f"{key} in {target} is written by others again and again")

    async def _staged(self, target: AzureTarget, key: str, body: PartBody) -> list[BlockId]:
        """Stage bytes as one block, which no upload has; none where there are none."""
        if not len(body):
            return []
        block = BlockId.new(new_upload_id(), 1, body.md5)
        await self.calls.stage(target, key, block, body)
        return [block]

    async def link(self, target: AzureTarget, key: str, asked: LinkAsked) -> str:
        """Return a URL with a SAS. Raises NoLinkError where there is a SAS alone to sign in with.

        For an identity, Azure is asked for a key that signs.
        """
        return await link(self.calls, target, key, asked)

    async def read(
        self, target: AzureTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object, whose ETag comes with them."""
        blob, pieces = await self.calls.read_range(target, key, offset=offset, length=length)
        found = object_of(blob)
        if found is None or found.etag != etag:
            raise gone(target, key, etag)
        return whole_of(target, key, length, pieces)

    async def put_aside(
        self, target: AzureTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object at once, of one block; replaces one that is there.

        Raises WrongObjectError when Azure stored other bytes.
        """
        self.calls.check_tenant(target, marks)
        for _ in range(_MAX_ROUNDS):
            blocks = await self._staged(target, key, body)
            try:
                await self.calls.commit(
                    target,
                    key,
                    blocks,
                    metadata=as_metadata(marks),
                    media_type=_ASIDE_TYPE,
                    md5=body.md5,
                    anyway=True,
                )
            except BlocksGoneError:
                continue  # a list of an earlier call, of which no answer came, was carried out
            return
        raise TargetUnavailableError(f"{key} in {target} is written by others again and again")

    async def read_aside(self, target: AzureTarget, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside, in pieces; none if it is gone."""
        return await self.calls.read(target, key, size=size + 1)

    async def drop_aside(self, target: AzureTarget, key: str) -> None:
        """Remove an object that was put aside; one that is gone already is fine."""
        await self.calls.remove(target, key)

    async def delete(self, target: AzureTarget, key: str, *, etag: str) -> None:
        """Remove the object with this key, as long as it has this ETag. Raises TargetRefusedError.

        On condition that it is still the one that was looked at.
        """
        blob = await self.calls.describe(target, key)
        found = object_of(blob)
        try:
            if blob is not None and found is not None and found.etag == etag:
                await self.calls.remove(target, key, version=blob.version)
                return
        except NotMetError:
            pass
        raise TargetRefusedError(f"{target} does not remove {key}: it is not {etag} any more")
