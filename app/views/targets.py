"""How it goes with each target: what its last attempts came to, and what waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from pydantic import Field

from app.codes import PAGE
from app.views.attention import AttentionView
from app.views.pauses import PauseView
from app.views.view import Milliseconds, View

LATELY = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSeen:
    """What is known of a target by what was sent there.

    What was cancelled, or only waits, is no failure.
    """

    tenant: str
    name: str
    running: int  # transfers
    waiting: int  # deliveries whose archive is laid out, but for those that await a suborder
    last_good: datetime | None
    last_bad: datetime | None
    code: str | None  # of that one
    cause: str | None
    failing_since: datetime | None  # the first failure after the last one that went well
    failures: int  # since then
    good: int  # attempts that ended well, lately
    bad: int


class TargetsSeen(Protocol):
    """Where it is found out."""

    async def targets(self, tenants: Sequence[str]) -> list[TargetSeen]:
        """Return each target of some tenants that was sent to, or that something waits for."""


class TargetState(StrEnum):
    """How a target is."""

    WORKS = "works"  # the last attempt went well
    FAILS = "fails"  # the last attempt failed
    PAUSED = "paused"  # by an operator, be it with all of its tenant, or of all tenants
    UNUSED = "unused"  # no attempt that ended is known


class FailureView(View):
    """An attempt that failed."""

    at: Milliseconds
    code: str | None = Field(None, description=f"Of the cause; looked up in {PAGE}.")
    cause: str | None = None


class TargetView(View):
    """A target, and how it goes with it."""

    tenant: str
    name: str
    type: str | None = Field(
        None, description="Of its store; missing: this version does not understand the target."
    )
    place: str | None = Field(
        None,
        description="Where its archives begin, without secrets. For those who see the tenant's "
        "settings.",
    )
    state: TargetState
    since: Milliseconds | None = Field(
        None, description="Since when it fails, or is paused; the same as `GET /attention` has it."
    )
    failures: int = Field(description="Attempts that failed since the last one that went well.")
    last_good: Milliseconds | None = Field(None, description="When an attempt last went well.")
    last_bad: FailureView | None = Field(None, description="The last attempt that failed.")
    running: int = Field(description="Transfers under way.")
    waiting: int = Field(description="Deliveries that wait for their transfer.")
    good_last_hour: int = Field(description="Attempts that went well within the last hour.")
    bad_last_hour: int
    pause: PauseView | None = None
    attention: AttentionView | None = Field(
        None, description="What `GET /attention` has of it: what is wrong, and what to do."
    )
