"""How much a process takes in at once: requests under way, and connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection

from aiohttp import web

from app.codes import Code
from app.telemetry.metrics import HTTP_REFUSED_CONNECTIONS, HTTP_UNDER_WAY
from web.answers import refusal
from web.endpoint import Handler
from web.guard.access import route_of
from web.schemas import ErrorView

_FULL = "this process has too much to do; come again in a moment"
_BODY = json.dumps(ErrorView(message=_FULL, code=Code.TOO_MANY_CALLS.value).body()).encode()
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nServer: rs-delivery\r\nRetry-After: 1\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_BODY), _BODY)
_REQUEST_TIMEOUT = 2.0  # seconds for a client that is not taken in to ask


class UnderWay:
    """Requests under way, of all callers together. The routes in `beside` don't count."""

    def __init__(self, most: int, beside: Collection[str]) -> None:
        self._most = most
        self._beside = frozenset(beside)
        self._now = 0

    @web.middleware
    async def bound(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request through while there is room."""
        if route_of(request) in self._beside:
            return await handler(request)
        if self._now >= self._most:
            return refusal(503, _FULL, code=Code.TOO_MANY_CALLS, Retry_After="1")
        self._now += 1
        HTTP_UNDER_WAY.inc()
        try:
            return await handler(request)
        finally:
            self._now -= 1
            HTTP_UNDER_WAY.dec()


class _NotTakenIn(asyncio.Protocol):
    """A connection too many: told so once it asks (an answer before would be lost), and closed."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_REQUEST_TIMEOUT, transport.abort)

    def data_received(self, _data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(_ANSWER)
            self._transport.close()
            self._transport = None

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._done()


class Door:
    """Makes what speaks with each connection: the server while there is room."""

    def __init__(self, server: web.Server, *, most: int) -> None:
        self._server = server
        self._most = most
        self._refused = 0  # that are still open

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        if len(self._server.connections) < self._most:
            return self._server()
        HTTP_REFUSED_CONNECTIONS.inc()
        self._refused += 1
        return _NotTakenIn(self._gone) if self._refused <= self._most else _Closed(self._gone)

    def _gone(self) -> None:
        self._refused -= 1


class _Closed(asyncio.Protocol):
    """A connection of a flood: closed at once."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives
        transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._done()
