"""What requests tell of Azure's servers, for their circuits."""

from __future__ import annotations

from sinks.stores.azure.requests import answered, said_anything, silent
from sinks.stores.azure.target import AzureTarget
from sinks.stores.breaker import Signs


def _places(target: AzureTarget) -> tuple[str, str]:
    """Return the account, which has servers of its own, and the container."""
    return target.namespace, f"{target.namespace}/{target.container}"


SIGNS = Signs(kind="Azure", places=_places, said=said_anything, answered=answered, silent=silent)
