"""The completion of an upload: its object appears, verified, and replaces no other client's.

Its steps are those of `sinks.stores.azure.fence`, in that order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.delivery.object_store import FoundObject, StoredPart, Upload
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from sinks.stores.azure.blocks import StagedBlock, of_upload
from sinks.stores.azure.calls import AzureCalls, BlocksGoneError, NotMetError
from sinks.stores.azure.fence import end_upload
from sinks.stores.azure.metadata import ETAG, as_metadata
from sinks.stores.azure.objects import check_no_folder, object_of, version_of
from sinks.stores.azure.records import Record, UploadRecords
from sinks.stores.azure.target import AzureTarget
from sinks.stores.expected import Expected, etag_of

_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at


@dataclass(frozen=True, kw_only=True)
class AzureCompletion:
    """One upload whose parts are all there."""

    calls: AzureCalls
    records: UploadRecords
    target: AzureTarget
    upload: Upload
    parts: Sequence[StoredPart]
    expected: Expected
    md5: bytes | None  # of the object, for those who read it: Azure keeps it, and does not look
    ask_until: float  # by the clock: what is asked for later is not decided when it was said to be
    clock: Callable[[], float] = time.monotonic

    async def run(self, *, again: bool) -> str:
        """Let the object appear; return its ETag. See `AzureObjectStore.complete`."""
        for _ in range(_MAX_ROUNDS):
            blob = await self.calls.describe(self.target, self.upload.key)
            check_no_folder(blob, self.target, self.upload.key)
            found = object_of(blob)
            if found is not None and self.expected.is_made(found, again=again):
                return await self._made_before(found)
            if found is not None:
                self.expected.check_replaceable(found, self.target, self.upload.key)
            blocks = await self._blocks()
            record = await self.records.claim(self.target, self.upload)
            try:
                etag = await self._complete(version_of(blob), blocks, record)
            except NotMetError:
                continue  # something else is there by now
            if found is not None:
                self.expected.tell_replaced(found, self.target, self.upload.key)
            return etag
        raise TargetUnavailableError(
            f"{self.upload.key} in {self.target} is written by others again and again"
        )

    async def _made_before(self, found: FoundObject) -> str:
        # By this upload, or by one before it: then this one is left over.
        with contextlib.suppress(DeliveryError):
            await end_upload(self.calls, self.records, self.target, self.upload)
        return found.etag

    async def _blocks(self) -> list[StagedBlock]:
        """Return the blocks of the parts that are named.

        Raises UploadLostError if one is not there, and WrongObjectError if they have another size
        than the object must have: then it never appears.
        """
        staged = of_upload(
            await self.calls.staged(self.target, self.upload.key), self.upload.upload_id
        )
        chosen = []
        for number, part in enumerate(self.parts, start=1):
            fitting = [block for block in staged.get(number, []) if _is_of(block, part)]
            if not fitting:
                raise UploadLostError(
                    f"part {number} of {self.upload.key} in {self.target} is not the one that was "
                    "sent: the upload was ended, a worker that had lost its lease has sent "
                    "another, or Azure has dropped it after a week; it begins again"
                )
            chosen.append(fitting[-1])
        if not chosen:
            raise TargetRefusedError(
                f"{self.target} does not complete {self.upload.key}: it has no part"
            )
        size = sum(block.size for block in chosen)
        if size != self.expected.size:
            found = FoundObject(size=size, etag=_etag_of(chosen))
            raise WrongObjectError(self.expected.flaw_of(found, self.target, self.upload.key))
        return chosen

    async def _complete(
        self, version: str | None, blocks: Sequence[StagedBlock], record: Record
    ) -> str:
        """Name the blocks once, and look what came of it. Raises NotMetError.

        Raises TargetUnavailableError where it is too late to: the caller notes that it may be asked
        for, and asks again.
        """
        if self.clock() > self.ask_until:
            raise TargetUnavailableError(
                f"{self.target} took too long to say what is in the place of {self.upload.key}; "
                "its completion is asked for again"
            )
        etag = _etag_of(blocks)
        expected = replace(self.expected, etag=etag)
        doubt: TargetUnavailableError | UploadLostError | None = None
        try:
            await self.calls.commit(
                self.target,
                self.upload.key,
                [block.id for block in blocks],
                metadata=as_metadata(record.marks) | {ETAG: etag},
                media_type=record.media_type,
                md5=self.md5,
                version=version,
            )
        except TargetUnavailableError as error:
            doubt = error
        except BlocksGoneError as error:
            doubt = UploadLostError(
                f"blocks of the upload of {self.upload.key} in {self.target} are gone "
                f"({error}): another client has ended it; it begins again"
            )
        found = object_of(await self.calls.describe(self.target, self.upload.key))
        if found is not None and expected.is_met(found):
            with contextlib.suppress(DeliveryError):  # it is swept
                await self.records.remove(self.target, self.upload)
            return found.etag
        if doubt is not None:
            raise type(doubt)(f"{doubt}; the object is not there") from doubt
        raise WrongObjectError(expected.flaw_of(found, self.target, self.upload.key))


def _is_of(block: StagedBlock, part: StoredPart) -> bool:
    return block.id.md5.hex() == part.etag


def _etag_of(blocks: Sequence[StagedBlock]) -> str:
    etag = etag_of([StoredPart(etag=block.id.md5.hex(), md5=block.id.md5) for block in blocks])
    assert etag is not None  # noqa: S101 - each has an MD5
    return etag
