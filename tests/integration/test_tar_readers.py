"""What users open a tar with: every one of these programs reads what is made here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import zstandard

from app.delivery.checkpoint import FinishedMember
from sinks.formats.archive_format import BLOCK, Member
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_format, make_file
from tests.conftest import noise

GIB = 1024**3
FILES = {
    "one.txt": b"one",
    "empty": b"",
    "text.csv": b"".join(b"%d;%d\n" % (n, n * n) for n in range(200_000)),
    "noise.bin": noise(5 * BLOCK + 3),
    "é/à ü.txt": b"abc",
    "日本/衛星.tif": noise(BLOCK),
    "🛰.bin": b"x" * 511,
    "a b/c'd.txt": b"y" * 512,
    "-f": b"z" * 513,
    "é" * 127 + "/" + "n" * 255: b"as long as names get",
    "f" * 100: b"a name as long as a header holds",
    "f" * 101: b"and longer",
    **{f"many/{number}": b"%d" % number for number in range(3000)},
}
SEAMS = (1, 3, 4, 1000)  # members behind which another worker went on
WITH_PYTHON = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(filter='data')"
LOCALE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}  # names in UTF-8 need one that has them


def _unpack(command: list[str | Path], folder: Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, env=LOCALE, cwd=folder)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    assert done.stderr == b"", done.stderr


def _members(files: dict[str, bytes], first: int = 0, end: int | None = None) -> Iterator[Member]:
    for name, content in [*files.items()][first:end]:
        yield make_file(name, content), rechunk([content])


def _in_attempts(suffix: str, seams: Iterable[int]) -> Iterator[bytes]:
    """Yield an archive as attempts make it that go on with one another's, at such members."""
    known: list[FinishedMember] = []
    files = [make_file(name, content) for name, content in FILES.items()]
    for end in [*seams, len(FILES)]:
        writer = archive_format(suffix).writer(compression="auto")
        for file, finished in zip(files, known, strict=False):
            writer.skip(file, finished)
        for batch in writer.batches(_members(FILES, len(known), end)):
            yield from batch
        known += writer.finished(len(known), writer.count)
        last = writer
        last.close()
    yield from last.end()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an archive of each format."""
    folder = tmp_path_factory.mktemp("tars")
    for suffix in (".tar", ".tar.zst"):
        with (folder / f"a{suffix}").open("wb") as file:
            file.writelines(_in_attempts(suffix, SEAMS))
    return folder


# What unpacks into the folder that it is in: the archive, what must be installed, the command.
PROGRAMS: dict[str, tuple[str, tuple[str, ...], list[str]]] = {
    "GNU tar": ("a.tar", ("tar",), ["tar", "-xf"]),
    "bsdtar": ("a.tar", ("bsdtar",), ["bsdtar", "-xf"]),
    "Python": ("a.tar", (), [sys.executable, "-c", WITH_PYTHON]),
    "GNU tar with zstd": ("a.tar.zst", ("tar", "zstd"), ["tar", "--zstd", "-xf"]),
    "bsdtar with zstd": ("a.tar.zst", ("bsdtar",), ["bsdtar", "-xf"]),
    "zstd": ("a.tar.zst", ("tar", "zstd"), ["sh", "-c", 'zstd -q -dc "$1" | tar -x', "sh"]),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_unpacks_every_member_whole(archives: Path, program: str, tmp_path: Path) -> None:
    archive, needed, command = PROGRAMS[program]
    if not all(map(shutil.which, needed)):
        pytest.skip(f"{' or '.join(needed)} is not installed")
    _unpack([*command, archives / archive], tmp_path)
    found = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == FILES


def test_zstd_finds_a_wrong_byte(tmp_path: Path) -> None:
    """Each frame has a checksum."""
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    whole = bytearray(b"".join(_in_attempts(".tar.zst", ())))
    good, bad = tmp_path / "good.tar.zst", tmp_path / "bad.tar.zst"
    good.write_bytes(whole)
    whole[len(whole) // 2] ^= 1  # within what does not shrink
    bad.write_bytes(whole)
    tested = [subprocess.run(["zstd", "-qt", path], check=False) for path in (good, bad)]
    assert [done.returncode == 0 for done in tested] == [True, False]


@pytest.mark.parametrize("size", [8 * GIB, 5 * 1024 * GIB])
def test_a_member_of_more_than_a_header_of_old_can_tell_is_listed(
    size: int, tmp_path: Path
) -> None:
    """Of its bytes there are none: a disk keeps no hole."""
    path = tmp_path / "large.tar"
    writer = archive_format(".tar").writer(compression="auto")
    large = make_file("large.bin", size=size), iter(())
    with path.open("wb") as file:
        for batch in writer.batches([large]):
            file.writelines(batch)
        file.seek(size, 1)
        for batch in writer.batches(_members({"behind.txt": b"behind"})):
            file.writelines(batch)
        file.writelines(writer.end())
    with tarfile.open(path) as opened:
        assert [(member.name, member.size) for member in opened] == [
            ("large.bin", size),
            ("behind.txt", 6),
        ]
    for program in filter(shutil.which, ("tar", "bsdtar")):
        _check_listed([program, "-tvf", path], size)


def _check_listed(command: list[str | Path], size: int) -> None:
    listed = subprocess.run(command, check=True, capture_output=True, env=LOCALE)
    lines = listed.stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["large.bin", "behind.txt"]
    assert str(size) in lines[0]


@pytest.mark.timeout(600)
def test_a_compressed_member_of_more_than_a_header_of_old_can_tell_is_listed(
    tmp_path: Path,
) -> None:
    """Its bytes are a frame of zeros, again and again: a few hundred KiB of them."""
    size = 8 * GIB
    path = tmp_path / "large.tar.zst"
    zeros = zstandard.ZstdCompressor().compress(bytes(64 * 1024**2))
    writer = archive_format(".tar.zst").writer(compression="auto")
    large = make_file("large.bin", size=size), iter(())
    with path.open("wb") as file:
        for batch in writer.batches([large]):
            file.writelines(batch)
        file.writelines([zeros] * 128)
        for batch in writer.batches(_members({"behind.txt": b"behind"})):
            file.writelines(batch)
        file.writelines(writer.end())
    writer.close()
    with (
        path.open("rb") as made,
        zstandard.ZstdDecompressor().stream_reader(made, read_across_frames=True) as tar,
        tarfile.open(fileobj=tar, mode="r|", bufsize=1024**2) as opened,
    ):
        assert [(member.name, member.size) for member in opened] == [
            ("large.bin", size),
            ("behind.txt", 6),
        ]
    if shutil.which("zstd"):
        _check_listed(["tar", "--zstd", "-tvf", path], size)
    if shutil.which("bsdtar"):
        _check_listed(["bsdtar", "-tvf", path], size)
