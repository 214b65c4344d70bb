"""tar and tar.zst: what is theirs alone."""

from __future__ import annotations

import io
import itertools
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.delivery.manifest import ManifestFile
from app.errors import ErrorType, SizeNotToldError
from sinks.formats import formats_with
from sinks.formats.archive_format import BLOCK, ArchiveFormat, Member
from sinks.formats.tar import Tar
from sinks.formats.tar_zst import TarZst, memory_of_level
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks, make_file
from tests.conftest import noise
from tests.unit.test_formats import FILES, made

GIB = 1024**3
LIMIT = 8 * BLOCK  # bytes of a file whose size is not told

each_tar = pytest.mark.parametrize(
    "archive_format", [Tar(), TarZst()], ids=lambda kind: kind.suffix
)


def headers(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return opened.getmembers()


def header_of(file: ManifestFile) -> tarfile.TarInfo:
    """Return how a member is announced, of which no byte comes."""
    (batch,) = Tar().writer(compression="auto").batches([(file, iter(()))])
    with tarfile.open(fileobj=io.BytesIO(next(batch)), mode="r:") as opened:
        header = opened.next()
    assert header is not None
    return header


def members_of(content: bytes, **told: int | None) -> Iterator[Member]:
    yield replace(make_file("m", content), **told), rechunk([content])  # type: ignore[arg-type]


def test_no_owner_and_no_time_of_making_are_in_a_tar() -> None:
    for header in headers(made(Tar(), FILES)):
        assert (header.uid, header.gid, header.uname, header.gname) == (0, 0, "", "")
        assert (header.mode, header.mtime, header.type) == (0o644, 315532800, tarfile.REGTYPE)


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 5 * 1024 * GIB])
def test_a_member_may_have_more_bytes_than_a_header_of_old_can_tell(size: int) -> None:
    assert header_of(make_file("large.bin", size=size)).size == size


@given(
    name=st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"),
        min_size=1,
        max_size=120,
    )
)
@settings(deadline=None)
def test_a_name_is_read_as_it_is(name: str) -> None:
    assert header_of(make_file(f"folder/{name}", b"")).name == f"folder/{name}"


@each_tar
@pytest.mark.parametrize("size", [0, 1, 512, BLOCK, LIMIT])
def test_a_file_whose_size_is_not_told_is_archived_as_if_it_were(
    archive_format: ArchiveFormat, size: int
) -> None:
    content = noise(size)
    untold = b"".join(archive_blocks(archive_format, members_of(content, size=None)))
    assert untold == made(archive_format, {"m": content})


@each_tar
def test_a_file_whose_size_is_not_told_and_is_large_is_refused_in_words(
    archive_format: ArchiveFormat,
) -> None:
    """Before more of it is read than is held."""
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(BLOCK)

    member = make_file("folder/m.tif", file_id=7, size=None), endless()
    refusal = rf"file 7 \(folder/m\.tif\) has more than {LIMIT} bytes.* Ask for these files as zip"
    with pytest.raises(SizeNotToldError, match=refusal) as raised:
        list(archive_blocks(archive_format, iter([member])))
    assert raised.value.error_type is ErrorType.INVALID_CONTENT
    assert taken == LIMIT // BLOCK + 1


def frames_of(archive: bytes) -> list[bytes]:
    """Return what is in each frame."""
    frames = []
    while archive:
        assert zstandard.get_frame_parameters(archive).has_checksum
        frame = zstandard.ZstdDecompressor().decompressobj()
        frames.append(frame.decompress(archive))
        archive = frame.unused_data
    return frames


def test_each_piece_of_a_member_is_a_frame_and_no_frame_has_two_members() -> None:
    files = {"a": b"a", "b": noise(3 * BLOCK + 5), "c": b"", "d": noise(2 * BLOCK), "e": b"e"}
    frames = frames_of(made(TarZst(), files))
    assert b"".join(frames) == made(Tar(), files)
    filled = [size + -size % 512 for size in (3 * BLOCK + 5, 2 * BLOCK)]
    assert [len(frame) for frame in frames] == [
        *[512 + 512],
        *[512 + BLOCK, BLOCK, BLOCK, filled[0] - 3 * BLOCK],
        *[512],
        *[512 + BLOCK, filled[1] - BLOCK],
        *[512 + 512],
        *[1024],
    ]


def cut(content: bytes) -> list[bytes]:
    """Return the pieces of a member that are a frame each."""
    member = made(Tar(), {"m": content})[:-1024]
    edges = [0, *range(512 + BLOCK, 512 + len(content), BLOCK), len(member)]
    return [member[start:end] for start, end in itertools.pairwise(edges)]


@given(
    sizes=st.lists(
        st.sampled_from([0, 1, 511, 512, 200_000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]),
        max_size=12,
    )
)
@example(sizes=[0] * 3000)
@settings(max_examples=20, deadline=None)
def test_members_of_any_size_are_framed_each_by_itself(sizes: list[int]) -> None:
    """However many are compressed, or archived, at once."""
    members = ((make_file("m", noise(size)), rechunk([noise(size)])) for size in sizes)
    archive = b"".join(archive_blocks(TarZst(), members))
    pieces = [piece for size in sizes for piece in cut(noise(size))]
    assert frames_of(archive) == [*pieces, bytes(1024)]


def test_the_bytes_are_those_of_one_thread_alone() -> None:
    """Whichever of the threads is the first to be done."""
    files = {**FILES, "large": noise(20 * BLOCK), "text": b"0,1,2,3\n" * 10 * BLOCK}
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    archive = made(TarZst(), files)
    assert archive == b"".join(map(compressor.compress, frames_of(archive)))
    assert frames_of(archive)


def test_several_threads_compress_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits until another one compresses, too: one alone would wait for ever."""
    compressing, together = threading.Semaphore(1), threading.Event()
    came: list[bool] = []
    real = zstandard.ZstdCompressor

    class Compressor:
        def __init__(self, **given: object) -> None:
            self._real = real(**given)  # type: ignore[arg-type]

        def compress(self, data: bytes) -> bytes:
            if len(data) >= BLOCK:
                if not compressing.acquire(blocking=False):
                    together.set()
                came.append(together.wait(timeout=60))
            return self._real.compress(data)

    monkeypatch.setattr(zstandard, "ZstdCompressor", Compressor)
    assert frames_of(made(TarZst(), {"m": noise(8 * BLOCK)}))
    assert came
    assert all(came)


@pytest.mark.parametrize("level", [1, 19])
def test_an_operator_chooses_how_hard_is_compressed(level: int) -> None:
    content = b"".join(b"%d;%d\n" % (n, n * n % 9973) for n in range(100_000))
    known = {kind.suffix: kind for kind in formats_with(zstd_level=level)}
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    archive = made(known[".tar.zst"], {"m": content})
    assert archive == b"".join(map(compressor.compress, frames_of(archive)))
    assert (len(archive) < len(made(TarZst(), {"m": content}))) == (level > 3)


@pytest.mark.parametrize("level", range(1, 20))
def test_a_compressor_takes_no_more_memory_than_is_planned(level: int) -> None:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    content = noise(BLOCK // 2) + bytes(BLOCK // 2 + 4096)
    for size in (1, 10_000, 300_000, BLOCK, len(content)):
        compressor.compress(content[:size])
    assert compressor.memory_size() <= memory_of_level(level)


def test_a_harder_level_counts_for_more_memory() -> None:
    taken = [TarZst(level).memory(file_count=0, name_bytes=0) for level in (1, 3, 19)]
    assert taken == sorted(taken)
    assert taken[2] > 4 * 16 * 1024**2
