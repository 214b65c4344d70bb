"""What of an order of several suborders is shown, and in which words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from app.delivery.states import State
from app.views.deliveries import Change, DeliveryView, Step, Tracked
from app.views.events import StateEvent
from app.views.segments import SegmentSeen, shown_segments
from tests.builders import make_delivery

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TWO = datetime(2026, 1, 31, 14, 2, tzinfo=UTC)


def tracked(*, listed: int = 0, **changes: Any) -> Tracked:
    return Tracked(
        delivery=make_delivery(**{"state": State.TRANSFERRING, **changes}),
        updated_at=TWO,
        state_since=NOON,
        not_before=TWO,
        finished_at=None,
        worker=None,
        result=None,
        error=None,
        listed=listed,
    )


PARKED = tracked(
    listed=2, announced=2, total_suborders=3, parked=True, attempt=1, last_cause="2 are archived"
)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (tracked(), None),
        (
            tracked(state=State.AVAILABLE, announced=1, total_suborders=3),
            "1 of at least 3 suborders is available",
        ),
        (tracked(announced=1, total_suborders=1), "1 suborder is available"),
        (tracked(announced=1), "1 suborder is available"),
        (
            tracked(listed=1, announced=2, total_suborders=1),
            "2 of at least 2 suborders are available",
        ),
        (
            PARKED,
            (
                "2 of at least 3 suborders are in the archive; "
                "waits for the next one since 2026-01-31 14:02:00+00:00"
            ),
        ),
        (
            tracked(listed=1, announced=1, parked=True),
            (
                "1 suborder is in the archive; "
                "waits for the next one, or the end of the order, since 2026-01-31 14:02:00+00:00"
            ),
        ),
        (
            tracked(listed=3, announced=4, total_suborders=3, order_done=True),
            "all 3 suborders are available",
        ),
        (tracked(announced=1, total_suborders=1, order_done=True), None),
        (tracked(state=State.DONE, announced=3, total_suborders=3, order_done=True), None),
        (tracked(state=State.ERROR, listed=1, announced=1), None),
    ],
)
def test_which_suborders_are_there_is_told_in_words(seen: Tracked, words: str | None) -> None:
    assert seen.suborders == words


def test_a_delivery_that_is_parked_says_since_when_and_waits_for_no_attempt() -> None:
    shown = DeliveryView.of(PARKED).body()
    assert shown["parkedSince"] == "2026-01-31T14:02:00.000+00:00"
    assert shown["lastCause"] == "2 are archived"
    assert (shown["announcedSubOrders"], shown["listedSubOrders"]) == (2, 2)
    assert not shown.keys() & {"nextAttemptAt", "orderDone"}


def test_a_delivery_without_suborders_says_nothing_of_them() -> None:
    shown = DeliveryView.of(tracked()).body()
    assert not shown.keys() & {
        *("announcedSubOrders", "listedSubOrders", "orderDone", "parkedSince"),
    }


def test_an_earlier_step_of_a_delivery_that_is_parked_by_now_does_not_wait() -> None:
    begun = Step(id=1, state=State.READY, attempt=0, at=NOON)
    parked = replace(begun, state=State.TRANSFERRING, attempt=1)
    assert StateEvent.of_change(Change(step=begun, tracked=PARKED)).parked_since is None
    assert StateEvent.of_change(Change(step=parked, tracked=PARKED)).parked_since == TWO


def segment(number: int, files: int | None = None) -> SegmentSeen:
    return SegmentSeen(
        number=number,
        suborder=number + 6,
        announced_at=NOON,
        listed_at=None if files is None else TWO,
        file_count=files or 0,
    )


@pytest.mark.parametrize(
    ("seen", "files_done", "archived"),
    [
        (PARKED, 0, [True, True, None]),
        (tracked(announced=3), 0, [None, None, None]),
        (tracked(announced=3), 4, [True, None, None]),
        (tracked(announced=3), 5, [True, True, None]),
        (tracked(announced=3, state=State.DONE), 0, [True, True, True]),
    ],
)
def test_what_is_in_the_archive_is_told_of_each_suborder(
    seen: Tracked, files_done: int, archived: list[bool | None]
) -> None:
    segments = [segment(1, 3), segment(2, 2), segment(3)]
    shown = shown_segments(seen.delivery, segments, files_done=files_done)
    assert [each.archived for each in shown] == archived
    assert [each.files for each in shown] == [3, 2, None]
    assert shown[2].body() == {
        "number": 3,
        "subOrderId": 9,
        "announcedAt": "2026-01-31T12:00:00.000+00:00",
    } | ({"archived": True} if archived[2] else {})
