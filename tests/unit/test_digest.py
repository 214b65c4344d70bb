"""Both ways to the MD5s of an archive and its parts, against hashlib."""

from __future__ import annotations

import hashlib
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import CheckpointUnusableError
from app.run.doctor import check_checkpoints
from sinks.pipeline import digest
from sinks.pipeline.digest import (
    PairedMd5,
    TwoPasses,
    paired_md5,
    paired_md5_after,
    without_checkpoints,
)

try:
    from sinks._md5pair import Pair
except ImportError:  # no compiler: then only the other way can be tested
    ways: list[Callable[[], PairedMd5]] = [TwoPasses]
else:
    ways = [TwoPasses, Pair]


def md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()


@pytest.mark.skipif(
    not shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="no C compiler, or no Python headers",
)
def test_the_compiled_digest_is_used_where_there_is_a_compiler() -> None:
    assert type(paired_md5()).__name__ == "Pair"


@pytest.mark.parametrize("way", ways)
@given(
    parts=st.lists(st.integers(0, 5).map(lambda n: bytes(range(64)) * n), max_size=4),
    last=st.binary(max_size=200),
    sizes=st.lists(st.integers(1, 130), min_size=1, max_size=9),
)
@example(parts=[], last=b"x" * 55, sizes=[200])  # the padding just fits
@example(parts=[], last=b"x" * 56, sizes=[200])  # it does not
@example(parts=[b"x" * 64], last=b"", sizes=[64])
def test_digests_are_those_of_the_bytes_however_they_come(
    way: Callable[[], PairedMd5], parts: list[bytes], last: bytes, sizes: list[int]
) -> None:
    pair = way()
    for part in [*parts, last]:
        left, turn = memoryview(part), 0
        while left:
            size = sizes[turn % len(sizes)]
            pair.update(left[:size])
            left, turn = left[size:], turn + 1
        assert pair.next_part() == md5(part)
    assert pair.digest() == md5(b"".join(parts) + last)
    assert pair.next_part() == md5(b"")


@pytest.mark.parametrize("way", ways)
def test_a_digest_in_between_changes_nothing(way: Callable[[], PairedMd5]) -> None:
    pair = way()
    pair.update(b"x" * 100_000)
    assert pair.digest() == md5(b"x" * 100_000)
    pair.update(memoryview(bytearray(100_000)))
    assert pair.digest() == pair.next_part() == md5(b"x" * 100_000 + bytes(100_000))


@pytest.mark.parametrize("way", ways)
def test_only_the_last_part_may_end_between_blocks(way: Callable[[], PairedMd5]) -> None:
    pair = way()
    pair.update(b"x" * 65)
    assert pair.next_part() == md5(b"x" * 65)
    assert pair.digest() == md5(b"x" * 65)
    with pytest.raises(ValueError, match="multiples of 64"):
        pair.update(b"x")


@pytest.mark.parametrize("way", ways)
def test_lengths_over_four_gigabits_are_counted(way: Callable[[], PairedMd5]) -> None:
    block, expected, pair = bytes(1 << 20), hashlib.md5(), way()
    for _ in range(513):
        pair.update(block)
        expected.update(block)
    assert pair.digest() == pair.next_part() == expected.digest()


@pytest.mark.skipif(len(ways) == 1, reason="not built: hashlib does not tell its state")
@given(
    before=st.integers(0, 5).map(lambda n: bytes(range(64)) * n),
    parts=st.lists(st.integers(0, 5).map(lambda n: bytes(range(64, 128)) * n), max_size=3),
    last=st.binary(max_size=200),
)
def test_another_one_goes_on_from_a_state(before: bytes, parts: list[bytes], last: bytes) -> None:
    first = paired_md5()
    first.update(before)
    first.next_part()
    state = first.state()
    assert state is not None
    second = paired_md5_after(state, len(before))
    for part in [*parts, last]:
        second.update(part)
        assert second.next_part() == md5(part)
    assert second.digest() == md5(before + b"".join(parts) + last)


@pytest.mark.skipif(len(ways) == 1, reason="not built")
def test_a_state_is_that_of_rfc_1321() -> None:
    """Nothing of the processor is in it: another kind goes on from it."""
    state = paired_md5().state()
    assert state == bytes.fromhex("0123456789abcdeffedcba9876543210")


@pytest.mark.skipif(len(ways) == 1, reason="not built")
@pytest.mark.parametrize(("state", "size"), [(b"x" * 15, 0), (b"x" * 16, 63)])
def test_no_other_state_is_taken(state: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        paired_md5_after(state, size)


@pytest.mark.skipif(len(ways) == 1, reason="not built")
def test_there_is_no_state_between_blocks() -> None:
    pair = paired_md5()
    pair.update(b"x")
    with pytest.raises(ValueError, match="multiples of 64"):
        pair.state()


def test_without_a_compiler_no_state_is_told() -> None:
    way: PairedMd5 = TwoPasses()
    assert way.state() is None


class Stale(TwoPasses):
    """What an earlier version has built: no state is given, and none taken."""

    state = None  # type: ignore[assignment]


class Forgetful(TwoPasses):
    """Goes on from no state, whatever it is given."""

    def __init__(self, _state: bytes = b"", _size: int = 0) -> None:
        super().__init__()

    def state(self) -> bytes:  # type: ignore[override]
        return bytes(16)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """Put another module in the compiled one's place; None: there is none."""

    def install(module: object) -> None:
        monkeypatch.setitem(sys.modules, "sinks._md5pair", module)
        digest.compiled.cache_clear()

    yield install
    monkeypatch.undo()
    digest.compiled.cache_clear()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, "was not built"),
        (SimpleNamespace(), "is not what this version builds"),
        (SimpleNamespace(Pair=Stale), "is of another version"),
        (SimpleNamespace(Pair=Forgetful), "does not digest as hashlib does"),
    ],
    ids=["missing", "another module", "stale", "wrong"],
)
def test_what_does_not_pass_its_test_is_not_used_and_an_operator_is_told(
    installed: Callable[[object], None], module: object, said: str
) -> None:
    installed(module)
    assert type(paired_md5()) is TwoPasses
    assert said in (without_checkpoints() or "")
    with pytest.raises(CheckpointUnusableError, match=said):
        paired_md5_after(bytes(16), 64)
    found = check_checkpoints()
    assert not found.ok
    assert said in found.message
    assert "C compiler" in (found.advice or "")


@pytest.mark.skipif(len(ways) == 1, reason="not built")
def test_what_passes_its_test_is_used_and_nothing_is_said() -> None:
    assert without_checkpoints() is None
    assert check_checkpoints().ok
