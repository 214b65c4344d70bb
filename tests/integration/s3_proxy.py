"""A proxy before the S3 server of the tests, with the faults and habits of other stores."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.model import S3Target

_QUOTE = '"'
_ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>told to</Message></Error>'


@dataclass
class S3Proxy:
    """Counters are used up; `kms` makes ETags that are no MD5s."""

    target: S3Target
    slow_down: int = 0  # parts answered 503
    resets: int = 0  # parts whose connection breaks
    errors_in_200: int = 0  # completions answered 200, with an error inside
    lost_completions: int = 0  # completions that work, and whose answer is lost
    other_etags: int = 0  # parts answered with the MD5 of something else
    kms: bool = False
    seen: list[str] = field(default_factory=list)
    _real: dict[str, str] = field(default_factory=dict)

    def _use(self, counter: str) -> bool:
        left: int = getattr(self, counter)
        setattr(self, counter, max(0, left - 1))
        return left > 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        part = request.method == "PUT" and "partNumber" in request.query
        completion = request.method == "POST" and "uploadId" in request.query
        self.seen.append("part" if part else "completion" if completion else request.method)
        if part and self._use("slow_down"):
            return web.Response(status=503, text=_ERROR.format("SlowDown"))
        if part and self._use("resets"):
            return self._break(request)
        if completion and self._use("errors_in_200"):
            return web.Response(text=_ERROR.format("InternalError"))
        if completion:
            for opaque, real in self._real.items():
                body = body.replace(opaque.encode(), real.encode())
        lost = completion and self._use("lost_completions")
        status, headers, answer = await self._forward(request, body)
        if lost:
            return self._break(request)
        if part and self._use("other_etags"):
            headers["ETag"] = f'"{"0" * 32}"'
        if self.kms:
            answer = self._disguise(headers, answer)
        return web.Response(status=status, headers=headers, body=answer)

    def _disguise(self, headers: dict[str, str], answer: bytes) -> bytes:
        """Give another ETag for each, as a store does that encrypts."""
        headers["x-amz-server-side-encryption"] = "aws:kms"
        if "ETag" in headers:
            headers["ETag"] = f'"{self._opaque(headers["ETag"].strip(_QUOTE))}"'
        before, tag, rest = answer.partition(b"<ETag>")
        if not tag:
            return answer
        real, _, after = rest.partition(b"</ETag>")
        opaque = self._opaque(real.decode().replace("&quot;", "").strip(_QUOTE))
        return before + f'<ETag>"{opaque}"</ETag>'.encode() + after

    def _opaque(self, etag: str) -> str:
        opaque = hashlib.sha256(etag.encode()).hexdigest()[:32]
        self._real[opaque] = etag
        return opaque

    def _break(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _forward(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in request.headers.items() if k != "Transfer-Encoding"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.target.endpoint + request.path_qs,
                data=io.BytesIO(body) if body else None,
                headers=headers,
            ) as response,
        ):
            dropped = ["Transfer-Encoding", "Content-Encoding", "Connection", "Date", "Server"]
            if request.method != "HEAD":
                dropped.append("Content-Length")  # an answer may be changed
            kept = {k: v for k, v in response.headers.items() if k not in dropped}
            return response.status, kept, await response.read()


@contextlib.asynccontextmanager
async def running_proxy(
    target: S3Target, proxy: S3Proxy | None = None
) -> AsyncIterator[tuple[S3Proxy, S3Target]]:
    """Give the proxy, and the target as it is seen through it."""
    proxy = proxy or S3Proxy(target)
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    server = TestServer(application)
    await server.start_server()
    try:
        yield proxy, replace(target, endpoint=str(server.make_url("")).rstrip("/"))
    finally:
        await asyncio.shield(server.close())
