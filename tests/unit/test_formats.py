"""What every format of archives promises, asked of each: by other people's readers."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.delivery.checkpoint import FinishedMember
from app.delivery.formats import FORMATS as NAMES
from app.delivery.naming import MAX_MEMBER_BYTES
from app.errors import CheckpointUnusableError, RetryableError
from sinks.formats import FILES as AS_THEY_ARE
from sinks.formats import FORMATS, format_of, suffix_of
from sinks.formats.archive_format import BLOCK, ArchiveFormat, Member
from sinks.formats.deflate import DeflatePool
from sinks.formats.tar import Tar
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks, make_file
from tests.conftest import noise
from tests.readers import READERS, Files

# Blocks of members that a format holds beside one or two: those that its threads compress.
HOLDS = {".tar.zst": 5, ".zip": DeflatePool().limit + 1}

each_format = pytest.mark.parametrize("archive_format", FORMATS, ids=lambda kind: kind.suffix)
each_compression = pytest.mark.parametrize("compression", ["auto", "store", "deflate"])

FILES = {
    "text.csv": b"".join(b"%d;%d\n" % (n, n * n) for n in range(60_000)),
    "noise.bin": noise(700_001),
    "empty": b"",
    "folder/é à.txt": b"x",
    "日本/衛星🛰.tif": noise(BLOCK),
    "e\u0301.txt": b"not composed",
    "é" * 127 + "/" + "n" * 255: b"as long as names get",
    "last and empty": b"",
}


def made(
    archive_format: ArchiveFormat,
    files: Files,
    *,
    compression: str = "auto",
    piece: int = 50_000,
) -> bytes:
    def pieces(content: bytes) -> Iterator[bytes]:
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    members = (
        (make_file(name, content), rechunk(pieces(content))) for name, content in files.items()
    )
    return b"".join(archive_blocks(archive_format, members, compression=compression))


@each_format
@each_compression
def test_an_archive_holds_the_files(archive_format: ArchiveFormat, compression: str) -> None:
    archive = made(archive_format, FILES, compression=compression)
    found = READERS[archive_format.suffix](archive)
    assert found == FILES
    assert list(found) == list(FILES)


@each_format
def test_an_archive_of_nothing_is_one(archive_format: ArchiveFormat) -> None:
    assert READERS[archive_format.suffix](made(archive_format, {})) == {}


@each_format
def test_many_files_are_found_in_their_order(archive_format: ArchiveFormat) -> None:
    names = [f"{number % 7}/{number}" for number in range(66_000)]  # more than 16 bits count
    archive = made(archive_format, dict.fromkeys(names, b""))
    assert list(READERS[archive_format.suffix](archive)) == names
    assert len(archive) <= archive_format.largest(total_bytes=0, file_count=len(names))


contents = st.binary(max_size=300) | st.integers(0, 5).map(lambda n: noise(n * 100_001))


@each_format
@each_compression
@given(files=st.lists(contents, max_size=8), longest=st.booleans())
@example(files=[b""] * 500, longest=True)
@example(files=[noise(3 * BLOCK + 1)], longest=True)
@example(files=[noise(BLOCK - 1), noise(BLOCK)], longest=False)
@settings(max_examples=25, deadline=None)
def test_no_archive_is_larger_than_its_bound(
    archive_format: ArchiveFormat, compression: str, files: list[bytes], longest: bool
) -> None:
    """Also of files that nothing compresses, whose names are as long as they get."""
    end = MAX_MEMBER_BYTES - 256 if longest else 1
    named = {
        f"{n:0255}/{'é' * (end // 2)}{'x' * (end % 2)}": content for n, content in enumerate(files)
    }
    archive = made(archive_format, named, compression=compression)
    total = sum(map(len, files))
    assert len(archive) <= archive_format.largest(total_bytes=total, file_count=len(files))
    if isinstance(archive_format, Tar):
        assert archive_format.least(total_bytes=total, file_count=len(files)) <= len(archive)


@each_format
@pytest.mark.parametrize("length", [6, 45, 100, MAX_MEMBER_BYTES])
def test_no_more_memory_is_kept_of_members_than_is_planned(
    archive_format: ArchiveFormat, length: int
) -> None:
    """However long their names are; in bytes that are allocated when the last one is made."""
    count, kept = 20_000, 0

    def members() -> Iterator[Member]:
        nonlocal kept
        for number in range(count):
            # As large as ZIP64 is for, whose entries are the longest; nothing of it comes.
            yield make_file(f"{number:0{length}}", size=2**40), iter(())
        kept = tracemalloc.get_traced_memory()[0] - before

    made(archive_format, {})  # so that its modules are there
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in archive_blocks(archive_format, members(), compression="store"):
            pass
    finally:
        tracemalloc.stop()
    few = 20_000  # bytes, of the member that was last
    assert kept <= archive_format.memory(file_count=count, name_bytes=count * length) + few


@each_format
def test_the_bound_grows_with_files_and_bytes(archive_format: ArchiveFormat) -> None:
    sizes = [0, 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 5 * 2**40]
    for count in (1, 2**16, 10**6):
        bounds = [archive_format.largest(total_bytes=size, file_count=count) for size in sizes]
        assert all(bound >= size for bound, size in zip(bounds, sizes, strict=True))
        assert all(bound <= more for bound, more in pairwise(bounds))
        assert bounds[0] <= archive_format.largest(total_bytes=0, file_count=count + 1)


@each_format
@each_compression
@given(piece=st.integers(1, 300_000))
@settings(max_examples=10, deadline=None)
def test_the_bytes_do_not_depend_on_how_the_network_cut_them(
    archive_format: ArchiveFormat, compression: str, piece: int
) -> None:
    whole = made(archive_format, FILES, compression=compression, piece=BLOCK)
    assert made(archive_format, FILES, compression=compression, piece=max(piece, 500)) == whole


@each_format
@each_compression
def test_bytes_come_out_before_all_went_in(archive_format: ArchiveFormat, compression: str) -> None:
    chance = random.Random(1)
    taken = 0

    def content(blocks: int) -> Iterator[bytes]:
        nonlocal taken
        for _ in range(blocks):
            taken += 1
            yield chance.randbytes(BLOCK)

    members = [(make_file("m", size=40 * BLOCK), content(40))]
    out, holds = 0, HOLDS.get(archive_format.suffix, 0)
    for block in archive_blocks(archive_format, iter(members), compression=compression):
        out += len(block)
        assert taken * BLOCK - out < (4 + holds) * BLOCK
    assert out > 40 * BLOCK


@each_format
def test_members_are_read_one_after_the_other(archive_format: ArchiveFormat) -> None:
    """A file's place in memory is given back when the next one is asked for."""
    events: list[str] = []

    def content(name: str) -> Iterator[bytes]:
        yield b"abc"
        events.append(f"{name} read")

    def members() -> Iterable[Member]:
        for name in ("a", "b"):
            events.append(f"{name} asked for")
            yield make_file(name, size=3), content(name)
        events.append("no more")

    for _ in archive_blocks(archive_format, members(), compression="auto"):
        pass
    assert events == ["a asked for", "a read", "b asked for", "b read", "no more"]


