"""A bucket of Google Cloud Storage: what tenants set of it, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel

from app.delivery.targets import Noted
from app.network.hosts import canonical, server_of
from app.settings import Settings
from app.settings.gcs import GcsIdentityPlace
from app.tenants.masks import IDENTITY
from sinks.stores.gcs.allowed import flaw_of_prefix
from sinks.stores.gcs.settings import GcsDeliveryTarget

HOSTS_ADVICE = "choose another host, or ask the operator to add it to DELIVERY_S3_ALLOWED_HOSTS"
IDENTITY_ADVICE = (
    "give a service account, or ask the operator to add the place to DELIVERY_GCS_IDENTITY_PLACES"
)
PUBLIC = "https://storage.googleapis.com"


@dataclass(frozen=True, kw_only=True, slots=True)
class GcsTarget(Noted):
    """See `app.delivery.targets.Target`."""

    kind: ClassVar[str] = "gcs"
    settings: ClassVar[type[BaseModel]] = GcsDeliveryTarget

    endpoint: str = PUBLIC
    container: str
    prefix: str = ""  # of every key; ends with / unless empty
    credentials: str = field(repr=False)  # a service account's key, or `identity`

    def __str__(self) -> str:
        return f"bucket {self.container} at {self.endpoint}"

    @property
    def namespace(self) -> str:
        """Host and port: names of buckets are unique there."""
        return server_of(self.endpoint)

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open."""
        return (
            f"removing what is in `{self.prefix}.rs-delivery-uploads/` ends all that are open "
            "there; a lifecycle rule of the bucket can do so by their age"
        )

    @property
    def opened_with(self) -> Mapping[str, str]:
        """Return nothing: all is kept in one way, that of the bucket."""
        return {}

    @property
    def own_identity(self) -> bool:
        """Whether this service signs in as itself."""
        return self.credentials == IDENTITY

    def url_of(self, key: str) -> str:
        """Return what the object is called everywhere."""
        return f"gs://{self.container}/{key}"

    def noted(self) -> dict[str, Any]:
        """Return all fields, and the kind."""
        return {"kind": self.kind} | asdict(self)

    @classmethod
    def configured(cls, place: Mapping[str, Any]) -> GcsTarget:
        """Read an entry of `delivery_targets`."""
        prefix = (place.get("prefix") or "").strip("/")
        return cls(
            endpoint=canonical(_endpoint_of(place)),
            container=place["bucket"],
            prefix=f"{prefix}/" if prefix else "",
            credentials=place["credentials"],
        )

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Judge prefix and host; the address that this leads to is judged at each connection."""
        flaw = settings.allowed_hosts.flaw_of(_endpoint_of(place))
        if flaw is not None:
            return ("endpoint" if place.get("endpoint") else "type"), f"{flaw}: {HOSTS_ADVICE}"
        target = cls.configured(place)
        flaw = flaw_of_prefix(target.prefix)
        if flaw is not None:
            return "prefix", flaw
        if not target.own_identity:
            return None
        flaw = identity_flaw(target, settings.gcs_identity_places)
        return None if flaw is None else ("credentials", f"{flaw}: {IDENTITY_ADVICE}")


def identity_flaw(
    target: GcsTarget, places: Iterable[str], *, tenant: str | None = None
) -> str | None:
    """Return why this service does not sign in as itself at a target; None if it does.

    Its token opens every bucket that it has rights to. So it is sent to Google alone, for no tenant
    but the one that the operator names there, and for no more than is named. Where no tenant is
    told, there has to be one that may.
    """
    if target.endpoint != PUBLIC:
        return f"the identity of this service is sent to {PUBLIC} alone"
    for place in map(GcsIdentityPlace.read, places):
        if (
            place.bucket == target.container
            and target.prefix.startswith(place.prefix)
            and tenant in (None, place.tenant)
        ):
            return None
    return f"{target.container}/{target.prefix} is none of the places where " + (
        f"tenant {tenant} may sign in as this service"
        if tenant
        else "tenants may sign in as this service"
    )


def _endpoint_of(place: Mapping[str, Any]) -> str:
    return str(place.get("endpoint") or PUBLIC)
