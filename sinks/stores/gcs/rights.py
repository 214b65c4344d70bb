"""What credentials must be allowed at a target, and trying each of it.

What is tried leaves nothing behind: an object is made only where it is seen before that it can be
removed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple
from uuid import uuid4

from app.delivery.targets import TargetCheck
from app.errors import TargetRefusedError
from sinks.stores.gcs.calls import NONE, GcsCalls, NotMetError
from sinks.stores.gcs.small import Small
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.trying import flaw_of

_FOLDER = ".rs-delivery-check/"
_TRIED = Small(b"may be removed")
_TYPE = "text/plain"


class Right(NamedTuple):
    """What credentials must be allowed: a permission of IAM."""

    name: str
    why: str  # in words, for the docs


NEEDED = (
    Right(
        "storage.objects.list",
        "seeing that the bucket is there; finding parts, and uploads of a worker that died",
    ),
    Right(
        "storage.objects.get",
        "looking at an object before and after it is made; composing it; what was put aside",
    ),
    Right("storage.objects.create", "the record of an upload, parts, the composed archive"),
    Right(
        "storage.objects.delete",
        "parts and record of an upload that ends; replacing an object of the same user; a wrong "
        "object; what was put aside",
    ),
)


async def try_to_write(calls: GcsCalls, target: GcsTarget) -> list[TargetCheck]:
    """Return what was found of each right to objects. No message holds a secret."""
    name = f"{target.prefix}{_FOLDER}{uuid4()}"
    if flaw := await _flaw_of(target, calls.remove(target, name)):
        # There is none of this name, so it is the right that is missing.
        untried = "not tried: an object that is made could not be removed"
        return [
            TargetCheck(check="removable", flaw=flaw),
            TargetCheck(check="writable", flaw=untried),
        ]
    insert = calls.insert(
        target,
        name,
        _TRIED,
        verb="put",
        action=f"take {name}",
        media_type=_TYPE,
        generation=NONE,
    )
    made = await _flaw_of(target, insert)
    composed = made and "not tried: there is nothing to compose of"
    if not made:
        composed = await _flaw_of(target, _compose(calls, target, name))
    left = await _flaw_of(target, calls.remove(target, name))
    return [
        TargetCheck(check="removable", flaw=left),
        TargetCheck(check="writable", flaw=made),
        TargetCheck(check="composable", flaw=composed),
    ]


async def _compose(calls: GcsCalls, target: GcsTarget, name: str) -> None:
    """Compose an object of itself, in its own place."""
    found = await calls.describe(target, name)
    if found is None:
        raise TargetRefusedError(f"{target} does not have {name}, which it has just taken")
    await calls.compose(target, name, [found], media_type=_TYPE, generation=found.generation)


async def _flaw_of(target: GcsTarget, asked: Awaitable[object]) -> str:
    """Return why it was not done; empty if it was."""
    try:
        return await flaw_of(target, asked)
    except NotMetError:
        return f"{target} says that an object of a new name is another one"
