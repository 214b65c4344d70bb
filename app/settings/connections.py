"""RabbitMQ, Kafka, PostgreSQL and rs-order."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from app.settings.names import Group, regards


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

    kafka_stuck_after: float = Field(
        180,
        gt=0,
        description="Seconds without progress, although there are events to read, after which the "
        "consumer is replaced; longer than a rebalance.",
    )
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

    @field_validator("kafka_stuck_after")
    @classmethod
    def _outlasts_a_rebalance(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("kafka_rebalance_timeout", 0):
            raise ValueError(
                "not more than DELIVERY_KAFKA_REBALANCE_TIMEOUT: each rebalance would look stuck"
            )
        return value

    @property
    def event_duration(self) -> timedelta:
        """How long an event may take before it counts as lost."""
        return timedelta(seconds=self.event_allowance)
