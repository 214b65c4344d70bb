"""The tenants, and what holds for each of them until it sets something else."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from app.network.hosts import AllowedHosts
from app.settings.files import FROM_FILE
from app.settings.names import Section, from_list, regards
from app.settings.texts import bucket, host, prefix, region, token

TENANT = "{tenant}"  # in a default: the tenant's name


class TenantSection(Section):
    """Who is served, and how."""

    tenants: Annotated[tuple[str, ...], NoDecode] = Field(
        ("default",), min_length=1, description="Names of the tenants, separated by commas."
    )
    request_ttl_hours: float = Field(12, ge=0, description="Hours that a request may take.")
    order_size_limit_bytes: int = Field(
        5368709120, ge=0, description="Largest order, in bytes, passed on to rs-order."
    )
    s3_endpoint: str = Field(
        "https://rs-minio:9000", pattern=r"^https?://", description="S3 server, with scheme."
    )
    s3_region: str = Field("fr-regards-1", min_length=1, description="S3 region.")
    s3_key: str = Field(
        "default-key", min_length=1, description="S3 access key.", json_schema_extra=FROM_FILE
    )
    s3_secret: SecretStr = Field(SecretStr("default-secret"), description="S3 secret key.")
    s3_ca: str = Field(
        "",
        description="File with CAs (PEM) that are trusted beside the public ones where objects are "
        "stored over HTTPS, by whatever tenant.",
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
    s3_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        description="Hosts that tenants may deliver to, separated by commas: names "
        "(`s3.example.org`), patterns (`*.example.org`) and networks (`10.0.0.0/8`). What a "
        "pattern matches must not lead to addresses of loopback, link-local or clouds' metadata, "
        "unless a network holds them. `s3_endpoint` is always allowed.",
    )
    tenants_choose_buckets: bool = Field(
        default=False,
        description="Whether a tenant may choose another bucket on `s3_endpoint`, where requests "
        "are signed with `s3_key`. Without, it needs an S3 key of its own for that.",
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

    @field_validator("s3_region")
    @classmethod
    def _is_a_region(cls, value: str) -> str:
        return region(value)

    @field_validator("s3_key")
    @classmethod
    def _is_a_key(cls, value: str) -> str:
        return token(value)

    @field_validator("s3_allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        AllowedHosts.of(value)
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _is_a_server(cls, value: str) -> str:
        address = urlsplit(value)
        host(address.hostname or "")
        if address.path.strip("/") or address.query or address.username or address.port == 0:
            raise ValueError("must be scheme://host[:port] and nothing else")
        return value

    @field_validator("tenants", "secret_keys", "s3_allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return from_list(value)

    @property
    def allowed_hosts(self) -> AllowedHosts:
        """Where tenants may deliver to."""
        return AllowedHosts.of(self.s3_allowed_hosts, own=self.s3_endpoint)
