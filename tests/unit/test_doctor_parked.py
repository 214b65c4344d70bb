"""What `delivery doctor` says of what waits: for rs-order, for the end of a pause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from app.delivery.states import State
from app.run.doctor import contents, owed, parked, paused, places
from app.views.attention import AttentionView, Need, Trouble
from app.views.deliveries import Depth, OverdueContents, PlacesHeld
from app.views.findings import Finding
from tests.unit.test_pauses import WORKER, make_pause

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def depth(tenant: str, waiting: int, longest: float) -> Depth:
    return Depth(
        tenant=tenant,
        state=State.TRANSFERRING,
        deliveries=9,
        oldest=1e6,
        parked=waiting,
        oldest_parked=longest,
    )


def make_trouble(code: Need, **changes: Any) -> Trouble:
    known = {"tenant": "b", "subject": None, "since": NOON, "count": 3, "cause": None}
    return Trouble(code=code, **known | changes)


@pytest.mark.parametrize(
    ("found", "part", "check", "told"),
    [
        (parked([], []), "deliveries", "suborders", "no archive waits"),
        (
            parked([depth("a", 2, 600), depth("b", 1, 1200), depth("c", 0, 0)], []),
            "deliveries",
            "suborders",
            "that wait for the next suborder of their order: 3, the first for 20 minutes",
        ),
        (places([], []), "deliveries", "places", "no delivered order may keep its user's place"),
        (
            places([PlacesHeld(tenant="a", places=2, oldest=60)], []),
            "deliveries",
            "places",
            "places at rs-order: 2, the first for 1 minutes",
        ),
        (contents([], []), "deliveries", "retention", "all that is to be removed"),
        (
            contents([OverdueContents(tenant="a", contents=1, oldest=60, cause="busy")], []),
            "deliveries",
            "retention",
            "to be removed by now: 1, the first for 1 minutes",
        ),
        (owed([]), "postgresql", "owed", "nothing is owed for long"),
    ],
)
def test_what_waits_as_it_may_is_counted_and_no_problem(
    found: list[Finding], part: str, check: str, told: str
) -> None:
    (finding,) = found
    assert (finding.ok, finding.part, finding.check) == (True, part, check)
    assert told in finding.message


@pytest.mark.parametrize(
    ("need", "judge"),
    [
        (Need.SUBORDER_AWAITED, lambda told: parked([depth("b", 3, 90_000)], told)),
        (
            Need.PLACE_HELD,
            lambda told: places([], told),
        ),
        (Need.CONTENT_OVERDUE, lambda told: contents([], told)),
        (Need.MESSAGE_OWED, owed),
    ],
)
def test_what_needs_an_operator_is_told_by_tenant_in_the_words_of_attention(
    need: Need, judge: Callable[[list[Trouble]], list[Finding]]
) -> None:
    troubles = [
        make_trouble(need, cause="403"),
        make_trouble(need, tenant="a", count=1),
        make_trouble(Need.NO_WORKER, tenant=None),
    ]
    first, second = judge(troubles)
    for finding, trouble in zip((first, second), troubles, strict=False):
        view = AttentionView.of(trouble)
        assert not finding.ok
        assert finding.message.startswith(f"tenant {trouble.tenant}: {view.sentence}, since 2026-")
        assert finding.advice == view.advice
    assert first.message.endswith("; last cause: 403")
    assert "cause" not in second.message


def test_what_is_paused_is_told_and_no_fault() -> None:
    pause = make_pause()
    finding = paused([pause, make_pause(WORKER)])
    assert finding.ok
    assert finding.message == f"{pause.cause}; worker w-1 is drained by ana: disks"
    assert paused([]).message == "nothing is paused"
