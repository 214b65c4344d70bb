"""A proxy before Azurite, with the faults of a network and of what may answer in its place."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web
from yarl import URL

from compose.embedded.azurite import Azurite
from sinks.stores.azure.target import AzureTarget
from tests.servers import serving

_AZURE = {"x-ms-request-id": "1", "x-ms-version": "2025-01-01"}
_PACKED = gzip.compress(b"<a>" * 10_000_000)
_KEPT = {
    what: {"x-ms-error-code": f"BlobImmutableDueTo{code}"} | _AZURE
    for what, code in (("policy", "Policy"), ("legal hold", "LegalHold"))
}
_BUSY = {"x-ms-error-code": "ServerBusy"} | _AZURE

# What answers in Azure's place, and how, by its name.
_ANSWERS: Mapping[str | None, Callable[[], web.Response]] = {
    "busy": lambda: web.Response(status=503, headers=_BUSY),
    "policy": lambda: web.Response(status=409, headers=_KEPT["policy"]),
    "legal hold": lambda: web.Response(status=409, headers=_KEPT["legal hold"]),
    "page": lambda: web.Response(text="<html>maintenance</html>", content_type="text/html"),
    "not found": lambda: web.Response(status=404, text="no such page"),
    "redirect": lambda: web.Response(status=307, headers={"location": "http://169.254.169.254/"}),
    "packed": lambda: web.Response(body=_PACKED, headers={"content-encoding": "gzip"} | _AZURE),
}


@dataclass
class AzureProxy:
    """What befalls the next requests, by what they ask for: `PUT`, `comp=block` and the like."""

    server: Azurite
    session: aiohttp.ClientSession
    faults: dict[str, list[str]] = field(default_factory=dict)
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # a silent one has come
    over: asyncio.Event = field(default_factory=asyncio.Event)  # silence is
    requests: int = 0
    endless: int = 0  # bytes of answers without end that were taken

    def _fault(self, request: web.Request) -> str | None:
        asked = {request.method, *(f"{name}={value}" for name, value in request.query.items())}
        waiting = [faults for name, faults in self.faults.items() if name in asked and faults]
        return waiting[0].pop(0) if waiting else None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or do to it what befalls it."""
        self.requests += 1
        fault = self._fault(request)
        if fault in _ANSWERS:
            return _ANSWERS[fault]()
        match fault:
            case "endless":
                return await self._answer_without_end(request)
            case "reset":
                _cut(request)
            case "no http":
                if request.transport is not None:
                    request.transport.write(b"SSH-2.0-OpenSSH\r\n\r\n")
                    request.transport.close()
            case "silent":
                self.heard.set()
                await self.over.wait()
            case "lost":
                await self._forward(request, await request.read())
                _cut(request)
            case "spoilt":
                return await self._forward(request, b"?" + (await request.read())[1:])
            case _:
                return await self._forward(request, await request.read())
        return web.Response()

    async def _answer_without_end(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "application/xml"} | _AZURE)
        await answer.prepare(request)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                await answer.write(b"<a>" * 100_000)
                self.endless += 300_000
        return answer

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        url = URL(f"{self.server.url.rsplit('/', 1)[0]}{request.raw_path}", encoded=True)
        async with self.session.request(
            request.method,
            url,
            headers=request.headers,
            data=body or None,
            skip_auto_headers=("Content-Type", "Accept-Encoding"),  # what is signed stays
        ) as answer:
            content = await answer.read()
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in ("transfer-encoding", "connection", "keep-alive")
        }
        return web.Response(status=answer.status, headers=kept, body=content)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.asynccontextmanager
async def running_proxy(
    server: Azurite, target: AzureTarget
) -> AsyncIterator[tuple[AzureProxy, AzureTarget]]:
    """Run it; give it, and the target behind it."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        proxy = AzureProxy(server=server, session=session)
        async with serving(proxy.handle) as port:
            yield (
                proxy,
                replace(target, endpoint=f"http://127.0.0.1:{port}/{server.account}"),
            )
