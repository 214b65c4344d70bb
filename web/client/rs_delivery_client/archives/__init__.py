"""Archives, read once from their first byte to their last: members out, flaws told.

Nothing is sought in, so that an archive may come from a pipe, a socket or a disk alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from rs_delivery_client.archives.member import Member
from rs_delivery_client.archives.tar import TarReader
from rs_delivery_client.archives.window import Passed, Read, Window
from rs_delivery_client.archives.zip import ZipReader
from rs_delivery_client.archives.zstd import Unpacked
from rs_delivery_client.errors import NotCheckedError
from rs_delivery_client.flaws import Tell
from rs_delivery_client.ledger import Ledger

SUFFIXES = (".zip", ".tar", ".tar.zst", ".tzst")
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # of a frame that zstd passes over, from its second byte on

__all__ = ["SUFFIXES", "Member", "Read", "ZipReader", "reader_of"]


class Reader(Protocol):
    """Reads an archive."""

    def __iter__(self) -> Iterator[Member]:
        """Yield its members; each is read to its end before the next one, or passed over."""


def reader_of(read: Read, name: str, ledger: Ledger, tell: Tell, passed: Passed) -> Reader:
    """Return what reads an archive: by its first bytes, else by its name.

    `passed` hears of bytes beside the members, of archives that are compressed as a whole, too: of
    these there may be far more than were read.
    Raises NotCheckedError where neither tells.
    """
    window = Window(read)
    head = window.peek(512)
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return ZipReader(window, ledger, tell)
    if head[:4] == _ZSTD or head[1:4] == _SKIPPABLE:
        return TarReader(Window(Unpacked(window, tell).read), ledger, tell, passed)
    if head[257:262] == b"ustar":
        return TarReader(window, ledger, tell, passed)
    if name.endswith(".zip"):
        return ZipReader(window, ledger, tell)
    if name.endswith((".tar.zst", ".tzst")):
        return TarReader(Window(Unpacked(window, tell).read), ledger, tell, passed)
    if name.endswith(".tar"):
        return TarReader(window, ledger, tell, passed)
    raise NotCheckedError(
        f"{name} is no archive of a kind that is read here ({', '.join(SUFFIXES)})"
    )
