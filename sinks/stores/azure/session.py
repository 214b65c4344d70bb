"""How Azure's servers are spoken to over HTTP: where it is allowed, and no more than is asked for.

What aiohttp's session does not do by itself: a request is made once; an address is judged before
a connection is opened to it; what answers has to be Azure's, as its library can't read another's
page; and an answer is read up to a limit, as it comes: a packed one is refused, as the library
would unpack any. No redirect is followed, as the library asks for none. No error tells a URL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import aiohttp

from app.network.judged import Judge
from sinks.stores.guard import EndlessAnswerError
from sinks.stores.sessions import guarded_session

_MAX_ANSWER = 32 * 1024 * 1024  # bytes; a list of 100,000 blocks has half of it
_MAX_ERROR = 256 * 1024  # bytes
_REQUEST_ID = "x-ms-request-id"  # in each answer of Azure's


class NotAzureError(aiohttp.ClientError):
    """An answer that Azure has not given: a gateway's page, likely."""


class PackedAnswerError(aiohttp.ClientError):
    """An answer whose length tells nothing of what it is unpacked."""


# What is said of these holds no address and no secret.
OWN_WORDS = (NotAzureError, PackedAnswerError, EndlessAnswerError)


_answers: ContextVar[list[aiohttp.ClientResponse]] = ContextVar("answers")


@contextlib.contextmanager
def answers_closed() -> Iterator[None]:
    """Close what a call left open of its answers, as the library does with what it can't read."""
    token = _answers.set([])
    try:
        yield
    finally:
        for answer in _answers.get():
            answer.close()
        _answers.reset(token)


class GuardedSession:
    """The session of one client: what `AioHttpTransport` asks of one."""

    auto_decompress = False

    def __init__(self, endpoint: str, *, judge: Judge, ca: str = "") -> None:
        self._session = guarded_session(endpoint, judge=judge, ca=ca)

    async def request(self, method: str, url: str, **arguments: Any) -> Any:
        """Make a request, once; its answer is Azure's, and bounded.

        What is raised does not tell the URL, in which there may be a SAS.
        """
        try:
            answer = await self._session.request(method, url, **arguments)
        except aiohttp.ConnectionTimeoutError:
            raise aiohttp.ConnectionTimeoutError("no connection within its time") from None
        except aiohttp.InvalidURL:
            raise NotAzureError("the URL can't be asked for") from None
        except aiohttp.ClientResponseError as error:
            raise NotAzureError(f"what answers can't be read ({type(error).__name__})") from None
        return self._judged(method, answer)

    def _judged(self, method: str, answer: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        if _REQUEST_ID not in answer.headers:
            # Whatever its status: a gateway's 404 says nothing of a blob, and must not seem to.
            answer.close()
            led = ", and led elsewhere" if 300 <= answer.status < 400 else ""
            raise NotAzureError(
                f"what answers ({answer.status}) is no blob storage of Azure's{led}: correct the "
                "endpoint, unless it passes"
            )
        if "Content-Encoding" in answer.headers and method != "HEAD":  # which tells of a blob's own
            answer.close()
            raise PackedAnswerError("an answer is packed, which was not asked for")
        _answers.get([]).append(answer)
        longest = _MAX_ERROR if answer.status >= 300 else _MAX_ANSWER
        answer.content = _Bounded(answer, longest)  # type: ignore[assignment]
        return answer

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: the client that has made it closes it."""


class _Bounded:
    """The bytes of an answer, up to a limit."""

    def __init__(self, answer: aiohttp.ClientResponse, longest: int) -> None:
        self._answer = answer
        self._content = answer.content
        self._left = longest
        self._longest = longest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def read(self, size: int = -1) -> bytes:
        """Return the next bytes, or all that are left. Raises EndlessAnswerError."""
        if size >= 0:
            return self._counted(await self._content.read(size))
        found = bytearray()
        while piece := self._counted(await self._content.readany()):
            found += piece
        return bytes(found)

    def _counted(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        if self._left < 0:
            self._answer.close()
            raise EndlessAnswerError(f"an answer has more than {self._longest} bytes")
        return piece
