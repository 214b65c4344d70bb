"""How archives are cut into parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ArchiveTooLargeError
from sinks.parts import MAX_PARTS, MIB, into_parts, plan_parts

TIB = 1024**4


def plan(total: int, **changes: int) -> object:
    given = {
        "total_bytes": total,
        "file_count": 1,
        "part_size": 8 * MIB,
        "memory": 128 * MIB,
        "max_object_size": 5 * TIB,
    }
    return plan_parts(**{**given, **changes})


@given(st.integers(0, 350 * 1024**3), st.integers(1, 100_000))
def test_ten_thousand_parts_are_enough_and_memory_is_kept(total: int, files: int) -> None:
    chosen = plan_parts(
        total_bytes=total,
        file_count=files,
        part_size=8 * MIB,
        memory=128 * MIB,
        max_object_size=5 * TIB,
    )
    assert chosen.part_size * MAX_PARTS >= total + total // 1000
    assert chosen.part_size * (chosen.in_flight + 1) + chosen.prefetch <= 128 * MIB


def test_too_much_for_the_target_is_told_before_it_starts() -> None:
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_MAX_OBJECT_SIZE"):
        plan(6 * TIB)


def test_too_much_for_the_memory_is_told_with_the_figure_that_works() -> None:
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_TRANSFER_MEMORY to ") as raised:
        plan(4 * TIB)
    figure = int(str(raised.value).split("DELIVERY_TRANSFER_MEMORY to ")[1].split()[0])
    plan(4 * TIB, memory=figure)


@given(st.lists(st.binary(max_size=70), max_size=20), st.integers(1, 40))
def test_parts_have_one_size_but_the_last(blocks: list[bytes], size: int) -> None:
    parts = list(into_parts(blocks, size))
    assert b"".join(parts) == b"".join(blocks)
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)
