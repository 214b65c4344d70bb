"""ZIP: what is compressed, and what is ZIP64; that it is an archive, `test_formats` says."""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_zip import ZIP_32, ZIP_64, stream_zip

from app.delivery.checkpoint import FinishedMember
from app.errors import CheckpointUnusableError
from sinks.formats.zip import StoredBlocks, Zip
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks, make_file
from tests.conftest import noise


def zipped(files: dict[str, bytes], *, compression: str = "auto") -> bytes:
    members = ((make_file(name, content), rechunk([content])) for name, content in files.items())
    return b"".join(archive_blocks(Zip(), members, compression=compression))


FILES = {
    "text.csv": b"".join(b"%d;%d\n" % (n, n * n) for n in range(60_000)),
    "noise.bin": noise(700_001),
    "empty": b"",
    "éà.txt": b"x",
}


def test_the_bytes_are_those_of_every_version() -> None:
    """So far; a worker that takes over from another makes the same archive.

    Of stored members: what ISA-L makes may differ between processors.
    """
    blob = zipped(FILES, compression="store")
    assert hashlib.md5(blob).hexdigest() == "a14ab9663d801a6bdf695a54262a0eb4"


def test_auto_stores_what_is_compressed_by_its_name() -> None:
    """A header that compresses well says nothing about the rest of such a file."""
    content = b"header " * 50_000
    blob = zipped({"a.ZIP": content, "b.dat": content})
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        assert archive.getinfo("a.ZIP").compress_size > len(content)
        assert archive.getinfo("b.dat").compress_size < len(content) // 10


@given(st.binary(max_size=70), st.integers(0, 3))
def test_every_reader_inflates_what_is_stored(content: bytes, times: int) -> None:
    data = content * (times * 2000)
    stored = StoredBlocks()
    assert zlib.decompress(stored.compress(data) + stored.flush(), wbits=-15) == data


def test_auto_compresses_what_gets_smaller_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(zipped(FILES))) as archive:
        assert archive.getinfo("text.csv").compress_size < len(FILES["text.csv"]) * 0.6
        grown = archive.getinfo("noise.bin").compress_size - len(FILES["noise.bin"])
        assert 0 <= grown < 700_001 * 0.001


def test_a_file_without_size_and_checksum_is_taken_as_it_comes() -> None:
    content = noise(1000)
    members = [(make_file("m"), iter([content]))]
    blob = b"".join(archive_blocks(Zip(), members))
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        assert archive.read("m") == content


def test_members_beyond_four_gib_are_zip64() -> None:
    """Sizes as listed, not real ones: the choice must not overflow where it was wrong."""
    listed = [
        (make_file("a"), iter([b"1"])),
        (make_file("b", size=1), iter([b"2"])),
    ]
    blob = b"".join(archive_blocks(Zip(), listed, compression="store"))
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        # Only a member whose own size is unknown, or that begins too far behind, need be so.
        assert [info.extract_version for info in archive.infolist()] == [45, 20]


sizes = st.none() | st.sampled_from([0, 1, 2**31, 2**32 - 2000, 2**32 - 1, 2**40])


@given(files=st.lists(st.tuples(sizes, st.binary(max_size=300)), max_size=6))
def test_members_that_are_made_alone_are_an_archive_as_the_library_makes_it(
    files: list[tuple[int | None, bytes]],
) -> None:
    """Byte for byte; sizes are as listed, and decide what is ZIP64."""
    listed = [
        (make_file(f"é{number}", size=size), content)
        for number, (size, content) in enumerate(files)
    ]
    made = b"".join(
        archive_blocks(
            Zip(), ((file, iter([content])) for file, content in listed), compression="store"
        )
    )
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        methods = [ZIP_64 if info.extract_version == 45 else ZIP_32 for info in archive.infolist()]
    at_once = stream_zip(
        (
            (file.member, datetime(1980, 1, 1, tzinfo=UTC), 0o100644, method, iter([content]))
            for (file, content), method in zip(listed, methods, strict=True)
        ),
        get_compressobj=StoredBlocks,  # type: ignore[arg-type]
        extended_timestamps=False,
    )
    assert made == b"".join(at_once)


def test_what_is_no_record_of_a_member_is_not_gone_on_with() -> None:
    writer = Zip().writer(compression="store")
    with pytest.raises(CheckpointUnusableError, match="member a of the archive"):
        writer.skip(make_file("a"), FinishedMember(10, b"another format's"))


@given(st.integers(-700_000, 100_000), st.lists(st.integers(1, 60), max_size=6))
def test_which_members_are_zip64_does_not_depend_on_where_an_attempt_paused(
    beyond: int, lengths: list[int]
) -> None:
    """Near 4 GiB, where small members count as more than they have while a batch is made."""
    files = {f"{number}.csv": b"0;1;2\n" * (200 * number) for number in range(1, 60)}
    undisturbed = behind(0xFFFFFFFF + beyond, [files])
    names = iter(files)
    pauses = [{name: files[name] for name in itertools.islice(names, length)} for length in lengths]
    pauses.append({name: files[name] for name in names})
    assert behind(0xFFFFFFFF + beyond, pauses) == undisturbed


def behind(size: int, pauses: list[dict[str, bytes]]) -> bytes:
    """Return what comes behind a first member of about `size` bytes, with pauses in between."""
    writer = Zip().writer(compression="auto")
    first = zipped({"first": b""})
    with zipfile.ZipFile(io.BytesIO(first)) as read:
        start = read.start_dir
    entry = first[start : start + 46]
    writer.skip(make_file("first"), FinishedMember(size, entry))
    made = []
    for files in pauses:
        members = ((make_file(name, file), rechunk([file])) for name, file in files.items())
        made += [b"".join(batch) for batch in writer.batches(members)]
    return b"".join([*made, *writer.end()])
