"""The MD5 of the archive and of each of its parts.

`sinks/_md5pair.c` computes both in one pass, at the price of one, and goes on from a state that
another process had. Where it isn't built (no C compiler at install time), or does not pass its
test, hashlib takes two passes: slower, the same digests; but its state can't be had, so there are
no checkpoints then (`without_checkpoints` says why).
"""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from typing import Any, Protocol

from app.errors import CheckpointUnusableError

_COMPILED = "sinks._md5pair"
BUILD_ADVICE = (
    "build it: install a C compiler and Python's headers, then install the service again "
    "(pip install --force-reinstall --no-deps)"
)


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
    """Return the faster of the two that can be used."""
    pair = compiled()
    made: PairedMd5 = TwoPasses() if isinstance(pair, str) else pair()
    return made


def paired_md5_after(state: bytes, size: int) -> PairedMd5:
    """Go on behind `size` bytes, at the end of a part.

    Raises CheckpointUnusableError where that can't be done.
    """
    pair = compiled()
    if isinstance(pair, str):
        raise CheckpointUnusableError(
            f"this worker can't go on with an MD5 that another one began: {pair}; {BUILD_ADVICE}"
        )
    made: PairedMd5 = pair(state, size)
    return made


def without_checkpoints() -> str | None:
    """Return why transfers of this process can't be gone on with; None if they can."""
    pair = compiled()
    return pair if isinstance(pair, str) else None


@cache
def compiled() -> Any:
    """Return the compiled class, once it has passed its test, or in words why it isn't used."""
    try:
        pair = importlib.import_module(_COMPILED).Pair
    except ImportError as error:
        return f"{_COMPILED} was not built, or can't be loaded ({error})"
    except AttributeError:
        return f"{_COMPILED} is not what this version builds"
    return flaw_of(pair) or pair


def flaw_of(pair: Any) -> str | None:
    """Return what is wrong with a compiled class; None if it digests as hashlib does.

    It is tried as transfers use it: parts, then its state, and another one that goes on from there.
    One that an earlier version has built has no state to give; one that was built wrong must not
    make the ETags that archives are verified by.
    """
    sizes = (128, 32 * 1024, 100)  # of parts: small ones keep the interpreter's lock, large don't
    parts = [bytes((7 * n + size) % 256 for n in range(size)) for size in sizes]
    try:
        one = pair()
        told = [_part(one, part) for part in parts[:-1]]
        other = pair(one.state(), sum(sizes[:-1]))
        told += [_part(other, parts[-1]), other.digest(), _part(one, parts[-1]), one.digest()]
    except (AttributeError, TypeError, ValueError) as error:
        return f"{_COMPILED} is of another version of this service ({error})"
    of_part = [hashlib.md5(part, usedforsecurity=False).digest() for part in parts]
    whole = hashlib.md5(b"".join(parts), usedforsecurity=False).digest()
    if told != [*of_part, whole, of_part[-1], whole]:
        return f"{_COMPILED} does not digest as hashlib does"
    return None


def _part(pair: Any, data: bytes) -> Any:
    pair.update(data)
    return pair.next_part()
