"""How a maintenance is shown."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from app.delivery.maintenance import Maintenance
from app.views.view import Moment, Seconds, View


class MaintenanceStateView(View):
    """Whether a tenant is in maintenance, since when, and what is said of it."""

    active: bool
    last_update: Moment = Field(description="Since when it is so.")
    reason: str | None = None
    until: Seconds | None = Field(
        None, description="When it should be over; it lasts until it is disabled."
    )
    enabled_by: str | None = Field(None, description="The one who said so.")

    @classmethod
    def of(cls, maintenance: Maintenance) -> Self:
        """Show one."""
        return cls(
            active=maintenance.active,
            last_update=maintenance.updated_at,
            reason=maintenance.reason,
            until=maintenance.until,
            enabled_by=maintenance.enabled_by,
        )
