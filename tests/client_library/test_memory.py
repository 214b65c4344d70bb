"""Memory does not grow with the number of files, nor with their sizes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COUNT = 100_000
MOST = 24 * 1024  # KiB beyond what one file takes; all names and digests together take far more

_PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from rs_delivery_client import verify
report = asyncio.run(verify(sys.argv[1], manifest=sys.argv[2]))
# Of this program alone: ru_maxrss is at least what the process had from which it was started.
_, _, told = Path("/proc/self/status").read_text().partition("VmHWM:")
print(json.dumps(report.body() | {"peak": int(told.split()[0])}))
"""


def checked(place: Path, manifest: Path) -> dict[str, Any]:
    """Check an archive in a process of its own; return what it found, and its `peak` in KiB."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, place, manifest], capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def write_manifest(place: Path, entries: Iterator[str]) -> None:
    with place.open("w", encoding="utf-8") as file:
        file.write('{"version":"1","correlationId":"d","files":[\n')
        for number, entry in enumerate(entries):
            file.write(",\n" * bool(number) + entry)
        file.write("\n]}\n")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred thousand files in a ZIP."""
    place = tmp_path_factory.mktemp("many") / "a.zip"
    with zipfile.ZipFile(place, "w") as made:
        for number in range(COUNT):
            made.writestr(f"P{number % 97}/file-{number:07}.tif", b"%d" % number)
    return place


def listed(number: int, content: bytes) -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = f"P{number % 97}/file-{number:07}.tif"
    return f'{{"path":"{path}","size":{len(content)},"md5":"{md5}","mediaType":"image/tiff"}}'


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What a check of one file takes, in KiB."""
    folder = tmp_path_factory.mktemp("one")
    with zipfile.ZipFile(folder / "a.zip", "w") as made:
        made.writestr("P0/file-0000000.tif", b"0")
    write_manifest(folder / "m.json", iter([listed(0, b"0")]))
    found = checked(folder / "a.zip", folder / "m.json")
    assert found["result"] == "ok"
    return int(found["peak"])


def test_a_hundred_thousand_files_take_no_more_memory_than_one(
    archive: Path, least: int, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.json"
    write_manifest(manifest, (listed(n, b"%d" % n) for n in range(COUNT)))
    found = checked(archive, manifest)
    assert found["result"] == "ok"
    assert found["files"] == found["listed"] == COUNT
    assert found["peak"] - least < MOST


def test_as_many_flaws_take_no_more_and_are_all_counted(
    archive: Path, least: int, tmp_path: Path
) -> None:
    """Another order, each third wrong, and as many missing and extra."""
    manifest = tmp_path / "m.json"
    numbers = reversed(range(1000, COUNT + 1000))
    write_manifest(manifest, (listed(n, b"%d" % (n if n % 3 else n + 1)) for n in numbers))
    found = checked(archive, manifest)
    assert found["kinds"]["missing"] == found["kinds"]["extra"] == 1000
    assert found["kinds"]["wrong_md5"] == len([n for n in range(1000, COUNT) if not n % 3])
    assert found["peak"] - least < MOST


def test_a_large_file_is_not_held(least: int, tmp_path: Path) -> None:
    content = bytes(64 * 1024 * 1024)
    place, manifest = tmp_path / "a.zip", tmp_path / "m.json"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        made.writestr("P0/file-0000000.tif", content)
    write_manifest(manifest, iter([listed(0, content)]))
    found = checked(place, manifest)
    assert found["result"] == "ok"
    assert found["peak"] - least < MOST
