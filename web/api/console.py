"""`/console`: the operators' page. Plain files, no build step; all it shows comes from the API."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import hdrs, web
from pydantic import Field

from app.views.sign_in import GivenTokens, ProviderEntrance
from app.views.view import View
from web import schemas
from web.answers import shown
from web.api.provider_sign_in import ConsoleCode, ConsoleRefresh, ProviderSignIns
from web.api.sign_in import ConsoleSignIn, ConsoleToken, SignIns
from web.endpoint import Endpoint, Handler
from web.guard.errors import NotSignedInError

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    packed: bytes  # by gzip
    kind: str
    etag: str


def _assets() -> dict[str, _Asset]:
    found = {}
    for path in files("web").joinpath("assets", "console").iterdir():
        content = path.read_bytes()
        kind = _TYPES[path.name.rpartition(".")[2]]
        etag = hashlib.sha256(content).hexdigest()[:16]
        found[path.name] = _Asset(content, gzip.compress(content, mtime=0), kind, etag)
    return found


# A weight of zero refuses it.
_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


def _serving(asset: _Asset) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        packed = bool(_GZIP.search(request.headers.get(hdrs.ACCEPT_ENCODING, "")))
        etag = f"{asset.etag}-gzip" if packed else asset.etag  # it is of the bytes
        if any(tag.value == etag for tag in request.if_none_match or ()):
            answer = web.Response(status=304)
        else:
            content = asset.packed if packed else asset.content
            answer = web.Response(body=content, content_type=asset.kind, charset="utf-8")
            if packed:
                answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
        answer.etag = etag
        answer.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        answer.headers[hdrs.CACHE_CONTROL] = "no-cache"  # asked again, not sent again
        return answer

    return serve


class ConsoleOptions(View):
    """How one may sign in."""

    passwords: bool
    provider: str | None = Field(
        None, description="Issuer of the identity provider; missing where there is none."
    )


class Console:
    """The page's files, and signing in with a password, or at a provider, where that is set."""

    def __init__(self, sign_ins: SignIns | None, provider: ProviderSignIns | None = None) -> None:
        self._sign_ins = sign_ins
        self._provider = provider

    async def options(self, _request: web.Request) -> web.Response:
        """Say how one may sign in."""
        provider = None if self._provider is None else self._provider.issuer
        return shown(ConsoleOptions(passwords=self._sign_ins is not None, provider=provider))

    async def enter(self, request: web.Request) -> web.Response:
        """Get a token for a user of REGARDS."""
        if self._sign_ins is None:
            raise NotSignedInError("signing in with a password is not configured here")
        return await self._sign_ins.enter(request)

    def _of_provider(self) -> ProviderSignIns:
        if self._provider is None:
            raise NotSignedInError("signing in at an identity provider is not configured here")
        return self._provider

    async def entrance(self, _request: web.Request) -> web.Response:
        """Say where users sign in at the provider."""
        return await self._of_provider().entrance()

    async def exchange(self, request: web.Request) -> web.Response:
        """Get tokens for a code of the provider."""
        return await self._of_provider().enter(request)

    async def renew(self, request: web.Request) -> web.Response:
        """Get a token in place of one that ends."""
        return await self._of_provider().renew(request)

    def files(self) -> list[tuple[str, Handler]]:
        """Return the path of each file, and what serves it."""
        assets = _assets()
        page = _serving(assets.pop("index.html"))
        served = [(f"/console/{name}", _serving(asset)) for name, asset in assets.items()]
        return [("/console", page), *served]

    def endpoints(self) -> list[Endpoint]:
        """Return what the page asks before a user is signed in."""
        refused = schemas.errors(400, 401, 408, 413, 415, 422, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/console/options",
                operation="getConsoleOptions",
                handler=self.options,
                summary="How one may sign in to the console",
                tag="console",
                responses={200: schemas.answer("With a password, at a provider.", ConsoleOptions)},
            ),
            Endpoint(
                method="GET",
                path="/console/provider",
                operation="getConsoleProvider",
                handler=self.entrance,
                summary="Where users sign in at the identity provider",
                tag="console",
                responses={200: schemas.answer("Where, and with what.", ProviderEntrance)}
                | schemas.errors(401, 503),
            ),
            Endpoint(
                method="POST",
                path="/console/sign-in/code",
                operation="signInToConsoleWithCode",
                handler=self.exchange,
                summary="Get tokens for a code of the identity provider",
                tag="console",
                body=schemas.json_body(ConsoleCode),
                responses={200: schemas.answer("Tokens.", GivenTokens)} | refused,
            ),
            Endpoint(
                method="POST",
                path="/console/sign-in/refresh",
                operation="refreshConsoleToken",
                handler=self.renew,
                summary="Get a token of the identity provider in place of one that ends",
                tag="console",
                body=schemas.json_body(ConsoleRefresh),
                responses={200: schemas.answer("Tokens.", GivenTokens)} | refused,
            ),
            Endpoint(
                method="POST",
                path="/console/sign-in",
                operation="signInToConsole",
                handler=self.enter,
                summary="Get a token for a user and a password of REGARDS",
                tag="console",
                body=schemas.json_body(ConsoleSignIn),
                responses={200: schemas.answer("A token.", ConsoleToken)} | refused,
            ),
        ]
