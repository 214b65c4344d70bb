"""The archive in parts, each with its MD5, handed over in order."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.pipeline.assembler import PartAssembler
from sinks.pipeline.parts import Part


def assembled(blocks: list[bytes], size: int) -> tuple[list[Part], PartAssembler]:
    parts: list[Part] = []
    assembler = PartAssembler(size, lag=100, permit=lambda: None, hand_over=parts.append)
    assembler.assemble(blocks)
    assembler.close()
    return parts, assembler


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.just(bytes(300_000))), max_size=20),
    st.integers(1, 5),
)
def test_parts_have_one_size_but_the_last_and_their_own_md5(blocks: list[bytes], n: int) -> None:
    whole = b"".join(blocks)
    size = 64 * n if len(whole) < 10_000 else 64 * 1024 * n
    parts, assembler = assembled(blocks, size)
    assert b"".join(part.read() for part in parts) == whole
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)
    assert all(part.md5 == hashlib.md5(part.read()).digest() for part in parts)
    assert assembler.md5() == hashlib.md5(whole).hexdigest()
    assert assembler.size == len(whole)


def test_no_part_is_handed_over_without_a_permit() -> None:
    """What waits for S3 is bounded: the permit is asked for before each part, and may refuse."""
    events: list[str] = []

    def permit() -> None:
        events.append("permit")
        if events.count("permit") == 3:
            raise RuntimeError("aborted")

    assembler = PartAssembler(
        64, lag=100, permit=permit, hand_over=lambda part: events.append(f"part {len(part)}")
    )
    with pytest.raises(RuntimeError, match="aborted"):
        assembler.assemble([bytes(64)] * 5)
    assembler.close()
    assert sorted(events[:5]) == ["part 64", "part 64", "permit", "permit", "permit"]
    assert len(events) == 5
