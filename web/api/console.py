"""`/console`: the operators' page. Plain files, no build step; all it shows comes from the API."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import hdrs, web

from app.views.view import View
from web import schemas
from web.answers import shown
from web.api.sign_in import ConsoleSignIn, ConsoleToken, SignIns
from web.endpoint import Endpoint, Handler
from web.guard.auth import NotSignedInError

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    kind: str
    etag: str


def _assets() -> dict[str, _Asset]:
    found = {}
    for path in files("web").joinpath("assets", "console").iterdir():
        content = path.read_bytes()
        kind = _TYPES[path.name.rpartition(".")[2]]
        etag = hashlib.sha256(content).hexdigest()[:16]
        found[path.name] = _Asset(content, kind, etag)
    return found


def _serving(asset: _Asset) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        if any(tag.value == asset.etag for tag in request.if_none_match or ()):
            return web.Response(status=304)
        answer = web.Response(body=asset.content, content_type=asset.kind, charset="utf-8")
        answer.etag = asset.etag
        answer.headers[hdrs.CACHE_CONTROL] = "no-cache"  # asked again, not sent again
        return answer

    return serve


class ConsoleOptions(View):
    """How one may sign in."""

    passwords: bool


class Console:
    """The page's files, and signing in with a password where that is configured."""

    def __init__(self, sign_ins: SignIns | None) -> None:
        self._sign_ins = sign_ins

    async def options(self, _request: web.Request) -> web.Response:
        """Say how one may sign in."""
        return shown(ConsoleOptions(passwords=self._sign_ins is not None))

    async def enter(self, request: web.Request) -> web.Response:
        """Get a token for a user of REGARDS."""
        if self._sign_ins is None:
            raise NotSignedInError("signing in with a password is not configured here")
        return await self._sign_ins.enter(request)

    def files(self) -> list[tuple[str, Handler]]:
        """Return the path of each file, and what serves it."""
        assets = _assets()
        page = _serving(assets.pop("index.html"))
        served = [(f"/console/{name}", _serving(asset)) for name, asset in assets.items()]
        return [("/console", page), *served]

    def endpoints(self) -> list[Endpoint]:
        """Return what the page asks before a user is signed in."""
        return [
            Endpoint(
                method="GET",
                path="/console/options",
                operation="getConsoleOptions",
                handler=self.options,
                summary="How one may sign in to the console",
                tag="console",
                responses={200: schemas.answer("Whether with a password.", ConsoleOptions)},
            ),
            Endpoint(
                method="POST",
                path="/console/sign-in",
                operation="signInToConsole",
                handler=self.enter,
                summary="Get a token for a user and a password of REGARDS",
                tag="console",
                body=schemas.json_body(ConsoleSignIn),
                responses={200: schemas.answer("A token.", ConsoleToken)}
                | schemas.errors(400, 401, 408, 413, 415, 422, 429, 503),
            ),
        ]
