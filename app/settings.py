"""Static settings: one frozen object, read from the environment once, in the command line.

Every setting is the environment variable `DELIVERY_<NAME>`; where REGARDS has a property for the
same thing, that property's name is accepted too, dotted or in capitals with underscores.
"""

from __future__ import annotations

import os
import secrets
import socket
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import ConfigurationError
from app.validation import bucket, host

MIB = 1024 * 1024


def _regards(prop: str, name: str, *others: str) -> AliasChoices:
    """Accept the service's own name, and REGARDS properties as dotted or shell variables."""
    properties = [form for one in (prop, *others) for form in (one, one.replace(".", "_"))]
    return AliasChoices(f"DELIVERY_{name}", *properties)


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Settings(BaseSettings):
    """What an operator can set. Units are in the names or in the description."""

    model_config = SettingsConfigDict(
        env_prefix="DELIVERY_", frozen=True, extra="ignore", populate_by_name=True
    )

    # RabbitMQ
    amqp_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@localhost:5672/regards.multitenant.manager"),
        description="RabbitMQ: `amqp[s]://user:password@host:port/virtual-host`.",
    )
    request_bulk_size: int = Field(
        1000,
        ge=1,
        le=65535,
        description="AMQP messages taken in before any is acknowledged.",
        validation_alias=_regards("regards.delivery.request.bulk.size", "REQUEST_BULK_SIZE"),
    )
    max_message_bytes: int = Field(
        512 * 1024,
        ge=1024,
        description="Largest body of an AMQP message, in bytes; a larger one goes to the dead "
        "letters. Kafka must take the event made of it.",
    )

    # Kafka
    kafka_bootstrap_servers: str = Field(
        "localhost:9092", min_length=1, description="Kafka brokers: `host:port[,host:port…]`."
    )
    kafka_group: str = Field("rs-delivery", min_length=1, description="Consumer group of workers.")
    kafka_topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic name."
    )
    kafka_partitions: int = Field(8, ge=1, description="Partitions of topics created here.")
    kafka_replication: int = Field(1, ge=1, description="Replicas of topics created here.")
    kafka_session_timeout: float = Field(
        60, ge=1, description="Seconds until a silent worker leaves the consumer group."
    )
    kafka_rebalance_timeout: float = Field(
        60, ge=1, description="Seconds that members have to join again in a rebalance."
    )
    kafka_heartbeat_interval: float = Field(3, gt=0, description="Seconds between heartbeats.")
    kafka_fetch_max_wait_ms: int = Field(
        50, ge=1, description="Milliseconds the broker may hold back an empty fetch."
    )

    # PostgreSQL
    database_url: SecretStr = Field(
        SecretStr("postgresql://delivery:delivery@localhost:5432/delivery"),
        description="PostgreSQL: `postgresql://user:password@host:port/database`.",
    )
    database_pool_size: int = Field(10, ge=3, description="Connections a process holds at most.")
    outbox_poll_interval: float = Field(
        1, gt=0, description="Seconds between looks at the outbox when nothing wakes the relay."
    )
    outbox_batch_size: int = Field(
        100,
        ge=1,
        description="Outgoing messages that a relay has in flight at once.",
        validation_alias=_regards(
            "regards.delivery.request.finished.bulk.size", "OUTBOX_BATCH_SIZE"
        ),
    )

    # rs-order
    rs_order_url: str = Field(
        "http://localhost:9050", pattern=r"^https?://", description="Address of rs-order."
    )
    rs_order_token_secret: SecretStr = Field(
        SecretStr(""), description="Shared secret that signs the tokens for rs-order (HS512)."
    )
    rs_order_token_ttl: float = Field(
        300, gt=0, description="Seconds that a token for rs-order is good for."
    )
    rs_admin_url: str = Field(
        "",
        pattern=r"^(https?://.*)?$",
        description="Address of rs-admin, which knows the users; empty: any user may order.",
    )
    available_files_bulk_size: int = Field(
        100,
        ge=1,
        le=10000,
        description="Files asked for in one page of an order's listing.",
        validation_alias=_regards(
            "regards.delivery.available.files.bulk.size", "AVAILABLE_FILES_BULK_SIZE"
        ),
    )
    source_connections: int = Field(
        8, ge=1, description="Downloads that one transfer may have open at once."
    )
    source_stall_timeout: float = Field(
        30, gt=0, description="Seconds without a byte after which a download counts as dropped."
    )
    source_resume_tries: int = Field(
        5,
        ge=0,
        description="Times that a broken download is resumed in place, or a file that is not "
        "there yet asked for again, before the attempt fails.",
    )

    # Tenants, and what holds for each of them until it sets something else
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
    s3_key: str = Field("default-key", min_length=1, description="S3 access key.")
    s3_secret: SecretStr = Field(SecretStr("default-secret"), description="S3 secret key.")
    delivery_bucket: str = Field(
        "default-delivery-bucket", description="Bucket that archives are put into."
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
        description="Without `secret_keys`, make one for this process alone. For trying things "
        "out: what is sealed with it can't be read after a restart.",
    )

    expiry_interval: float = Field(
        60, gt=0, description="Seconds between looks for requests whose time is over."
    )
    expired_bulk_size: int = Field(
        100,
        ge=1,
        description="Requests that are ended in one look, at most.",
        validation_alias=_regards(
            "regards.delivery.request.expired.bulk.size",
            "EXPIRED_BULK_SIZE",
            # Upstream ends requests by jobs of so many each; here, it is one and the same.
            "regards.delivery.request.expired.jobs.bulk.size",
        ),
    )

    finished_retention: float = Field(
        7 * 86400, gt=0, description="Seconds that a finished delivery is kept for operators."
    )

    # Transfers
    max_transfers: int = Field(2, ge=1, description="Transfers that a worker runs at once.")
    max_transfers_per_tenant: int = Field(
        0, ge=0, description="Transfers of one tenant that all workers run at once; 0: no limit."
    )
    lease_ttl: float = Field(
        30, ge=3, description="Seconds until a silent worker's transfer goes to another."
    )
    claim_poll_interval: float = Field(
        5, gt=0, description="Seconds between looks for work when no event wakes a worker."
    )
    transfer_attempts: int = Field(
        3, ge=1, description="Attempts at a transfer before a wrong file or object fails it."
    )
    retry_backoff: float = Field(
        2, gt=0, description="Seconds before the first new attempt; doubles each time."
    )
    retry_backoff_max: float = Field(60, gt=0, description="Seconds between attempts at most.")
    compression: Literal["auto", "store", "deflate"] = Field(
        "auto", description="`auto` decides for each file by a sample; `store`; `deflate`."
    )
    transfer_memory: int = Field(
        128 * MIB,
        ge=32 * MIB,
        description="Bytes that one transfer may hold: prefetch, parts being filled and sent. "
        "An archive of more than about 480 GB needs larger parts, and takes more.",
    )
    worker_memory: int = Field(
        1280 * MIB,
        ge=32 * MIB,
        description="Bytes that all transfers of a worker may hold; a transfer waits until what "
        "it needs is free. An archive of 5 TiB needs 1,074 MiB.",
    )
    part_size: int = Field(
        8 * MIB, ge=5 * MIB, description="Bytes of an S3 part; larger when the archive needs it."
    )
    max_object_size: int = Field(
        5 * 1024**4, ge=5 * MIB, description="Largest object of the target, in bytes."
    )

    # Process
    worker_id: str = Field(
        default_factory=_worker_id,
        min_length=1,
        description="Name of this worker in leases and logs; by default host, process and chance.",
    )
    web_host: str = Field("0.0.0.0", description="Address that the HTTP server listens on.")
    web_port: int = Field(9049, ge=0, le=65535, description="Port of the HTTP server.")
    jwt_secret: SecretStr = Field(
        SecretStr(""),
        description="Shared secret that tokens of callers are checked with (HS256, HS384, HS512); "
        "empty: `rs_order_token_secret`, as REGARDS has one for all.",
    )
    jwt_public_key: str = Field(
        "", description="RSA public key (PEM) that tokens are checked with (RS256, RS384, RS512)."
    )
    web_requests_per_second: float = Field(
        500, gt=0, description="Requests a second that one caller may make over HTTP."
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
        60, ge=0, description="Seconds that running transfers have to end after SIGTERM."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else one JSON object a line."
    )

    @field_validator("delivery_bucket", "build_bucket")
    @classmethod
    def _is_a_bucket(cls, value: str) -> str:
        return bucket(value)

    @field_validator("s3_endpoint")
    @classmethod
    def _is_a_server(cls, value: str) -> str:
        address = urlsplit(value)
        host(address.hostname or "")
        if address.path.strip("/") or address.query or address.username or address.port == 0:
            raise ValueError("must be scheme://host[:port] and nothing else")
        return value

    @field_validator("tenants", "secret_keys", "web_cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("worker_memory")
    @classmethod
    def _holds_a_transfer(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("transfer_memory", 0):
            raise ValueError("less than DELIVERY_TRANSFER_MEMORY, so that no transfer could begin")
        return value

    @property
    def lease_duration(self) -> timedelta:
        """How long a lease holds from its last renewal."""
        return timedelta(seconds=self.lease_ttl)


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
            lines.append(f"{names.get(field, field)}: {item['msg']}")
        raise ConfigurationError(
            "these settings can't be used; correct them in the environment and start again:\n  "
            + "\n  ".join(lines)
        ) from None
