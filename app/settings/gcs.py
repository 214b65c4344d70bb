"""Stores of the kind GCS (Google): where this service may sign in as itself for a tenant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from app.settings.names import Section, from_list
from app.settings.texts import google_bucket, prefix


@dataclass(frozen=True, kw_only=True, slots=True)
class GcsIdentityPlace:
    """Where one tenant may deliver to with the identity of this service."""

    tenant: str
    bucket: str
    prefix: str  # of every key there; ends with / unless empty

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `tenant=bucket[/prefix]`. Raises ValueError."""
        tenant, _, place = text.partition("=")
        bucket, _, below = place.rstrip("/").partition("/")
        if not (tenant and bucket):
            raise ValueError("must be tenant=bucket[/prefix]")
        return cls(
            tenant=tenant,
            bucket=google_bucket(bucket),
            prefix=f"{prefix(below)}/" if below else "",
        )


class GcsSection(Section):
    """What a process needs to know of Google Cloud Storage before any tenant sets a target."""

    gcs_identity_places: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Where tenants may deliver to with the identity of this service (`credentials` "
        "of a target of type `gcs` is `identity`), separated by commas, each "
        "`tenant=bucket[/prefix]`: `esa=mission-deliveries`. It is the service account that the "
        "metadata server of this machine, or of its Kubernetes cluster, gives tokens of. Empty: "
        "nowhere; tenants give a service account of their own.",
    )

    @field_validator("gcs_identity_places", mode="before")
    @classmethod
    def _split_places(cls, value: object) -> object:
        return from_list(value)

    @field_validator("gcs_identity_places")
    @classmethod
    def _are_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            GcsIdentityPlace.read(place)
        return value

    def of_tenant(self, tenant: str) -> Self:
        """Return the settings as far as they hold for a tenant: with its own places."""
        settings = super().of_tenant(tenant)
        own = tuple(
            place
            for place in self.gcs_identity_places
            if GcsIdentityPlace.read(place).tenant == tenant
        )
        return settings.model_copy(update={"gcs_identity_places": own})
