"""RabbitMQ, PostgreSQL and rs-order, and how patiently."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from app.settings.names import Section, regards
from app.settings.texts import server_address, without_credentials

_MIN_CONNECTIONS = 8  # six that may be held for long, and two to work with


class ConnectionSection(Section):
    """What the service talks to, and how patiently."""

    # RabbitMQ
    amqp_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@localhost:5672/regards.multitenant.manager"),
        description="RabbitMQ: `amqp[s]://user:password@host:port/virtual-host`; `amqps` is TLS.",
    )
    amqp_password: SecretStr = Field(
        SecretStr(""), description="Password for RabbitMQ, in place of one in the address."
    )
    amqp_ca: str = Field(
        "",
        description="File with the CA (PEM) that RabbitMQ's certificate must be of; empty: those "
        "of the system. For `amqps`, as are the next two.",
    )
    amqp_certificate: str = Field(
        "", description="File with the certificate (PEM) that RabbitMQ is shown."
    )
    amqp_key: str = Field(
        "", description="File with its key (PEM); empty: it lies in the same file."
    )
    amqp_queue_type: Literal["classic", "quorum"] = Field(
        "classic",
        description="Type of the queues that only this service reads. `classic` is what REGARDS "
        "declares; `quorum` is for deployments that own the queues: replicated, no priorities.",
    )
    amqp_declare: bool = Field(
        default=True,
        description="Whether this service declares exchanges, queues and bindings. If not, another "
        "user of RabbitMQ has (`delivery topology apply`), and this one needs no right to.",
    )
    request_bulk_size: int = Field(
        1000,
        ge=1,
        le=65535,
        description="AMQP messages taken in before any is acknowledged, a third from each queue; "
        "fewer where their bodies could have more than 256 MiB.",
        validation_alias=regards("regards.delivery.request.bulk.size", "REQUEST_BULK_SIZE"),
    )
    max_message_bytes: int = Field(
        512 * 1024,
        ge=1024,
        description="Largest body of an AMQP message, in bytes; a larger one goes to the dead "
        "letters. Kafka must take the event made of it.",
    )

    progress_interval: float = Field(
        5,
        ge=1,
        description="Seconds between two events that tell over AMQP how far a delivery is, for "
        "tenants that have `progress_events`.",
    )

    # Events on their way
    event_allowance: float = Field(
        60,
        gt=0,
        description="Seconds until an event that no agent has handled counts as lost, and is "
        "appended to its topic again.",
    )
    reconcile_interval: float = Field(
        30,
        gt=0,
        description="Seconds between looks for lost events, uploads left open, orders of which "
        "nothing was heard for long, and places that delivered orders may keep at rs-order.",
    )

    # PostgreSQL
    database_url: SecretStr = Field(
        SecretStr("postgresql://delivery:delivery@localhost:5432/delivery"),
        description="PostgreSQL: `postgresql://user:password@host:port/database`.",
    )
    database_password: SecretStr = Field(
        SecretStr(""), description="Password for PostgreSQL, in place of one in the address."
    )
    database_sslmode: Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"] = (
        Field(
            "",
            description="Whether PostgreSQL is spoken to over TLS, and what is checked then, in "
            "libpq's words; empty: what the address says (`?sslmode=`), else `verify-full` where "
            "a CA or a certificate is given, else `prefer`: **plain text, in silence, where the "
            "server has no TLS**.",
        )
    )
    database_ca: str = Field(
        "",
        description="File with the CA (PEM) that PostgreSQL's certificate must be of; empty: those "
        "of the system.",
    )
    database_certificate: str = Field(
        "", description="File with the certificate (PEM) that PostgreSQL is shown."
    )
    database_key: str = Field(
        "", description="File with its key (PEM); empty: it lies in the same file."
    )
    database_pool_size: int = Field(
        10,
        ge=3,
        description="Connections that a process holds at most; its HTTP server has its own, and a "
        "worker one more, by which it hears of work.",
    )
    migrate_at_start: bool = Field(
        default=True,
        description="Whether a process that starts brings the schema up to date; if not, it says "
        "what `delivery migrate` has to be run for. One whose role may not change the schema "
        "starts either way where it is up to date.",
    )
    outbox_poll_interval: float = Field(
        1, gt=0, description="Seconds between looks at the outbox when nothing wakes the relay."
    )
    outbox_batch_size: int = Field(
        100,
        ge=1,
        description="Outgoing messages that a relay has in flight at once.",
        validation_alias=regards(
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
    http_ca: str = Field(
        "",
        description="File with CAs (PEM) that are trusted beside those of the system where we ask "
        "over HTTPS: rs-order, rs-admin, the OAuth server, webhooks, and `delivery settings "
        "--url`.",
    )
    rs_order_token_ttl: float = Field(
        300, gt=0, description="Seconds that a token for rs-order is good for."
    )
    rs_order_user_places: int = Field(
        2,
        ge=0,
        description="Suborders of a user that rs-order restores, or keeps for download, at a time. "
        "An order whose own suborders keep all these places, although they were downloaded, as "
        "rs-order does not see that, goes no further and ends its delivery; of several orders of "
        "a user that keep all of them together, the delivery that was requested last ends; 0: none "
        "is ended for this.",
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
        validation_alias=regards(
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

    @field_validator("database_pool_size")
    @classmethod
    def _leaves_connections_to_work_with(cls, value: int) -> int:
        if value < _MIN_CONNECTIONS:
            raise ValueError(
                f"must be {_MIN_CONNECTIONS} or more: six connections may be held for long, and "
                "leases are renewed over the others"
            )
        return value

    @field_validator("amqp_url")
    @classmethod
    def _is_rabbitmq(cls, value: SecretStr) -> SecretStr:
        server_address(value.get_secret_value(), "amqp", "amqps")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        server_address(value.get_secret_value(), "postgresql", "postgres")
        return value

    @field_validator("rs_order_url", "rs_admin_url")
    @classmethod
    def _holds_no_secret(cls, value: str) -> str:
        return without_credentials(value)

    @field_validator("amqp_ca", "amqp_certificate", "amqp_key")
    @classmethod
    def _is_for_tls(cls, value: str, info: ValidationInfo) -> str:
        url: SecretStr | None = info.data.get("amqp_url")
        if value and url is not None and not url.get_secret_value().startswith("amqps:"):
            raise ValueError(
                "RabbitMQ would be spoken to in plain text all the same: DELIVERY_AMQP_URL begins "
                "with amqp://; make it amqps://, with the port of its TLS listener (5671)"
            )
        return value

    @field_validator("database_ca", "database_certificate", "database_key")
    @classmethod
    def _is_used(cls, value: str, info: ValidationInfo) -> str:
        mode = info.data.get("database_sslmode")
        if value and mode in ("disable", "prefer"):
            raise ValueError(
                f"DELIVERY_DATABASE_SSLMODE is {mode}, which uses no certificates; make it "
                "verify-full (or leave it out), verify-ca or require"
            )
        return value

    @property
    def event_duration(self) -> timedelta:
        """How long an event may take before it counts as lost."""
        return timedelta(seconds=self.event_allowance)
