"""How often an order is retried for files that have left rs-order's cache.

All files of a suborder expire together, and one attempt after the other meets them. So neither they
nor the attempts are counted: only retries after which the archive got no further.
"""

from __future__ import annotations

from app.delivery.model import Delivery
from app.errors import SourceGoneError

_MOST_RETRIES = 5


def next_retry(delivery: Delivery, error: SourceGoneError) -> int | None:
    """Return which retry the next one would be, from 1; None: there were enough.

    They are counted from the first again once a file further on in the archive is gone. Of a
    partial delivery not once there were as many as there may be: what it was left without then does
    not come again, and each file further on costs one retry, not all of them.
    """
    if error.position is not None and error.position > delivery.retried_for:
        spent = delivery.partial and delivery.retries >= _MOST_RETRIES
        return _MOST_RETRIES if spent else 1
    return delivery.retries + 1 if delivery.retries < _MOST_RETRIES else None
