"""What a tenant and a user may have, and what of it is left."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.delivery.quotas import Allowance, OverBytes, OverRequests, Quota, Usage, Use
from app.views.view import Seconds, View


class AllowanceLeftView(View):
    """One limit; without one, `limit` and `left` are missing."""

    used: int
    limit: int | None = None
    left: int | None = None

    @classmethod
    def of(cls, used: int, limit: int) -> AllowanceLeftView:
        """Show what is used of a limit; 0 is none."""
        if not limit:
            return cls(used=used)
        return cls(used=used, limit=limit, left=max(0, limit - used))


class SideView(View):
    """What one user may have, or all of a tenant together."""

    name: str
    active: AllowanceLeftView = Field(description="Deliveries that have not ended.")
    requests: AllowanceLeftView = Field(
        description="Requests that were taken in within the last minute."
    )
    bytes: AllowanceLeftView = Field(description="Bytes laid out for transfer today (UTC).")
    waiting: int = Field(description="Requests that wait for a place.")
    waiting_bytes: int = Field(description="Deliveries that are laid out, and wait for bytes.")

    @classmethod
    def of(cls, name: str, allowance: Allowance, use: Use) -> SideView:
        """Show what may be had, and is."""
        return cls(
            name=name,
            active=AllowanceLeftView.of(use.active, allowance.active),
            requests=AllowanceLeftView.of(use.requests, allowance.requests_per_minute),
            bytes=AllowanceLeftView.of(use.bytes, allowance.bytes_per_day),
            waiting=use.waiting,
            waiting_bytes=use.waiting_bytes,
        )


class QuotaView(View):
    """What is left of quotas."""

    user: SideView | None = Field(None, description="The user's; of the caller, or who is named.")
    tenant: SideView | None = Field(
        None, description="Of all users together; a REGISTERED_USER is told nothing of others."
    )
    over_requests: OverRequests = Field(
        description="What becomes of a request over AMQP that is more; over HTTP it is refused."
    )
    over_bytes: OverBytes = Field(description="What becomes of a delivery with more bytes.")
    resets_at: Seconds = Field(description="When the next day of bytes begins.")

    @classmethod
    def of(cls, quota: Quota, usage: Usage, *, tenant: str | None, user: str | None) -> QuotaView:
        """Show what a tenant has, or a user, or both: those that are named."""
        resets_at: datetime = usage.resets_at
        return cls(
            user=None if user is None else SideView.of(user, quota.user, usage.user),
            tenant=None if tenant is None else SideView.of(tenant, quota.tenant, usage.tenant),
            over_requests=quota.over_requests,
            over_bytes=quota.over_bytes,
            resets_at=resets_at,
        )
