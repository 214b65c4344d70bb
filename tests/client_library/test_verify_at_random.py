"""`verify` against deliveries that are drawn: whole ones pass, and each change is found and named.

Their manifests are the service's own, of partial deliveries, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.delivery import manifest_document
from app.delivery.manifest_document import BETWEEN, Contents
from app.delivery.missing import MissingFile
from app.delivery.naming import TakenNames, safe_name
from app.delivery.object_store import StoredObject
from rs_delivery_client import Kind, Report, verify
from tests.builders import make_file
from tests.client_library.archives import MAKERS, Files

ARCHIVES = {suffix: MAKERS[f"ours{suffix}-auto"][1] for suffix in (".zip", ".tar", ".tar.zst")}
FILES = "files"
each_format = pytest.mark.parametrize("form", [*ARCHIVES, FILES])
at_random = settings(max_examples=25, deadline=None)


@st.composite
def drawn_files(draw: st.DrawFn, *, least: int = 1) -> Files:
    """Files by names that the service gives, as it gives them."""
    taken, files = TakenNames(), {}
    for raw in draw(st.lists(st.text(min_size=1, max_size=40), min_size=least, max_size=8)):
        folder = draw(st.sampled_from(["", "P_v1/", "été_v2/"]))
        name = taken.claim(folder, safe_name(raw, fallback="file"))
        size = draw(st.sampled_from([0, 1, 511, 512, 513, 4096, 70_000]))
        seed = draw(st.binary(min_size=1, max_size=16))
        files[name] = (seed * (size // len(seed) + 1))[:size]
    return files


drawn_missing = st.lists(
    st.builds(
        MissingFile,
        cause=st.text(min_size=1, max_size=50),
        file_id=st.integers(1, 2**40),
        member=st.just("P_v1/not there.tif"),
        size=st.none() | st.integers(0, 2**40),
        product_id=st.just("P"),
        product_version=st.just(1),
    )
    | st.builds(MissingFile.unnamed, st.integers(1, 10**6), st.text(min_size=1, max_size=50)),
    max_size=4,
)


def manifest(
    files: Files, archive: bytes | None, name: str, missing: list[MissingFile], *, digests: bool
) -> bytes:
    """Return what the service writes of these files."""
    told = None
    if archive is not None:
        md5 = hashlib.md5(archive, usedforsecurity=False).hexdigest()
        told = StoredObject(url=f"s3://b/c/{name}", md5=md5, size=len(archive))
    lines = []
    for position, (path, content) in enumerate(files.items()):
        contents = Contents(
            size=len(content),
            md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
            sha256=hashlib.sha256(content).hexdigest() if digests else None,
            crc32=zlib.crc32(content) if digests else None,
        )
        lines.append(manifest_document.line(make_file(path, position=position), contents))
    begin = (
        manifest_document.begin("c")
        if told is None
        else manifest_document.begin("c", told, key=f"c/{name}")
    )
    return b"".join([begin, BETWEEN.join(lines), *manifest_document.end(missing)])


@contextmanager
def delivered(
    form: str, there: Files, listed: Files, missing: list[MissingFile], *, digests: bool = True
) -> Iterator[Path]:
    """Give where files are delivered, in a form, and a manifest lists others, maybe."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        archive, name = None, f"a{form}"
        if form == FILES:
            for path, content in there.items():
                (root / path).parent.mkdir(exist_ok=True)
                (root / path).write_bytes(content)
        else:
            archive = ARCHIVES[form](there, root)
            (root / name).write_bytes(archive)
        document = manifest(listed, archive, name, missing, digests=digests)
        (root / "manifest.json").write_bytes(document)
        yield root if form == FILES else root / name


def checked(place: Path, **options: Any) -> Report:
    return asyncio.run(verify(place, **options))


def found(report: Report) -> set[tuple[Kind, str | None]]:
    return {(flaw.kind, flaw.path) for flaw in report.flaws}


@each_format
@at_random
@given(files=drawn_files(), missing=drawn_missing, digests=st.booleans())
def test_what_is_whole_passes_and_what_could_not_be_delivered_is_said(
    form: str, files: Files, missing: list[MissingFile], digests: bool
) -> None:
    with delivered(form, files, files, missing, digests=digests) as place:
        report = checked(place)
    assert found(report) == set()
    left_out = sum(file.files for file in missing)
    assert (report.files, report.listed, report.left_out) == (len(files), len(files), left_out)
    assert any("could not be delivered" in note for note in report.notes) == bool(missing)


@each_format
@at_random
@given(data=st.data(), files=drawn_files(least=2), missing=drawn_missing)
def test_a_file_that_is_missing_or_too_many_is_named(
    form: str, data: st.DataObject, files: Files, missing: list[MissingFile]
) -> None:
    without = data.draw(st.sampled_from(sorted(files)))
    others = {path: content for path, content in files.items() if path != without}
    with delivered(form, others, files, missing) as place:
        assert found(checked(place)) == {(Kind.MISSING, without)}
    with delivered(form, files, others, missing) as place:
        assert found(checked(place)) == {(Kind.EXTRA, without)}


@each_format
@at_random
@given(data=st.data(), files=drawn_files(least=2), missing=drawn_missing)
def test_a_file_of_which_a_bit_is_another_is_named(
    form: str, data: st.DataObject, files: Files, missing: list[MissingFile]
) -> None:
    """In whichever form it is delivered: what is wrong was wrong before it was packed."""
    paths = sorted(path for path, content in files.items() if content)
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    bit = data.draw(st.integers(0, len(files[path]) * 8 - 1))
    wrong = {**files, path: flipped(files[path], bit)}
    with delivered(form, wrong, files, missing) as place:
        kinds = {Kind.WRONG_MD5, Kind.WRONG_SHA256, Kind.WRONG_CRC32}
        assert found(checked(place)) == {(kind, path) for kind in kinds}


@pytest.mark.parametrize("form", ARCHIVES)
@at_random
@given(data=st.data(), files=drawn_files())
def test_an_archive_of_which_a_bit_is_another_is_not_what_was_told(
    form: str, data: st.DataObject, files: Files
) -> None:
    with delivered(form, files, files, []) as place:
        archive = place.read_bytes()
        bit = data.draw(st.integers(0, len(archive) * 8 - 1))
        place.write_bytes(flipped(archive, bit))
        assert (Kind.WRONG_MD5, None) in found(checked(place))


@at_random
@given(data=st.data(), files=drawn_files())
def test_a_manifest_of_files_of_which_a_bit_is_another_is_not_what_was_told(
    data: st.DataObject, files: Files
) -> None:
    """DONE tells its MD5: where a client keeps that, nothing in the folder can be exchanged."""
    with delivered(FILES, files, files, []) as place:
        document = (place / "manifest.json").read_bytes()
        md5 = hashlib.md5(document, usedforsecurity=False).hexdigest()
        assert checked(place, md5=md5).ok
        path = data.draw(st.sampled_from(sorted(files)))
        others = {**files, path: files[path] + b"!"}
        (place / path).write_bytes(others[path])
        document = manifest(others, None, "", [], digests=True)
        (place / "manifest.json").write_bytes(document)
        assert checked(place).ok
        assert found(checked(place, md5=md5)) == {(Kind.WRONG_MD5, "manifest.json")}


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
