"""Chunks of any size made into blocks of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sinks.formats.archive_format import BLOCK


def rechunk(chunks: Iterable[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """Return the same bytes in blocks of `size` bytes; the last may be shorter."""
    pieces: list[bytes | memoryview] = []
    have = 0
    for whole in chunks:
        chunk: bytes | memoryview = whole
        while have + len(chunk) >= size:
            view = memoryview(chunk)
            pieces.append(chunk if have + len(chunk) == size else view[: size - have])
            chunk = view[size - have :]
            yield _joined(pieces)
            pieces, have = [], 0
        if chunk:
            pieces.append(chunk)
            have += len(chunk)
    if pieces:
        yield _joined(pieces)


def _joined(pieces: list[bytes | memoryview]) -> bytes:
    # join gives back a lone piece as it is, without a copy, if it is bytes.
    return b"".join(pieces)
