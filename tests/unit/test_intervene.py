"""What a cancel or a retry does to a delivery, and why it does nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.delivery.model import Delivery, Ending
from app.delivery.states import State
from app.errors import ErrorType
from app.usecases.intervene import why_cancel_is_ignored, why_not_retried
from tests.builders import make_delivery

ACTIVE = make_delivery()
THEN = ACTIVE.requested_at
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize("arrived_at", [THEN, THEN + MOMENT])
def test_a_cancel_that_came_after_the_request_ends_the_active_delivery(
    arrived_at: datetime,
) -> None:
    assert why_cancel_is_ignored(ACTIVE, arrived_at) is None


@pytest.mark.parametrize(
    ("active", "arrived_at", "why"),
    [
        (ACTIVE, None, "it was applied before"),
        (None, None, "it was applied before"),
        (None, THEN, "no delivery with this correlationId is active"),
        (ACTIVE, THEN - MOMENT, "it arrived before the active delivery was requested"),
    ],
)
def test_a_cancel_that_is_not_about_the_active_delivery_is_ignored(
    active: Delivery | None, arrived_at: datetime | None, why: str
) -> None:
    assert why_cancel_is_ignored(active, arrived_at) == why


def test_a_cancel_of_one_whose_end_is_noted_is_ignored() -> None:
    ending = Ending(error_type=ErrorType.EXPIRED, message="not done within 12 hours")
    why = why_cancel_is_ignored(replace(ACTIVE, ending=ending), THEN)
    assert why is not None
    assert "(not done within 12 hours); there is nothing to cancel" in why


@pytest.mark.parametrize("state", [state for state in State if not state.ended])
def test_what_waits_for_no_attempt_is_not_retried(state: State) -> None:
    why = "is under way" if state.work else "waits for rs-order"
    assert why in why_not_retried(make_delivery(state=state))


def test_what_is_parked_says_what_it_waits_for() -> None:
    parked = make_delivery(
        state=State.TRANSFERRING, parked=True, last_cause="2 suborders are archived of at least 3"
    )
    assert why_not_retried(parked) == (
        f"{parked} waits for rs-order: 2 suborders are archived of at least 3; "
        "there is nothing to try again"
    )
