"""Stores of the kind `file`: the folders that tenants may deliver to."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from app.settings.names import MIB, Section, from_list
from app.settings.tenants import TENANT
from app.settings.texts import folder


class FileSection(Section):
    """What a process needs to know of shared file systems."""

    file_roots: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Folders that tenants may deliver to, and into the folders in them, separated "
        "by commas; `{tenant}` stands for the tenant's name: `/mnt/archive/{tenant}`. Each worker "
        "has them at the same path. Each holds a file `.rs-delivery-root`, which the operator "
        "makes on the mounted file system: while it is not there, nothing is written, as that "
        "would go to the disk below. Empty: no target may be a folder.",
    )
    file_min_free: int = Field(
        1024 * MIB,
        ge=0,
        description="Bytes that are left free on these file systems: a part that would take from "
        "them waits.",
    )
    file_read_back: bool = Field(
        default=True,
        description="Whether each part is read again from the file system, and compared, after it "
        "was written. Without, what the file system has confirmed is believed.",
    )

    @field_validator("file_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return from_list(value)

    @field_validator("file_roots")
    @classmethod
    def _are_folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple("/" + folder(root).strip("/") for root in value)

    def of_tenant(self, tenant: str) -> Self:
        """Return the settings as far as they hold for a tenant: with its own folders."""
        settings = super().of_tenant(tenant)
        roots = tuple(root.replace(TENANT, tenant) for root in self.file_roots)
        return settings.model_copy(update={"file_roots": roots})
