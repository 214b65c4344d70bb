"""Uploads as objects: a record of each, its parts, and the end behind which none makes an archive.

Google knows no upload that fits. So one is made: an empty object, the record, with the marks and
the type of what will become of it; and each part, an object whose name begins with the record's.
The fence is in the order of what each side does:

    a completion                                    an end (`abort`)
    1 list the parts                                A remove the record
    2 where there are more than 32: compose         B list what begins with its name, and remove
      some of 32 each, until there are not            it, until there is nothing
    3 look whether the record is there
    4 compose the archive of these, on condition
      that each is there as it was, and that what
      is in the archive's place is as it was

Suppose that 4 succeeds after the end has returned. Then 3 saw the record, so A came later; what 4
names was there, or made, before 3, so B listed it, as lists tell all that is there. It has removed
it, then; and as each name is given once (`sinks.stores.gcs.names`), it is gone for good, and 4
names one that is not there. So it does not succeed.

What dies between A and B leaves parts, and a part whose request is carried out late comes without a
record: uploads are told by their parts, too, so the next one that looks ends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.delivery.object_store import Upload
from app.errors import TargetRefusedError, TargetUnavailableError, UploadLostError
from sinks.stores.gcs.at_once import each
from sinks.stores.gcs.calls import NONE, GcsCalls, NotMetError, Stored
from sinks.stores.gcs.names import (
    PartName,
    folder_of,
    new_upload_id,
    parts_of,
    record_of,
    upload_id_in,
)
from sinks.stores.gcs.requests import GONE, status_of
from sinks.stores.gcs.small import Small
from sinks.stores.gcs.target import GcsTarget

_MAX_ROUNDS = 5  # in which parts may come late
_EMPTY = Small()


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is kept of an upload: of its object."""

    media_type: str
    marks: Mapping[str, str]


class Uploads:
    """The uploads of one process's targets."""

    def __init__(self, calls: GcsCalls) -> None:
        self._calls = calls

    async def begin(
        self, target: GcsTarget, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload."""
        upload = Upload(container=target.container, key=key, upload_id=new_upload_id())
        try:
            await self._calls.insert(
                target,
                record_of(target, upload),
                _EMPTY,
                verb="begin",
                action=f"begin {key}",
                media_type=media_type,
                metadata=marks,
                generation=NONE,
            )
        except NotMetError as error:
            raise TargetUnavailableError(
                f"{target} has a record of an upload of {key} that was not begun yet"
            ) from error
        return upload

    async def check(self, target: GcsTarget, upload: Upload) -> Record:
        """Return the record of an upload. Raises UploadLostError unless it is open."""
        stored = await self._calls.describe(target, record_of(target, upload))
        if stored is None:
            raise UploadLostError(
                f"{target} knows the upload of {upload.key} no more: another client has ended it, "
                "or removed its record; it begins again"
            )
        return Record(media_type=stored.media_type, marks=stored.metadata)

    async def parts(self, target: GcsTarget, upload: Upload) -> dict[int, list[Stored]]:
        """Return the parts by their numbers; of one that was sent again, the newest last."""
        found: dict[int, list[Stored]] = {}
        listed = await self._calls.listed(target, parts_of(target, upload))
        for stored in sorted(listed, key=lambda stored: int(stored.generation)):
            if name := PartName.read(stored.name):
                found.setdefault(name.number, []).append(stored)
        return dict(sorted(found.items()))

    async def of_key(self, target: GcsTarget, key: str) -> list[Upload]:
        """Return the uploads of a key of which there is a record, or a part."""
        names = await self._calls.names(target, folder_of(target, key))
        ids = dict.fromkeys(upload_id_in(target, key, name) for name in names)
        return [
            Upload(container=target.container, key=key, upload_id=upload_id)
            for upload_id in ids
            if upload_id is not None
        ]

    async def end(self, target: GcsTarget, upload: Upload) -> None:
        """Let no completion succeed any more, and leave nothing; one that is gone is fine."""
        try:
            await self._calls.remove(target, record_of(target, upload))
            for _ in range(_MAX_ROUNDS):
                left = await self._calls.listed(target, parts_of(target, upload))
                if not left:
                    return
                await each(left, lambda stored: self._remove(target, stored))
        except TargetRefusedError as error:
            if status_of(error) != GONE:  # its bucket is
                raise
            return
        raise TargetUnavailableError(
            f"parts of {upload.key} come to {target} again and again: the upload is not ended"
        )

    async def _remove(self, target: GcsTarget, stored: Stored) -> None:
        await self._calls.remove(target, stored.name, generation=stored.generation)
