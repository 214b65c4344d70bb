"""Chunks of any size, in blocks of one size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinks.pipeline.rechunk import rechunk


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 64))
def test_the_bytes_are_kept_in_blocks_of_one_size(chunks: list[bytes], size: int) -> None:
    blocks = list(rechunk(chunks, size))
    assert b"".join(blocks) == b"".join(chunks)
    assert all(len(block) == size for block in blocks[:-1])
    assert all(0 < len(block) <= size for block in blocks)


def test_a_chunk_of_the_right_size_is_passed_on_without_a_copy() -> None:
    chunks = [b"abcd", b"efgh"]
    assert all(chunk is other for chunk, other in zip(rechunk(chunks, 4), chunks, strict=True))
