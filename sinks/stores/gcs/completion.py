"""The completion of an upload: its object appears, verified, and replaces no other client's.

Its steps are those of `sinks.stores.gcs.uploads`, in that order.
"""

from __future__ import annotations

import asyncio
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
from app.waiting.backoff import Backoff
from sinks.stores.expected import Expected, etag_of
from sinks.stores.gcs import checksum
from sinks.stores.gcs.at_once import each
from sinks.stores.gcs.calls import MAX_SOURCES, NONE, GcsCalls, NotMetError, Stored
from sinks.stores.gcs.names import PartName, new_composed
from sinks.stores.gcs.objects import (
    CRC32C,
    ETAG,
    MD5,
    generation_of,
    noted_crc32c,
    object_of,
)
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.gcs.uploads import Record, Uploads

TIDYING = 20.0  # seconds in which the parts of an object that is there are removed
_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at
_PAUSES = Backoff(first=1.0, longest=16.0)
_TRIES = 4  # of each that composes some on the way
_TYPE = "application/octet-stream"  # of what is composed on the way


@dataclass(frozen=True, kw_only=True)
class GcsCompletion:
    """One upload whose parts are all there."""

    calls: GcsCalls
    uploads: Uploads
    target: GcsTarget
    upload: Upload
    parts: Sequence[StoredPart]
    expected: Expected
    md5: str | None  # of the object, in hex: Google keeps none of what is composed
    ask_until: float  # by the clock: what is asked for later is not decided when it was said to be
    tidying: float = TIDYING  # seconds
    clock: Callable[[], float] = time.monotonic

    async def run(self, *, again: bool) -> str:
        """Let the object appear; return its ETag. See `GcsObjectStore.complete`."""
        for _ in range(_MAX_ROUNDS):
            there = await self.calls.describe(self.target, self.upload.key)
            found = object_of(there)
            if found is not None and self.expected.is_made(found, again=again):
                await self._end()  # it is of this upload, or of one before it: then this is left
                return found.etag
            if found is not None:
                self.expected.check_replaceable(found, self.target, self.upload.key)
            try:
                chosen = await self._chosen()
                sources = await self._composed(chosen)
                record = await self.uploads.check(self.target, self.upload)
                etag = await self._complete(generation_of(there), chosen, sources, record)
            except NotMetError:
                continue  # something else is there by now, or a part is not
            if found is not None:
                self.expected.tell_replaced(found, self.target, self.upload.key)
            return etag
        raise TargetUnavailableError(
            f"{self.upload.key} in {self.target} is written by others again and again"
        )

    async def _end(self) -> None:
        """End the upload; what is left of it then is swept, and keeps no delivery from its end.

        It has thousands of parts, maybe, each of which is a request; and the object is there.
        """
        with contextlib.suppress(DeliveryError, TimeoutError):
            async with asyncio.timeout(self.tidying):
                await self.uploads.end(self.target, self.upload)

    async def _chosen(self) -> list[Stored]:
        """Return the parts that are named.

        Raises UploadLostError if one is not there, and WrongObjectError if they have another size
        than the object must have: then it never appears.
        """
        there = await self.uploads.parts(self.target, self.upload)
        chosen = []
        for number, part in enumerate(self.parts, start=1):
            fitting = [stored for stored in there.get(number, []) if _is_of(stored, part)]
            if not fitting:
                raise UploadLostError(
                    f"part {number} of {self.upload.key} in {self.target} is not the one that was "
                    "sent: the upload was ended, a worker that had lost its lease has sent "
                    "another, or a rule of the bucket has removed it; it begins again"
                )
            chosen.append(fitting[-1])
        if not chosen:
            raise TargetRefusedError(
                f"{self.target} does not complete {self.upload.key}: it has no part"
            )
        size = sum(stored.size for stored in chosen)
        if size != self.expected.size:
            found = FoundObject(size=size, etag=_etag_of(self.parts))
            raise WrongObjectError(self.expected.flaw_of(found, self.target, self.upload.key))
        return chosen

    async def _composed(self, sources: Sequence[Stored]) -> Sequence[Stored]:
        """Return as few objects as the archive can be composed of. Raises NotMetError."""
        while len(sources) > MAX_SOURCES:
            firsts = range(0, len(sources), MAX_SOURCES)
            some = [sources[first : first + MAX_SOURCES] for first in firsts]
            sources = await each(some, self._compose)
        return sources

    async def _compose(self, sources: Sequence[Stored]) -> Stored:
        """Compose some on the way, again where that failed for a time: each under a new name.

        Else one failure among hundreds would begin them all again.
        """
        failures = 0
        while True:
            try:
                return await self.calls.compose(
                    self.target,
                    new_composed(self.target, self.upload),
                    sources,
                    media_type=_TYPE,
                    generation=NONE,
                )
            except TargetUnavailableError as error:
                pause = max(_PAUSES.jittered(failures), error.retry_after or 0)
                failures += 1
                if failures == _TRIES or self.clock() + pause > self.ask_until:
                    raise
            await asyncio.sleep(pause)

    async def _complete(
        self, generation: str, parts: Sequence[Stored], sources: Sequence[Stored], record: Record
    ) -> str:
        """Compose the object once, and look what came of it. Raises NotMetError.

        Raises TargetUnavailableError where it is too late to: the caller notes that it may be asked
        for, and asks again.
        """
        if self.clock() > self.ask_until:
            raise TargetUnavailableError(
                f"{self.target} took too long to prepare the completion of {self.upload.key}, "
                "which is asked for again"
            )
        etag = _etag_of(self.parts)
        crc32c = checksum.joined((part.crc32c, part.size) for part in parts)
        own = {ETAG: etag, CRC32C: noted_crc32c(crc32c)} | ({MD5: self.md5} if self.md5 else {})
        expected = replace(self.expected, etag=etag)
        doubt: TargetUnavailableError | None = None
        try:
            await self.calls.compose(
                self.target,
                self.upload.key,
                sources,
                media_type=record.media_type,
                metadata={**record.marks, **own},
                generation=generation,
            )
        except TargetUnavailableError as error:
            doubt = error
        there = await self.calls.describe(self.target, self.upload.key)
        found = object_of(there)
        if found is not None and expected.is_met(found):
            await self._end()
            return found.etag
        if doubt is not None:
            raise type(doubt)(f"{doubt}; the object is not there") from doubt
        flaw = expected.flaw_of(found, self.target, self.upload.key)
        if there is not None and there.crc32c != crc32c:
            flaw += f"; its CRC32C is {there.crc32c:08x}, and that of its parts {crc32c:08x}"
        raise WrongObjectError(flaw)


def _is_of(stored: Stored, part: StoredPart) -> bool:
    name = PartName.read(stored.name)
    return name is not None and name.md5 == part.etag


def _etag_of(parts: Sequence[StoredPart]) -> str:
    """Return the ETag of an object of these parts: a part's own is its MD5."""
    etag = etag_of([StoredPart(etag=part.etag, md5=bytes.fromhex(part.etag)) for part in parts])
    assert etag is not None  # noqa: S101 - each has an MD5
    return etag
