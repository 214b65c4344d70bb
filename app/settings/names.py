"""The names that settings have in the environment."""

from __future__ import annotations

from typing import Any, Self

from pydantic import AliasChoices, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings.files import SecretFiles, Unusable

MIB = 1024 * 1024


class Section(BaseSettings):
    """Settings that belong together. Units are in the names or in the descriptions."""

    model_config = SettingsConfigDict(
        env_prefix="DELIVERY_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - files with a dot are not read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - see SecretFiles
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the program gives, then files of secrets, then the environment."""
        return init_settings, SecretFiles(settings_cls), env_settings

    def of_tenant(self, tenant: str) -> Self:  # noqa: ARG002
        """Return the settings as far as they hold for a tenant; a section narrows its own."""
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _could_be_read(cls, value: Any) -> Any:
        if isinstance(value, Unusable):
            raise ValueError(value.why)  # noqa: TRY004 - what pydantic listens to
        return value


def regards(prop: str, name: str, *others: str) -> AliasChoices:
    """Accept the service's own name, and REGARDS properties as dotted or shell variables."""
    properties = [form for dotted in (prop, *others) for form in (dotted, dotted.replace(".", "_"))]
    return AliasChoices(f"DELIVERY_{name}", *properties)


def from_list(value: object) -> object:
    """Split what an environment variable separates by commas; in a file, lines do it, too.

    A line that begins with `#` says something of the others.
    """
    if isinstance(value, str):
        lines = (line for line in value.splitlines() if not line.lstrip().startswith("#"))
        names = (name.strip() for line in lines for name in line.split(","))
        return tuple(name for name in names if name)
    return value
