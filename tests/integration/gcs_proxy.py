"""A proxy before fake-gcs-server: conditions that it lacks, and the faults of a network."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from compose.embedded.processes import Server
from sinks.stores.gcs.target import GcsTarget
from tests.servers import serving


def _refusal(status: int, reason: str, **headers: str) -> Callable[[], web.Response]:
    error = {"code": status, "message": "…", "errors": [{"reason": reason}]}
    return lambda: web.json_response({"error": error}, status=status, headers=headers)


_NOT_MET = _refusal(412, "conditionNotMet")

# What answers in Google's place, or as Google would, by its name.
_ANSWERS: Mapping[str | None, Callable[[], web.Response]] = {
    "busy": _refusal(503, "backendError", **{"Retry-After": "7"}),
    "too many": _refusal(429, "rateLimitExceeded", **{"Retry-After": "7"}),
    "quota": _refusal(403, "quotaExceeded"),
    "denied": _refusal(403, "forbidden"),
    "unknown": _refusal(401, "authError"),
    "retained": _refusal(403, "retentionPolicyNotMet"),
    "page": lambda: web.Response(text="<html>maintenance</html>", content_type="text/html"),
    "odd list": lambda: web.json_response({"kind": "storage#objects", "items": [{"odd": 1}]}),
    "other json": lambda: web.json_response({"status": "up"}),
    "not found": lambda: web.Response(status=404, text="no such page"),
    "redirect": lambda: web.Response(status=307, headers={"location": "http://169.254.169.254/"}),
    "packed": lambda: web.Response(
        body=gzip.compress(b" " * 10_000_000), headers={"content-encoding": "gzip"}
    ),
}


def _asked(request: web.Request) -> str:
    if request.path.startswith("/upload/"):
        return "insert"
    if request.path.endswith("/compose"):
        return "compose"
    if request.method == "DELETE":
        return "delete"
    if request.query.get("alt") == "media":
        return "media"
    return "list" if request.path.endswith("/o") else "find"


@dataclass
class GcsProxy:
    """What befalls the next requests, by what they ask for: `insert`, `compose` and the like."""

    server: Server
    session: aiohttp.ClientSession
    faults: dict[str, list[str]] = field(default_factory=dict)
    before: dict[str, Callable[[], Any]] = field(default_factory=dict)  # done as such a one comes
    tokens: list[str] = field(default_factory=list)  # of requests
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # a silent one has come
    over: asyncio.Event = field(default_factory=asyncio.Event)  # silence is
    endless: int = 0  # bytes of an answer without end that were taken
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or do to it what befalls it."""
        asked = _asked(request)
        self.tokens.append(request.headers["Authorization"])
        body = await request.read()
        waiting = self.faults.get(asked) or [""]
        fault = waiting.pop(0)
        if act := self.before.pop(asked, None):
            await act()
        if fault in _ANSWERS:
            return _ANSWERS[fault]()
        match fault:
            case "endless":
                return await self._answer_without_end(request)
            case "reset":
                _cut(request)
            case "silent":
                self.heard.set()
                await self.over.wait()
            case "lost":
                await self._carried_out(request, body)
                _cut(request)
            case "spoilt":
                return await self._carried_out(request, body.replace(b"content", b"cOntent"))
            case _:
                return await self._carried_out(request, body)
        return web.Response()

    async def _carried_out(self, request: web.Request, body: bytes) -> web.Response:
        async with self._one_at_a_time:
            if not await self._met(request, body):
                return _NOT_MET()
            return await self._forward(request, body)

    async def _met(self, request: web.Request, body: bytes) -> bool:
        """Whether all conditions are met that the server does not know itself."""
        asked = _asked(request)
        if asked not in ("compose", "delete"):
            return True
        path = request.raw_path.partition("?")[0].removesuffix("/compose")
        conditions = {path: request.query.get("ifGenerationMatch")}
        for source in json.loads(body)["sourceObjects"] if asked == "compose" else ():
            name = f"{path.partition('/o/')[0]}/o/{quote(source['name'], safe='')}"
            conditions[name] = source["objectPreconditions"]["ifGenerationMatch"]
        for place, generation in conditions.items():
            if generation is not None and await self._generation(place) != generation:
                return False
        return True

    async def _generation(self, path: str) -> str:
        url = URL(f"{self.server.url}{path}", encoded=True)
        async with self.session.get(url) as answer:
            return (await answer.json())["generation"] if answer.status == 200 else "0"

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        url = URL(f"{self.server.url}{request.raw_path}", encoded=True)
        async with self.session.request(
            request.method, url, headers=request.headers, data=body or None
        ) as answer:
            content = await answer.read()
        left = ("transfer-encoding", "connection", "content-length")
        kept = {name: v for name, v in answer.headers.items() if name.lower() not in left}
        return web.Response(status=answer.status, headers=kept, body=content)

    async def _answer_without_end(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "application/json"})
        await answer.prepare(request)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                await answer.write(b"[" * 300_000)
                self.endless += 300_000
        return answer


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.asynccontextmanager
async def running_proxy(
    server: Server, target: GcsTarget
) -> AsyncIterator[tuple[GcsProxy, GcsTarget]]:
    """Run it; give it, and the target behind it."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        proxy = GcsProxy(server=server, session=session)
        async with serving(proxy.handle) as port:
            yield proxy, replace(target, endpoint=f"http://127.0.0.1:{port}")
