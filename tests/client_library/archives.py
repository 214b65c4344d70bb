"""Archives to check: made by the service's own formats, and by others' tools; with manifests."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from sinks.formats import FORMATS
from sinks.formats.archive_format import ArchiveFormat
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks, make_file
from tests.conftest import noise

Files = dict[str, bytes]
Maker = Callable[[Files, Path], bytes]

FILES: Files = {
    "text.csv": b"".join(b"%d;%d\n" % (n, n * n) for n in range(3000)),
    "noise.bin": random.Random(1).randbytes(70_001),
    "empty": b"",
    "folder/é à.txt": b"x",
    "日本/衛星🛰.tif": noise(30_000),
    "n" * 200 + "/" + "m" * 200 + ".png": noise(1000),
    "last.zip": b"PK\x03\x04 looks like a member, PK\x07\x08 like its end" + noise(500),
}


def entry(path: str, content: bytes, **more: Any) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"path": path, "size": len(content), "md5": md5, "mediaType": "image/tiff", **more}


def manifest_of(
    files: Files, archive: bytes | None = None, name: str = "a.zip", **more: Any
) -> dict[str, Any]:
    """Return the manifest of a delivery, as its contract has it."""
    told: dict[str, Any] = {"version": "1.0", "correlationId": "d-1", **more}
    told["files"] = [entry(path, content) for path, content in files.items()]
    if archive is not None:
        md5 = hashlib.md5(archive, usedforsecurity=False).hexdigest()
        told["archive"] = {"key": f"p/d-1/{name}", "size": len(archive), "md5": md5}
    return told


def write(folder: Path, archive: bytes, manifest: dict[str, Any] | None, name: str) -> Path:
    """Lay an archive and its manifest out in a folder; return the archive."""
    place = folder / name
    place.write_bytes(archive)
    if manifest is not None:
        (folder / f"{name}.manifest.json").write_text(json.dumps(manifest), "utf-8")
    return place


def _ours(archive_format: ArchiveFormat, compression: str) -> Maker:
    def make(files: Files, _: Path) -> bytes:
        def members() -> Iterator[Any]:
            for number, (path, content) in enumerate(files.items()):
                # Of every second file the CRC-32 is told: what is stored then has another header.
                crc32 = zlib.crc32(content) if number % 2 else None
                yield make_file(path, content, crc32=crc32), rechunk(iter([content]))

        return b"".join(archive_blocks(archive_format, members(), compression=compression))

    return make


def _zipfile(compression: int, *, seekable: bool) -> Maker:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return seekable

        def seek(self, *arguments: int) -> int:
            if not seekable:
                raise io.UnsupportedOperation
            return super().seek(*arguments)

        def tell(self) -> int:
            if not seekable:
                raise io.UnsupportedOperation
            return super().tell()

    def make(files: Files, _: Path) -> bytes:
        out = Pipe()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        return out.getvalue()

    return make


def _gnu_tar(*options: str, compress: bool = False) -> Maker:
    def make(files: Files, folder: Path) -> bytes:
        for path, content in files.items():
            place = folder / "in" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        named = "".join(f"{path}\n" for path in files).encode()
        command = ["tar", "-C", str(folder / "in"), "-c", "-T", "-", *options]
        made = subprocess.run(command, input=named, capture_output=True, check=True).stdout
        return zstandard.compress(made) if compress else made

    return make


def _tarfile(form: int) -> Maker:
    def make(files: Files, _: Path) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return out.getvalue()

    return make


def _zstd(files: Files, folder: Path) -> bytes:
    made = _gnu_tar("--format=pax")(files, folder)
    return subprocess.run(["zstd", "-c"], input=made, capture_output=True, check=True).stdout


MAKERS: dict[str, tuple[str, Maker]] = {
    **{
        f"ours{form.suffix}-{compression}": (form.suffix, _ours(form, compression))
        for form in FORMATS
        for compression in (("auto", "store", "deflate") if form.suffix == ".zip" else ("auto",))
    },
    "zipfile-deflated": (".zip", _zipfile(zipfile.ZIP_DEFLATED, seekable=True)),
    "zipfile-stored": (".zip", _zipfile(zipfile.ZIP_STORED, seekable=True)),
    "zipfile-piped-deflated": (".zip", _zipfile(zipfile.ZIP_DEFLATED, seekable=False)),
    "zipfile-piped-stored": (".zip", _zipfile(zipfile.ZIP_STORED, seekable=False)),
    "gnu-tar": (".tar", _gnu_tar("--format=gnu")),
    "gnu-tar-pax": (".tar", _gnu_tar("--format=pax")),
    "tarfile-pax": (".tar", _tarfile(tarfile.PAX_FORMAT)),
    "tarfile-gnu": (".tar", _tarfile(tarfile.GNU_FORMAT)),
    "zstd": (".tar.zst", _zstd),
    "zstandard": (".tar.zst", _gnu_tar("--format=pax", compress=True)),
}
