"""What `delivery doctor` says of archives that wait for their next suborder."""

from __future__ import annotations

import pytest

from app.delivery.states import State
from app.run.doctor import parked
from app.views.deliveries import Depth


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
