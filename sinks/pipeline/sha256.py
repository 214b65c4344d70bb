"""The SHA-256 of the archive, where its tenant asks for it, whichever processes make it.

`sinks/_sha256.c` tells its state, and goes on from one. Where it isn't built, or does not pass its
test, hashlib takes its place: as fast, and the same digests; but an archive that another process
began has none then, as its state can't be had.
"""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from typing import Any, Protocol

_COMPILED = "sinks._sha256"


class ArchiveSha256(Protocol):
    """The SHA-256 of a stream; for one thread at a time."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take bytes."""

    def digest(self) -> bytes:
        """Return the SHA-256 of all bytes so far, 32 bytes."""

    def state(self) -> bytes | None:
        """Return what `sha256_after` goes on from, 32 bytes; None where that can't be had.

        The eight words of FIPS 180-4, each with its high byte first. Raises ValueError between
        multiples of 64 bytes.
        """


class WithoutState:
    """See `ArchiveSha256`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, data: bytes | memoryview, /) -> None:
        """Take bytes."""
        self._digest.update(data)

    def digest(self) -> bytes:
        """Return the SHA-256 of all bytes so far."""
        return self._digest.digest()

    def state(self) -> None:
        """Return None: hashlib keeps it to itself."""


def archive_sha256() -> ArchiveSha256:
    """Return one whose state can be had, if there is one."""
    made = compiled()
    if made is None:
        return WithoutState()
    begun: ArchiveSha256 = made()
    return begun


def sha256_after(state: bytes | None, size: int) -> ArchiveSha256 | None:
    """Go on behind `size` bytes, a multiple of 64; None where that can't be done."""
    made = compiled()
    if made is None or state is None:
        return None
    begun: ArchiveSha256 = made(state, size)
    return begun


@cache
def compiled() -> Any | None:
    """Return the compiled class, once it has passed its test."""
    try:
        made = importlib.import_module(_COMPILED).Sha256
    except (ImportError, AttributeError):
        return None
    return made if digests(made) else None


def digests(made: Any) -> bool:
    """Whether a compiled class digests as hashlib does, also behind a state."""
    first, rest = bytes(range(256)) * 256, bytes(100)
    try:
        one = made()
        one.update(first)
        other = made(one.state(), len(first))
        other.update(rest)
        told = [one.digest(), other.digest()]
    except (AttributeError, TypeError, ValueError):
        return False
    return told == [hashlib.sha256(first).digest(), hashlib.sha256(first + rest).digest()]
