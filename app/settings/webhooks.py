"""Webhooks of tenants: which hosts they may be on, and how patiently they are told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from app.network.hosts import AllowedHosts
from app.settings.names import Section, from_list


class WebhookSection(Section):
    """What tenants' webhooks may be, and take."""

    webhook_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        description="Hosts that tenants may have webhooks on, separated by commas, written as "
        "`DELIVERY_S3_ALLOWED_HOSTS` are. Plain http is for those alone that are named (or, as "
        "addresses, in a network); a pattern names none.",
    )
    webhook_timeout: float = Field(
        15, gt=0, le=30, description="Seconds that a webhook has to answer an event."
    )
    webhook_rounds: int = Field(
        8,
        ge=2,
        description="Webhooks that a worker sends to at once. Those that fail have half of them, "
        "those of a tenant half, those on a host a quarter.",
    )
    webhook_max_events: int = Field(
        100_000,
        ge=100,
        description="Events that may wait for a webhook, or be dead; the oldest beyond it are "
        "dropped.",
    )
    webhook_retention: float = Field(
        7 * 86400,
        gt=0,
        description="Seconds that an event which a webhook never took is kept, to be sent again.",
    )

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _are_webhook_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        AllowedHosts.of(value)
        return value

    @field_validator("webhook_allowed_hosts", mode="before")
    @classmethod
    def _split_webhook_hosts(cls, value: object) -> object:
        return from_list(value)

    @property
    def webhook_hosts(self) -> AllowedHosts:
        """Where tenants may have webhooks."""
        return AllowedHosts.of(self.webhook_allowed_hosts, may="have webhooks on")
