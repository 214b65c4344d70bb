"""Stores of the kind Azure: where this service may sign in as itself for a tenant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from app.settings.names import Section, from_list
from app.settings.texts import host, prefix

_CONTAINER = re.compile("[a-z0-9](-?[a-z0-9]){2,62}")
_CLIENT_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DEFAULT_IDENTITY = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityPlace:
    """Where one tenant may deliver to with one identity of this service."""

    tenant: str
    host: str  # of the account's blob storage, in lower case
    container: str
    prefix: str  # of every key there; ends with / unless empty
    identity: str  # `default`, or the client id of a managed identity, in lower case

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `tenant=host/container[/prefix][#client-id]`. Raises ValueError."""
        tenant, equals, place = text.partition("=")
        place, hash_, identity = place.partition("#")
        server, _, path = place.partition("/")
        container, _, below = path.rstrip("/").partition("/")
        identity = identity.lower()
        if not (tenant and equals and server and container):
            raise ValueError("must be tenant=host/container[/prefix][#client-id]")
        if not _CONTAINER.fullmatch(container):
            raise ValueError(f"{container} is no name of a container")
        if hash_ and not _CLIENT_ID.fullmatch(identity):
            raise ValueError(f"{identity} is no client id")
        return cls(
            tenant=tenant,
            host=host(server).lower(),
            container=container,
            prefix=f"{prefix(below)}/" if below else "",
            identity=identity or DEFAULT_IDENTITY,
        )


class AzureSection(Section):
    """What a process needs to know of Azure before any tenant sets a target."""

    azure_identity_places: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Where tenants may deliver to with the identity of this service (`identity` of "
        "a target of type `azure`), separated by commas, each "
        "`tenant=host/container[/prefix][#client-id]`: "
        "`esa=account.blob.core.windows.net/deliveries`. Without a client id, the identity is "
        "`default`; with one, it is that managed identity alone. Empty: nowhere; tenants give a "
        "key or a SAS of their own.",
    )

    @field_validator("azure_identity_places", mode="before")
    @classmethod
    def _split_places(cls, value: object) -> object:
        return from_list(value)

    @field_validator("azure_identity_places")
    @classmethod
    def _are_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            IdentityPlace.read(place)
        return value

    def of_tenant(self, tenant: str) -> Self:
        """Return the settings as far as they hold for a tenant: with its own places."""
        settings = super().of_tenant(tenant)
        own = tuple(
            place
            for place in self.azure_identity_places
            if IdentityPlace.read(place).tenant == tenant
        )
        return settings.model_copy(update={"azure_identity_places": own})
