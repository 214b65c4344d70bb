"""The bytes of a file, as a source gives them."""

from __future__ import annotations

from collections.abc import AsyncIterator


class FileBytes(AsyncIterator[bytes]):
    """A file's bytes, and how many there are.

    `size` is known when the first ones are there, if the source's answer tells it; else it is None.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.size: int | None = None

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)
