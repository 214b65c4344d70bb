"""Static settings: one frozen object, read from the environment once, in the command line.

Every setting is the environment variable `DELIVERY_<NAME>`; where REGARDS has a property for the
same thing, that property's name is accepted too, dotted or in capitals with underscores. A secret
may lie in a file: `DELIVERY_<NAME>_FILE` names it.
"""

from __future__ import annotations

from pydantic import ValidationError

from app.errors import ConfigurationError
from app.settings.azure import AzureSection
from app.settings.connections import ConnectionSection
from app.settings.file import FileSection
from app.settings.gcs import GcsSection
from app.settings.kafka import KafkaSection
from app.settings.process import ProcessSection
from app.settings.s3 import S3Section
from app.settings.tenants import TenantSection
from app.settings.transfers import TransferSection
from app.settings.webhooks import WebhookSection


class Settings(
    ProcessSection,
    TransferSection,
    TenantSection,
    S3Section,
    FileSection,
    AzureSection,
    GcsSection,
    KafkaSection,
    WebhookSection,
    ConnectionSection,
):
    """What an operator can set."""


def environment_names() -> dict[str, str]:
    """Map each setting to the environment variable that sets it."""
    return {name: f"DELIVERY_{name.upper()}" for name in Settings.model_fields}


def load_settings(**overrides: object) -> Settings:
    """Read the environment.

    Raises ConfigurationError with one line a mistake, naming the variable, never its value (it
    may be a secret).
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        names = environment_names()
        lines = []
        for item in error.errors(include_input=False, include_url=False):
            field = str(item["loc"][0]) if item["loc"] else "?"
            said = item["msg"].removeprefix("Value error, ")
            lines.append(f"{names.get(field, field)}: {said}")
        raise ConfigurationError(
            "these settings can't be used; correct them in the environment and start again:\n  "
            + "\n  ".join(lines)
        ) from None
