"""rs-order over REST: an order's listing and its files (contract, section 2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import aiohttp

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.errors import SourceNotReadyError, SourceUnavailableError
from app.telemetry import tracing
from streams.regards.https import connector_of, said, trust
from streams.regards.refusals import check, seen_as
from streams.regards.resume import Connection, Resumption, resumed
from streams.regards.stall import unstalled
from streams.regards.tokens import TokenSigner

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")
# Big reads: every hand-over between stages costs the same, whatever its size.
READ_BUFFER = 1024 * 1024


# For downloads, whose bytes are watched by `unstalled`.
_UNWATCHED = aiohttp.ClientTimeout(total=None, sock_connect=10)


class RsOrder:
    """See `ports.OrderSource`. Addresses are made here; a listing's links are not followed."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        signer: TokenSigner,
        *,
        url: str,
        page_size: int,
        stall_timeout: float,
        resumption: Resumption,
    ) -> None:
        self._session = session
        self._signer = signer
        self._url = url.rstrip("/")
        self._page_size = page_size
        self._stall_timeout = stall_timeout
        self._resumption = resumption

    async def listing(self, delivery: Delivery) -> AsyncIterator[ListedFile]:
        """Iterate over the files of the delivery's order.

        Raises SourceNotReadyError (206), and what `streams.regards.refusals` makes of refusals;
        SourceUnavailableError also when an answer is no page, and when the listing changed while it
        was read, for then a file may have slipped from one page to another unseen.
        """
        page = 0
        announced: int | None = None
        seen: set[int] = set()
        while True:
            what = f"page {page} of the files of order {delivery.order_id}"
            path = f"/orders/{delivery.order_id}/files/available"
            query = {"page": page, "size": self._page_size, "sort": "id,asc"}
            async with self._get(delivery, path, what, params=query) as response:
                if response.status == 204:
                    break
                if response.status == 206:
                    raise SourceNotReadyError(
                        f"rs-order has not finished order {delivery.order_id}"
                    )
                with _translate_errors(what):
                    body = await response.read()
                try:
                    files, total, last = _read_page(json.loads(body), page)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    raise SourceUnavailableError(
                        f"rs-order's answer for {what} is not a page of files ({error!r}); "
                        f"{seen_as(response)}: is it a page of a gateway before it? "
                        "check DELIVERY_RS_ORDER_URL"
                    ) from None
            if total is not None:
                if announced is not None and total != announced:
                    raise _changed(delivery, f"it had {announced} files, then {total}")
                announced = total
            for file in files:
                seen.add(file.file_id)
                yield file
            if last or (announced is not None and len(seen) > announced):
                break
            page += 1
        if announced is not None and len(seen) != announced:
            raise _changed(delivery, f"it announced {announced} files and listed {len(seen)}")

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes; a connection that breaks is resumed in place.

        Reading raises SourceNotReadyError (202), what `refusals` makes of refusals, and
        WrongFileError when the file changes while it is read.
        """
        what = f"file {file.file_id} ({file.member})"
        validators: dict[str, str] = {}

        @contextlib.asynccontextmanager
        async def open_at(offset: int) -> AsyncIterator[Connection]:
            headers = {"Range": f"bytes={offset}-"} | validators if offset else {}
            path = f"/orders/files/{file.file_id}"
            async with self._get(
                delivery, path, what, headers=headers, timeout=_UNWATCHED
            ) as response:
                if response.status == 202:
                    raise SourceNotReadyError(f"rs-order has not made {what} available yet")
                if _is_another(response, file):
                    raise SourceUnavailableError(
                        f"rs-order's answer for {what} is not that file; {seen_as(response)}: "
                        "is it a page of a gateway before it? check DELIVERY_RS_ORDER_URL"
                    )
                if not offset and (etag := response.headers.get("ETag", "")).startswith('"'):
                    validators["If-Range"] = etag
                yield Connection(
                    start=_start_of(response),
                    chunks=self._chunks(response, what),
                    tells_its_end="Content-Length" in response.headers
                    or "Transfer-Encoding" in response.headers,
                )

        stream = resumed(open_at, what=what, size=file.size, how=self._resumption)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def _chunks(self, response: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
        with _translate_errors(what):
            async with aclosing(unstalled(response.content, limit=self._stall_timeout)) as chunks:
                async for chunk in chunks:
                    yield chunk

    @contextlib.asynccontextmanager
    async def _get(
        self,
        delivery: Delivery,
        path: str,
        what: str,
        *,
        params: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - that of the session's
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        token = self._signer.token(delivery.tenant, delivery.user)
        headers = {"Authorization": f"Bearer {token}"} | dict(headers or {})
        trace = tracing.current()
        if trace is not None:
            headers[tracing.HEADER] = trace
        async with contextlib.AsyncExitStack() as stack:
            with _translate_errors(what):
                async with asyncio.timeout(self._stall_timeout):
                    response = await stack.enter_async_context(
                        self._session.get(
                            self._url + path,
                            params=params,
                            headers=headers,
                            allow_redirects=False,
                            timeout=timeout or self._session.timeout,
                        )
                    )
                    await check("rs-order", response, what, check_address="DELIVERY_RS_ORDER_URL")
            yield response


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


def _start_of(response: aiohttp.ClientResponse) -> int:
    """Return the offset that an answer begins at."""
    if response.status != 206:
        return 0
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else 0


@contextlib.contextmanager
def _translate_errors(what: str) -> Any:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SourceUnavailableError(f"rs-order broke off {what} ({said(error)})") from error


def _changed(delivery: Delivery, how: str) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"the listing of order {delivery.order_id} changed while it was read: {how}"
    )


def _read_page(body: dict[str, Any], page: int) -> tuple[list[ListedFile], int | None, bool]:
    """Return the files of a page, how many there are on all, and whether this is the last."""
    content = body.get("content") or []
    metadata = body.get("metadata") or {}
    total = metadata.get("totalElements")
    total = int(total) if total is not None else None
    files = [_read_file(entry, total) for entry in content]
    if "totalPages" in metadata:
        last = page + 1 >= int(metadata["totalPages"])
    else:
        last = not any(link.get("rel") == "next" for link in body.get("links") or [])
    return files, total, last or not files


def _read_file(entry: dict[str, Any], listed: int | None) -> ListedFile:
    """Read an entry, nested in `content` (HATEOAS) or flat."""
    data = entry["content"] if isinstance(entry.get("content"), dict) else entry
    size = data.get("filesize", data.get("fileSize"))
    checksum = str(data.get("checksum") or "")
    return ListedFile(
        file_id=int(data["id"]),
        product_id=str(data.get("productId") or ""),
        version=int(data.get("version") or 1),
        filename=str(data.get("filename") or ""),
        size=int(size) if size is not None else None,
        md5=checksum.lower() if _MD5.fullmatch(checksum) else None,
        listed=listed,
    )


@contextlib.asynccontextmanager
async def open_session(
    *, stall_timeout: float, ca: str = ""
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open an HTTP session for rs-order; `stall_timeout` is in seconds without a byte.

    `ca` is a file of CAs that are trusted beside those of the system; raises ConfigurationError.
    Each transfer, listing and check bounds its own connections: a transfer that waits for its
    target keeps those that it has, and no limit that they share may make others wait for it.
    """
    async with aiohttp.ClientSession(
        connector=connector_of(trust(ca), limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=stall_timeout),
        # The bytes as they are: checksums are of the file, not of what unpacking would give.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        # One session serves many users: what is set for one must not go along for another.
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER,
    ) as session:
        yield session
