"""Stores of the kind S3: the deployment's own server, and where tenants may have theirs."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from app.network.hosts import AllowedHosts
from app.settings.files import FROM_FILE
from app.settings.names import Section, from_list
from app.settings.texts import host, region, token


def address_of_server(value: str) -> str:
    """Return a URL that names a server, and nothing there. Raises ValueError."""
    address = urlsplit(value)
    host(address.hostname or "")
    if address.path.strip("/") or address.query or address.username or address.port == 0:
        raise ValueError("must be scheme://host[:port] and nothing else")
    if address.scheme not in ("http", "https") or address.fragment:
        raise ValueError("must be http://host[:port] or https://host[:port]")
    return value


class S3Section(Section):
    """What a process needs to know of S3 before any tenant sets a target."""

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

    s3_public_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="`s3_endpoint` as clients reach it, where that is another host: links are made "
        "for it. A further target has its own, `public_endpoint`.",
    )

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
        return address_of_server(value)

    @field_validator("s3_public_endpoint")
    @classmethod
    def _is_a_server_if_any(cls, value: str) -> str:
        return address_of_server(value) if value else value

    @field_validator("s3_allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return from_list(value)

    @property
    def allowed_hosts(self) -> AllowedHosts:
        """Where tenants may deliver to."""
        return AllowedHosts.of(self.s3_allowed_hosts, own=self.s3_endpoint)
