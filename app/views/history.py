"""What became of a tenant's deliveries, hour by hour or day by day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, Self

from pydantic import Field

from app.views.view import Seconds, View


class Step(StrEnum):
    """How long a bucket is. They begin at whole hours and days in UTC."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """Return how long each is."""
        return timedelta(hours=1) if self is Step.HOUR else timedelta(days=1)

    @property
    def buckets(self) -> int:
        """Return how many are told, the one of now as the last."""
        return 48 if self is Step.HOUR else 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """What became of a tenant's deliveries in an hour, or a day."""

    tenant: str
    begins: datetime
    done: int  # that ended then
    failed: int  # but for those that were cancelled
    cancelled: int
    bytes: int  # of the files of those that are done
    active: int  # that had not ended at its end, or now


class Histories(Protocol):
    """Where it is counted."""

    async def history(
        self, tenants: Sequence[str], *, step: Step, target: str | None
    ) -> list[Bucket]:
        """Return each bucket of some tenants, the oldest first; None: of deliveries to any target.

        What is forgotten counts in days, and no more in hours, nor in `active`.
        """


class HistoryView(View):
    """What became of a tenant's deliveries: a number a bucket, the oldest first.

    null is what is not known any more.
    """

    tenant: str
    target: str | None = Field(None, description="Of deliveries to this one; missing: to any.")
    begins: Seconds = Field(description="When the first bucket begins.")
    step: int = Field(description="Seconds of a bucket; the last is that of now.")
    done: list[int | None] = Field(description="Deliveries that ended well in it.")
    failed: list[int | None] = Field(description="That ended in ERROR, and were not cancelled.")
    cancelled: list[int | None]
    bytes: list[int | None] = Field(description="Of the files of those that ended well.")
    active: list[int | None] = Field(
        description="Deliveries that were asked for, and had not ended, at its end (or now): they "
        "waited, or were transferred."
    )

    @classmethod
    def of(
        cls, buckets: Sequence[Bucket], *, step: Step, target: str | None, kept_since: datetime
    ) -> Self:
        """Show the buckets of a tenant, whose deliveries that ended are kept since then."""
        whole = [bucket.begins >= kept_since for bucket in buckets]
        # Of days there are figures of what is forgotten, unless an earlier version forgot it.
        ended = [
            all_kept or (step is Step.DAY and any((each.done, each.failed, each.cancelled)))
            for all_kept, each in zip(whole, buckets, strict=True)
        ]

        def known(values: Sequence[int], where: Sequence[bool]) -> list[int | None]:
            return [
                value if is_known else None for value, is_known in zip(values, where, strict=True)
            ]

        return cls(
            tenant=buckets[0].tenant,
            target=target,
            begins=buckets[0].begins,
            step=int(step.length.total_seconds()),
            done=known([each.done for each in buckets], ended),
            failed=known([each.failed for each in buckets], ended),
            cancelled=known([each.cancelled for each in buckets], ended),
            bytes=known([each.bytes for each in buckets], ended),
            active=known([each.active for each in buckets], whole),
        )
