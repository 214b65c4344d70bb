"""The SHA-256 of an archive, in one go and behind a state, against hashlib."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sinks.pipeline import sha256
from sinks.pipeline.sha256 import WithoutState, archive_sha256, digests, sha256_after

_sha256 = pytest.importorskip("sinks._sha256", reason="no C compiler")


@pytest.fixture(params=[True, False], ids=["instructions", "anywhere"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have it computed by the processor's instructions, where it has some, or without."""
    if _sha256.use_instructions(request.param) is not request.param:
        pytest.skip("this processor has no instructions for it")
    yield
    _sha256.use_instructions(True)


@pytest.mark.usefixtures("way")
@given(
    blocks=st.integers(0, 9),
    rest=st.binary(max_size=300),
    sizes=st.lists(st.integers(1, 130), min_size=1, max_size=9),
)
@example(blocks=0, rest=b"x" * 55, sizes=[200])  # the padding just fits
@example(blocks=0, rest=b"x" * 56, sizes=[200])  # it does not
@example(blocks=400, rest=b"x" * 64, sizes=[30_000])  # without the interpreter's lock
def test_it_is_hashlibs_however_the_bytes_come_and_behind_a_state(
    blocks: int, rest: bytes, sizes: list[int]
) -> None:
    data = bytes(range(64)) * blocks + rest
    first = _sha256.Sha256()
    cut, before = 64 * blocks, 0
    for size in sizes:
        first.update(data[before : min(before + size, cut)])
        before = min(before + size, cut)
    first.update(memoryview(data)[before:cut])
    second = _sha256.Sha256(first.state(), cut)
    second.update(data[cut:])
    assert first.digest() == hashlib.sha256(data[:cut]).digest()
    assert second.digest() == hashlib.sha256(data).digest()


def test_a_state_is_the_words_of_fips_180_4() -> None:
    begun = archive_sha256().state()
    assert begun is not None
    assert begun.hex().startswith("6a09e667bb67ae85")


@pytest.mark.parametrize(("state", "size"), [(b"x" * 31, 0), (b"x" * 32, 63)])
def test_no_other_state_is_taken(state: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        _sha256.Sha256(state, size)


def test_there_is_no_state_between_blocks() -> None:
    begun = archive_sha256()
    begun.update(b"x")
    with pytest.raises(ValueError, match="multiples of 64"):
        begun.state()


def test_where_it_is_not_built_an_archive_that_another_process_began_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sha256, "compiled", lambda: None)
    begun = archive_sha256()
    assert type(begun).__name__ == WithoutState.__name__
    begun.update(b"all of it")
    assert begun.digest() == hashlib.sha256(b"all of it").digest()
    assert begun.state() is None
    assert sha256_after(bytes(32), 64) is None


def test_what_does_not_digest_as_hashlib_is_not_used() -> None:
    assert digests(_sha256.Sha256)
    assert not digests(hashlib.sha256)  # it tells no state
    assert not digests(lambda *_: _sha256.Sha256())
