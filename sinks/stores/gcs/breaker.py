"""What requests tell of the servers of Google Cloud Storage, for their circuits."""

from __future__ import annotations

from sinks.stores.breaker import Signs
from sinks.stores.gcs.requests import answered, said_anything, silent
from sinks.stores.gcs.target import GcsTarget


def _places(target: GcsTarget) -> tuple[str, str]:
    """Return the server and the bucket."""
    return target.namespace, f"{target.namespace}/{target.container}"


SIGNS = Signs(
    kind="Google Cloud Storage",
    places=_places,
    said=said_anything,
    answered=answered,
    silent=silent,
)
