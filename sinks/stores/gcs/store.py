"""Google Cloud Storage: objects that appear complete and verified, or not at all."""

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
from sinks.stores.expected import LEAST_PART, Expected, etag_of
from sinks.stores.gcs.allowed import flaw_of_name, flaw_of_prefix
from sinks.stores.gcs.calls import NONE, GcsCalls, NotMetError
from sinks.stores.gcs.completion import TIDYING, GcsCompletion
from sinks.stores.gcs.links import link
from sinks.stores.gcs.names import PartName, new_part
from sinks.stores.gcs.objects import ETAG, generation_of, object_of
from sinks.stores.gcs.requests import COMPLETION_WINDOW
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.gcs.uploads import Uploads
from sinks.stores.reading import gone, whole_of

_OCTETS = "application/octet-stream"
_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at


class GcsObjectStore:
    """See `app.delivery.object_store`; what makes an upload a fence is in `uploads`.

    A part is an object, whose MD5 Google compares when it takes it, and which its name tells. So
    what the archive is composed of was verified, and its ETag is told in advance, as S3 makes it.
    """

    def __init__(self, calls: GcsCalls, *, tidying: float = TIDYING) -> None:
        self.calls = calls
        self._tidying = tidying  # seconds
        self._uploads = Uploads(calls)

    async def create_upload(
        self, target: GcsTarget, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload: a record of it."""
        self.calls.check_tenant(target, marks)
        _check_name(target, key, flaw_of_name(key) or flaw_of_prefix(target.prefix))
        return await self._uploads.begin(target, key, marks, media_type=media_type)

    async def put_part(
        self, target: GcsTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Put part `number` (from 1) as an object of its own, each time it is sent.

        Raises WrongObjectError when Google stored other bytes, UploadLostError when the upload is
        gone.
        """
        await self._uploads.check(target, upload)
        try:
            await self.calls.insert(
                target,
                new_part(target, upload, number, part.md5),
                part,
                verb="put part",
                action=f"take part {number} of {upload.key}",
                media_type=_OCTETS,
                generation=NONE,
                part=number,
            )
        except NotMetError as error:
            raise TargetUnavailableError(
                f"{target} has part {number} of {upload.key} under a name that is new"
            ) from error
        return StoredPart(etag=part.md5.hex(), md5=part.md5)

    async def part_etags(self, target: GcsTarget, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there; of one that was sent again, the last."""
        await self._uploads.check(target, upload)
        there = await self._uploads.parts(target, upload)
        names = {number: PartName.read(stored[-1].name) for number, stored in there.items()}
        return {number: name.md5 for number, name in names.items() if name is not None}

    def uploads_from(self, target: GcsTarget) -> int:  # noqa: ARG002
        """Return the bytes from which on an object may have an upload: as much as a part has."""
        return LEAST_PART

    def etag_of(self, target: GcsTarget, parts: Sequence[StoredPart]) -> str | None:  # noqa: ARG002
        """Return the ETag that an object of these parts must have."""
        return etag_of(parts)

    async def complete(
        self,
        target: GcsTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        """Make the object appear, and verify it by size, CRC32C and ETag; return that.

        What is there already is replaced if it is of the same tenant and user, or carries no marks;
        ForeignObjectError if it is another's. On a condition, so that nothing may come in between.
        Raises TargetUnavailableError while the object is not there, UploadLostError when it can't
        come any more, and WrongObjectError when another one came, or would.
        """
        self.calls.check_tenant(target, marks)
        completion = GcsCompletion(
            calls=self.calls,
            uploads=self._uploads,
            target=target,
            upload=upload,
            parts=parts,
            expected=Expected(size=size, etag=etag_of(parts), marks=marks),
            md5=md5,
            ask_until=time.monotonic() + COMPLETION_WINDOW,
            tidying=self._tidying,
        )
        return await completion.run(again=again)

    async def abort(self, target: GcsTarget, upload: Upload) -> None:
        """End an upload, also of a predecessor; one that is gone already is fine."""
        await self._uploads.end(target, upload)

    async def open_uploads(self, target: GcsTarget, key: str) -> list[Upload]:
        """Return every open upload of this key, and what ended ones have left."""
        return await self._uploads.of_key(target, key)

    async def find(self, target: GcsTarget, key: str) -> FoundObject | None:
        """Describe the object with this key; None if there is none."""
        return object_of(await self.calls.describe(target, key))

    async def put_object(
        self,
        target: GcsTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Make an object by one request, on condition that nothing comes after the look before."""
        self.calls.check_tenant(target, marks)
        _check_name(target, key, flaw_of_name(key))
        etag = etag_of([StoredPart(etag=body.md5.hex(), md5=body.md5)])
        assert etag is not None  # noqa: S101 - the part has an MD5
        expected = Expected(size=len(body), etag=etag, marks=marks)
        for _ in range(_MAX_ROUNDS):
            there = await self.calls.describe(target, key)
            found = object_of(there)
            if found is not None:
                expected.check_replaceable(found, target, key)
            await may()
            try:
                await self.calls.insert(
                    target,
                    key,
                    body,
                    verb="put",
                    action=f"take {key}",
                    media_type=media_type,
                    metadata={**marks, ETAG: etag},
                    generation=generation_of(there),
                )
            except NotMetError:
                continue  # something else is there by now
            if found is not None:
                expected.tell_others_replaced(found, target, key)
            return etag
        raise TargetUnavailableError(f"{key} in {target} is written by others again and again")

    async def link(self, target: GcsTarget, key: str, asked: LinkAsked) -> str:
        """Return a signed URL; Google is asked for nothing. Raises NoLinkError for an identity."""
        return link(target, key, asked)

    async def read(
        self, target: GcsTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object, of the generation that was just looked at."""
        there = await self.calls.describe(target, key)
        found = object_of(there)
        if there is None or found is None or found.etag != etag:
            raise gone(target, key, etag)
        try:
            pieces = await self.calls.read_range(target, there, offset=offset, length=length)
        except NotMetError:
            raise gone(target, key, etag) from None
        return whole_of(target, key, length, pieces)

    async def put_aside(
        self, target: GcsTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object by one request; replaces one that is there.

        Raises WrongObjectError when Google stored other bytes.
        """
        self.calls.check_tenant(target, marks)
        _check_name(target, key, flaw_of_name(key))
        await self.calls.insert(
            target,
            key,
            body,
            verb="put aside",
            action=f"take {key}",
            media_type=_OCTETS,
            metadata=marks,
        )

    async def read_aside(self, target: GcsTarget, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside, in pieces; none if it is gone."""
        return await self.calls.read(target, key, size=size + 1)

    async def drop_aside(self, target: GcsTarget, key: str) -> None:
        """Remove an object that was put aside; one that is gone already is fine."""
        await self.calls.remove(target, key)

    async def delete(self, target: GcsTarget, key: str, *, etag: str) -> None:
        """Remove the object with this key, as long as it has this ETag. Raises TargetRefusedError.

        On condition that it is still the one that was looked at.
        """
        there = await self.calls.describe(target, key)
        found = object_of(there)
        try:
            if there is not None and found is not None and found.etag == etag:
                await self.calls.remove(target, key, generation=there.generation)
                return
        except NotMetError:
            pass
        raise TargetRefusedError(f"{target} does not remove {key}: it is not {etag} any more")


def _check_name(target: GcsTarget, key: str, flaw: str | None) -> None:
    if flaw is not None:
        raise TargetRefusedError(
            f"{target} can't have {key}: {flaw}; choose another prefix, or shorter names"
        )
