"""A body of a few bytes that this store makes itself: a record, or what is tried with."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator


class Small:
    """See `app.delivery.object_store.PartBody`."""

    def __init__(self, content: bytes = b"") -> None:
        self._content = content
        self.md5 = hashlib.md5(content, usedforsecurity=False).digest()

    def __len__(self) -> int:
        return len(self._content)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
        """Return 0: each iteration begins at the first byte."""
        return 0

    def read(self) -> bytes:
        """Return all bytes."""
        return self._content
