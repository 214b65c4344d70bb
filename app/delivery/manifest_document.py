"""`manifest.json`: what a delivery is made of (contract, section 6; docs/schemas/manifest.json).

A line a file, so that one of a million files is written and read without being held:

    {"version":"1.0","correlationId":"c","archive":{"key":"c/P_v1.zip","size":9,"md5":"…"},"files":[
    {"path":"a.tif","product":"P","version":1,"size":3,"md5":"…","crc32":"…","mediaType":"image/tiff"},
    {"path":"b.tif",…}
    ]}

Beside an archive it tells of that; where files are delivered as they are, there is no `archive`.
What was not delivered, and why, is behind the files. The same delivery has the same document,
whichever worker writes it, as long as they are of one version.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass

from app import __version__
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.naming import MAX_MEMBER_BYTES
from app.delivery.object_store import StoredObject

MEDIA_TYPE = "application/json"
MAX_LINE = MAX_MEMBER_BYTES + 2048  # bytes that a file takes, with its product's id
MAX_BEGIN = 8192  # bytes of what stands before the first line, at most
_OPENS = b',"files":[\n'
# The table that comes with Python, whatever the machine has beside it: so lines are the same.
_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the bytes of a delivered file are known by."""

    size: int | None  # bytes; each of them is None where it is not known
    md5: str | None  # hex, lower case
    sha256: str | None = None  # hex, lower case
    crc32: int | None = None


def media_type_of(file: ManifestFile) -> str:
    """Return the media type of a file, as rs-order tells it; else as its name does."""
    if file.media_type is not None:
        return file.media_type
    kind, encoding = _TYPES.guess_type(f"file:{file.member}", strict=True)
    return kind if kind and not encoding else "application/octet-stream"


def begin(correlation_id: str, archive: StoredObject | None = None, *, key: str = "") -> bytes:
    """Return what stands before the first line; `key` is the archive's, if there is one."""
    head: dict[str, object] = {"version": __version__, "correlationId": correlation_id}
    if archive is not None:
        head["archive"] = _known(
            {
                "key": key,
                "size": archive.size,
                "md5": archive.md5,
                "sha256": archive.sha256,
                "etag": archive.etag,
            }
        )
    return _json(head)[:-1] + _OPENS


def archive_key_of(beginning: bytes) -> str | None:
    """Return the key of the archive that a manifest tells of, by its first `MAX_BEGIN` bytes.

    None: it tells of files as they are, or it is another document.
    """
    head, opens, _ = beginning.partition(_OPENS)
    try:
        key = json.loads(head + _OPENS + b"]}")["archive"]["key"] if opens else None
    except (ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, str) else None


def line(file: ManifestFile, contents: Contents) -> bytes:
    """Return the line of a file; behind each but the last comes `BETWEEN`."""
    return _json(
        _known(
            {
                "path": file.member,
                "product": file.product_id,
                "version": file.product_version,
                "size": contents.size,
                "md5": contents.md5,
                "sha256": contents.sha256,
                "crc32": None if contents.crc32 is None else f"{contents.crc32:08x}",
                "mediaType": media_type_of(file),
            }
        )
    )


BETWEEN = b",\n"


def end(missing: Iterable[MissingFile] = ()) -> Iterator[bytes]:
    """Return what closes the document, a line at a time; `missing` is read as it goes."""
    for number, file in enumerate(missing):
        yield (BETWEEN if number else b'\n],"missing":[\n') + _missing(file)
    yield b"\n]}\n"


async def ended(missing: AsyncIterator[MissingFile]) -> AsyncIterator[bytes]:
    """Return what closes the document, as `end`, of files that come one after the other."""
    begun = False
    async for file in missing:
        yield (BETWEEN if begun else b'\n],"missing":[\n') + _missing(file)
        begun = True
    yield b"\n]}\n"


def _missing(file: MissingFile) -> bytes:
    return _json(
        _known(
            {
                "path": file.member,
                "product": file.product_id,
                "version": file.product_version,
                "size": file.size,
                "fileId": file.file_id,
                "files": file.files if file.file_id is None else None,
                "cause": file.cause,
            }
        )
    )


def _known(content: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in content.items() if value is not None}


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
