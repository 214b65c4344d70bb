"""What is kept of an open upload: an empty blob beside its object, which says how far it is.

Azure knows blocks that are staged, and no upload. So one is made: a blob whose name is the object's
and the upload's id (an end that no consumer takes for that of an archive), with the marks and the
type of what will become of it. Each change of it is on condition that it is as it was seen, so of
an end and a beginning completion only one happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.delivery.object_store import Upload
from app.errors import TargetRefusedError, TargetUnavailableError, UploadLostError
from sinks.stores.azure.blocks import new_upload_id
from sinks.stores.azure.calls import AzureCalls, Blob, NotMetError
from sinks.stores.azure.metadata import MEDIA_TYPE, STATE, as_metadata, marks_in, own_in
from sinks.stores.azure.target import AzureTarget

_MAX_ROUNDS = 5  # in which others may change it
_ID = re.compile("[0-9a-f]{32}")


class State(StrEnum):
    """How far an upload is. One that has ended, or is complete, has no record."""

    OPEN = "open"  # no completion of it was ever asked for
    COMPLETING = "completing"  # one may be under way: it ends only behind a fence
    ENDING = "ending"  # none is asked for any more; the fence is being put up


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is kept of an upload."""

    state: State
    media_type: str  # of its object
    marks: Mapping[str, str]  # of its object


class UploadRecords:
    """The records of all uploads of one process's targets."""

    def __init__(self, calls: AzureCalls) -> None:
        self._calls = calls

    async def begin(
        self, target: AzureTarget, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload."""
        upload = Upload(container=target.container, key=key, upload_id=new_upload_id())
        own = {STATE: State.OPEN.value, MEDIA_TYPE: media_type}
        try:
            await self._calls.make_empty(target, _name(upload), as_metadata(marks) | own)
        except NotMetError as error:
            raise TargetUnavailableError(
                f"{target} has a record of an upload of {key} that was not begun yet"
            ) from error
        return upload

    async def check(self, target: AzureTarget, upload: Upload) -> None:
        """Raise UploadLostError unless the upload is open."""
        _known(target, upload, await self._calls.describe(target, _name(upload)))

    async def claim(self, target: AzureTarget, upload: Upload) -> Record:
        """Note that a completion may be asked for from now on. Raises UploadLostError."""
        for _ in range(_MAX_ROUNDS):
            blob = await self._calls.describe(target, _name(upload))
            record, version, metadata = _known(target, upload, blob)
            if record.state is State.COMPLETING or await self._turned(
                target, upload, State.COMPLETING, metadata, version
            ):
                return record
        raise _contended(target, upload)

    async def end(self, target: AzureTarget, upload: Upload) -> bool:
        """Let no completion be asked for any more; return whether one may be under way.

        Then the record stays until it is removed, behind the fence. Raises TargetRefusedError where
        it can't be removed: then no completion can be asked for, either.
        """
        for _ in range(_MAX_ROUNDS):
            blob = await self._calls.describe(target, _name(upload))
            if blob is None:
                return False
            state = own_in(blob.metadata, STATE)
            if state == State.ENDING:
                return True
            if state != State.OPEN:
                # Completing, or not to be read: then it may be.
                if await self._turned(target, upload, State.ENDING, blob.metadata, blob.version):
                    return True
            else:
                try:
                    await self._calls.remove(target, _name(upload), version=blob.version)
                except NotMetError:
                    continue
                except TargetRefusedError:
                    # The caller goes on without it. Where it may be changed, none completes it.
                    if await self._turned(
                        target, upload, State.ENDING, blob.metadata, blob.version
                    ):
                        raise
                    continue
                return False
        raise _contended(target, upload)

    async def remove(self, target: AzureTarget, upload: Upload) -> None:
        """Remove the record: the upload is complete, or fenced."""
        await self._calls.remove(target, _name(upload))

    async def of_key(self, target: AzureTarget, key: str) -> list[Upload]:
        """Return the uploads of a key that have a record."""
        beginning = _beginning(key)
        names = await self._calls.names(target, beginning)
        return [
            Upload(container=target.container, key=key, upload_id=upload_id)
            for upload_id in (name.removeprefix(beginning) for name in names)
            if _ID.fullmatch(upload_id)
        ]

    async def _turned(
        self,
        target: AzureTarget,
        upload: Upload,
        state: State,
        metadata: Mapping[str, str],
        version: str,
    ) -> bool:
        """Write another state; return whether the record was still as it was seen."""
        others = {name: value for name, value in metadata.items() if name.lower() != STATE}
        changed = others | {STATE: state.value}
        try:
            await self._calls.set_metadata(target, _name(upload), changed, version=version)
        except NotMetError:
            return False
        return True


def _beginning(key: str) -> str:
    return f"{key}.upload-"


def _name(upload: Upload) -> str:
    return f"{_beginning(upload.key)}{upload.upload_id}"


def _known(
    target: AzureTarget, upload: Upload, blob: Blob | None
) -> tuple[Record, str, Mapping[str, str]]:
    """Return what a record says, its version, and its metadata. Raises UploadLostError."""
    state = own_in(blob.metadata, STATE) if blob is not None else None
    if blob is None or state not in (State.OPEN, State.COMPLETING):
        raise UploadLostError(
            f"{target} knows the upload of {upload.key} no more: another client has ended it, or "
            "removed its record; it begins again"
        )
    record = Record(
        state=State(state),
        media_type=own_in(blob.metadata, MEDIA_TYPE) or "application/octet-stream",
        marks=marks_in(blob.metadata),
    )
    return record, blob.version, blob.metadata


def _contended(target: AzureTarget, upload: Upload) -> TargetUnavailableError:
    return TargetUnavailableError(
        f"the upload of {upload.key} in {target} is changed by others again and again"
    )
