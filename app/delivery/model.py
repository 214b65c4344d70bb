"""A delivery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.delivery.object_store import StoredObject, Upload
from app.delivery.states import State


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A delivery as stored."""

    id: UUID
    tenant: str
    correlation_id: str
    state: State
    user: str
    target: str
    order: dict[str, Any]
    origin_app: str | None
    priority: int
    requested_at: datetime
    expires_at: datetime
    order_id: int | None = None
    total_suborders: int | None = None
    archive_name: str | None = None
    file_count: int = 0
    total_bytes: int = 0
    attempt: int = 0  # transfers begun; fences off the earlier ones
    failures: int = 0  # transfers ended by a wrong file or object
    tries: int = 0  # times that the work due now was given up for later
    last_cause: str | None = None  # why, the last time
    trace: str | None = None  # W3C traceparent
    upload: Upload | None = None  # that the last attempt opened
    completing: StoredObject | None = None  # what an attempt was about to make appear

    def __str__(self) -> str:
        return f"delivery {self.correlation_id} of tenant {self.tenant}"

    @property
    def log_context(self) -> dict[str, str]:
        """What each line of the log names it by."""
        return {"tenant": self.tenant, "correlation_id": self.correlation_id}
