"""How S3 servers are spoken to over HTTP: only where it is allowed, and no more than is asked for.

Each client has a session of its own, made for one endpoint. Four things differ from what
aiobotocore does. Whatever address a connection is about to be opened to is judged first: a name may
lead elsewhere than it did when it was set. No redirect is followed: where it leads to is another's
choice. An answer is not read without end. And a server's certificate has to name it, at the end of
a proxy's tunnel, too; its CA may be the site's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from app.network.judged import Judge, judged
from app.network.tls import TlsFiles, renewed
from sinks.stores.guard import EndlessAnswerError

_MAX_ERROR = 256 * 1024  # bytes
_MAX_ANSWER = 8 * 1024 * 1024  # bytes; a list of a thousand uploads has two MiB at most

_REDIRECTS = (301, 302, 303, 307, 308)
_REGION = "x-amz-bucket-region"


class RedirectedError(aiohttp.ClientError):
    """An answer that leads elsewhere."""


class GuardedSession(AIOHTTPSession):
    """The session of one client."""

    def __init__(
        self,
        *,
        judge: Judge,
        scheme: str,
        ca: str = "",
        proxies: dict[str, str] | None = None,
        connector_args: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        self._ca = ca
        more = dict(connector_args or {})
        # A proxy of the operator's environment connects by itself: it has to judge addresses, too.
        if scheme not in (proxies or {}):
            more["socket_factory"] = judged(judge)
        more["loop"] = asyncio.get_running_loop()  # connectors are made in a thread
        super().__init__(proxies=proxies, connector_args=more, **others)
        self._connecting = asyncio.Lock()
        self._connectors: dict[str | None, aiohttp.BaseConnector] = {}  # by proxy

    def _get_ssl_context(self) -> SSLContext:
        context: SSLContext = super()._get_ssl_context()  # type: ignore[misc] # no stubs
        # botocore leaves the name to urllib3, which aiobotocore does not use: any server with
        # a certificate of any trusted CA could take the store's place.
        context.check_hostname = True
        if self._ca:
            # `verify=ca` would trust these CAs alone, and no public store any more.
            context.load_verify_locations(cafile=self._ca)
            renewed(context, TlsFiles(setting="DELIVERY_S3", ca=self._ca))
        return context

    def _setup_proxy_ssl_context(self, proxy_url: str) -> SSLContext:
        # A proxy has no CA of its own here, and for that aiobotocore checks no certificate at all:
        # neither an HTTPS proxy's, nor the store's at the end of the tunnel.
        context: SSLContext | None = super()._setup_proxy_ssl_context(proxy_url)  # type: ignore[misc]
        return context or self._get_ssl_context()

    async def _get_session(self, proxy_url: str | None) -> _Direct:
        # Private there, so tests hold it: there is no other way to say how requests are made.
        async with self._connecting:
            if proxy_url not in self._connectors:
                # It reads the CAs of the system, which takes 30 ms.
                made = super()._create_connector  # type: ignore[misc]
                self._connectors[proxy_url] = await asyncio.to_thread(made, proxy_url)
            return _Direct(await super()._get_session(proxy_url))  # type: ignore[misc]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connectors.clear()  # they are closed with their sessions
        await super().__aexit__(kind, error, traceback)

    def _create_connector(self, proxy_url: str | None) -> aiohttp.BaseConnector:
        return self._connectors[proxy_url]


class _Direct:
    """Makes requests that follow no redirect."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **arguments: Any) -> _Bounded:
        answer = await self._session.request(method, **(arguments | {"allow_redirects": False}))
        if answer.status in _REDIRECTS and _REGION not in answer.headers:
            # Where AWS names the right region, botocore asks again there; without, it would ask for
            # the region, be led elsewhere, ask for the region…
            answer.close()
            raise RedirectedError(f"redirected ({answer.status}), which is not followed")
        return _Bounded(answer)


class _Bounded:
    """An answer whose body is read up to a limit."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)

    async def read(self) -> bytes:
        """Return the body. Raises EndlessAnswerError."""
        longest = _MAX_ERROR if self._answer.status >= 300 else _MAX_ANSWER
        body = bytearray()
        try:
            async for chunk in self._answer.content.iter_any():
                body += chunk
                if len(body) > longest:
                    raise EndlessAnswerError(f"an answer has more than {longest} bytes")
        except BaseException:
            self._answer.close()
            raise
        self._answer.release()
        return bytes(body)
