"""A client of rs-delivery: ask for a delivery, follow it, fetch it, verify it.

    async with DeliveryClient("https://delivery.example.org", token=token) as client:
        delivery = await client.submit({"user": me, "queries": ["providerId:S2B_*"]})
        await client.wait(delivery)
        await client.download(delivery, "products")

It needs nothing of the service but its address; what is checked, `verify`, needs not even that.
Each name is imported when it is asked for first: help of the command is there at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient
    from rs_delivery_client.content import Link
    from rs_delivery_client.download import Downloaded
    from rs_delivery_client.errors import (
        ClientError,
        ConflictError,
        ContentChangedError,
        ContentError,
        ContentMissingError,
        DeliveryFailedError,
        FlawedError,
        ForbiddenError,
        InvalidRequestError,
        LinkExpiredError,
        LocalError,
        ManifestError,
        NotCheckedError,
        NotFoundError,
        NotReachableError,
        NotSignedInError,
        ProfileError,
        ServiceError,
        UnsafeError,
    )
    from rs_delivery_client.flaws import Flaw, Kind, Report
    from rs_delivery_client.models import (
        Attempt,
        Caller,
        DeliveredFile,
        Delivery,
        DeliveryFilter,
        Event,
        Finding,
        ProgressEvent,
        ReloadEvent,
        StateEvent,
        Target,
    )
    from rs_delivery_client.pauses import Pauses
    from rs_delivery_client.tokens import Key
    from rs_delivery_client.verification import verify

__version__ = "0.1.0"

_NAMES = {
    "client": ("DeliveryClient",),
    "content": ("Link",),
    "download": ("Downloaded",),
    "errors": (
        "ClientError",
        "ConflictError",
        "ContentChangedError",
        "ContentError",
        "ContentMissingError",
        "DeliveryFailedError",
        "FlawedError",
        "ForbiddenError",
        "InvalidRequestError",
        "LinkExpiredError",
        "LocalError",
        "ManifestError",
        "NotCheckedError",
        "NotFoundError",
        "NotReachableError",
        "NotSignedInError",
        "ProfileError",
        "ServiceError",
        "UnsafeError",
    ),
    "flaws": (
        "Flaw",
        "Kind",
        "Report",
    ),
    "models": (
        "Attempt",
        "Caller",
        "DeliveredFile",
        "Delivery",
        "DeliveryFilter",
        "Event",
        "Finding",
        "ProgressEvent",
        "ReloadEvent",
        "StateEvent",
        "Target",
    ),
    "pauses": ("Pauses",),
    "tokens": ("Key",),
    "verification": ("verify",),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Attempt",
    "Caller",
    "ClientError",
    "ConflictError",
    "ContentChangedError",
    "ContentError",
    "ContentMissingError",
    "DeliveredFile",
    "Delivery",
    "DeliveryClient",
    "DeliveryFailedError",
    "DeliveryFilter",
    "Downloaded",
    "Event",
    "Finding",
    "Flaw",
    "FlawedError",
    "ForbiddenError",
    "InvalidRequestError",
    "Key",
    "Kind",
    "Link",
    "LinkExpiredError",
    "LocalError",
    "ManifestError",
    "NotCheckedError",
    "NotFoundError",
    "NotReachableError",
    "NotSignedInError",
    "Pauses",
    "ProfileError",
    "ProgressEvent",
    "ReloadEvent",
    "Report",
    "ServiceError",
    "StateEvent",
    "Target",
    "UnsafeError",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a name of the library."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{where}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Name what there is."""
    return sorted({*globals(), *__all__})
