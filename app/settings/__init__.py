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
from app.settings.files import is_in_a_file, may_be_in_a_file
from app.settings.gcs import GcsSection
from app.settings.kafka import KafkaSection
from app.settings.notices import NoticeSection
from app.settings.oidc import OidcSection
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
    NoticeSection,
    OidcSection,
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
        lines = [f"{names.get(field, field)}: {said}" for field, said in _flaws(error)]
        raise ConfigurationError(
            "these settings can't be used; correct them in the environment and start again:\n  "
            + "\n  ".join(lines)
        ) from None


def in_files() -> frozenset[str]:
    """Return the names of the settings that this process has from files."""
    return frozenset(
        name
        for name, field in Settings.model_fields.items()
        if may_be_in_a_file(field) and is_in_a_file(name)
    )


def reread(current: Settings) -> tuple[Settings, dict[str, str]]:
    """Read again what lies in files; all else stays as it is.

    Return also what is wrong, by the setting whose file it is: that one is as it was, too.
    """
    # Drawn by chance at the start, where it is not set.
    kept: dict[str, object] = {"worker_id": current.worker_id}
    flaws: dict[str, str] = {}
    names, files = environment_names(), in_files()
    while True:
        try:
            return Settings(**kept), flaws  # type: ignore[arg-type]
        except ValidationError as error:
            found = _flaws(error)
        for field, said in found:
            # Of the others, only the places where a tenant's name stands for itself can go wrong.
            of = field if field in files - kept.keys() else "tenants"
            flaws.setdefault(of, said if of == field else f"{names.get(field, field)}: {said}")
            if of in kept:  # it does not go with what else is read: then nothing is taken
                why = flaws[of]
                return current, dict.fromkeys(files, f"not read again: {why}") | flaws
            kept[of] = getattr(current, of)


def _flaws(error: ValidationError) -> list[tuple[str, str]]:
    """Return what is wrong, by the name of the setting; where that lies in a file, say so."""
    files, names, flaws = in_files(), environment_names(), []
    for item in error.errors(include_input=False, include_url=False):
        field = str(item["loc"][0]) if item["loc"] else "?"
        said = item["msg"].removeprefix("Value error, ")
        variable = f"{names.get(field, field)}_FILE"
        if field in files and variable not in said:
            said = f"in the file that {variable} names: {said}"
        flaws.append((field, said))
    return flaws
