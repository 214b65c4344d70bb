"""Which stores complete an upload on a condition: found out once a target, and remembered a while.

Not every store knows `If-None-Match` and `If-Match` of CompleteMultipartUpload, nor of PutObject.
Some refuse what they don't know; more ignore it, and replace what is there. See
docs/architecture.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum, auto

from app.delivery.object_store import FoundObject
from sinks.stores.s3.target import S3Target

_LIFETIME = 3600.0  # seconds: stores are upgraded, and exchanged


NO_OTHER = {"IfNoneMatch": "*"}


def condition_on(found: FoundObject | None) -> Mapping[str, str]:
    """Return the condition that what was found, if anything, is what is replaced."""
    return NO_OTHER if found is None else {"IfMatch": f'"{found.etag}"'}


class Conditions(Enum):
    """What a store makes of a condition of a completion, or of a PUT."""

    KEPT = auto()  # it has refused to make an object, since there was one
    IN_DOUBT = auto()  # it was never seen to refuse: it may ignore them
    REFUSED = auto()  # it makes nothing that is asked for on a condition


class KnownConditions:
    """What one process knows of its targets."""

    def __init__(
        self, *, lifetime: float = _LIFETIME, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Conditions, float]] = {}  # and until when

    def __len__(self) -> int:
        """How many targets are known."""
        return len(self._known)

    def of(self, target: S3Target) -> Conditions | None:
        """Return what is known of a target; None if nothing is, or not any more."""
        found, until = self._known.get(_place(target), (None, 0.0))
        return found if self._clock() < until else None

    def learn(self, target: S3Target, conditions: Conditions) -> None:
        """Remember it."""
        now = self._clock()
        self._known = {place: entry for place, entry in self._known.items() if now < entry[1]}
        self._known[_place(target)] = (conditions, now + self._lifetime)


def _place(target: S3Target) -> tuple[str, str]:
    return target.endpoint, target.bucket
