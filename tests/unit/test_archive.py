"""The archive: right, the same each time, and streamed."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
import zlib
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.delivery.manifest import ManifestFile
from sinks.formats.zip import BLOCK, Stored, cut, zip_blocks
from tests.conftest import noise


def member(
    name: str, content: bytes, *, size: int | None = -1, md5: str | None = ""
) -> ManifestFile:
    return ManifestFile(
        position=0,
        file_id=1,
        member=name,
        size=len(content) if size == -1 else size,
        md5=hashlib.md5(content).hexdigest() if md5 == "" else md5,
    )


def unchecked(_file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:
    return iter(blocks)


def zipped(files: dict[str, bytes], *, compression: str = "auto", piece: int = 50_000) -> bytes:
    def pieces(content: bytes) -> Iterator[bytes]:
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    members = ((member(name, content), pieces(content)) for name, content in files.items())
    return b"".join(zip_blocks(members, compression=compression, check=unchecked))


FILES = {
    "text.csv": b"".join(b"%d;%d\n" % (n, n * n) for n in range(60_000)),
    "noise.bin": noise(700_001),
    "empty": b"",
    "éà.txt": b"x",
}


@pytest.mark.parametrize("compression", ["auto", "store", "deflate"])
def test_an_archive_holds_the_files(compression: str) -> None:
    with zipfile.ZipFile(io.BytesIO(zipped(FILES, compression=compression))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES


def test_auto_stores_what_is_compressed_by_its_name() -> None:
    """A header that compresses well says nothing about the rest of such a file."""
    content = b"header " * 50_000
    blob = zipped({"a.ZIP": content, "b.dat": content})
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        assert archive.getinfo("a.ZIP").compress_size > len(content)
        assert archive.getinfo("b.dat").compress_size < len(content) // 10


@given(st.binary(max_size=70), st.integers(0, 3))
def test_what_is_stored_is_inflated_by_anyone(content: bytes, times: int) -> None:
    data = content * (times * 2000)
    stored = Stored()
    assert zlib.decompress(stored.compress(data) + stored.flush(), wbits=-15) == data


def test_auto_compresses_what_gets_smaller_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(zipped(FILES))) as archive:
        assert archive.getinfo("text.csv").compress_size < len(FILES["text.csv"]) * 0.6
        grown = archive.getinfo("noise.bin").compress_size - len(FILES["noise.bin"])
        assert 0 <= grown < 700_001 * 0.001


@given(st.integers(1, 300_000), st.sampled_from(["auto", "store", "deflate"]))
@settings(max_examples=20, deadline=None)
def test_the_bytes_do_not_depend_on_how_the_network_cut_them(piece: int, compression: str) -> None:
    assert zipped(FILES, compression=compression, piece=max(piece, 500)) == zipped(
        FILES, compression=compression, piece=BLOCK
    )


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 64))
def test_cutting_keeps_the_bytes(chunks: list[bytes], size: int) -> None:
    blocks = list(cut(chunks, size))
    assert b"".join(blocks) == b"".join(chunks)
    assert all(len(block) == size for block in blocks[:-1])


def test_a_file_without_size_and_checksum_is_taken_as_it_comes() -> None:
    content = noise(1000)
    members = [(member("m", content, size=None, md5=None), [content])]
    blob = b"".join(zip_blocks(members, compression="auto", check=unchecked))
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        assert archive.read("m") == content


def test_bytes_come_out_before_all_went_in() -> None:
    given_out = 0

    def endless() -> Iterable[bytes]:
        nonlocal given_out
        while True:
            given_out += 1
            yield random.randbytes(BLOCK)

    members = [(member("m", b"", size=None, md5=None), endless())]
    blocks = zip_blocks(members, compression="store", check=unchecked)
    out = 0
    while out < 20 * BLOCK:
        out += len(next(blocks))
    assert given_out <= 22


def test_more_members_than_zip32_counts() -> None:
    files = {f"f{number}": b"" for number in range(65_600)}
    with zipfile.ZipFile(io.BytesIO(zipped(files))) as archive:
        assert archive.namelist() == list(files)


def test_members_beyond_four_gib_are_zip64() -> None:
    """Sizes as listed, not real ones: the choice must not overflow where it was wrong."""
    listed = [
        (ManifestFile(position=0, file_id=1, member="a", size=None, md5=None), [b"1"]),
        (ManifestFile(position=1, file_id=2, member="b", size=1, md5=None), [b"2"]),
    ]
    blob = b"".join(zip_blocks(listed, compression="store", check=unchecked))
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        # After a member of unknown size, nothing is certain to fit.
        assert [info.extract_version for info in archive.infolist()] == [45, 45]
