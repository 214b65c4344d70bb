"""What credentials must be allowed at a target, and trying each of it.

What is tried leaves nothing behind: a blob is made only where it is seen before that it can be
removed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple
from uuid import uuid4

from app.delivery.targets import TargetCheck
from sinks.stores.azure.calls import AzureCalls, NotMetError
from sinks.stores.azure.target import AzureTarget
from sinks.stores.trying import flaw_of

_FOLDER = ".rs-delivery-check/"


class Right(NamedTuple):
    """What credentials must be allowed: a permission of a SAS, and an action of a role."""

    sas: str
    action: str  # below Microsoft.Storage/storageAccounts/blobServices/containers/
    why: str  # in words, for the docs


NEEDED = (
    Right(
        "list",
        "blobs/read",
        "seeing that the container is there; finding uploads of a worker that died",
    ),
    Right(
        "read", "blobs/read", "looking at an object before and after it is made; what was put aside"
    ),
    Right("create", "blobs/add/action", "the record of an upload, blocks, the list that ends it"),
    Right("write", "blobs/write", "the same, and replacing an object of the same user"),
    Right(
        "delete",
        "blobs/delete",
        "the record of an upload that ends; a wrong object; what was put aside",
    ),
)


async def try_to_write(calls: AzureCalls, target: AzureTarget) -> list[TargetCheck]:
    """Return what was found of each right to blobs. No message holds a secret."""
    name = f"{target.prefix}{_FOLDER}{uuid4()}"
    if flaw := await _flaw_of(target, calls.remove(target, name)):
        # There is none of this name, so it is the right that is missing.
        untried = "not tried: a blob that is made could not be removed"
        return [
            TargetCheck(check="removable", flaw=flaw),
            TargetCheck(check="writable", flaw=untried),
        ]
    made = await _flaw_of(target, calls.make_empty(target, name, {}))
    read = await _flaw_of(target, calls.describe(target, name))
    left = await _flaw_of(target, calls.remove(target, name))
    return [
        TargetCheck(check="removable", flaw=left),
        TargetCheck(check="writable", flaw=made),
        TargetCheck(check="readable", flaw=read),
    ]


async def _flaw_of(target: AzureTarget, asked: Awaitable[object]) -> str:
    """Return why it was not done; empty if it was."""
    try:
        return await flaw_of(target, asked)
    except NotMetError:
        return f"{target} says that a blob of a new name is there already"