@each_format
def test_what_a_member_raises_goes_through(archive_format: ArchiveFormat) -> None:
    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise RuntimeError("broke off")

    members = iter([(make_file("m", size=3), broken())])
    with pytest.raises(RuntimeError, match="broke off"):
        list(archive_blocks(archive_format, members, compression="store"))


@each_format
def test_the_words_of_a_format_are_those_of_names_and_headers(
    archive_format: ArchiveFormat,
) -> None:
    assert archive_format.suffix.startswith(".")
    assert archive_format.suffix.isascii()
    assert len(archive_format.media_type.split("/")) == 2


def test_a_name_tells_its_format() -> None:
    assert [format_of(f"P_v1.tar.zip{kind.suffix}") for kind in FORMATS] == list(FORMATS)


def test_each_format_that_may_be_asked_for_is_made() -> None:
    suffixes = [suffix_of(name) for name in NAMES]
    assert suffixes == [*(kind.suffix for kind in FORMATS), AS_THEY_ARE.suffix]


def test_a_format_of_another_version_is_planned_by_that() -> None:
    with pytest.raises(RetryableError, match="asked for as cab, a format that this worker does"):
        suffix_of("cab")


def test_a_name_of_another_version_is_left_to_that() -> None:
    with pytest.raises(RetryableError, match=r"P_v1\.cab is of no format .*\.zip"):
        format_of("P_v1.cab")


@each_format
@each_compression
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_who_goes_on_behind_members_makes_the_same_bytes(
    archive_format: ArchiveFormat, compression: str, data: st.DataObject
) -> None:
    """Of the members before, another process has told what the format keeps of them."""
    files = [make_file(name, content) for name, content in FILES.items()]

    def members(first: int) -> Iterator[Member]:
        return ((file, rechunk([FILES[file.member]])) for file in files[first:])

    first = archive_format.writer(compression=compression)
    made_of = [(first.count, b"".join(batch)) for batch in first.batches(members(0))]
    whole = b"".join([*(made for _, made in made_of), *first.end()])
    begun, before = data.draw(st.sampled_from(made_of))
    finished = first.finished(0, begun)
    assert sum(member.size for member in finished) == whole.index(before)

    second = archive_format.writer(compression=compression)
    for file, member in zip(files, finished, strict=False):
        second.skip(file, member)
    rest = [block for batch in second.batches(members(begun)) for block in batch]
    assert b"".join([*rest, *second.end()]) == whole[whole.index(before) :]
    assert second.finished(0, len(files)) == first.finished(0, len(files))
    first.close()
    second.close()


@each_format
@given(ends=st.lists(st.integers(0, len(FILES)), max_size=5).map(sorted))
@settings(max_examples=20, deadline=None)
def test_an_archive_is_the_same_wherever_it_paused(
    archive_format: ArchiveFormat, ends: list[int]
) -> None:
    """A worker that stops pauses behind any member."""
    members = [(make_file(name, content), content) for name, content in FILES.items()]
    segments = [
        [(file, rechunk([content])) for file, content in members[start:end]]
        for start, end in pairwise([0, *ends, len(members)])
    ]
    assert b"".join(archive_blocks(archive_format, *segments)) == made(archive_format, FILES)


@each_format
def test_what_was_saved_of_a_member_is_not_taken_for_that_of_another_format(
    archive_format: ArchiveFormat,
) -> None:
    writer = archive_format.writer(compression="auto")
    with pytest.raises(CheckpointUnusableError, match="member m of the archive is not of"):
        writer.skip(make_file("m", b"x"), FinishedMember(1000, b"no record of ours"))


@each_format
def test_no_thread_is_left_of_a_format(archive_format: ArchiveFormat) -> None:
    """Whether its archive was made, or broke off."""
    before = set(threading.enumerate())

    def breaks_off() -> Iterator[bytes]:
        yield noise(BLOCK)
        raise RuntimeError("broke off")

    made(archive_format, FILES)
    members = iter([(make_file("m", size=2 * BLOCK), breaks_off())])
    with pytest.raises(RuntimeError, match="broke off"):
        list(archive_blocks(archive_format, members))
    assert set(threading.enumerate()) <= before
