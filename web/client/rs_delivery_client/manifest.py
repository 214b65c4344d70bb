"""A manifest, read as a stream: a million files in it are never held at once.

Fields that are not known here are passed over: manifests may gain some.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import ijson

from rs_delivery_client.errors import ManifestError

MANIFEST_NAME = "manifest.json"
_CHUNK = 256 * 1024  # bytes
_MAX_SIZE = 2**63 - 1  # bytes of a file: more, no disk and no table takes
_HEX = re.compile(r"[0-9a-fA-F]+")
_DIGITS = {"md5": 32, "sha256": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What something should be, as far as that is told."""

    size: int | None = None  # bytes
    md5: str | None = None  # hex, lower case
    sha256: str | None = None
    crc32: int | None = None

    @property
    def tells_content(self) -> bool:
        """Whether it tells more than how long it is."""
        return self.md5 is not None or self.sha256 is not None or self.crc32 is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file, as a manifest lists it."""

    path: str
    expected: Expected


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveTold:
    """The archive that a manifest tells of."""

    key: str  # of the object
    expected: Expected
    etag: str | None = None

    @property
    def name(self) -> str:
        """The archive's name, without the folders before it."""
        return self.key.rpartition("/")[2]


class ManifestReader:
    """Reads a manifest once; what it tells beside its files is known when all were yielded."""

    def __init__(self, file: IO[bytes], name: str = MANIFEST_NAME) -> None:
        self._file = file
        self._name = name
        self.version: str | None = None  # of the service that wrote it
        self.correlation_id: str | None = None
        self.archive: ArchiveTold | None = None
        self.missing = 0  # files that the delivery could not have

    def __iter__(self) -> Iterator[ListedFile]:
        """Yield the files in their order. Raises ManifestError."""
        files = ijson.sendable_list()
        others = {
            name: ijson.sendable_list()
            for name in ("version", "correlationId", "archive", "missing.item")
        }
        # Numbers of more than 64 bits are refused so. Else ijson's C code ends the process at an
        # integer of 5,000 digits, which Python does not make.
        readers = [
            ijson.items_coro(files, "files.item", use_float=True),
            *(ijson.items_coro(found, name, use_float=True) for name, found in others.items()),
        ]
        number = 0
        try:
            while chunk := self._file.read(_CHUNK):
                for reader in readers:
                    reader.send(chunk)
                for found in files:
                    yield self._listed(found, number)
                    number += 1
                del files[:]
                self.missing += sum(map(_files_of, others["missing.item"]))
                del others["missing.item"][:]
            for reader in readers:
                reader.close()
        except (ijson.JSONError, UnicodeDecodeError) as error:
            why = str(error).partition("\n")[0]  # behind it: the text there, whatever is in that
            raise ManifestError(f"{self._name} is not JSON, or not all of it: {why}") from None
        except StopIteration:
            raise ManifestError(f"{self._name} is not JSON: more follows its end") from None
        for found in files:
            yield self._listed(found, number)
            number += 1
        self.missing += sum(map(_files_of, others["missing.item"]))
        self._take(others)
        if not number and not self.missing:
            raise ManifestError(f"{self._name} lists no files: it is no manifest of a delivery")

    def _take(self, others: Mapping[str, list[Any]]) -> None:
        def text(name: str) -> str | None:
            return next((value for value in others[name] if isinstance(value, str)), None)

        self.version, self.correlation_id = text("version"), text("correlationId")
        told = next((value for value in others["archive"] if isinstance(value, dict)), None)
        if told is not None:
            key = told.get("key", told.get("name"))
            etag = told.get("etag", told.get("eTag"))
            self.archive = ArchiveTold(
                key=key if isinstance(key, str) else "",
                expected=self._expected(told, "its archive"),
                etag=etag if isinstance(etag, str) else None,
            )

    def _listed(self, found: Any, number: int) -> ListedFile:
        path = found.get("path") if isinstance(found, dict) else None
        if not isinstance(path, str) or not path:
            raise ManifestError(f"{self._name} lists file number {number + 1} without a path")
        return ListedFile(path=path, expected=self._expected(found, path))

    def _expected(self, told: Mapping[str, Any], what: str) -> Expected:
        size = told.get("size")
        if size is not None and (
            not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE
        ):
            raise ManifestError(f"{self._name} has no size of {what}, but {size!r}")
        return Expected(
            size=size,
            md5=self._digest(told, "md5", what),
            sha256=self._digest(told, "sha256", what),
            crc32=self._crc32(told, what),
        )

    def _digest(self, told: Mapping[str, Any], name: str, what: str) -> str | None:
        value = told.get(name)
        if value is None:
            return None
        try:
            return digest(value, name)
        except ValueError as error:
            raise ManifestError(f"{self._name}: {what}: {error}") from None

    def _crc32(self, told: Mapping[str, Any], what: str) -> int | None:
        value = told.get("crc32")
        if isinstance(value, str) and len(value) == 8 and _HEX.fullmatch(value):
            return int(value, 16)
        if value is None or (isinstance(value, int) and 0 <= value <= 0xFFFFFFFF):
            return value
        raise ManifestError(f"{self._name}: {what}: crc32 must be 8 hexadecimal digits")


def digest(value: object, name: str) -> str:
    """Return a digest in lower case; `name` is md5 or sha256. Raises ValueError."""
    length = _DIGITS[name]
    if not isinstance(value, str) or len(value) != length or not _HEX.fullmatch(value):
        raise ValueError(f"{name} must be {length} hexadecimal digits")
    return value.lower()


def _files_of(entry: Any) -> int:
    """Return how many files an entry stands for: several, where it is not told which they are."""
    files = entry.get("files", 1) if isinstance(entry, Mapping) else 1
    return files if isinstance(files, int) and files > 0 else 1
