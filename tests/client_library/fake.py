"""The service and a store as the client meets them, and as they fail: on a port of this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from rs_delivery_client import DeliveryClient, Pauses

TOKEN = "a-token"
AT_ONCE = Pauses(first=0.0, most=0.0)  # between tries


class Fake:
    """One delivery that is done, its objects, and what happens to those who fetch them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}  # by path; "" is the archive
        self.delivery: dict[str, Any] = {"id": "0-1", "correlationId": "d 1/é", "state": "DONE"}
        self.seed = random.Random(1)
        self.drops = 0  # answers that break off, yet
        self.uses = 1000  # of a link before it has run out
        self.has_links = True
        self.hands_out = True
        self.most_at_once = 0  # answers with bytes under way
        self._at_once = 0
        self.forgets_ranges = False  # answers all of it, whatever was asked for
        self.refuses: list[web.Response] = []  # answers given first
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.sent = 0  # bytes of objects
        self.bodies: list[Any] = []
        self.keys: list[str | None] = []
        self.frames: list[list[bytes]] = []  # of each stream, in turn
        self.heard: list[str | None] = []  # Last-Event-ID of each
        self.tokens: list[str | None] = []
        self.codes: list[dict[str, str]] | None = None  # its catalogue; None: it is too old for one
        self._links: dict[str, tuple[str, int]] = {}
        self.url = ""

    def hold(self, archive: bytes, name: str, manifest: dict[str, Any] | None) -> None:
        """Have an archive and its manifest."""
        self.objects[""] = archive
        if manifest is not None:
            self.objects["manifest.json"] = json.dumps(manifest).encode()
        md5 = hashlib.md5(archive, usedforsecurity=False).hexdigest()
        self.delivery |= {"archiveName": name, "md5": md5, "archiveBytes": len(archive)}

    def hold_files(self, files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        """Have files as they are."""
        self.objects.update(files)
        content = json.dumps(manifest).encode()
        self.objects["manifest.json"] = content
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self.delivery |= {"archiveName": "manifest.json", "format": "files", "md5": md5}

    def site(self) -> web.Application:
        """Return it as an application."""
        site = web.Application()
        one = "/deliveries/{id}"
        site.router.add_get(one, self._one)
        site.router.add_post("/deliveries", self._submit)
        site.router.add_post(f"{one}/link", self._link)
        site.router.add_get(f"{one}/content", self._content)
        site.router.add_get(f"{one}/events", self._events)
        site.router.add_get("/o/{link}", self._object)
        site.router.add_get("/errors", self._errors)
        return site

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[DeliveryClient]:
        """Give a client of it."""
        async with TestServer(self.site()) as server:
            self.url = str(server.make_url("")).rstrip("/")
            async with DeliveryClient(self.url, token=TOKEN, pauses=AT_ONCE) as client:
                yield client

    def _guard(self, request: web.Request) -> None:
        self.tokens.append(request.headers.get("Authorization"))
        self.asked[f"{request.method} {request.path.rpartition('/')[2]}"] += 1
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            said = json.dumps({"message": "the token is not valid"})
            raise web.HTTPUnauthorized(text=said)
        if self.refuses:
            answer = self.refuses.pop(0)
            raise _Given(answer)

    async def _answer(self, request: web.Request, body: Any, status: int = 200) -> web.Response:
        try:
            self._guard(request)
        except _Given as given:
            return given.answer
        return web.json_response(body, status=status)

    async def _one(self, request: web.Request) -> web.Response:
        assert request.match_info["id"] == self.delivery["correlationId"]
        return await self._answer(request, {"content": self.delivery, "links": []})

    async def _submit(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Idempotency-Key"))
        return await self._answer(request, {"content": self.delivery, "links": []}, 202)

    async def _link(self, request: web.Request) -> web.Response:
        path = (await request.json()).get("path", "")
        if not self.has_links:
            said = {"message": "this place gives no links"}
            return await self._answer(request, said, 409)
        if path not in self.objects:
            return await self._answer(request, {"message": f"there is no {path}"}, 404)
        link = f"{len(self._links)}"
        self._links[link] = path, self.uses
        return await self._answer(
            request, {"url": f"{self.url}/o/{link}?sig=secret", "expires": "x"}
        )

    async def _content(self, request: web.Request) -> web.StreamResponse:
        try:
            self._guard(request)
        except _Given as given:
            return given.answer
        path = request.query.get("path", "")
        if not self.hands_out:
            return web.json_response({"message": "an operator may allow it"}, status=403)
        if path not in self.objects:
            return web.json_response({"message": f"there is no {path}"}, status=404)
        return await self._give(request, self.objects[path])

    async def _errors(self, request: web.Request) -> web.Response:
        if self.codes is None:
            return await self._answer(request, {"message": "there is no such path"}, 404)
        etag = f'"{len(self.codes)}"'
        if request.headers.get("If-None-Match") == etag:
            self.asked["errors unchanged"] += 1
            return web.Response(status=304, headers={"ETag": etag})
        answer = await self._answer(request, {"content": self.codes})
        answer.headers["ETag"] = etag
        return answer

    async def _object(self, request: web.Request) -> web.StreamResponse:
        assert "Authorization" not in request.headers  # it is no one's but the service's
        assert request.query["sig"] == "secret"
        path, uses = self._links[request.match_info["link"]]
        if not uses:
            return web.Response(status=403, text="<Error>Request has expired</Error>")
        self._links[request.match_info["link"]] = path, uses - 1
        return await self._give(request, self.objects[path])

    async def _give(self, request: web.Request, content: bytes) -> web.StreamResponse:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._write(request, content)
        finally:
            self._at_once -= 1

    async def _write(self, request: web.Request, content: bytes) -> web.StreamResponse:
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = 0
        asked = request.headers.get("Range")
        same = request.headers.get("If-Range", etag) == etag
        headers = {"ETag": etag}
        if asked and same and not self.forgets_ranges:
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return web.Response(
                    status=416, headers={"Content-Range": f"bytes */{len(content)}"}
                )
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        answer = web.StreamResponse(status=206 if start else 200, headers=headers)
        answer.content_length = len(content) - start
        await answer.prepare(request)
        end = len(content)
        if self.drops and request.method == "GET":
            self.drops -= 1
            end = self.seed.randrange(start, len(content))
        for at in range(start, end, 8192):
            piece = content[at : min(end, at + 8192)]
            self.sent += len(piece)
            await answer.write(piece)
        if end < len(content):
            assert request.transport is not None
            request.transport.close()
        return answer

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.heard.append(request.headers.get("Last-Event-ID"))
        try:
            self._guard(request)
        except _Given as given:
            return given.answer
        if not self.frames:
            return web.Response(status=204)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for frame in self.frames.pop(0):
            await answer.write(frame)
        return answer


class _Given(Exception):  # noqa: N818 - an answer that is given instead
    def __init__(self, answer: web.Response) -> None:
        super().__init__()
        self.answer = answer
