"""Zstandard frames, one behind the other: unpacked, and followed to their very end.

The library ends silently where a stream does, be that within a frame. So the frames' blocks are
followed beside it: each has its length in front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, cast

import zstandard

from rs_delivery_client.archives.window import Window
from rs_delivery_client.flaws import Flaw, Kind, Tell

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A5  # beside its last four bits
_MAX_WINDOW = 128 * 1024 * 1024  # bytes; what zstd itself takes without being told otherwise
_AT_ONCE = 128 * 1024  # bytes


class _Frames:
    """Follows frames and their blocks; holds a header at most."""

    def __init__(self) -> None:
        self._skip = 0  # bytes of a block, or of a checksum, that come yet
        self._held = b""
        self._in_frame = False
        self._checksum = 0
        self._last = False  # whether the block is the frame's last

    @property
    def between(self) -> bool:
        """Whether a frame has ended and none has begun."""
        return not self._in_frame and not self._skip and not self._held

    def feed(self, data: bytes) -> None:
        """Go on. What is no frame is left to the library to say."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                self._end_frame()
                continue
            self._held += data[at : at + 1]
            at += 1
            if self._in_frame:
                self._block()
            else:
                self._header()

    def _end_frame(self) -> None:
        if not self._skip and self._last and self._in_frame:
            self._last = self._in_frame = False
            self._skip, self._checksum = self._checksum, 0

    def _block(self) -> None:
        if len(self._held) < 3:
            return
        header = int.from_bytes(self._held, "little")
        self._held = b""
        self._last = bool(header & 1)
        is_one_byte = (header >> 1) & 3 == 1
        self._skip = 1 if is_one_byte else header >> 3
        self._end_frame()

    def _header(self) -> None:
        if len(self._held) < 5:
            return
        magic = int.from_bytes(self._held[:4], "little")
        if magic >> 4 == _SKIPPABLE:
            if len(self._held) == 8:
                self._skip = int.from_bytes(self._held[4:8], "little")
                self._held = b""
            return
        described = self._held[4]
        single = bool(described & 0x20)
        size = (1 if single else 0, 2, 4, 8)[described >> 6]
        length = 5 + (not single) + (0, 1, 2, 4)[described & 3] + size
        if len(self._held) == length:
            self._held = b""
            self._in_frame = True
            self._checksum = 4 if described & 4 else 0


class Unpacked:
    """What is in the frames; see `archives.window.Read`."""

    def __init__(self, window: Window, tell: Tell) -> None:
        self._window = window
        self._tell = tell
        self._frames = _Frames()
        self._ended = False
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._reader = unpacker.stream_reader(
            cast("IO[bytes]", _Source(self._take)), read_size=_AT_ONCE, read_across_frames=True
        )

    def _take(self, count: int) -> bytes:
        data = self._window.some(count)
        self._frames.feed(data)
        return data

    def read(self, count: int) -> bytes:
        """Return bytes; none at the end, and where the frames can't be read on."""
        if self._ended:
            return b""
        try:
            data = self._reader.read(count)
        except zstandard.ZstdError as error:
            self._end(
                Kind.DAMAGED,
                f"what is compressed can't be read on, near byte {self._window.offset:,} ({error})",
            )
            return b""
        if not data and not self._frames.between:
            self._end(Kind.TRUNCATED, "the archive ends within what is compressed")
        return data

    def _end(self, kind: Kind, says: str) -> None:
        self._ended = True
        self._tell(Flaw(kind=kind, says=says))
        self._window.rest()


class _Source:
    """What the library reads from."""

    def __init__(self, take: Callable[[int], bytes]) -> None:
        self.read = take
