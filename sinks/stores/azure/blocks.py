"""What blocks are called: an id tells its upload, the part, the part's MD5, and its own request.

Azure lists the blocks that are staged under the name of a blob by their ids and sizes alone, and
those of all who stage there in one list; so what must be known of one is in its id. No two requests
have the same id. Hence each id comes to be staged once at most, and never again after it was
discarded, however late a request of which no answer came is carried out: the fence rests on that.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

# Upload (16 bytes), number, MD5, time (ns since 1970), chance: 48 bytes, 64 characters of base64,
# which Azure allows at most; and all ids under one name must be of one length.
_LAYOUT = struct.Struct(">16sH16sQ6s")


def new_upload_id() -> str:
    """Return 32 hexadecimal digits."""
    return uuid4().hex


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockId:
    """One block."""

    upload_id: str  # 32 hexadecimal digits
    number: int  # of the part, from 1; Azure takes 50,000
    md5: bytes  # which Azure compared when it took the block
    made: int  # in ns since 1970, by the clock of the worker that sent it
    salt: bytes  # 6 bytes

    @classmethod
    def new(
        cls,
        upload_id: str,
        number: int,
        md5: bytes,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Return the id of one request that stages a block."""
        return cls(
            upload_id=upload_id, number=number, md5=md5, made=clock(), salt=secrets.token_bytes(6)
        )

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read an id; None if it is another program's."""
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
            upload, number, md5, made, salt = _LAYOUT.unpack(raw)
        except (binascii.Error, ValueError, struct.error):
            return None
        return cls(upload_id=upload.hex(), number=number, md5=md5, made=made, salt=salt)

    def __str__(self) -> str:
        raw = _LAYOUT.pack(
            bytes.fromhex(self.upload_id), self.number, self.md5, self.made, self.salt
        )
        return base64.urlsafe_b64encode(raw).decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedBlock:
    """A block that is staged."""

    id: BlockId
    size: int  # bytes


def of_upload(blocks: Iterable[StagedBlock], upload_id: str) -> dict[int, list[StagedBlock]]:
    """Return the blocks of one upload by the numbers of their parts, the newest last."""
    found: dict[int, list[StagedBlock]] = {}
    for block in sorted(blocks, key=lambda block: block.id.made):
        if block.id.upload_id == upload_id:
            found.setdefault(block.id.number, []).append(block)
    return dict(sorted(found.items()))
