"""Bytes at an address, over drops: what was had is not fetched again.

A connection that breaks off is made again from the next byte on (`Range`), with a condition that
what is there is still the same (`If-Range`). Where a link has run out, another one is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from rs_delivery_client.errors import (
    ContentChangedError,
    ContentError,
    ContentMissingError,
    LinkExpiredError,
    NotReachableError,
    cause_of,
)
from rs_delivery_client.pauses import Pauses, seconds_of
from rs_delivery_client.proxies import proxy_for

CHUNK = 256 * 1024  # bytes
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_EXPIRED = frozenset({400, 401, 403, 410})  # what stores answer to a link that has run out
_SIGNED_OUT = frozenset({401})
_MISSING = frozenset({403, 404, 405, 409, 410, 501})
_AWAY = frozenset({408, 425, 429, 500, 502, 503, 504})
_SIGNED = re.compile(r"\?[^\s'\"<>)]*")  # of an address, from its question mark on
_MAX_WORDS = 64 * 1024  # bytes of what an error says
_RENEWALS = 3  # links in a row that give nothing


@dataclass(frozen=True, kw_only=True)
class Link:
    """Where bytes can be fetched for a while."""

    url: str = field(repr=False)  # who has it has what it leads to
    expires: str | None = None
    size: int | None = None  # bytes
    md5: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    own: bool = False  # the service itself hands the bytes out: its refusals are its last word
    no_other: str = field(default="", repr=False)  # why there is no link to their place, then


# Gives a link: one that is new where the last did not do any more, or raises LinkExpiredError.
Address = Callable[[bool], Awaitable[Link]]


def fixed(url: str) -> Address:
    """Return the address of a link that is all there is."""
    link = Link(url=url)

    async def give(renew: bool) -> Link:
        if renew:
            raise LinkExpiredError(
                f"{shown(url)} is refused: a link that has run out, or one without rights; "
                "ask for another one"
            )
        return link

    return give


def shown(url: str) -> str:
    """Return an address without what signs it: that opens what it leads to."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


class Content:
    """Bytes at an address, from `start` on. `etag` is of what was there, if that is known."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        *,
        start: int = 0,
        etag: str | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        self._session = session
        self._address = address
        self._pauses = pauses or Pauses()
        self.offset = start
        self.etag = etag
        self.size: int | None = None  # bytes, of all of it

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield all bytes.

        Raises ContentChangedError, LinkExpiredError, ContentError, NotReachableError.
        """
        tries = renewals = 0
        renew = False
        while True:
            link = await self._address(renew)
            before, renew = self.offset, False
            try:
                async with contextlib.aclosing(self._attempt(link)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except _Refused as refused:
                renewals += 1
                if renewals > _RENEWALS:
                    raise LinkExpiredError(
                        f"{shown(link.url)} {refused}, also with a new link"
                    ) from None
                renew = True
            except _Dropped as dropped:
                if self.offset > before:
                    tries = renewals = 0
                tries += 1
                if tries >= self._pauses.tries:
                    often = "once" if tries == 1 else f"{tries} times"
                    raise NotReachableError(
                        f"{shown(link.url)} {dropped}, {often}; {self.offset:,} bytes were had"
                    ) from None
                await asyncio.sleep(self._pauses.before(tries, dropped.wait))
            else:
                return

    async def _attempt(self, link: Link) -> AsyncGenerator[bytes]:
        """Yield what one answer gives; it returns when that was the end."""
        url = _url_of(link)
        try:
            async with self._session.get(
                url, headers=self._headers(link), **proxy_for(url)
            ) as answer:
                if answer.status in (_SIGNED_OUT if link.own else _EXPIRED):
                    raise _Refused(f"answers {answer.status}")
                if answer.status in _AWAY:
                    wait = seconds_of(answer.headers.get("Retry-After"))
                    raise _Dropped(f"answers {answer.status}", wait)
                if answer.status == 416 and self._at_the_end(answer):
                    return
                if answer.status not in {200, 206}:
                    raise await _refusal(answer, link)
                skip = self._judge(answer, link)
                async for chunk in answer.content.iter_chunked(CHUNK):
                    rest = chunk[skip:] if skip else chunk
                    skip = max(0, skip - len(chunk))
                    if rest:
                        self.offset += len(rest)
                        yield rest
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Not raised from it: some of them have the link in what they say.
            raise _Dropped(f"does not answer ({_words_of(error)})") from None
        if self.size is not None and self.offset < self.size:
            raise _Dropped("ended before its end")
        if self.size is not None and self.offset > self.size:
            raise ContentError(f"{shown(link.url)} gives more bytes than it told")

    def _headers(self, link: Link) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", **link.headers}
        if self.offset:
            headers["Range"] = f"bytes={self.offset}-"
            if self.etag and not self.etag.startswith("W/"):
                headers["If-Range"] = self.etag
        return headers

    def _judge(self, answer: aiohttp.ClientResponse, link: Link) -> int:
        """Return how many bytes of an answer were had before."""
        etag, where = answer.headers.get("ETag"), shown(link.url)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise ContentError(f"{where} answers in another encoding than it was asked for")
        if self.etag is not None and etag is not None and etag != self.etag:
            raise ContentChangedError(f"what is at {where} has changed since reading began")
        skip, size = self.offset, answer.content_length
        if answer.status == 206:
            match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self.offset:
                raise ContentError(f"{where} answers with other bytes than it was asked for")
            skip, size = 0, None if match[3] == "*" else int(match[3])
        if self.size is not None and size is not None and size != self.size:
            raise ContentChangedError(f"what is at {where} has another size than before")
        if self.size is None:
            self.size = size
        self.etag = self.etag or etag
        return skip

    def _at_the_end(self, answer: aiohttp.ClientResponse) -> bool:
        """Whether no byte follows what was had. Raises ContentChangedError: there are fewer."""
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if total != str(self.offset) and self.offset != self.size:
            raise ContentChangedError("what is there now is shorter than what was had of it")
        self.size = self.offset
        return True


def _words_of(error: Exception) -> str:
    """Return what went wrong, without what signs a link."""
    name = type(error).__name__
    if isinstance(error, aiohttp.InvalidURL):
        return f"{name}: it leads to no address"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{name}: {error.status} {_SIGNED.sub('', error.message)}".rstrip(" :")
    return _SIGNED.sub("", cause_of(error))


def _url_of(link: Link) -> URL:
    url = URL(link.url, encoded=True)
    if url.scheme not in {"http", "https"}:
        raise ContentError(f"{shown(link.url)} is no link that can be fetched over HTTP")
    return url


async def _refusal(answer: aiohttp.ClientResponse, link: Link) -> ContentError:
    """Return what an answer comes to that gives no bytes, in the words of the service if it has."""
    says = f"{shown(link.url)} answers {answer.status} {answer.reason or ''}".rstrip()
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(await answer.content.read(_MAX_WORDS))
        if isinstance(body, dict) and isinstance(body.get("message"), str):
            says = body["message"]
    if link.no_other and link.no_other != says:
        says = f"{says}; and {link.no_other}"
    return (ContentMissingError if answer.status in _MISSING else ContentError)(says)


class _Refused(Exception):  # noqa: N818 - a link may have run out: no error yet
    """A link does not do any more."""


class _Dropped(Exception):  # noqa: N818 - it is tried again
    """An answer broke off, or there was none."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait  # seconds that were asked for


def open_session(*, timeout: float = 60.0) -> aiohttp.ClientSession:
    """Return a session for links: it sends no token. `timeout` is of silence, in seconds."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=timeout, sock_read=timeout),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
