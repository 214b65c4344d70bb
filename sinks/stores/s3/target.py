"""A bucket of an S3-compatible server: what tenants set of it, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel

from app.delivery.targets import Noted
from app.network.hosts import endpoint_of, server_of
from app.settings import Settings
from sinks.stores.s3.settings import DeliveryTarget

ADVICE = "choose another host, or ask the operator to add it to DELIVERY_S3_ALLOWED_HOSTS"


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Target(Noted):
    """See `app.delivery.targets.Target`."""

    kind: ClassVar[str] = "s3"  # of targets that name none, so it is not noted either
    settings: ClassVar[type[BaseModel]] = DeliveryTarget

    endpoint: str
    region: str
    key: str
    secret: str = field(repr=False)
    bucket: str
    prefix: str = ""  # of every key; ends with / unless empty
    addressing_style: str = "path"  # or "virtual": the bucket as a part of the host name
    storage_class: str | None = None  # None: the store's own choice
    encryption: str | None = None  # AES256 or aws:kms, by the store
    encryption_key: str | None = None  # of aws:kms
    public_endpoint: str | None = None  # where clients reach it; None: where this service does

    def __str__(self) -> str:
        return f"bucket {self.bucket} at {self.endpoint}"

    @property
    def namespace(self) -> str:
        """Host and port."""
        return server_of(self.endpoint)

    @property
    def container(self) -> str:
        """The bucket."""
        return self.bucket

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open."""
        return "a lifecycle rule of the bucket, or `aws s3api abort-multipart-upload`, ends it"

    @property
    def opened_with(self) -> Mapping[str, str]:
        """Storage class and encryption, where the tenant has set them; named as in the API."""
        asked = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.encryption,
            "SSEKMSKeyId": self.encryption_key,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def url_of(self, key: str) -> str:
        """Return what clients call the object: it names no server."""
        return f"s3://{self.bucket}/{key}"

    def noted(self) -> dict[str, Any]:
        """Return all fields: versions before the kinds read them, too."""
        return asdict(self)

    @classmethod
    def configured(cls, place: Mapping[str, Any]) -> S3Target:
        """Read an entry of `delivery_targets`."""
        server = place["s3_server"]
        prefix = place.get("prefix") or ""
        return cls(
            endpoint=endpoint_of(server),
            region=server["region"],
            key=server["key"],
            secret=server["secret"],
            bucket=place["bucket"],
            prefix=f"{prefix.strip('/')}/" if prefix else "",
            addressing_style=place.get("addressing_style", "path"),
            storage_class=place.get("storage_class"),
            encryption=place.get("encryption"),
            encryption_key=place.get("encryption_key"),
            public_endpoint=(place.get("public_endpoint") or "").rstrip("/") or None,
        )

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Judge its host; the address that this leads to is judged at each connection."""
        flaw = settings.allowed_hosts.flaw_of(endpoint_of(place["s3_server"]))
        return None if flaw is None else ("s3_server.host", f"{flaw}: {ADVICE}")
