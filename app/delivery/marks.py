"""The metadata by which an object tells whose it is (contract, section 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum, auto
from urllib.parse import quote, unquote

from app.delivery.model import Delivery

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
