"""A proxy before the S3 server of the tests, with the faults and habits of other stores."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from compose.embedded import s3
from sinks.stores.s3.target import S3Target

_QUOTE = '"'
_ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>told to</Message></Error>'


class Completes(Enum):
    """What a store makes of conditions of a completion."""

    ON_CONDITION = "keeps both"  # as AWS does; moto keeps `If-None-Match` alone
    ANYHOW = "ignores them"
    ON_NONE = "refuses them"
    OF_UPLOADS = "looks for the upload first"
    NEVER = "finds no ETag that is named"


@dataclass
class S3Proxy:
    """Counters are used up; `kms` makes ETags that are no MD5s."""

    target: S3Target
    slow_down: int = 0  # parts answered 503
    resets: int = 0  # parts whose connection breaks
    errors_in_200: int = 0  # completions answered 200, with an error inside
    lost_begins: int = 0  # uploads that are opened, and whose answer is lost
    lost_completions: int = 0  # completions that work, and whose answer is lost
    other_etags: int = 0  # parts answered with the MD5 of something else
    refused_completions: int = 0  # completions answered 500 that are not made
    doubtful_completions: int = 0  # completions answered 500 that are made all the same
    unknown_is_500: bool = False  # parts and completions of an upload that is not open
    pages: int = 0  # requests answered 200 with a page of a gateway
    no_conditions: bool = False  # a condition of a DELETE is not implemented
    completes: Completes = Completes.ON_CONDITION
    conflicts: int = 0  # completions answered 409: another request came in between
    not_found: int = 0  # completions answered 404 with a page, as by a gateway that starts
    in_gos_case: bool = False  # names of headers are written as Go's library does
    short_objects: int = 0  # completions that leave the last part out
    kms: bool = False
    away: bool = False  # every connection breaks
    silent: bool = False  # nothing is answered, until this is over
    completion: asyncio.Event = field(default_factory=asyncio.Event)  # one has come
    let_begin: asyncio.Event | None = None  # uploads whose answer is lost are opened after this
    let_complete: asyncio.Event | None = None  # it waits for this, whichever client asked
    seen: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)  # of completions: headers and values
    stored: list[int] = field(default_factory=list)  # numbers of parts that were stored
    digests: list[str | None] = field(default_factory=list)  # Content-MD5 of parts
    before: Callable[[str], Awaitable[None]] | None = None  # called with what is seen
    _real: dict[str, str] = field(default_factory=dict)
    _under_way: set[asyncio.Task[tuple[int, dict[str, str], bytes]]] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, what: str, count: int = 1) -> None:
        """Return once so many of these were seen."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: self.seen.count(what) >= count)

    async def see(self, what: str) -> None:
        """Take note of a request, and let those go on that wait for it."""
        self.seen.append(what)
        async with self._changed:
            self._changed.notify_all()
        if self.before is not None:
            await self.before(what)

    def _use(self, counter: str) -> bool:
        left: int = getattr(self, counter)
        setattr(self, counter, max(0, left - 1))
        return left > 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        what = _kind(request)
        await self.see("away" if self.away else what)
        while self.silent:
            await asyncio.sleep(0.01)
        if self.away:
            return self._break(request)
        sent = what in ("part", "completion")
        if self.unknown_is_500 and sent and not await self._is_open(request):
            return web.Response(status=500, text=_ERROR.format("InternalError"))
        return await self._do(what, request, body)

    async def _do(self, what: str, request: web.Request, body: bytes) -> web.StreamResponse:
        if self._use("pages"):
            return web.Response(text="<html><body>Back<br>soon", content_type="text/html")
        if self.no_conditions and what == "DELETE" and "If-Match" in request.headers:
            return web.Response(status=501, text=_ERROR.format("NotImplemented"))
        if what == "part":
            return await self._take_part(request, body)
        if what == "completion":
            return await self._complete(request, body)
        if what == "begin" and self._use("lost_begins"):
            going_on = asyncio.create_task(self._open_when_let(request, body))
            self._under_way.add(going_on)
            if self.let_begin is None:
                await going_on
            return self._break(request)
        return self._answer(*await self._forward(request, body))

    async def _open_when_let(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self.let_begin is not None:
            await self.let_begin.wait()
        return await self._forward(request, body)

    async def carry_out(self) -> None:
        """Open what is to be opened late; return when it is open."""
        assert self.let_begin is not None
        self.let_begin.set()
        await asyncio.gather(*self._under_way)

    async def _take_part(self, request: web.Request, body: bytes) -> web.StreamResponse:
        self.digests.append(request.headers.get("Content-MD5"))
        if self._use("slow_down"):
            return web.Response(status=503, text=_ERROR.format("SlowDown"))
        if self._use("resets"):
            return self._break(request)
        status, headers, answer = await self._forward(request, body)
        if status == 200:
            self.stored.append(int(request.query["partNumber"]))
        if self._use("other_etags"):
            headers["ETag"] = f'"{"0" * 32}"'
        return self._answer(status, headers, answer)

    async def _complete(self, request: web.Request, body: bytes) -> web.StreamResponse:
        asked = [name for name in ("If-None-Match", "If-Match") if name in request.headers]
        self.conditions += [f"{name}: {request.headers[name]}" for name in asked] or ["none"]
        if asked and self.completes is Completes.ON_NONE:
            return web.Response(status=501, text=_ERROR.format("NotImplemented"))
        if self._use("not_found"):
            return web.Response(status=404, text="default backend - 404")
        for counter, status, code in (
            ("conflicts", 409, "ConditionalRequestConflict"),
            ("errors_in_200", 200, "InternalError"),
            ("refused_completions", 500, "InternalError"),
        ):
            if self._use(counter):
                return web.Response(status=status, text=_ERROR.format(code))
        body = self._known(body.decode()).encode()
        if self._use("short_objects"):
            body = re.sub(rb"<Part>(?!.*<Part>).*</Part>", b"", body, flags=re.DOTALL)
        self.completion.set()
        # As a store does: it goes on when the client that asked has gone.
        going_on = asyncio.create_task(self._forward_when_let(request, body))
        self._under_way.add(going_on)
        answer = await asyncio.shield(going_on)
        if self._use("doubtful_completions"):
            return web.Response(status=500, text=_ERROR.format("InternalError"))
        if self._use("lost_completions"):
            return self._break(request)
        return self._answer(*answer)

    async def _forward_when_let(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self.let_complete is not None:
            await self.let_complete.wait()
        if self.completes is Completes.OF_UPLOADS and not await self._is_open(request):
            return 404, {}, _ERROR.format("NoSuchUpload").encode()
        if await self._changed_since(request):
            return 412, {}, _ERROR.format("PreconditionFailed").encode()
        return await self._forward(request, body)

    async def _changed_since(self, request: web.Request) -> bool:
        """Whether the object is not the one that `If-Match` names."""
        keeps = (Completes.ON_CONDITION, Completes.NEVER)
        if "If-Match" not in request.headers or self.completes not in keeps:
            return False
        async with self._store() as store:
            key = request.path.partition(f"/{self.target.bucket}/")[2]
            head = await store.head_object(Bucket=self.target.bucket, Key=key)
        other = head["ETag"] != self._known(request.headers["If-Match"])
        return bool(other or self.completes is Completes.NEVER)

    async def _is_open(self, request: web.Request) -> bool:
        async with self._store() as store:
            found = await store.list_multipart_uploads(Bucket=self.target.bucket)
        ids = [upload["UploadId"] for upload in found.get("Uploads", [])]
        return request.query["uploadId"] in ids

    def _store(self) -> Any:
        return s3.client(self.target.endpoint, s3.KEY, s3.SECRET, s3.REGION)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> web.Response:
        if self.kms:
            body = self._disguise(headers, body)
        return web.Response(status=status, headers=headers, body=body)

    def _disguise(self, headers: dict[str, str], answer: bytes) -> bytes:
        """Give another ETag for each, as a store does that encrypts."""
        headers["x-amz-server-side-encryption"] = "aws:kms"
        for name in [name for name in headers if name.lower() == "etag"]:
            headers[name] = f'"{self._opaque(headers[name].strip(_QUOTE))}"'
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

    def _known(self, text: str) -> str:
        """Return what a client says with the ETags that the store knows."""
        for opaque, real in self._real.items():
            text = text.replace(opaque, real)
        return text

    def _break(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _forward(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        own = ["Transfer-Encoding", "Content-Length"]  # the body may be another by now
        if self.completes is Completes.ANYHOW and _kind(request) == "completion":
            own += ["If-None-Match", "If-Match"]
        headers = {k: self._known(v) for k, v in request.headers.items() if k not in own}
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
            named = str.title if self.in_gos_case else str
            kept = {named(k): v for k, v in response.headers.items() if k not in dropped}
            return response.status, kept, await response.read()


def _kind(request: web.Request) -> str:
    """Return what is asked for: begin, part, completion, or the method."""
    if request.method == "PUT" and "partNumber" in request.query:
        return "part"
    if request.method == "POST":
        return "completion" if "uploadId" in request.query else "begin"
    return request.method


Proxied = tuple[S3Proxy, S3Target]  # a proxy, and the target as it is seen through it


@contextlib.asynccontextmanager
async def running_proxy(target: S3Target, proxy: S3Proxy | None = None) -> AsyncIterator[Proxied]:
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
