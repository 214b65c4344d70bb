"""What `delivery doctor` says of what waits: for rs-order, for the end of a pause."""

from __future__ import annotations

import pytest

from app.delivery.states import State
from app.run.doctor import contents, parked, paused, places
from app.views.deliveries import Depth, OverdueContents, PlacesHeld
from tests.unit.test_pauses import WORKER, make_pause


def depth(tenant: str, waiting: int, longest: float) -> Depth:
    return Depth(
        tenant=tenant,
        state=State.TRANSFERRING,
        deliveries=9,
        oldest=1e6,
        parked=waiting,
        oldest_parked=longest,
    )


@pytest.mark.parametrize(
    ("depths", "ok", "told"),
    [
        ([], True, "no archive waits"),
        ([depth("a", 0, 0)], True, "no archive waits"),
        ([depth("a", 2, 600), depth("b", 1, 10_800)], True, "3 half-made archives"),
        ([depth("a", 1, 600)], True, "1 half-made archive waits for rs-order"),
        ([depth("a", 2, 600), depth("b", 1, 10_801)], False, "one of tenant b for 180 minutes"),
    ],
)
def test_archives_that_wait_are_counted_and_those_that_wait_for_hours_named(
    depths: list[Depth], ok: bool, told: str
) -> None:
    finding = parked(depths)
    assert (finding.ok, finding.part, finding.check) == (ok, "deliveries", "suborders")
    assert told in finding.message
    assert ok or "--state TRANSFERRING --tenant b" in finding.advice


@pytest.mark.parametrize(
    ("held", "ok", "told"),
    [
        ([], True, "no delivered order may keep its user's place"),
        ([PlacesHeld(tenant="a", places=2, oldest=3600)], True, "2 delivered orders may keep"),
        (
            [PlacesHeld(tenant="a", places=1, oldest=60)],
            True,
            "1 delivered order may keep its user's place at rs-order",
        ),
        (
            [
                PlacesHeld(tenant="a", places=2, oldest=60),
                PlacesHeld(tenant="b", places=1, oldest=7200),
            ],
            False,
            "one of tenant b for 120 minutes",
        ),
    ],
)
def test_places_of_which_rs_order_says_nothing_are_told(
    held: list[PlacesHeld], ok: bool, told: str
) -> None:
    finding = places(held)
    assert (finding.ok, finding.part, finding.check) == (ok, "deliveries", "places")
    assert told in finding.message
    assert ok or "`place_not_freed` in the log has the delivery, its order" in finding.advice


@pytest.mark.parametrize(
    ("overdue", "ok", "told"),
    [
        ([], True, "all that is to be removed"),
        (
            [OverdueContents(tenant="a", contents=1, oldest=60, cause=None)],
            True,
            "1 delivery is still",
        ),
        (
            [
                OverdueContents(tenant="a", contents=2, oldest=60, cause="busy"),
                OverdueContents(tenant="b", contents=1, oldest=21_660, cause="403"),
            ],
            False,
            "of one of tenant b for 361 minutes: 403",
        ),
    ],
)
def test_content_that_should_be_gone_is_counted_and_its_cause_told(
    overdue: list[OverdueContents], ok: bool, told: str
) -> None:
    finding = contents(overdue)
    assert (finding.ok, finding.part, finding.check) == (ok, "deliveries", "retention")
    assert told in finding.message
    assert ok or "delivery remove" in finding.advice


def test_what_is_paused_is_told_and_no_fault() -> None:
    pause = make_pause()
    finding = paused([pause, make_pause(WORKER)])
    assert finding.ok
    assert finding.message == f"{pause.cause}; worker w-1 is drained by ana: disks"
    assert paused([]).message == "nothing is paused"
