"""Dead events, as they are kept beside the dead-letter topic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from app.errors import as_cause
from app.views.dead_letters import MAX_KEPT_BODY, BuriedLetter, LetterKind, name_kept

PREFIX = "event:"  # of the ids of events, among those of all letters
_DIGEST_LENGTH = 32  # hexadecimal


def id_of(*, topic: str | None, key: bytes, value: bytes) -> str:
    """Return the id that an event has as a letter, however often it was buried."""
    digest = hashlib.sha256()
    for part in ((topic or "").encode(), key, value):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"{PREFIX}{digest.hexdigest()[:_DIGEST_LENGTH]}"


def kept_of(
    *,
    topic: str | None,
    key: bytes,
    value: bytes,
    reason: str,
    at: datetime,
    copies: Sequence[str],
) -> BuriedLetter:
    """Return what is kept of an event of a topic; `copies` are where it is: partition:offset."""
    tenant, correlation_id = parts_of(key)
    return BuriedLetter(
        id=id_of(topic=topic, key=key, value=value),
        kind=LetterKind.EVENT,
        place=topic or "unknown topic",
        origin=topic,
        tenant=name_kept(tenant),
        ours=name_kept(tenant) == tenant,
        correlation_id=name_kept(correlation_id),
        reason=as_cause(reason),
        at=at,
        size=len(value),
        body=value[:MAX_KEPT_BODY],
        key=key,
        copies=tuple(copies),
    )


def parts_of(key: bytes) -> tuple[str | None, str | None]:
    """Return the tenant and the correlation id of an event's key."""
    tenant, _, correlation_id = key.decode(errors="replace").partition("/")
    return tenant or None, correlation_id or None
