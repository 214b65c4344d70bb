"""The metadata by which an object tells whose it is (contract, section 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum, auto
from urllib.parse import quote, unquote

from app.delivery.model import Delivery
from app.delivery.targets import Target
from app.errors import ForeignObjectError

_TENANT = "rs-delivery-tenant"
_ID = "rs-delivery-id"
_USER = "rs-delivery-user-sha256"


class Whose(Enum):
    """Whose an object is, as seen by a delivery that would go to its place."""

    ITS_OWN = auto()  # made by an attempt of the same delivery
    ITS_USERS = auto()  # of another delivery of the same tenant and user
    ANOTHER_USERS = auto()  # of another user of the same tenant
    ANOTHER_TENANTS = auto()
    UNKNOWN = auto()  # it has no marks: written by upstream, by hand, or by an old version


# What is never replaced: how it is called, and the way out.
FOREIGN = {
    Whose.ANOTHER_TENANTS: (
        "another tenant's delivery",
        "give this tenant a container or a prefix of its own",
    ),
    Whose.ANOTHER_USERS: (
        "another user's delivery",
        "let that user's archive be removed",
    ),
}


def marks_of(delivery: Delivery) -> dict[str, str]:
    """Return the marks of a delivery's object. Values are ASCII: stores take no other."""
    return {
        _TENANT: quote(delivery.tenant, safe=""),
        _ID: str(delivery.id),
        _USER: hashlib.sha256(delivery.user.encode()).hexdigest(),
    }


def tenant_of(marks: Mapping[str, str]) -> str | None:
    """Return the tenant that marks name; None where they name none."""
    quoted = marks.get(_TENANT)
    return None if quoted is None else unquote(quoted)


def whose(metadata: Mapping[str, str], marks: Mapping[str, str]) -> Whose:
    """Return whose an object with this metadata is, for the delivery with these marks.

    Marks that are not all there, or changed, are another's: what is in doubt is not replaced.
    """
    if not metadata.keys() & {_TENANT, _ID, _USER}:
        return Whose.UNKNOWN
    if metadata.get(_TENANT) != marks.get(_TENANT):
        return Whose.ANOTHER_TENANTS
    if metadata.get(_USER) != marks.get(_USER):
        return Whose.ANOTHER_USERS
    return Whose.ITS_OWN if metadata.get(_ID) == marks.get(_ID) else Whose.ITS_USERS


def check_replaceable(
    metadata: Mapping[str, str], marks: Mapping[str, str], target: Target, key: str
) -> None:
    """Raise ForeignObjectError if the delivery with these marks may not replace what is there."""
    owner = whose(metadata, marks)
    if owner in FOREIGN:
        kind, way_out = FOREIGN[owner]
        raise ForeignObjectError(
            f"{target.url_of(key)} holds the archive of {kind}, and is not replaced: ask again "
            f"with another correlationId, or {way_out} ({target})"
        )
