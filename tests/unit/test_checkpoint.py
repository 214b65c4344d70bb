"""Steps that were saved lead to one boundary, or to none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.delivery.checkpoint import Boundary, Checkpoint, FinishedMember, Step
from app.delivery.object_store import StoredPart
from app.errors import CheckpointUnusableError


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
    found = Checkpoint.of([FIRST, SECOND])
    assert (found.boundary, found.offset, found.remade) == (SECOND.boundary, 5 * 64, 5 * 64 - 3)
    assert (len(found.parts), len(found.members)) == (5, 3)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([SECOND], id="the first is missing"),
        pytest.param([FIRST, step(9, follows=5, members=0, before=1)], id="one is missing"),
        pytest.param([FIRST, replace(SECOND, part_size=128)], id="two sizes of parts"),
        pytest.param([FIRST, step(5, follows=2, members=2, before=2)], id="a member is missing"),
        pytest.param([replace(FIRST, parts=[])], id="a part is missing"),
    ],
)
def test_steps_that_do_not_fit_together_lead_nowhere(steps: list[Step]) -> None:
    with pytest.raises(CheckpointUnusableError):
        Checkpoint.of(steps)
