"""How pauses are shown."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from app.delivery.pauses import Pause, PauseScope, Running
from app.views.view import Seconds, View


class PauseView(View):
    """A pause in effect."""

    scope: PauseScope
    tenant: str | None = Field(None, description="Whose transfers wait; missing: of all, or none.")
    name: str | None = Field(None, description="Of the target, or the worker.")
    reason: str
    running: Running = Field(
        description="What becomes of what runs: it may finish, or it stops where it is gone on "
        "with; that of a worker is handed over."
    )
    paused_by: str
    since: Seconds
    until: Seconds | None = Field(None, description="Its end; missing: until it is resumed.")
    cause: str = Field(description="The sentence that deliveries which wait for its end show.")

    @classmethod
    def of(cls, pause: Pause) -> Self:
        """Show one."""
        return cls(
            scope=pause.subject.scope,
            tenant=pause.subject.tenant or None,
            name=pause.subject.name or None,
            reason=pause.reason,
            running=pause.running,
            paused_by=pause.paused_by,
            since=pause.since,
            until=pause.until,
            cause=pause.cause,
        )
