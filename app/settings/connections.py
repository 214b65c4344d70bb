"""RabbitMQ, PostgreSQL and rs-order, and how patiently."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from app.settings.names import Group, regards

_LEAST_CONNECTIONS = 8  # six that may be held for long, and two to work with


class Connections(Group):
    """What the service talks to, and how patiently."""

    # RabbitMQ
    amqp_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@localhost:5672/regards.multitenant.manager"),
        description="RabbitMQ: `amqp[s]://user:password@host:port/virtual-host`.",
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

    # Events on their way
    event_allowance: float = Field(
        60,
        gt=0,
        description="Seconds until an event that no agent has handled counts as lost, and is "
        "appended to its topic again.",
    )
    reconcile_interval: float = Field(
        30, gt=0, description="Seconds between looks for lost events and uploads left open."
    )

    # PostgreSQL
    database_url: SecretStr = Field(
        SecretStr("postgresql://delivery:delivery@localhost:5432/delivery"),
        description="PostgreSQL: `postgresql://user:password@host:port/database`.",
    )
    database_pool_size: int = Field(
        10,
        ge=3,
        description="Connections that a process holds at most; its HTTP server has its own.",
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
        if value < _LEAST_CONNECTIONS:
            raise ValueError(
                f"must be {_LEAST_CONNECTIONS} or more: six connections may be held for long, and "
                "leases are renewed over the others"
            )
        return value

    @property
    def event_duration(self) -> timedelta:
        """How long an event may take before it counts as lost."""
        return timedelta(seconds=self.event_allowance)
