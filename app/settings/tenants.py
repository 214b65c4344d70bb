"""The tenants, and what holds for each of them until it sets something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from app.settings.files import FROM_FILE
from app.settings.names import Section, from_list, regards
from app.settings.texts import bucket, prefix

TENANT = "{tenant}"  # in a default: the tenant's name

_MAX_NAME = 255  # characters: more than that no token may name


def _tenants_of(text: str) -> Iterator[str]:
    """Iterate over the names in a text: between commas, on lines, without what follows a #.

    Raises ValueError that tells the number of a line, where there are several.
    """
    lines = text.splitlines()
    met: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        where = f"line {number}: " if len(lines) > 1 else ""
        for name in map(str.strip, line.partition("#")[0].split(",")):
            if not name:
                continue
            if len(name) > _MAX_NAME or not name.isprintable() or name.split() != [name]:
                raise ValueError(
                    f"{where}{name[:100]!r} is no name of a tenant; put one on a line (or commas "
                    "between them), and comments behind #"
                )
            if name in met and where:
                raise ValueError(
                    f"{where}{name} is there twice, first on line {met[name]}; take one of them "
                    "away"
                )
            if name in met:
                continue
            met[name] = number
            yield name
    if not met:
        raise ValueError("names no tenant; put the name of one on a line")


class TenantSection(Section):
    """Who is served, and how."""

    tenants: Annotated[tuple[str, ...], NoDecode] = Field(
        ("default",),
        min_length=1,
        description="Names of the tenants, separated by commas.",
        json_schema_extra=FROM_FILE,
    )
    request_ttl_hours: float = Field(12, ge=0, description="Hours that a request may take.")
    delivered_ttl_hours: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Hours after which what was delivered is removed from its target, for tenants "
        "that set none; 0: it stays.",
    )
    order_size_limit_bytes: int = Field(
        5368709120, ge=0, description="Largest order, in bytes, passed on to rs-order."
    )
    max_suborders: int = Field(
        0, ge=0, description="Suborders that an order may have, for tenants that set none; 0: any."
    )
    manifest: bool = Field(
        default=False,
        description="Put `manifest.json` beside each archive, for tenants that don't set it.",
    )
    report: bool = Field(
        default=False,
        description="Put `report.json` where the archive would be when a delivery fails, for "
        "tenants that don't set it.",
    )
    sha256: bool = Field(
        default=False,
        description="Tell SHA-256 beside MD5, for tenants that don't set it: of archives, and in "
        "manifests.",
    )
    compression_threshold: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Of a ZIP, where `DELIVERY_COMPRESSION` is `auto`, for tenants that don't set "
        "it: a file is compressed if a sample of it shrinks below so much of itself.",
    )
    link_ttl: int = Field(
        0,
        ge=0,
        le=168,
        description="Hours for which links to delivered archives hold, for tenants that set none; "
        "0: none are made.",
    )
    metric_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Labels of deliveries that are counted in metrics, separated by commas; others "
        "are not, as clients choose them.",
    )
    delivery_bucket: str = Field(
        "default-delivery-bucket",
        description="Bucket that archives are put into. `{tenant}` stands for the tenant's name: "
        "`deliveries-{tenant}`.",
    )
    delivery_prefix: str = Field(
        "",
        description="Put before every key on the deployment's S3 server, with a / between, where "
        "a tenant has no target of its own; `{tenant}` stands for the tenant's name.",
    )
    build_bucket: str = Field(
        "default-build-bucket", description="Kept for compatibility; nothing is staged."
    )
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that seal the secrets of tenants in the database, separated by commas: "
        "the first seals, any opens. `delivery make-key` prints one.",
    )
    development: bool = Field(
        default=False,
        description="For trying things out: short and public secrets are accepted; without "
        "`secret_keys`, one is made for this process alone, and what is sealed with it can't be "
        "read after a restart.",
    )

    expiry_interval: float = Field(
        60, gt=0, description="Seconds between looks for requests whose time is over."
    )
    expired_bulk_size: int = Field(
        100,
        ge=1,
        description="Requests that are ended at a time; a look goes on until none is left.",
        validation_alias=regards(
            "regards.delivery.request.expired.bulk.size",
            "EXPIRED_BULK_SIZE",
            # Upstream ends requests by jobs of so many each; here, it is one and the same.
            "regards.delivery.request.expired.jobs.bulk.size",
        ),
    )

    finished_retention: float = Field(
        7 * 86400, gt=0, description="Seconds that a finished delivery is kept for operators."
    )

    audit_retention: float = Field(
        365 * 86400, gt=0, description="Seconds that an entry of the audit trail is kept."
    )

    @field_validator("delivery_bucket", "build_bucket")
    @classmethod
    def _is_a_bucket(cls, value: str, info: ValidationInfo) -> str:
        for tenant in info.data.get("tenants", ()):
            try:
                bucket(value.replace(TENANT, tenant))
            except ValueError as error:
                if TENANT not in value:
                    raise
                raise ValueError(f"as the bucket of tenant {tenant}: {error}") from None
        return value

    @field_validator("delivery_prefix")
    @classmethod
    def _is_a_prefix(cls, value: str, info: ValidationInfo) -> str:
        for tenant in info.data.get("tenants", ()):
            if value:
                prefix(value.replace(TENANT, tenant))
        return value

    @field_validator("tenants", mode="before")
    @classmethod
    def _split_tenants(cls, value: object) -> object:
        return tuple(_tenants_of(value)) if isinstance(value, str) else value

    @field_validator("secret_keys", "metric_labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return from_list(value)
