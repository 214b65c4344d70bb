"""Kafka: where it is, how it is reached, topics and consumer group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from app.settings.names import Section

_PROTOCOL = "DELIVERY_KAFKA_SECURITY_PROTOCOL"


class KafkaSection(Section):
    """What carries the events."""

    kafka_bootstrap_servers: str = Field(
        "localhost:9092", min_length=1, description="Kafka brokers: `host:port[,host:port…]`."
    )
    # The others are checked against it, so it comes first.
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="How brokers are spoken to, as in their own settings: `SSL` and `SASL_SSL` are "
        "TLS, and the brokers' names are verified; `SASL_…` signs in as a user.",
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "",
        validate_default=True,
        description="How that user signs in: `SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`; needed "
        "with `SASL_…`.",
    )
    kafka_username: str = Field(
        "", validate_default=True, description="That user; needed with `SASL_…`."
    )
    kafka_password: SecretStr = Field(
        SecretStr(""), validate_default=True, description="Its password; needed with `SASL_…`."
    )
    kafka_ca: str = Field(
        "",
        description="File with the certificates (PEM) that brokers' certificates are verified "
        "with; empty: those that the system trusts.",
    )
    kafka_certificate: str = Field(
        "",
        description="File with this service's own certificate chain (PEM), where brokers ask for "
        "one (mutual TLS).",
    )
    kafka_key: str = Field(
        "",
        validate_default=True,
        description="File with the key of that certificate (PEM, not encrypted).",
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
        250,
        ge=1,
        description="Milliseconds the broker may hold back an empty fetch: Apache Kafka answers at "
        "once when an event comes; of one that does not, events wait for as long.",
    )
    kafka_stuck_after: float = Field(
        180,
        gt=0,
        description="Seconds without progress, although there are events to read, after which the "
        "consumer is replaced; longer than a rebalance.",
    )

    @field_validator("kafka_sasl_mechanism", "kafka_username", "kafka_password")
    @classmethod
    def _goes_with_sasl(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        protocol = info.data.get("kafka_security_protocol")
        if protocol is None:
            return value  # it is refused itself
        given = value.get_secret_value() if isinstance(value, SecretStr) else value
        if protocol.startswith("SASL_") and not given:
            raise ValueError(f"needed, as {_PROTOCOL} is {protocol}")
        if given and not protocol.startswith("SASL_"):
            raise ValueError(f"not used, as {_PROTOCOL} is {protocol}: is SASL_SSL meant?")
        return value

    @field_validator("kafka_ca", "kafka_certificate", "kafka_key")
    @classmethod
    def _goes_with_tls(cls, value: str, info: ValidationInfo) -> str:
        protocol = info.data.get("kafka_security_protocol")
        if value and protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
            raise ValueError(f"not used, as {_PROTOCOL} is {protocol}: is SSL or SASL_SSL meant?")
        if info.field_name == "kafka_key" and "kafka_certificate" in info.data:
            certificate = info.data["kafka_certificate"]
            if certificate and not value:
                raise ValueError("needed, as DELIVERY_KAFKA_CERTIFICATE is set")
            if value and not certificate:
                raise ValueError("not used without DELIVERY_KAFKA_CERTIFICATE: set it, too")
        return value

    @field_validator("kafka_stuck_after")
    @classmethod
    def _outlasts_a_rebalance(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("kafka_rebalance_timeout", 0):
            raise ValueError(
                "not more than DELIVERY_KAFKA_REBALANCE_TIMEOUT: each rebalance would look stuck"
            )
        return value
