"""Members in, the bytes of a ZIP file out: synchronous, for a thread of its own.

The same members give the same bytes, however the network cut them: each file is cut anew to a
fixed size, members carry one fixed date, and what is compressed is decided by the bytes alone.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import stream_zip
from isal import isal_zlib

from app.errors import WrongFileError
from app.model import ManifestFile

BLOCK = 256 * 1024  # bytes; what a stage hands to the next
_DATE = datetime(1980, 1, 1, tzinfo=UTC)  # the earliest that a ZIP can hold
_MODE = 0o100644
_WORTH_IT = 0.95  # a sample that does not shrink below this is stored
_LIMIT_32 = 0xFFFFFFFF
_MEMBERS_32 = 0xFFFF

Member = tuple[ManifestFile, Iterable[bytes]]


def _sizes_32(file: ManifestFile, index: int, offset: int) -> tuple[bool, int]:
    """Whether the member may be ZIP32 for certain, and the furthest offset where it can end.

    Bounds, not sizes: deflate can grow data a little. ZIP32 is read by the widest set of
    programs, so it is kept wherever nothing can overflow.
    """
    if file.size is None:
        return False, _LIMIT_32 + 1
    end = offset + file.size + file.size // 1000 + 1024 + 3 * len(file.member.encode())
    return end <= _LIMIT_32 and index < _MEMBERS_32, end


def cut(chunks: Iterable[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """Cut anew into blocks of `size` bytes; the last may be shorter."""
    parts: list[bytes] = []
    have = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while have + len(view) >= size:
            parts.append(bytes(view[: size - have]) if parts or len(view) > size else bytes(view))
            view = view[size - have :]
            yield parts[0] if len(parts) == 1 else b"".join(parts)
            parts, have = [], 0
        if view:
            parts.append(bytes(view))
            have += len(view)
    if parts:
        yield b"".join(parts)


def verified(
    file: ManifestFile, blocks: Iterable[bytes], note: Callable[[int], None]
) -> Iterator[bytes]:
    """Pass blocks on, and raise WrongFileError unless they are what the listing says.

    A file that turns out too long is wrong at once, not when it ends.
    """
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    for block in blocks:
        size += len(block)
        if file.size is not None and size > file.size:
            raise WrongFileError(
                f"file {file.file_id} ({file.member}): expected {file.size} bytes, got more"
            )
        if file.md5 is not None:
            digest.update(block)
        note(len(block))
        yield block
    if file.size is not None and size != file.size:
        raise WrongFileError(
            f"file {file.file_id} ({file.member}): expected {file.size} bytes, got {size}"
        )
    if file.md5 is not None and digest.hexdigest() != file.md5:
        raise WrongFileError(
            f"file {file.file_id} ({file.member}): expected MD5 {file.md5}, "
            f"got {digest.hexdigest()}"
        )


class _Current:
    """The member that is being zipped: its first block decides how."""

    def __init__(self, compression: str) -> None:
        self._compression = compression
        self._blocks: Iterator[bytes] = iter(())
        self._first: bytes | None = None

    def open(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        self._blocks = blocks
        self._first = None
        return self._all()

    def _all(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        yield from self._blocks

    def compressor(self) -> Any:
        """Choose how; stream_zip asks once a member, right before it takes its first block."""
        self._first = next(self._blocks, b"")
        if self._compression == "deflate" or (
            self._compression == "auto"
            and len(isal_zlib.compress(self._first, 1)) < len(self._first) * _WORTH_IT
        ):
            return isal_zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
        # ISA-L's own level 0 is not "stored": zlib's is.
        return zlib.compressobj(level=0, wbits=-zlib.MAX_WBITS)


def zip_blocks(
    members: Iterable[Member], *, compression: str, note: Callable[[int], None]
) -> Iterator[bytes]:
    """Return the ZIP file in blocks. `note` hears how many source bytes went in.

    Raises WrongFileError, and whatever reading a member raises.
    """
    current = _Current(compression)

    def entries() -> Iterator[Any]:
        offset = 0
        for index, (file, chunks) in enumerate(members):
            small, offset = _sizes_32(file, index, offset)
            blocks = current.open(verified(file, cut(chunks), note))
            method = stream_zip.ZIP_32 if small else stream_zip.ZIP_64
            yield file.member, _DATE, _MODE, method, blocks

    return iter(
        stream_zip.stream_zip(
            entries(),
            chunk_size=BLOCK,
            get_compressobj=current.compressor,
            extended_timestamps=False,
        )
    )
