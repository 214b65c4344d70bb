"""What an attempt does with what one before it has sent: it goes on with it, or leaves nothing."""

from __future__ import annotations

import pytest

from sinks.pipeline.budget import Budget
from tests.deliveries import Deliveries
from tests.integration.transfers import MIB
from tests.store.half_made import HalfMade
from tests.unit.test_assembler import goes_on

pytestmark = goes_on


@pytest.fixture
def half(deliveries: Deliveries) -> HalfMade:
    """A delivery that is to be left half-made."""
    return HalfMade(deliveries)


async def test_what_was_sent_is_kept_and_gone_on_with(half: HalfMade) -> None:
    await half.begin()
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert set(half.store.sent.values()) == {1}
    assert half.source.reads["first.bin"] == half.source.reads["second.bin"] == 1
    assert half.store.aborted == []


async def test_parts_that_are_too_large_for_this_worker_are_not_gone_on_with(
    half: HalfMade,
) -> None:
    """It could make the archive in smaller ones: only what was sent is in the way."""
    await half.plan()
    half.source.until = 4  # mebibytes, one part
    assert await half.attempt("large", breaks="third.bin", part_size=4 * MIB) is not None
    assert await half.attempt("small", worker_memory=Budget(8 * MIB), memory=8 * MIB) is None
    assert await half.deliveries.states() == ["DONE"]
    assert len(half.object().parts) > 9
    assert half.store.open() == []
