"""Tries each right that deliveries need at a target, and leaves nothing behind.

A store looks for a right before it looks for the object: so what is asked for here is of a name
that is not there. Only an upload is begun, once it is known that it can be aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError, TargetRefusedError
from sinks.stores.s3.abilities import try_abilities
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.requests import code_of, translate_errors
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from sinks.stores.s3.trial import ABORT_RIGHT, DENIED, Trial, trial_key

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_STEP_TIMEOUT = 10.0  # seconds for each


class Right(NamedTuple):
    """What the policy of a target's key must allow."""

    name: str
    why: str  # in words, for the docs
    of_bucket: bool = False  # else of its objects


NEEDED = (
    Right(
        "s3:ListBucket",
        "looking whether the bucket is there; without it, S3 answers 403 instead of 404 for an "
        "object that is not, and nothing is completed over what can't be looked at",
        of_bucket=True,
    ),
    Right(
        "s3:ListBucketMultipartUploads",
        "finding uploads that a worker that died has left open",
        of_bucket=True,
    ),
    Right(
        "s3:PutObject",
        "beginning an upload, its parts, its completion; putting aside what an archive that pauses "
        "has beyond its last part",
    ),
    Right(
        "s3:GetObject",
        "looking at an object that is completed, or in the place of one (size, ETag, metadata); "
        "reading what was put aside, nothing else",
    ),
    Right(
        "s3:DeleteObject",
        "removing an object that must not be there: a wrong one, one that came after a cancel, "
        "what was put aside",
    ),
    Right("s3:AbortMultipartUpload", "aborting what is not completed"),
    Right(
        "s3:ListMultipartUploadParts",
        "going on with an upload that an attempt before has left; telling one that the store has "
        "lost from one that fails",
    ),
)


class _Try(NamedTuple):
    check: str
    right: str
    action: str
    ask: Callable[[S3Client, str, str], Awaitable[object]]  # with bucket and key


async def _abort(client: S3Client, bucket: str, key: str) -> None:
    await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=uuid4().hex)


async def _describe(client: S3Client, bucket: str, key: str) -> None:
    await client.head_object(Bucket=bucket, Key=key)


async def _remove(client: S3Client, bucket: str, key: str) -> None:
    # Nothing meets the condition: where objects have versions, none is marked as deleted.
    await client.delete_object(Bucket=bucket, Key=key, IfMatch=f'"{"0" * 32}"')


async def _list_uploads(client: S3Client, bucket: str, key: str) -> None:
    await client.list_multipart_uploads(Bucket=bucket, Prefix=key, MaxUploads=1)


async def _list_parts(client: S3Client, bucket: str, key: str) -> None:
    await client.list_parts(Bucket=bucket, Key=key, UploadId=uuid4().hex, MaxParts=1)


_ABORT = _Try("uploads aborted", ABORT_RIGHT, "abort an upload of", _abort)
_WRITE, _WRITE_RIGHT = "writable", "s3:PutObject"
_OTHERS = (
    _Try("readable", "s3:GetObject", "describe", _describe),
    _Try("removable", "s3:DeleteObject", "remove", _remove),
    _Try("uploads listed", "s3:ListBucketMultipartUploads", "list uploads of", _list_uploads),
    _Try("parts listed", "s3:ListMultipartUploadParts", "list parts of", _list_parts),
)


# What is tried, by the right that it needs; the bucket is looked at before.
CHECKS = {tried.right: tried.check for tried in (_ABORT, *_OTHERS)} | {_WRITE_RIGHT: _WRITE}


async def try_target(sink: S3ObjectStore, target: S3Target) -> list[TargetCheck]:
    """Return what each step found; the first that fails ends it.

    Steps: the server answers; it accepts the credentials and has the bucket; then each right; and
    what the store makes of what deliveries ask of it, where no right is missing.
    """
    found: list[TargetCheck] = []
    for check, look in (("reachable", sink.reach), ("credentials and bucket", sink.find_bucket)):
        try:
            async with asyncio.timeout(_STEP_TIMEOUT):
                await look(target)
        except DeliveryError as error:
            return [*found, TargetCheck(check=check, flaw=str(error))]
        except TimeoutError:
            sentence = f"no answer from {target} within {_STEP_TIMEOUT:g} seconds"
            return [*found, TargetCheck(check=check, flaw=sentence)]
        found.append(TargetCheck(check=check))
    found += await try_rights(sink.clients, target)
    if all(step.ok for step in found):
        found += await try_abilities(sink, target)
    return found


async def try_rights(clients: S3Clients, target: S3Target) -> list[TargetCheck]:
    """Return what was found of each right. No message holds a secret."""
    may_abort = await _tried(clients, target, _ABORT)
    found = [may_abort]
    if may_abort.ok:
        found.append(await _tried_to_write(clients, target))
    else:
        sentence = "not tried: an upload that is begun could not be aborted"
        found.append(TargetCheck(check=_WRITE, flaw=sentence))
    return [*found, *[await _tried(clients, target, other) for other in _OTHERS]]


async def _tried(clients: S3Clients, target: S3Target, tried: _Try) -> TargetCheck:
    key = trial_key(target)
    sentence = ""
    try:
        async with (
            clients.of(target) as client,
            translate_errors(target, f"{tried.action} {key}", _STEP_TIMEOUT),
        ):
            await tried.ask(client, target.bucket, key)
    except DeliveryError as error:
        sentence = _flaw(error, tried.right)
    return TargetCheck(check=tried.check, flaw=sentence)


async def _tried_to_write(clients: S3Clients, target: S3Target) -> TargetCheck:
    sentence = ""
    async with clients.of(target) as client:
        upload = Trial(client, target)
        try:
            await upload.begin(_STEP_TIMEOUT)
        except DeliveryError as error:  # whatever it is: nothing was begun
            sentence = _flaw(error, _WRITE_RIGHT) or str(error)
        else:
            try:
                await upload.abort()
            except DeliveryError as error:
                sentence = _flaw(error, ABORT_RIGHT)
    return TargetCheck(check=_WRITE, flaw=sentence)


def _flaw(error: DeliveryError, right: str) -> str:
    """Return why a right can't be used; empty where it is there."""
    if not isinstance(error, TargetRefusedError):
        return str(error)
    # Any other refusal comes after that of a right: there is no such key, no such upload.
    return f"{error}; {right} is missing" if code_of(error) in DENIED else ""
