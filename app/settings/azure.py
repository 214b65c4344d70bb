"""Stores of the kind Azure: where this service may sign in as itself for a tenant."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from app.settings.names import Section, from_list
from app.settings.texts import host


class AzureSection(Section):
    """What a process needs to know of Azure before any tenant sets a target."""

    azure_identity_places: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Where tenants may deliver to with the identity of this service (`identity` of "
        "a target of type `azure`), separated by commas: hosts "
        "(`account.blob.core.windows.net`), or containers there "
        "(`account.blob.core.windows.net/container`). Empty: nowhere; tenants give a key or a SAS "
        "of their own.",
    )

    @field_validator("azure_identity_places", mode="before")
    @classmethod
    def _split_places(cls, value: object) -> object:
        return from_list(value)

    @field_validator("azure_identity_places")
    @classmethod
    def _are_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            host(place.partition("/")[0])
        return tuple(place.lower().rstrip("/") for place in value)
