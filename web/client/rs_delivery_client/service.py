"""Requests to the service: signed in, tried again where that is safe, refused in its words."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from rs_delivery_client.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    NotReachableError,
    NotSignedInError,
    ServiceError,
    cause_of,
)
from rs_delivery_client.pauses import Pauses, seconds_of
from rs_delivery_client.proxies import proxy_for
from rs_delivery_client.tokens import Token

_KINDS: Mapping[int, type[ServiceError]] = {
    400: InvalidRequestError,
    401: NotSignedInError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
}
_AWAY = frozenset({429, 502, 503, 504})
_MAX_ANSWER = 64 * 1024 * 1024  # bytes


class Answer(NamedTuple):
    """What the service answered."""

    content: Any  # of its JSON; None: there is none
    etag: str | None  # as the header has it, in quotes
    unchanged: bool = False  # it is what the caller has already


class Service:
    """The service at an address."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, token: Token | None, pauses: Pauses
    ) -> None:
        self._session = session
        self._base = URL(url.rstrip("/"))
        self._token = token
        self.pauses = pauses
        self._held: str | None = None
        self._renewing = asyncio.Lock()

    @property
    def renews(self) -> bool:
        """Whether there is another token when one has expired."""
        return callable(self._token)

    def address(self, path: str) -> str:
        """Return where a path is, which is quoted as it has to be."""
        return f"{self._base}{path}"

    async def headers(
        self, *, renew: bool = False, refused: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return what signs a request in; `renew`: by another token than `refused`, or the last.

        Requests that are refused at once are given the same one: a provider is asked for it once.
        """
        if self._token is None:
            return {}
        async with self._renewing:
            is_other = refused is not None and refused != self._signed()
            if self._held is None or (renew and not is_other):
                given = self._token() if callable(self._token) else self._token
                self._held = await given if inspect.isawaitable(given) else given
            return self._signed()

    def _signed(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._held}"}

    async def ask(
        self,
        method: str,
        path: str,
        *,
        again: bool,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask, and return the answer's JSON; see `answer`."""
        found = await self.answer(
            method, path, again=again, body=body, query=query, headers=headers
        )
        return found.content

    async def answer(
        self,
        method: str,
        path: str,
        *,
        again: bool,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask, and return the answer; `again`: it may be asked more than once.

        Raises ServiceError, NotReachableError.
        """
        tries = 0
        while True:
            try:
                async with self.asked(
                    method, path, body=body, query=query, headers=headers
                ) as answer:
                    content = await _read(answer)
                    return Answer(
                        content=_json(content, self._base) if content else None,
                        etag=answer.headers.get("ETag"),
                        unchanged=answer.status == 304,
                    )
            except NotReachableError as error:
                tries += 1
                if not again or tries >= self.pauses.tries:
                    raise
                await asyncio.sleep(self.pauses.before(tries, error.retry_after))

    async def pages(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the entries of a list, page by page."""
        more: Mapping[str, Any] | None = query
        while more is not None:
            page = await self.ask("GET", path, again=True, query=more)
            for entry in page["content"]:
                yield entry
            after = next((link for link in page["links"] if link["rel"] == "next"), None)
            more = None
            if after is not None:
                more = {**query, "after": URL(after["href"]).query["after"]}

    @contextlib.asynccontextmanager
    async def asked(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's own
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give an answer that is none of refusal. Raises ServiceError, NotReachableError."""
        url = URL(self.address(path), encoded=True)
        if query:
            url = url.update_query({k: v for k, v in query.items() if v is not None})
        renewed = False
        own: dict[str, str] | None = None
        arguments: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        while True:
            own = await self.headers(renew=renewed, refused=own)
            signed = {**(headers or {}), **own}
            try:
                async with self._session.request(
                    method,
                    url,
                    json=body,
                    headers=signed,
                    allow_redirects=False,  # a password, and a token, are for one address
                    **proxy_for(url),
                    **arguments,
                ) as answer:
                    if answer.status == 401 and self.renews and not renewed:
                        renewed = True
                        continue
                    if answer.status >= 300 and answer.status != 304:
                        raise _refusal(answer, await _read(answer), self._base)
                    yield answer
                    return
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise NotReachableError(
                    f"{self._base} does not answer ({cause_of(error)})"
                ) from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _MAX_ANSWER:
            raise ServiceError("the answer is too long: this is not this service", status=200)
    return bytes(content)


def _refusal(answer: aiohttp.ClientResponse, content: bytes, base: URL) -> Exception:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    said = body if isinstance(body, dict) else {}
    message = str(said.get("message") or f"{base} answers {answer.status} {answer.reason or ''}")
    if answer.status in _AWAY:
        wait = seconds_of(answer.headers.get("Retry-After"))
        return NotReachableError(message.strip(), retry_after=wait)
    messages = said.get("messages")
    kind = _KINDS.get(answer.status, ServiceError)
    return kind(
        message.strip(),
        status=answer.status,
        messages=[str(message) for message in messages] if isinstance(messages, list) else (),
        code=said["code"] if isinstance(said.get("code"), str) else None,
        request_id=answer.headers.get("X-Request-ID"),
    )


def _json(content: bytes, base: URL) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ServiceError(f"{base} is not this service: it answers no JSON", status=200) from None
