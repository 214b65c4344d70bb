"""The MD5 of the archive and of each of its parts.

`sinks/_md5pair.c` computes both in one pass, at the price of one, and goes on from a state that
another process had. Where it isn't built (no C compiler at install time), hashlib takes two passes:
slower, the same digests; but its state can't be had, so there are no checkpoints then.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from app.errors import CheckpointUnusableError


class PairedMd5(Protocol):
    """The MD5 of a stream, and of each of its parts; for one thread at a time.

    All parts but the last must have a multiple of 64 bytes, as parts of an upload have.
    """

    def update(self, data: bytes | memoryview, /) -> None:
        """Take bytes. Raises ValueError after a part that ended between multiples of 64."""

    def next_part(self) -> bytes:
        """Return the MD5 of the current part, 16 bytes, and begin the next one."""

    def digest(self) -> bytes:
        """Return the MD5 of all bytes so far, 16 bytes."""

    def state(self) -> bytes | None:
        """Return what `paired_md5` goes on from, 16 bytes; None where that can't be had.

        The four words of RFC 1321, each with its low byte first. Raises ValueError between
        multiples of 64 bytes.
        """


class TwoPasses:
    """See `PairedMd5`."""

    def __init__(self) -> None:
        self._whole = hashlib.md5(usedforsecurity=False)
        self._part = hashlib.md5(usedforsecurity=False)
        self._odd = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Take bytes, in both."""
        if self._odd < 0:
            raise ValueError("only the last part may end between multiples of 64")
        self._odd = (self._odd + len(data)) % 64
        self._whole.update(data)
        self._part.update(data)

    def next_part(self) -> bytes:
        """Return the part's MD5, and begin the next part."""
        digest = self._part.digest()
        self._part = hashlib.md5(usedforsecurity=False)
        self._odd = -1 if self._odd else 0
        return digest

    def digest(self) -> bytes:
        """Return the MD5 of all bytes so far."""
        return self._whole.digest()

    def state(self) -> None:
        """Return None: hashlib keeps it to itself."""


def paired_md5() -> PairedMd5:
    """Return the faster of the two that is there."""
    try:
        from sinks._md5pair import Pair  # noqa: PLC0415 - not built everywhere
    except ImportError:
        return TwoPasses()
    return Pair()


def paired_md5_after(state: bytes, size: int) -> PairedMd5:
    """Go on behind `size` bytes, at the end of a part.

    Raises CheckpointUnusableError where that can't be done.
    """
    try:
        from sinks._md5pair import Pair  # noqa: PLC0415 - not built everywhere
    except ImportError:
        raise CheckpointUnusableError(
            "this worker can't go on with an MD5 that another one began: its _md5pair was not "
            "built, since there was no C compiler when it was installed"
        ) from None
    return Pair(state, size)
