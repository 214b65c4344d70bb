"""The names that settings have in the environment."""

from __future__ import annotations

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class Group(BaseSettings):
    """Settings that belong together. Units are in the names or in the descriptions."""

    model_config = SettingsConfigDict(
        env_prefix="DELIVERY_", frozen=True, extra="ignore", populate_by_name=True
    )


def regards(prop: str, name: str, *others: str) -> AliasChoices:
    """Accept the service's own name, and REGARDS properties as dotted or shell variables."""
    properties = [form for one in (prop, *others) for form in (one, one.replace(".", "_"))]
    return AliasChoices(f"DELIVERY_{name}", *properties)


def from_list(value: object) -> object:
    """Split what an environment variable separates by commas."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value
