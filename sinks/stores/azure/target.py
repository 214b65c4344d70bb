"""A container of an Azure storage account: what tenants set of it, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel

from app.delivery.targets import Noted
from app.network.hosts import canonical, host_and_port, server_of
from app.settings import Settings
from app.settings.azure import DEFAULT_IDENTITY, IdentityPlace
from sinks.stores.azure.settings import AzureDeliveryTarget

HOSTS_ADVICE = "choose another host, or ask the operator to add it to DELIVERY_S3_ALLOWED_HOSTS"
IDENTITY_ADVICE = (
    "give a key or a SAS, or ask the operator to add the place to DELIVERY_AZURE_IDENTITY_PLACES"
)
_HTTPS = 443
_PUBLIC = "https://{account}.blob.core.windows.net"


@dataclass(frozen=True, kw_only=True, slots=True)
class AzureTarget(Noted):
    """See `app.delivery.targets.Target`."""

    kind: ClassVar[str] = "azure"
    settings: ClassVar[type[BaseModel]] = AzureDeliveryTarget

    endpoint: str  # of the account; its path may name it
    account: str
    container: str
    prefix: str = ""  # of every key; ends with / unless empty
    key: str | None = field(default=None, repr=False)  # these three: one of them
    sas: str | None = field(default=None, repr=False)
    identity: str | None = None  # default, or a client id

    def __str__(self) -> str:
        return f"container {self.container} at {self.endpoint}"

    @property
    def namespace(self) -> str:
        """Host, port and, where it names the account, path."""
        return f"{server_of(self.endpoint)}{urlsplit(self.endpoint).path}"

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open."""
        return (
            "removing the empty blob `….upload-…` beside it ends it; blocks that were staged for "
            "it are dropped by Azure after a week"
        )

    @property
    def opened_with(self) -> Mapping[str, str]:
        """Return nothing: all is kept in one way, that of the container."""
        return {}

    def url_of(self, key: str) -> str:
        """Return where clients find the object."""
        return f"{self.endpoint}/{self.container}/{quote(key, safe='/~')}"

    def noted(self) -> dict[str, Any]:
        """Return all fields, and the kind."""
        return {"kind": self.kind} | asdict(self)

    @classmethod
    def configured(cls, place: Mapping[str, Any]) -> AzureTarget:
        """Read an entry of `delivery_targets`."""
        prefix = (place.get("prefix") or "").strip("/")
        return cls(
            endpoint=canonical(_endpoint_of(place)),
            account=place["account"],
            container=place["container"],
            prefix=f"{prefix}/" if prefix else "",
            key=place.get("key"),
            sas=place.get("sas"),
            identity=place.get("identity"),
        )

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Judge its host; the address that this leads to is judged at each connection."""
        endpoint = _endpoint_of(place)
        flaw = settings.allowed_hosts.flaw_of(endpoint)
        if flaw is not None:
            return ("endpoint" if place.get("endpoint") else "account"), f"{flaw}: {HOSTS_ADVICE}"
        if place.get("identity") is None:
            return None
        flaw = identity_flaw(cls.configured(place), settings.azure_identity_places)
        return None if flaw is None else ("identity", f"{flaw}: {IDENTITY_ADVICE}")


def identity_flaw(
    target: AzureTarget, places: Iterable[str], *, tenant: str | None = None
) -> str | None:
    """Return why this service does not sign in as itself at a target; None if it does.

    Its token opens every account that it has rights to. So it is sent to no host but the
    operator's, for no tenant but the one that the operator names there, and for no more than is
    named. Where no tenant is told, there has to be one that may.
    """
    name, port = host_and_port(target.endpoint)
    address = urlsplit(target.endpoint)
    if address.scheme != "https":
        return "the identity of this service is sent over https alone"
    if port != _HTTPS or address.path.strip("/"):
        return "the identity of this service is sent to port 443 of an account's own host alone"
    identity = (target.identity or DEFAULT_IDENTITY).lower()
    for place in map(IdentityPlace.read, places):
        if (
            (place.host, place.container, place.identity) == (name, target.container, identity)
            and target.prefix.startswith(place.prefix)
            and tenant in (None, place.tenant)
        ):
            return None
    return (
        f"{name}/{target.container}/{target.prefix} is none of the places where "
        + (f"tenant {tenant} may sign in" if tenant else "tenants may sign in")
        + f" as this service ({identity})"
    )


def _endpoint_of(place: Mapping[str, Any]) -> str:
    return str(place.get("endpoint") or _PUBLIC.format(account=place["account"]))
