"""Whatever names come from outside: unpacked, an archive writes only into its own folder."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.delivery.manifest import Layout, ListedFile, ManifestFile
from app.delivery.naming import object_key
from sinks.formats.zip import Zip
from tests.builders import archive_blocks, make_listed

hostile = st.one_of(
    st.sampled_from(
        [
            "../../etc/passwd",
            "..\\..\\windows\\system.ini",
            "/etc/passwd",
            "C:\\autoexec.bat",
            "c:evil",
            "\\\\server\\share\\x",
            "CON",
            "nul.txt",
            "com1.tif",
            ".",
            "..",
            "...",
            "",
            " ",
            "a/",
            "x" * 300,
            "é" * 200,
            "e\u0301.tif",
            "\u00e9.tif",
            "a\x00b",
            "a\nb\r\tc",
            "\u202egnp.exe",
            "~/x",
            "-rf",
            "a:b",
            "trailing. . .",
            "[a-z]*?",
            "\udfff",
        ]
    ),
    st.text(st.characters(), max_size=40),
)


def listing(names: Iterable[tuple[str, str]]) -> list[ListedFile]:
    return [
        make_listed(name, file_id=number, product_id=product, size=1)
        for number, (product, name) in enumerate(names)
    ]


def archive_of(files: list[ManifestFile]) -> bytes:
    members = ((file, iter([b"x"])) for file in files)
    return b"".join(archive_blocks(Zip(), members, compression="store"))


def written_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


names = st.lists(st.tuples(hostile, hostile), min_size=1, max_size=6)


@given(names=names)
@example(names=[("P", "a.tif"), ("P", "A.TIF"), ("P", "a (2).tif"), ("P", "a.tif")])
@example(names=[("../up", "x"), ("..", ".."), ("/", "/")])
@settings(deadline=None)
def test_zipfile_writes_each_member_below_its_folder(names: list[tuple[str, str]]) -> None:
    members = list(Layout("c", listing(names), suffix=".zip"))
    raw = archive_of(members)
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "in"
        folder.mkdir()
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            archive.extractall(folder)
        found = written_below(Path(outer))
        # Nothing beside the folder, and no member over another.
        assert len(found) == len(names)
        assert all(folder in path.parents for path in found)
        assert {path.relative_to(folder).as_posix() for path in found} == {
            file.member for file in members
        }


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
@given(names=names)
@example(names=[("../up", "../../x"), ("..", "-rf"), ("a*", "[b]?")])
@example(names=[("P", ";"), ("P", "a"), ("P", "a;1")])
@settings(max_examples=25, deadline=None)
def test_unzip_writes_each_member_below_its_folder(names: list[tuple[str, str]]) -> None:
    raw = archive_of(list(Layout("c", listing(names), suffix=".zip")))
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "in"
        folder.mkdir()
        packed = folder / "archive.zip"
        packed.write_bytes(raw)
        # UTF-8 names need a UTF-8 locale there.
        subprocess.run(
            ["unzip", "-qq", "-o", "archive.zip"],
            cwd=folder,
            check=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
        )
        packed.unlink()
        found = written_below(Path(outer))
        assert len(found) == len(names)
        assert all(folder in path.parents for path in found)


@given(correlation_id=hostile.filter(str.strip), names=names)
def test_a_key_has_two_components_whatever_the_names(
    correlation_id: str, names: list[tuple[str, str]]
) -> None:
    layout = Layout(correlation_id, listing(names), suffix=".zip")
    key = object_key(correlation_id, layout.archive_name)
    folder, name = key.split("/")
    assert folder not in ("", ".", "..")
    assert name.endswith(".zip")
    assert len(key.encode()) <= 1024
    assert not any(unicodedata.category(character) == "Cc" for character in key)
