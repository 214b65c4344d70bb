"""A client of rs-delivery: ask for a delivery, follow it, fetch it, verify it.

    async with DeliveryClient("https://delivery.example.org", token=token) as client:
        delivery = await client.submit({"user": me, "queries": ["providerId:S2B_*"]})
        await client.wait(delivery)
        await client.download(delivery, "products")

It needs nothing of the service but its address; what is checked, `verify`, needs not even that.
"""

from __future__ import annotations

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
    ServiceError,
    UnsafeError,
)
from rs_delivery_client.flaws import Flaw, Kind, Report
from rs_delivery_client.models import (
    Attempt,
    DeliveredFile,
    Delivery,
    Event,
    Finding,
    ProgressEvent,
    ReloadEvent,
    StateEvent,
)
from rs_delivery_client.pauses import Pauses
from rs_delivery_client.tokens import Key
from rs_delivery_client.verify import verify

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "ClientError",
    "ConflictError",
    "ContentChangedError",
    "ContentError",
    "ContentMissingError",
    "DeliveredFile",
    "Delivery",
    "DeliveryClient",
    "DeliveryFailedError",
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
    "ProgressEvent",
    "ReloadEvent",
    "Report",
    "ServiceError",
    "StateEvent",
    "UnsafeError",
    "verify",
]
