"""ZIP: members that are stored as they are, for their size and CRC-32 are known in advance."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_zip import (
    NO_COMPRESSION_32,
    NO_COMPRESSION_64,
    CRC32IntegrityError,
    UncompressedSizeIntegrityError,
    stream_zip,
)

from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import ManifestFile
from app.errors import WrongFileError
from sinks.formats.archive_format import BLOCK, Member
from sinks.formats.zip import Zip, _suffix
from sinks.pipeline.rechunk import rechunk
from sinks.pipeline.verify import FileVerifier
from tests.builders import archive_blocks, make_file
from tests.conftest import noise
from tests.readers import READERS

DESCRIPTOR = 0x08  # the flag of a member whose size and CRC-32 come behind it
TEXT = b"".join(b"%d;%d\n" % (n, n * n) for n in range(60_000))


def told(name: str, content: bytes) -> ManifestFile:
    """Return a file of which rs-order tells everything."""
    return make_file(name, content, crc32=zlib.crc32(content))


def zipped(
    files: Sequence[tuple[ManifestFile, bytes]], *, compression: str = "auto"
) -> tuple[bytes, list[zipfile.ZipInfo]]:
    """Return an archive, and what its directory tells."""
    members = ((file, rechunk([content])) for file, content in files)
    made = b"".join(archive_blocks(Zip(), members, compression=compression))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        return made, archive.infolist()


def size_of(files: Iterable[ManifestFile]) -> int:
    """Return the bytes of an archive of stored members: headers, names, the directory, its end."""
    size = directory = 0
    end = 22
    for count, file in enumerate(files, start=1):
        assert file.size is not None
        name_size = len(file.member.encode())
        # A bound, as the writer has it: that of a member which deflate may have grown.
        most = size + directory + file.size + file.size // 1000 + 1024 + 3 * name_size
        is_64 = count >= 0xFFFF or most > 0xFFFFFFFF
        size += 30 + 20 * is_64 + name_size + file.size
        directory += 46 + 28 * is_64 + name_size
        if is_64:
            end = 56 + 20 + 22
    return size + directory + end


def is_stored(member: zipfile.ZipInfo) -> bool:
    return (member.compress_type, member.flag_bits & DESCRIPTOR) == (zipfile.ZIP_STORED, 0)


def test_what_does_not_shrink_is_stored_where_it_is_known() -> None:
    contents = {
        "noise.bin": noise(700_001),
        "text.csv": TEXT,
        "small.png": TEXT[:500],
        "empty": b"",
        "one byte": b"x",
        "large.zip": noise(3 * BLOCK + 1),
        "blocks": noise(2 * BLOCK),
    }
    made, members = zipped([(told(name, content), content) for name, content in contents.items()])
    assert READERS[".zip"](made) == contents
    assert [member.filename for member in members if not is_stored(member)] == ["text.csv"]
    assert all(member.compress_size == member.file_size for member in members if is_stored(member))


@pytest.mark.parametrize("unknown", [{"crc32": None}, {"size": None}])
@pytest.mark.parametrize("compression", ["auto", "store"])
def test_what_is_not_known_in_advance_comes_behind_the_member(
    compression: str, unknown: dict[str, None]
) -> None:
    content = noise(100_000)
    files = [
        (told("a", content), content),
        (make_file("b", content, **({"crc32": zlib.crc32(content)} | unknown)), content),
        (told("c", content), content),
    ]
    made, members = zipped(files, compression=compression)
    assert READERS[".zip"](made) == dict.fromkeys("abc", content)
    assert [is_stored(member) for member in members] == [True, False, True]


@pytest.mark.parametrize(
    ("begins", "of_library"), [(0, NO_COMPRESSION_32), (2**32 + 1, NO_COMPRESSION_64)]
)
def test_a_stored_member_is_what_the_library_makes(begins: int, of_library: Any) -> None:
    content = noise(1000)
    file = told("a", content)
    date = datetime(1980, 1, 1, tzinfo=UTC)
    member = "a", date, 0o100644, of_library(file.size, file.crc32), iter([content])
    expected = b"".join(stream_zip([member], extended_timestamps=False))
    writer = Zip().writer(compression="store")
    if begins:  # beyond what ZIP32 can tell
        writer.skip(make_file("fffff"), FinishedMember(begins, _entry()))
    made = b"".join(block for batch in writer.batches([(file, iter([content]))]) for block in batch)
    assert expected.startswith(made + b"PK\x01\x02")
    if not begins:
        assert expected == made + b"".join(writer.end())


def test_nothing_is_stored_that_is_to_be_deflated() -> None:
    content = noise(1000)
    files = [(told("a.png", content), content), (told("empty", b""), b"")]
    _, members = zipped(files, compression="deflate")
    assert [is_stored(member) for member in members] == [False, True]


@pytest.mark.parametrize(
    "name", ["a/b.tif", "a/b.tar.GZ", "x.zip/y", "..zip", "x/.zip", "a.", "é.ZIP", "plain", ".a.b"]
)
def test_what_a_name_ends_in_is_what_pathlib_says(name: str) -> None:
    # (Up to Python 3.13 a dot at the end is no suffix.)
    assert _suffix(name).rstrip(".") == PurePosixPath(name).suffix.rstrip(".")


def test_the_bytes_are_those_of_every_version() -> None:
    """So far; a worker that takes over from another makes the same archive."""
    contents = {"noise.bin": noise(700_001), "empty": b"", "éà.txt": b"x"}
    files = [(told(name, content), content) for name, content in contents.items()]
    made, _ = zipped(files, compression="store")
    assert hashlib.md5(made).hexdigest() == "b9ebc583d18ec7aa768055565020a4a3"


def test_the_bytes_of_a_stored_member_are_nowhere_copied_and_come_at_once() -> None:
    content = noise(4 * BLOCK)
    blocks = [content[start : start + BLOCK] for start in range(0, len(content), BLOCK)]
    given: list[bytes] = []

    def bytes_of_it() -> Iterator[bytes]:
        for block in blocks:
            given.append(block)
            yield block

    writer = Zip().writer(compression="auto")
    (batch,) = writer.batches([(told("a.zip", content), bytes_of_it())])
    came = []
    for block in batch:
        came.append(block)
        assert len(given) <= len(came) + 1, "a block is held until the next ones have come"
    assert [id(block) for block in came if len(block) == BLOCK] == list(map(id, blocks))


# How large an archive is, before its first byte


@given(seed=st.integers(0, 2**32), compression=st.sampled_from(["auto", "store"]))
@settings(max_examples=40, deadline=None)
def test_the_size_of_an_archive_is_known_before_its_first_byte(seed: int, compression: str) -> None:
    chance = random.Random(seed)
    files = []
    for number in range(chance.randrange(12)):
        size = chance.choice([0, 1, 70_000, 300_000, BLOCK - 1, BLOCK, 2 * BLOCK + 7])
        content = chance.randbytes(size)
        suffix = ".ZIP" if compression == "auto" else chance.choice([".txt", "", ".gz"])
        name = f"{number}/m{'é' * chance.randrange(100)}{suffix}"
        files.append((told(name, content), content))
    made, members = zipped(files, compression=compression)
    assert READERS[".zip"](made) == {file.member: content for file, content in files}
    assert all(map(is_stored, members))
    assert size_of(file for file, _ in files) == len(made)


@pytest.mark.parametrize("count", [65_534, 65_535, 65_700])
def test_the_size_of_an_archive_of_very_many_members(count: int) -> None:
    files = [told(f"{number:05}", b"") for number in range(count)]
    writer, entry = Zip().writer(compression="store"), _entry()
    for file in files[:-300]:
        writer.skip(file, FinishedMember(30 + len(file.member), entry))
    rest: list[Member] = [(file, iter(())) for file in files[-300:]]
    made = sum(len(block) for batch in writer.batches(rest) for block in batch)
    made += sum(map(len, writer.end())) + sum(30 + len(file.member) for file in files[:-300])
    assert size_of(files) == made


@given(
    beyond=st.integers(-700_000, 100_000) | st.integers(-300, 300),
    pauses=st.lists(st.integers(1, 60), max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_the_size_and_what_is_zip64_are_known_at_four_gib(beyond: int, pauses: list[int]) -> None:
    """Wherever attempts have paused; the first member is not made, so that it can be so large."""
    first = make_file("first", size=0xFFFFFFFF + beyond, crc32=1)
    contents = [b"0;1;2\n" * (200 * number) for number in range(1, 60)]
    files = [told(str(number), content) for number, content in enumerate(contents)]
    assert first.size is not None
    expected = size_of([first, *files])
    is_64 = first.size + first.size // 1000 + 1024 + 3 * len("first") > 0xFFFFFFFF
    header = 30 + 20 * is_64 + len("first")
    writer = Zip().writer(compression="store")
    writer.skip(first, FinishedMember(header + first.size, _entry(is_64=is_64)))
    coming: Iterator[Member] = iter(
        [(file, rechunk([content])) for file, content in zip(files, contents, strict=True)]
    )
    size = header + first.size
    for length in [*pauses, len(files)]:
        some = list(itertools.islice(coming, length))
        size += sum(len(block) for batch in writer.batches(some) for block in batch)
    assert size + sum(map(len, writer.end())) == expected


def _entry(*, is_64: bool = False) -> bytes:
    """Return what is saved of a member that is `first`, or of an empty one, without its name."""
    name_size = 5
    file = make_file("f" * name_size) if is_64 else told("f" * name_size, b"")
    writer = Zip().writer(compression="store")
    for batch in writer.batches([(file, iter(()))]):
        for _ in batch:
            pass
    (member,) = writer.finished(0, 1)
    return member.record


# Wrong files


@pytest.mark.parametrize("length", [0, 1, 1000, 3 * BLOCK])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_file_that_is_another_one_ends_the_archive(length: int, more: int) -> None:
    """By its size, or where that is right by its CRC-32; the last byte alone may be wrong."""
    content = noise(length + 1)[:length]
    listed = told("a.zip", content)
    served = content[: length - 1] if more < 0 else content + b"x" * more
    if not more:
        served = content[:-1] + bytes([content[-1] ^ 1]) if content else b""
        if not content:
            listed = make_file("a.zip", size=0, crc32=1)
    if more < 0 and not length:
        listed, served = make_file("a.zip", size=1, crc32=1), b""
    verifier = FileVerifier(lambda _size: None, lag=2 * BLOCK)
    members = [(listed, verifier.verified(listed, rechunk([served])))]
    words = "expected CRC-32" if not more else "expected .* bytes, got"
    with pytest.raises(WrongFileError, match=words):
        b"".join(archive_blocks(Zip(), members))
    verifier.close()


def test_what_was_told_in_advance_is_compared_where_no_verifier_is() -> None:
    content = noise(1000)
    right = told("a.zip", content)
    for file, error in (
        (replace(right, size=999), UncompressedSizeIntegrityError),
        (replace(right, size=1001), UncompressedSizeIntegrityError),
        (replace(right, crc32=1), CRC32IntegrityError),
    ):
        with pytest.raises(error):
            b"".join(archive_blocks(Zip(), [(file, iter([content]))]))
