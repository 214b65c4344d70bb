"""Other people's readers of archives, by the suffix of the format."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable

import zstandard

Files = dict[str, bytes]


def _read_zip(archive: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def _read_tar(archive: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        found = ((member.name, opened.extractfile(member)) for member in opened)
        return {name: file.read() for name, file in found if file is not None}


def _read_tar_zst(archive: bytes) -> Files:
    opened = zstandard.ZstdDecompressor().stream_reader(archive, read_across_frames=True)
    return _read_tar(opened.read())


# A format without a reader here is not tested, and fails for that.
READERS: dict[str, Callable[[bytes], Files]] = {
    ".zip": _read_zip,
    ".tar": _read_tar,
    ".tar.zst": _read_tar_zst,
}
