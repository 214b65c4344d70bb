"""Correlation ids of users who see only their own deliveries: no other user's is among them.

Ids are unique among the active deliveries of a tenant, and chosen by clients. A user who may choose
any could take the next one of a client that numbers them, be answered in its name, and learn from a
refusal which ids there are. Nor may the folders that they choose (`delivery.prefix`) be another's:
what is put into those of another's id may be in the way of what comes there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from app.errors import InvalidRequestError


def prefix_of(user: str) -> str:
    """Return what the ids of a user begin with, and the folders they choose; no other user's do."""
    return f"web-{hashlib.sha256(user.encode()).hexdigest()[:16]}-"


def as_own(user: str, body: Mapping[str, Any], *, priority: int) -> dict[str, Any]:
    """Return a user's request, with an id of theirs where it has none.

    Raises InvalidRequestError with the rules that only such users have, in words that don't tell
    whether an id exists.
    """
    prefix, given, order = prefix_of(user), body.get("correlationId"), body.get("order")
    broken = []
    if isinstance(given, str) and not given.startswith(prefix):
        broken.append(
            f"correlationId must begin with {prefix}, as yours do; left out, it is given to you"
        )
    if isinstance(order, dict) and order.get("user") != user:
        broken.append(f"order.user must be {user}, who you are")
    options = body.get("delivery")
    folders = options.get("prefix") if isinstance(options, dict) else None
    if isinstance(folders, str) and folders and not folders.startswith(prefix):
        broken.append(f"delivery.prefix must begin with {prefix}, as ids of yours do")
    if priority > 1:
        broken.append("priority must be 1: to choose it takes an operator")
    if broken:
        raise InvalidRequestError(broken)
    return {**body, "correlationId": f"{prefix}{uuid4().hex[:12]}" if given is None else given}
