"""The bytes of a file of rs-order's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.errors import SourceGoneError, SourceNotReadyError, SourceUnavailableError
from streams.regards.refusals import seen_as
from streams.regards.requests import Requests, breaking_off
from streams.regards.resume import Connection, Resumption, resumed
from streams.regards.stall import unstalled

_CONTENT_RANGE = re.compile(r"bytes (\d+)-")
# The bytes are watched by `unstalled`.
_UNWATCHED = aiohttp.ClientTimeout(total=None, sock_connect=10)


class Downloads:
    """Opens files, and holds on to them while they are read."""

    def __init__(self, requests: Requests, *, stall_timeout: float, resumption: Resumption) -> None:
        self._requests = requests
        self._stall_timeout = stall_timeout
        self._resumption = resumption

    @contextlib.asynccontextmanager
    async def open(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes; a connection that breaks is resumed in place.

        Reading raises SourceNotReadyError (202), what `refusals` makes of refusals (of a 410
        SourceGoneError), and WrongFileError when the file changes while it is read.
        """
        what = f"file {file.file_id} ({file.member})"
        validators: dict[str, str] = {}

        @contextlib.asynccontextmanager
        async def open_at(offset: int) -> AsyncIterator[Connection]:
            headers = {"Range": f"bytes={offset}-"} | validators if offset else {}
            path = f"/orders/files/{file.file_id}"
            asked = self._requests.ask(delivery, path, what, headers=headers, timeout=_UNWATCHED)
            async with _placed(file), asked as response:
                if response.status == 202:
                    raise SourceNotReadyError(f"rs-order has not made {what} available yet")
                if _is_another(response, file):
                    raise SourceUnavailableError(
                        f"rs-order's answer for {what} is not that file; {seen_as(response)}: "
                        "is it a page of a gateway before it? check DELIVERY_RS_ORDER_URL"
                    )
                if not offset and (etag := response.headers.get("ETag", "")).startswith('"'):
                    validators["If-Range"] = etag
                if not offset:
                    stream.size = _told_size(response)
                yield Connection(
                    start=_start_of(response),
                    chunks=self._chunks(response, what),
                    tells_its_end="Content-Length" in response.headers
                    or "Transfer-Encoding" in response.headers,
                    size=stream.size,
                )

        chunks = resumed(
            open_at,
            what=what,
            size=file.size,
            compared=file.md5 is not None or file.crc32 is not None,
            how=self._resumption,
        )
        stream = FileBytes(chunks)
        try:
            yield stream
        finally:
            await chunks.aclose()

    async def _chunks(self, response: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
        with breaking_off(what):
            async with aclosing(unstalled(response.content, limit=self._stall_timeout)) as chunks:
                async for chunk in chunks:
                    yield chunk


@contextlib.asynccontextmanager
async def _placed(file: ManifestFile) -> AsyncIterator[None]:
    """Let a refusal that says that a file is gone say where in the archive that is."""
    try:
        yield
    except SourceGoneError as error:
        raise SourceGoneError(str(error), position=file.position) from None


def _is_another(response: aiohttp.ClientResponse, file: ManifestFile) -> bool:
    """Whether an answer is surely not the file's, but a page of a proxy in between."""
    if response.status not in (200, 206):
        return True
    return (
        response.content_type == "text/html"
        and not file.member.lower().endswith((".html", ".htm"))
        and file.size is not None
        and response.content_length is not None
        and file.size != _start_of(response) + response.content_length
    )


def _told_size(response: aiohttp.ClientResponse) -> int | None:
    """Return how many bytes a file has, as the answer that begins it tells; None: it does not.

    Of bytes that a gateway has encoded, though identity is asked for, it would be another number
    whenever that does it otherwise.
    """
    headers = response.headers
    if response.status != 200 or "Transfer-Encoding" in headers:
        return None
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        return None
    return response.content_length


def _start_of(response: aiohttp.ClientResponse) -> int:
    """Return the offset that an answer begins at."""
    if response.status != 206:
        return 0
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else 0
