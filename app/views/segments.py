"""Suborders as they are looked at: which of an order are there, and what an archive waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Self

from pydantic import Field

from app.delivery.model import Delivery
from app.delivery.segments import suborders_are
from app.delivery.states import State
from app.views.view import Milliseconds, View


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentSeen:
    """A segment of an archive, with its times."""

    number: int  # from 1, as they were announced
    suborder: int | None  # rs-order's; None: what its whole order has that is in no other segment
    announced_at: datetime
    listed_at: datetime | None  # when its files came into the manifest; None: not by themselves
    file_count: int  # of those that are in no segment before; 0 until it is listed


class SegmentView(View):
    """A suborder whose files can be downloaded."""

    number: int = Field(description="From 1, as rs-order announced them: so they are archived.")
    sub_order_id: int | None = Field(
        None, description="None: what the whole order has that is in no other."
    )
    announced_at: Milliseconds
    listed_at: Milliseconds | None = Field(
        None, description="When its files were listed; none where all of the order was at once."
    )
    files: int | None = Field(None, description="Of those that are in no segment before.")
    archived: bool | None = Field(None, description="True once all its files are in the archive.")

    @classmethod
    def of(cls, segment: SegmentSeen, *, archived: bool) -> Self:
        """Show a segment."""
        listed = segment.listed_at is not None
        return cls(
            number=segment.number,
            sub_order_id=segment.suborder,
            announced_at=segment.announced_at,
            listed_at=segment.listed_at,
            files=segment.file_count if listed else None,
            archived=archived or None,
        )


def shown_segments(
    delivery: Delivery, segments: Sequence[SegmentSeen], *, files_done: int = 0
) -> list[SegmentView]:
    """Show the segments of a delivery of whose archive so many files are made."""
    archived = are_archived(delivery, [each.file_count for each in segments], files_done)
    return [
        SegmentView.of(
            segment,
            archived=(whole and segment.listed_at is not None) or delivery.state is State.DONE,
        )
        for segment, whole in zip(segments, archived, strict=True)
    ]


def are_archived(delivery: Delivery, file_counts: Iterable[int], files_done: int) -> Iterator[bool]:
    """Tell of each listed segment, by its number of files, whether all of it is in the archive."""
    for files in accumulate(file_counts):
        yield delivery.parked or files <= files_done


def suborders_in_words(
    delivery: Delivery, *, listed: int, parked_since: datetime | None
) -> str | None:
    """Say which suborders are there and what is waited for; None where there is nothing to tell.

    That is so after the end, before the first suborder is available, and of an order that was done
    with one. The console says it in the same words.
    """
    announced = delivery.announced
    total = max(announced, delivery.total_suborders or 0)
    if delivery.state.ended or not announced:
        return None
    if parked_since is not None:
        more = total > listed
        archived = suborders_are(listed, total if more else None)
        awaited = "the next one" if more else "the next one, or the end of the order,"
        since = parked_since.isoformat(" ", timespec="seconds")
        return f"{archived} in the archive; waits for {awaited} since {since}"
    if not delivery.order_done:
        return f"{suborders_are(announced, total)} available"
    return (
        f"all {delivery.total_suborders or announced} suborders are available"
        if total > 1
        else None
    )
