"""The archive in parts, each with its MD5, handed over in order."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.checkpoint import Boundary, Checkpoint, FinishedMember, Step, Tail
from app.delivery.object_store import StoredPart
from app.errors import CheckpointUnusableError
from sinks.pipeline.assembler import PartAssembler
from sinks.pipeline.digest import TwoPasses, paired_md5
from sinks.pipeline.parts import Part
from tests import builders

Behind = list[Boundary | None]


def assembled(
    members: list[list[bytes]], size: int, *, after: Checkpoint | None = None
) -> tuple[list[Part], Behind, PartAssembler]:
    parts: list[Part] = []
    boundaries: Behind = []

    def hand_over(part: Part, boundary: Boundary | None) -> None:
        parts.append(part)
        boundaries.append(boundary)

    assembler = PartAssembler(size, lag=100, permit=lambda: None, hand_over=hand_over, after=after)
    try:
        first = 0 if after is None else after.boundary.members
        for behind, blocks in enumerate(members, start=first):
            assembler.take(blocks, behind=behind)
        assembler.finish()
    finally:
        assembler.close()
    return parts, boundaries, assembler


def checkpoint_of(
    members: list[list[bytes]],
    parts: list[Part],
    boundary: Boundary,
    size: int,
    *,
    tail: bytes = b"",
) -> Checkpoint:
    step = Step(
        follows=0,
        part_size=size,
        boundary=boundary,
        parts=[StoredPart(etag="e", md5=part.md5) for part in parts[: boundary.parts]],
        members=[
            FinishedMember(sum(map(len, blocks)), b"") for blocks in members[: boundary.members]
        ],
        tail=Tail(key="t", size=len(tail), md5=hashlib.md5(tail).digest()) if tail else None,
    )
    return builders.checkpoint_of([step])


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.just(bytes(300_000))), max_size=20),
    st.integers(1, 5),
)
def test_parts_have_one_size_but_the_last_and_their_own_md5(blocks: list[bytes], n: int) -> None:
    whole = b"".join(blocks)
    size = 64 * n if len(whole) < 10_000 else 64 * 1024 * n
    parts, _, assembler = assembled([blocks], size)
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
        64, lag=100, permit=permit, hand_over=lambda part, _: events.append(f"part {len(part)}")
    )
    with pytest.raises(RuntimeError, match="aborted"):
        assembler.take([bytes(64)] * 5, behind=0)
    assembler.close()
    assert sorted(events[:5]) == ["part 64", "part 64", "permit", "permit", "permit"]
    assert len(events) == 5


goes_on = pytest.mark.skipif(
    isinstance(paired_md5(), TwoPasses), reason="not built: no state of an MD5 can be had"
)
members_of_blocks = st.lists(
    st.lists(
        st.binary(min_size=1, max_size=90) | st.just(bytes(range(256)) * 1200),
        min_size=1,
        max_size=12,
    ),
    min_size=1,
    max_size=8,
)


@goes_on
@given(members=members_of_blocks, n=st.integers(1, 5), data=st.data())
def test_what_goes_on_at_a_boundary_is_what_would_have_come(
    members: list[list[bytes]], n: int, data: st.DataObject
) -> None:
    whole = b"".join(b"".join(blocks) for blocks in members)
    size = 64 * n if len(whole) < 10_000 else 64 * 1024 * n
    parts, boundaries, assembler = assembled(members, size)
    assert boundaries[-1] is None or len(parts) * size == len(whole)
    for boundary in filter(None, boundaries):
        ended = [sum(map(len, blocks)) for blocks in members[: boundary.members]]
        assert sum(ended) <= boundary.parts * size
    if not (kept := [boundary for boundary in boundaries if boundary is not None]):
        return
    boundary = data.draw(st.sampled_from(kept))
    again, later, other = assembled(
        members[boundary.members :],
        size,
        after=checkpoint_of(members, parts, boundary, size),
    )
    rest = parts[boundary.parts :]
    assert [part.read() for part in again] == [part.read() for part in rest]
    assert [part.md5 for part in again] == [part.md5 for part in rest]
    assert later == boundaries[boundary.parts :]  # so it can be gone on with again
    assert (other.md5(), other.size) == (assembler.md5(), assembler.size)


@goes_on
@given(members=members_of_blocks, n=st.integers(1, 5), data=st.data())
def test_what_goes_on_behind_a_pause_is_what_would_have_come(
    members: list[list[bytes]], n: int, data: st.DataObject
) -> None:
    """However often it paused: before its first part, at a boundary, between two."""
    whole = b"".join(b"".join(blocks) for blocks in members)
    size = 64 * n if len(whole) < 10_000 else 64 * 1024 * n
    expected, _, undisturbed = assembled(members, size)
    sent: list[Part] = []
    checkpoint, tail, began = None, b"", 0
    ends = data.draw(st.lists(st.integers(0, len(members)), max_size=4))
    for end in [*sorted(ends), None]:
        assembler = PartAssembler(
            size,
            lag=100,
            permit=lambda: None,
            hand_over=lambda part, _: sent.append(part),
            after=checkpoint,
            tail=[tail] if tail else [],
        )
        for behind, blocks in enumerate(members[began:end], start=began):
            assembler.take(blocks, behind=behind)
        if end is None:
            assembler.finish()
            assembler.close()
            break
        rest = assembler.pause()
        assembler.close()
        assert rest.md5_state is not None
        tail = b"" if rest.body is None else rest.body.read()
        assert rest.body is None or rest.body.md5 == hashlib.md5(tail).digest()
        assert len(tail) < size
        boundary = Boundary(parts=len(sent), md5_state=rest.md5_state, members=end, crc=0)
        checkpoint, began = checkpoint_of(members, sent, boundary, size, tail=tail), end
        assert checkpoint.remade == 0
    assert [part.read() for part in sent] == [part.read() for part in expected]
    assert [part.md5 for part in sent] == [part.md5 for part in expected]
    assert (assembler.md5(), assembler.size) == (undisturbed.md5(), undisturbed.size)


@goes_on
@pytest.mark.parametrize("again", [b"y" * 200, b"x" * 50], ids=["other bytes", "fewer bytes"])
def test_a_member_that_is_another_one_before_the_boundary_is_refused(again: bytes) -> None:
    members = [[b"first" * 10], [b"x" * 200], [b"end"]]
    parts, boundaries, _ = assembled(members, 64)
    boundary = boundaries[1]
    assert boundary is not None
    assert boundary.members == 1
    checkpoint = checkpoint_of(members, parts, boundary, 64)
    with pytest.raises(CheckpointUnusableError, match="before byte 128, where part 2 ends"):
        assembled([[again], [b"end"]], 64, after=checkpoint)


@goes_on
def test_a_boundary_within_the_end_of_the_archive_is_behind_all_members() -> None:
    members = [[b"m" * 10], [b"directory" * 20]]
    parts, boundaries, assembler = assembled(members, 64)
    boundary = boundaries[0]
    assert boundary is not None
    assert boundary.members == 1
    again, _, other = assembled([members[1]], 64, after=checkpoint_of(members, parts, boundary, 64))
    assert [part.md5 for part in again] == [part.md5 for part in parts[1:]]
    assert other.md5() == assembler.md5()
