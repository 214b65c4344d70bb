"""The bytes of a file of rs-order's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial

import aiohttp

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.errors import SourceGoneError, SourceNotReadyError, SourceUnavailableError
from streams.regards.refusals import seen_as
from streams.regards.requests import Requests, breaking_off, check_success
from streams.regards.resume import Connection, Resumption, resumed
from streams.regards.small_files import SMALL, FirstTry, SmallFile, Tell, read_into
from streams.regards.stall import unstalled, watched

_CONTENT_RANGE = re.compile(r"bytes (\d+)-")
# The bytes are watched by `unstalled`.
_UNWATCHED = aiohttp.ClientTimeout(total=None, sock_connect=10)


class Downloads:
    """Opens files, and holds on to them while they are read."""

    def __init__(self, requests: Requests, *, stall_timeout: float, resumption: Resumption) -> None:
        self._requests = requests
        self._stall_timeout = stall_timeout
        self._resumption = resumption

    def open(
        self, delivery: Delivery, file: ManifestFile
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a file's bytes; a connection that breaks is resumed in place.

        Reading raises SourceNotReadyError (202), what `refusals` makes of refusals (of a 410
        SourceGoneError), and WrongFileError when the file changes while it is read.
        """
        if file.size is not None and file.size <= SMALL:
            return SmallFile(
                partial(self._whole, delivery, file), partial(self._resumed, delivery, file)
            )
        return self._streamed(delivery, file)

    @contextlib.asynccontextmanager
    async def _streamed(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        def tell(size: int | None) -> None:
            stream.size = size

        chunks = self._resumed(delivery, file, tell)
        stream = FileBytes(chunks)
        async with aclosing(chunks):
            yield stream

    async def _whole(
        self, delivery: Delivery, file: ManifestFile, tell: Tell, first: FirstTry
    ) -> bytes:
        """Return a small file's bytes, by one request; of one that is too large its beginning."""
        assert file.size is not None  # noqa: S101 - else none knows that it is small
        what = _named(file)
        asked = self._requests.begin(delivery, _path_of(file), timeout=_UNWATCHED)
        try:
            with breaking_off(what):
                async with watched(self._stall_timeout) as watch, asked as response:
                    await check_success(response, what)
                    _check_answer(response, file)
                    if start := _start_of(response):
                        raise SourceUnavailableError(f"{what}: asked from byte 0, got from {start}")
                    first.validators.update(_validators_of(response))
                    tell(_told_size(response))
                    size = await read_into(
                        first.pieces,
                        response.content,
                        most=file.size,
                        watch=watch,
                        limit=self._stall_timeout,
                    )
                    is_whole = size >= file.size or _tells_its_end(response)
        except SourceGoneError as error:
            raise _placed(error, file) from None
        if not is_whole:
            raise SourceUnavailableError(f"{what} ended after {size} of {file.size} bytes")
        return b"".join(first.pieces)

    def _resumed(
        self,
        delivery: Delivery,
        file: ManifestFile,
        tell: Tell,
        first: FirstTry | None = None,
    ) -> AsyncGenerator[bytes, None]:
        what = _named(file)
        validators = {} if first is None else first.validators
        tried = [] if first is None else [first]

        @contextlib.asynccontextmanager
        async def open_at(offset: int) -> AsyncIterator[Connection]:
            if tried:
                yield tried.pop().connection()
                return
            headers = {"Range": f"bytes={offset}-"} | validators if offset else {}
            path = _path_of(file)
            asked = self._requests.ask(delivery, path, what, headers=headers, timeout=_UNWATCHED)
            async with _placing(file), asked as response:
                _check_answer(response, file)
                told = None
                if not offset:
                    validators.update(_validators_of(response))
                    told = _told_size(response)
                    tell(told)
                yield Connection(
                    start=_start_of(response),
                    chunks=self._chunks(response, what),
                    tells_its_end=_tells_its_end(response),
                    size=told,
                )

        return resumed(
            open_at,
            what=what,
            size=file.size,
            compared=file.md5 is not None or file.crc32 is not None,
            how=self._resumption,
        )

    async def _chunks(self, response: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
        with breaking_off(what):
            async with aclosing(unstalled(response.content, limit=self._stall_timeout)) as chunks:
                async for chunk in chunks:
                    yield chunk


def _named(file: ManifestFile) -> str:
    return f"file {file.file_id} ({file.member})"


def _path_of(file: ManifestFile) -> str:
    return f"/orders/files/{file.file_id}"


@contextlib.asynccontextmanager
async def _placing(file: ManifestFile) -> AsyncIterator[None]:
    """Let a refusal that says that a file is gone say where in the archive that is."""
    try:
        yield
    except SourceGoneError as error:
        raise _placed(error, file) from None


def _placed(error: SourceGoneError, file: ManifestFile) -> SourceGoneError:
    return SourceGoneError(str(error), position=file.position)


def _check_answer(response: aiohttp.ClientResponse, file: ManifestFile) -> None:
    """Raise SourceNotReadyError or SourceUnavailableError where an answer is not the file."""
    what = _named(file)
    if response.status == 202:
        raise SourceNotReadyError(f"rs-order has not made {what} available yet")
    if _is_another(response, file):
        raise SourceUnavailableError(
            f"rs-order's answer for {what} is not that file; {seen_as(response)}: "
            "is it a page of a gateway before it? check DELIVERY_RS_ORDER_URL"
        )


def _validators_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the headers with which the rest of just this file is asked for."""
    etag = response.headers.get("ETag", "")
    return {"If-Range": etag} if etag.startswith('"') else {}


def _tells_its_end(response: aiohttp.ClientResponse) -> bool:
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


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
