"""What users open archives with: every one of these programs reads what is made here."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from isal import isal_zlib

from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import ManifestFile, Seam
from sinks.formats.archive_format import Member
from sinks.formats.zip import Zip
from sinks.pipeline.rechunk import rechunk
from tests.builders import make_file
from tests.conftest import noise

GIB = 1024**3
READ_ZIP = Path(__file__).with_name("ReadZip.java")


def _run(*command: str | Path) -> str:
    # Names in UTF-8 need a locale that has them.
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        timeout=500,
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode()


def _zipfile(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == names
        assert archive.testzip() is None


def _unzip(path: Path, names: list[str]) -> None:
    listed = _run("unzip", "-Z1", path).splitlines() if names else []
    assert listed == names
    if names:
        _run("unzip", "-tqq", path)


def _seven_zip(path: Path, names: list[str]) -> None:
    program = shutil.which("7zz") or shutil.which("7z")
    assert program is not None
    listed = _run(program, "l", "-slt", "-ba", path).splitlines()
    found = {line.removeprefix("Path = ") for line in listed if line.startswith("Path = ")}
    assert found == set(names)
    _run(program, "t", path)


def _bsdtar(path: Path, names: list[str]) -> None:
    # To the standard output: every byte is unpacked and compared with its CRC.
    assert _run("bsdtar", "-tf", path).splitlines() == names
    with subprocess.Popen(["bsdtar", "-xOf", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.read(1024 * 1024):
            pass
    assert process.returncode == 0


def _jar(path: Path, names: list[str]) -> None:
    assert sorted(_run("jar", "tf", path).splitlines()) == sorted(names)


def _java(path: Path, names: list[str]) -> None:
    # It runs for seconds: too short for the second compiler to be worth its time.
    assert int(_run("java", "-XX:TieredStopAtLevel=1", READ_ZIP, path)) == len(names)


READERS: dict[str, tuple[tuple[str, ...], Callable[[Path, list[str]], None]]] = {
    "zipfile": (("sh",), _zipfile),
    "unzip": (("unzip",), _unzip),
    "7-Zip": (("7zz", "7z"), _seven_zip),
    "bsdtar": (("bsdtar",), _bsdtar),
    "jar": (("jar",), _jar),
    "java": (("java",), _java),
}


_Given = tuple[ManifestFile, Iterable[bytes]]


def _told(name: str, content: bytes) -> _Given:
    """Return a member whose size and CRC-32 are known before its bytes."""
    return make_file(name, size=len(content), crc32=isal_zlib.crc32(content)), [content]


def _repeated(block: bytes, size: int) -> Iterator[bytes]:
    for _ in range(size // len(block)):
        yield block


def _made(kind: str) -> Iterable[_Given]:
    """Yield the members of an archive."""
    match kind:
        case "one":
            yield make_file("one.txt", size=3), [b"one"]
        case "names":
            longest = "é" * 127 + "/" + "n" * 255
            for name in ("é/à ü.txt", "日本/衛星.tif", "🛰.bin", "a b/c'd.txt", longest):
                yield make_file(name, size=3), [b"abc"]
            yield make_file("empty", size=0), []
        case "stored as they are":
            yield _told("é/à ü.zip", b"abc")
            yield _told("text.csv", b"0;1;2\n" * 10_000)  # but for this one
            yield _told("empty", b"")
            yield _told("noise.bin", noise(300_000))
        case "many":
            for number in range(70_000):
                yield make_file(f"{number % 100}/{number}", size=1), [b"x"]
        case "large, stored":  # both the member and the archive; and one that begins behind
            block = noise(1024 * 1024)
            size = 4 * GIB + 1024**2
            yield make_file("large.bin", size=size), _repeated(block, size)
            yield make_file("behind.txt", size=6), [b"behind"]
            yield make_file("empty", size=0), []
        case "large, compressed":
            yield make_file("large.csv", size=4 * GIB), _repeated(b"0,1,2,3\n" * 2**17, 4 * GIB)
            yield make_file("unknown size", size=7), [b"unknown"]
        case "size not listed":
            yield make_file("a"), [b"a"]
            yield make_file("b", size=1), [b"b"]


def _made_in_attempts(kind: str) -> Iterable[_Given | Seam]:
    """Yield the members of an archive, and where one attempt ends and another goes on."""
    match kind:
        case "none, with seams":
            yield Seam.PAUSE
        case "one, with seams":
            yield Seam.PAUSE
            yield make_file("one.txt", size=3), [b"one"]
            yield Seam.PAUSE
        case "many, with seams":  # of which the second lies where the members become too many
            for number in range(70_000):
                if number in {30_000, 65_535, 65_536}:
                    yield Seam.PAUSE
                yield make_file(f"{number % 100}/{number}", size=1), [b"x"]
        case "large, with seams":  # what is behind begins, and ends, beyond 4 GiB
            size = 4 * GIB + 1024**2
            yield _told("before.txt", b"before")
            yield Seam.PAUSE
            block = noise(1024 * 1024)
            crc32 = 0
            for part in _repeated(block, size):
                crc32 = isal_zlib.crc32(part, crc32)
            yield make_file("stored.bin", size=size, crc32=crc32), _repeated(block, size)
            yield Seam.PAUSE
            yield _told("behind.txt", b"behind")
            yield make_file("large.csv", size=size), _repeated(b"0,1,2,3\n" * 2**17, size)
            yield Seam.PAUSE
            yield make_file("unknown size"), [b"unknown"]
            yield make_file("empty", size=0), []


KINDS = [
    "none",
    "one",
    "names",
    "stored as they are",
    "many",
    "large, stored",
    "large, compressed",
    "size not listed",
]
KINDS += ["none, with seams", "one, with seams", "many, with seams", "large, with seams"]
LARGE = {"large, stored", "large, with seams"}  # archives beyond 4 GiB


def _write(kind: str, to: BinaryIO) -> list[str]:
    """Write an archive as attempts do that go on with it; return its members' names."""
    files: list[ManifestFile] = []
    known: list[FinishedMember] = []
    made = _made_in_attempts if kind.endswith("with seams") else _made
    coming: Iterator[_Given | Seam] = iter(made(kind))
    paused = True

    def members() -> Iterator[Member]:
        nonlocal paused
        paused = False
        for item in coming:
            if isinstance(item, Seam):
                paused = True
                return
            files.append(item[0])
            yield item[0], rechunk(item[1])

    while paused:
        writer = Zip().writer(compression="auto")
        for file, finished in zip(files, known, strict=True):
            writer.skip(file, finished)
        for batch in writer.batches(members()):
            to.writelines(batch)
        known += writer.finished(len(known), writer.count)
        writer.close()
    to.writelines(writer.end())
    return [file.member for file in files]


@pytest.fixture(scope="module", params=KINDS)
def archive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[str]]]:
    folder = tmp_path_factory.mktemp("readers")
    if request.param in LARGE and shutil.disk_usage(folder).free < 6 * GIB:
        pytest.skip("needs 6 GiB of disk")
    path = folder / "a.zip"
    with path.open("wb") as file:
        names = _write(request.param, file)
    assert (path.stat().st_size > 4 * GIB) == (request.param in LARGE)
    yield path, names
    path.unlink()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_finds_every_member_whole(archive: tuple[Path, list[str]], reader: str) -> None:
    programs, read = READERS[reader]
    if not any(shutil.which(program) for program in programs):
        pytest.skip(f"{reader} is not installed")
    read(*archive)
