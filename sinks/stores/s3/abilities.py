"""Tries what a store makes of what deliveries ask of it, where S3-compatible stores differ.

For an operator, once a target and call (`delivery doctor`), with an object of its own that is there
for a moment: conditions can be tried on nothing else. So not in a bucket that keeps versions, where
it would stay. Workers find out for themselves whether conditions are kept, without any object
(`sinks/stores/s3/conditions.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple

from app.delivery.object_store import StoredPart, Upload
from app.delivery.targets import TargetCheck
from app.errors import DeliveryError, TargetRefusedError, WrongObjectError
from sinks.stores.deadlines import CALL_TIMEOUT
from sinks.stores.s3.conditions import NO_OTHER
from sinks.stores.s3.requests import (
    NO_OBJECT,
    NOT_MET,
    answered,
    code_of,
    translate_errors,
)
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from sinks.stores.s3.trial import DENIED, trial_key

_BODY = b"tried by delivery doctor"
_MARKS = {"rs-delivery-trial": "yes"}
_ANOTHER = {"IfMatch": f'"{"0" * 32}"'}


class _Body(io.BytesIO):
    """A small part."""

    @property
    def md5(self) -> bytes:
        return hashlib.md5(self.getvalue(), usedforsecurity=False).digest()

    def __len__(self) -> int:
        return len(self.getvalue())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.getvalue()


class Ability(NamedTuple):
    """Something that deliveries ask of a store, and that not every store has."""

    check: str  # in a word for people
    without: str  # what follows where the store has it not
    needed: bool = False  # else deliveries do without


_LOOKED = "there is a look before; what another program puts there in between is replaced"
_UPLOADS = Ability(
    "uploads told by key",
    "an upload that a worker has left open before it was noted is not found: let a rule of the "
    "bucket end incomplete uploads",
)
_PARTS = Ability("parts told", "a transfer that broke off begins again with its first file")
_REPLACED = Ability(
    "parts replaced",
    "a part that was sent again with other bytes may be told as it was before: a transfer that "
    "broke off then begins again with its first file",
)
_DIGEST = Ability(
    "Content-MD5 of a part", "a part that was spoilt on its way is told by its ETag alone"
)
_ETAGS = Ability("MD5s as ETags", "what is stored is told by its size and its metadata alone")
_FENCE = Ability(
    "aborted uploads",
    "an upload that is aborted becomes an object all the same: a worker that was thought dead may "
    "put its archive in the place of its successor's",
    needed=True,
)
_METADATA = Ability(
    "metadata",
    "whose an object is can't be told: another client's is replaced like one that was put there by "
    "hand",
    needed=True,
)
_NEW_COMPLETED = Ability("If-None-Match of a completion", _LOOKED)
_SEEN_COMPLETED = Ability("If-Match of a completion", _LOOKED)
_NEW_PUT = Ability("If-None-Match of a PUT", _LOOKED)
_SEEN_PUT = Ability("If-Match of a PUT", _LOOKED)
_SEEN_REMOVED = Ability(
    "If-Match of a DELETE",
    "there is a look before; what another program puts there in between is removed",
)

OF_UPLOADS = (_UPLOADS, _PARTS, _REPLACED, _DIGEST, _FENCE)
OF_OBJECTS = (
    _ETAGS,
    _METADATA,
    _NEW_COMPLETED,
    _SEEN_COMPLETED,
    _NEW_PUT,
    _SEEN_PUT,
    _SEEN_REMOVED,
)
ABILITIES = OF_UPLOADS + OF_OBJECTS
UNTRIED = "conditions and metadata"


async def try_abilities(sink: S3ObjectStore, target: S3Target) -> list[TargetCheck]:
    """Return what was found of each ability; nothing is left behind. No message holds a secret.

    Every right has to be there.
    """
    trial = _Trial(sink, target)
    of_uploads: dict[Ability, Callable[[], Awaitable[bool]]] = {
        _UPLOADS: trial.tells_uploads,
        _PARTS: trial.tells_parts,
        _REPLACED: trial.replaces_parts,
        _DIGEST: trial.checks_digests,
        _FENCE: trial.keeps_aborts,
    }
    of_objects: dict[Ability, Callable[[], Awaitable[bool]]] = {
        _ETAGS: trial.has_md5s,
        _METADATA: trial.keeps_metadata,
        _NEW_COMPLETED: trial.completes_new,
        _SEEN_COMPLETED: trial.completes_seen,
        _NEW_PUT: trial.puts_new,
        _SEEN_PUT: trial.puts_seen,
        _SEEN_REMOVED: trial.removes_seen,
    }
    found = [await _tried(ability, ask) for ability, ask in of_uploads.items()]
    if untried := await trial.why_no_object():
        return [*found, TargetCheck(check=UNTRIED, note=untried)]
    try:
        return found + [await _tried(ability, ask) for ability, ask in of_objects.items()]
    finally:
        # Not where there are versions: to remove what is not there is a mark that stays.
        await trial.clean()


async def _tried(ability: Ability, ask: Callable[[], Awaitable[bool]]) -> TargetCheck:
    why = "not by this store"
    try:
        if await ask():
            return TargetCheck(check=ability.check)
    except TargetRefusedError as error:
        why = str(error)
    except DeliveryError as error:
        return TargetCheck(check=ability.check, flaw=str(error))
    sentence = f"{why}: {ability.without}"
    if ability.needed:
        return TargetCheck(check=ability.check, flaw=sentence)
    return TargetCheck(check=ability.check, note=sentence)


class _Trial:
    """One key of which nothing else knows. Every question may raise like a store."""

    def __init__(self, sink: S3ObjectStore, target: S3Target) -> None:
        self._sink = sink
        self._target = target
        self._key = trial_key(target)

    async def why_no_object(self) -> str:
        """Return why no object may be made; empty where one can be, and be removed."""
        try:
            async with (
                self._sink.clients.of(self._target) as client,
                translate_errors(self._target, "tell whether it keeps versions", CALL_TIMEOUT),
            ):
                answer = await client.get_bucket_versioning(Bucket=self._target.bucket)
        except DeliveryError as error:
            if code_of(error) in DENIED:
                return (
                    "not tried: without s3:GetBucketVersioning there is no telling whether the "
                    "bucket keeps versions, where what is tried would stay"
                )
            # A store that does not know the question has none.
            return "" if isinstance(error, TargetRefusedError) else f"not tried: {error}"
        if answer.get("Status"):
            return "not tried: the bucket keeps versions, and what is tried would stay"
        return ""

    async def clean(self) -> None:
        """Remove what may be there."""
        with contextlib.suppress(DeliveryError):
            await self._sink.drop_aside(self._target, self._key)

    @contextlib.asynccontextmanager
    async def _upload(self) -> AsyncIterator[tuple[Upload, StoredPart]]:
        """Open one, with a part; abort it in the end, if that is still to be done."""
        upload = await self._sink.create_upload(self._target, self._key, _MARKS)
        try:
            yield upload, await self._sink.put_part(self._target, upload, 1, _Body(_BODY))
        finally:
            await self._sink.abort(self._target, upload)

    async def _complete(self, condition: Mapping[str, str]) -> str | None:
        """Complete an upload; return the ETag, None if its condition was not met."""
        async with self._upload() as (upload, part):
            try:
                return await self._sink.ask_to_complete(self._target, upload, [part], condition)
            except TargetRefusedError as error:
                if _not_met(error, condition):
                    return None
                raise

    async def _put(self, condition: Mapping[str, str]) -> str | None:
        """Put an object at once, likewise."""
        try:
            async with (
                self._sink.clients.of(self._target) as client,
                translate_errors(self._target, f"take {self._key}", CALL_TIMEOUT),
            ):
                answer = await client.put_object(
                    Bucket=self._target.bucket,
                    Key=self._key,
                    Body=_BODY,
                    Metadata=_MARKS,
                    **condition,  # type: ignore[arg-type]
                )
                return answer["ETag"].strip('"')
        except TargetRefusedError as error:
            if _not_met(error, condition):
                return None
            raise

    # Of uploads.

    async def tells_uploads(self) -> bool:
        async with self._upload() as (upload, _):
            return await self._sink.open_uploads(self._target, self._key) == [upload]

    async def tells_parts(self) -> bool:
        async with self._upload() as (upload, part):
            return await self._sink.part_etags(self._target, upload) == {1: part.etag}

    async def replaces_parts(self) -> bool:
        async with self._upload() as (upload, _):
            await self._sink.put_part(self._target, upload, 1, _Body(_BODY * 2))
            async with (
                self._sink.clients.of(self._target) as client,
                translate_errors(self._target, f"list the parts of {self._key}", CALL_TIMEOUT),
            ):
                answer = await client.list_parts(
                    Bucket=upload.container, Key=upload.key, UploadId=upload.upload_id
                )
        return len(answer.get("Parts", [])) == 1

    async def checks_digests(self) -> bool:
        async with self._upload() as (upload, _):
            try:
                async with (
                    self._sink.clients.of(self._target) as client,
                    translate_errors(self._target, f"take a part of {self._key}", CALL_TIMEOUT),
                ):
                    await client.upload_part(
                        Bucket=upload.container,
                        Key=upload.key,
                        UploadId=upload.upload_id,
                        PartNumber=1,
                        Body=_BODY,
                        ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==",
                    )
            except DeliveryError as error:
                if not answered(error):
                    raise
                return True
        return False

    async def keeps_aborts(self) -> bool:
        async with self._upload() as (upload, part):
            await self._sink.abort(self._target, upload)
            try:
                await self._sink.ask_to_complete(self._target, upload, [part], {})
            except DeliveryError:
                return await self._sink.find(self._target, self._key) is None
        await self.clean()
        return False

    # Of objects.

    async def has_md5s(self) -> bool:
        async with self._upload() as (upload, part):
            expected = self._sink.etag_of(self._target, [part])
            etag = await self._sink.ask_to_complete(self._target, upload, [part], {})
        if expected not in (None, etag):
            raise WrongObjectError(
                f"S3 gives an object whose ETag should be {expected} the ETag {etag}, in "
                f"{self._target}: no archive is taken for the one that was sent"
            )
        return expected == etag and await self._put({}) == _Body(_BODY).md5.hex()

    async def keeps_metadata(self) -> bool:
        for make in (self._complete, self._put):
            await make({})
            found = await self._sink.find(self._target, self._key)
            if found is None or found.marks != _MARKS:
                return False
        return True

    async def completes_new(self) -> bool:
        return await self._makes_new(self._complete)

    async def completes_seen(self) -> bool:
        return await self._makes_over_seen(self._complete)

    async def puts_new(self) -> bool:
        return await self._makes_new(self._put)

    async def puts_seen(self) -> bool:
        return await self._makes_over_seen(self._put)

    async def _makes_new(self, make: Callable[[Mapping[str, str]], Awaitable[str | None]]) -> bool:
        await self._put({})
        return await make(NO_OTHER) is None

    async def _makes_over_seen(
        self, make: Callable[[Mapping[str, str]], Awaitable[str | None]]
    ) -> bool:
        etag = await self._put({})
        return await make(_ANOTHER) is None and await make({"IfMatch": f'"{etag}"'}) is not None

    async def removes_seen(self) -> bool:
        await self._put({})
        try:
            await self._sink.delete(self._target, self._key, etag="0" * 32)
        except TargetRefusedError as error:
            if code_of(error) not in NOT_MET:
                raise
            return True
        return False


def _not_met(error: TargetRefusedError, condition: Mapping[str, str]) -> bool:
    code = code_of(error)
    return bool(condition) and (code in NOT_MET or (code in NO_OBJECT and "IfMatch" in condition))
