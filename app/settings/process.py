"""A process: its name, its HTTP server, its logs."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from app.roles import READ_ONLY, role_map
from app.settings.files import FROM_FILE, MAY_BE_EMPTY
from app.settings.names import Section, from_list
from app.settings.texts import without_credentials

_MIN_TOKEN_LENGTH = 32  # characters


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class ProcessSection(Section):
    """How a process shows, starts and ends."""

    worker_id: str = Field(
        default_factory=_worker_id,
        min_length=1,
        description="Name of this worker in leases and logs; by default host, process and chance.",
    )
    web_host: str = Field("0.0.0.0", description="Address that the HTTP server listens on.")
    web_port: int = Field(9049, ge=0, le=65535, description="Port of the HTTP server.")
    worker_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which `delivery worker` tells its health and metrics; 0: nowhere.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of its own on which a process tells its figures, and UP or DOWN, without "
        "a token: for a network that no stranger is in; 0: nowhere.",
    )
    metrics_host: str = Field(
        "", description="Address that this port listens on; empty: that of `web_host`."
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="What Prometheus may send as `authorization` to `/metrics` of the HTTP server, "
        "32 characters or more; empty: only callers' tokens open it.",
    )
    jwt_secret: SecretStr = Field(
        SecretStr(""),
        description="Shared secret that tokens of callers are checked with (HS256, HS384, HS512), "
        "of at least 32 bytes; empty: `rs_order_token_secret`, as REGARDS has one for all, or none "
        "if `jwt_public_key` or `oidc_issuer` is set.",
    )
    jwt_former_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Secrets of before, separated by commas, by which tokens are still good while "
        "`jwt_secret` is changed; each of at least 32 bytes.",
        json_schema_extra=MAY_BE_EMPTY,
    )
    jwt_public_key: str = Field(
        "",
        description="RSA public key (PEM) that tokens are checked with (RS256, RS384, RS512); or "
        "several, one after the other, while they are changed.",
        json_schema_extra=FROM_FILE,
    )
    roles: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Roles of the site that callers' tokens may name, and the role that each "
        "stands for, separated by commas: `support=READ_ONLY,ops-team=EXPLOIT`; behind `oidc:` or "
        "`regards:`, in tokens of the identity provider, or of REGARDS, alone. A role that is "
        f"neither here nor one of REGARDS' opens nothing; {READ_ONLY} sees deliveries, settings "
        "(without secrets), targets, workers, dead letters and the audit trail of its tenant, and "
        "changes nothing.",
    )
    oauth_url: str = Field(
        "",
        description="Where the console gets tokens for a user's password: REGARDS' "
        "`…/oauth/token`. Empty: callers bring a token.",
    )
    oauth_client: str = Field("client", description="OAuth2 client that asks there.")
    oauth_client_secret: SecretStr = Field(SecretStr("secret"), description="Its secret.")
    web_requests_per_second: float = Field(
        50, gt=0, description="Requests a second that one caller may make over HTTP, in the mean."
    )
    web_requests_burst: int = Field(
        100, ge=1, description="Requests that one caller may make at once, after a pause."
    )
    web_requests_at_once: int = Field(
        3,
        ge=1,
        description="Requests of one caller that are worked on at once; a few more wait.",
    )
    web_streams: int = Field(
        10, ge=1, description="Streams of events that one caller may have open in a process."
    )
    web_streams_total: int = Field(
        500, ge=1, description="Streams of events that a process has open, of all callers."
    )
    content_downloads: int = Field(
        0,
        ge=0,
        description="Downloads of delivered files through the HTTP server of a process "
        "(`GET /deliveries/{id}/content`) at once, each with 8 MiB of memory; 0: none.",
    )
    content_downloads_per_tenant: int = Field(
        10, ge=1, description="Of these, those of one tenant at most."
    )
    content_downloads_per_user: int = Field(
        2, ge=1, description="Of these, those of one caller at most."
    )
    web_sign_ins_per_minute: int = Field(
        5,
        ge=1,
        description="Times a minute that the console takes a password, or a code of the identity "
        "provider, from one address, and a password for one user.",
    )
    web_proxies: int = Field(
        0,
        ge=0,
        description="Proxies in front of the HTTP server, each of which adds the address that it "
        "heard to `X-Forwarded-For`; 0: nothing in that header is believed.",
    )
    web_requests_under_way: int = Field(
        300,
        ge=1,
        description="Requests of all callers that a process has under way at once; more are told "
        "to come again (503). Health and streams don't count.",
    )
    web_connections: int = Field(
        5000,
        ge=1,
        description="Connections that the HTTP server of a process has open; more are told to come "
        "again (503) and closed.",
    )
    web_access_log: Literal["all", "requests", "off"] = Field(
        "requests",
        description="A line of the log for each request over HTTP: `all`; `requests` leaves out "
        "health, figures and files of the console while they go well; `off`.",
    )
    web_database_pool_size: int = Field(
        5,
        ge=2,
        description="Connections to PostgreSQL that the HTTP server of a process holds at most, "
        "beside `database_pool_size`.",
    )
    web_statement_timeout: float = Field(
        5, gt=0, description="Seconds after which PostgreSQL ends a statement of the HTTP server."
    )
    web_cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the HTTP API, separated by commas."
    )
    web_tls_certificate: str = Field(
        "", description="File with the certificate chain (PEM) for HTTPS; empty: plain HTTP."
    )
    web_tls_key: str = Field("", description="File with the key of that certificate (PEM).")
    start_timeout: float = Field(
        60, gt=0, description="Seconds to wait at start for brokers and stores to answer."
    )
    shutdown_grace: float = Field(
        60,
        ge=0,
        description="Seconds that what runs has to end after SIGTERM. A transfer is handed over to "
        "other workers in 20 at most; in fewer, more of it is read and sent again.",
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="OpenTelemetry collector that spans are sent to (OTLP over HTTP), such as "
        "`http://collector:4318`; empty: nothing is traced.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else one JSON object a line."
    )

    @field_validator("oauth_url")
    @classmethod
    def _asks_without_a_password_in_it(cls, value: str) -> str:
        return without_credentials(value)

    @field_validator("metrics_token")
    @classmethod
    def _is_long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < _MIN_TOKEN_LENGTH:
            raise ValueError(f"must have {_MIN_TOKEN_LENGTH} characters or more, or be empty")
        return value

    @field_validator("roles", mode="after")
    @classmethod
    def _stand_for_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        role_map(value)
        return value

    @field_validator("web_cors_origins", "jwt_former_secrets", "roles", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return from_list(value)
