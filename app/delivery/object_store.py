"""The object store, as far as archives need one: parts that become an object, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


class PartBody(Protocol):
    """The bytes of one part, as a store sends them: their number, and as often as it asks.

    Read from memory, so that a request that failed can be made again.
    """

    @property
    def md5(self) -> bytes:
        """The MD5 of all bytes, 16 bytes."""

    def __len__(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Iterate over the bytes, from the first."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Rewind; asked for offset 0 alone."""

    def read(self) -> bytes:
        """Return all bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPart:
    """A part that the store has."""

    etag: str  # what the store calls it
    md5: bytes | None  # its MD5, where the store has shown that it has the same
