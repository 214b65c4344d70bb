"""The metadata by which an object tells whose it is (contract, section 6)."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from app.model import Delivery


def marks_of(delivery: Delivery) -> dict[str, str]:
    """Return the marks of a delivery's object. Values are ASCII: stores take no other."""
    return {
        "rs-delivery-tenant": quote(delivery.tenant, safe=""),
        "rs-delivery-id": str(delivery.id),
        "rs-delivery-user-sha256": hashlib.sha256(delivery.user.encode()).hexdigest(),
    }
