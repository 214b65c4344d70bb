"""Steps that were saved lead to one boundary, or to none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.delivery.checkpoint import Boundary, FinishedMember, Step
from app.delivery.object_store import StoredPart
from app.errors import CheckpointUnusableError
from tests.builders import checkpoint_of


def step(parts: int, *, follows: int, members: int, before: int) -> Step:
    return Step(
        follows=follows,
        part_size=64,
        boundary=Boundary(parts=parts, md5_state=bytes(16), members=before + members, crc=0),
        parts=[StoredPart(etag="e", md5=None)] * (parts - follows),
        members=[FinishedMember(1, b"")] * members,
    )


FIRST = step(2, follows=0, members=1, before=0)
SECOND = step(5, follows=2, members=2, before=1)


def test_steps_lead_to_the_boundary_of_the_last_one() -> None:
    found = checkpoint_of([FIRST, SECOND])
    assert (found.boundary, found.offset, found.remade) == (SECOND.boundary, 5 * 64, 5 * 64 - 3)
    assert (len(found.parts), found.finished, found.most_members) == (5, 3, 2)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([SECOND], id="the first is missing"),
        pytest.param([FIRST, step(9, follows=5, members=0, before=1)], id="one is missing"),
        pytest.param([FIRST, replace(SECOND, part_size=128)], id="two sizes of parts"),
        pytest.param([FIRST, step(5, follows=2, members=2, before=2)], id="a member is missing"),
        pytest.param([replace(FIRST, parts=[])], id="a part is missing"),
        pytest.param(
            [replace(FIRST, members=[FinishedMember(2 * 64 + 1, b"")])],
            id="a member ends behind the boundary",
        ),
    ],
)
def test_steps_that_do_not_fit_together_lead_nowhere(steps: list[Step]) -> None:
    with pytest.raises(CheckpointUnusableError):
        checkpoint_of(steps)
