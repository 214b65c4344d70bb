"""`/deliveries/{id}/link` and `/content`: what was delivered, had by a link, or through here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from aiohttp import hdrs, web
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.audit import AuditTrail
from app.codes import Code
from app.delivery.disposition import attachment
from app.delivery.naming import MAX_MEMBER_BYTES
from app.encoding import flaw_of, is_plain
from app.errors import DeliveryError, InvalidRequestError, NotAllowedError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import CONTENT_BYTES
from app.usecases.content import BIT, bits_of
from app.usecases.delivered import Delivered, Item
from app.usecases.links import Links
from app.views.deliveries import Tracked, Tracking
from app.views.view import Query, Seconds, View
from web import schemas
from web.answers import CAUSE, json_of, refusal, shown
from web.api.deliveries import WhichQuery, choose, find
from web.endpoint import ACTOR, USERS, Endpoint
from web.guard.downloads import Downloads
from web.guard.permits import PERMIT
from web.parameters import read
from web.ranges import Asked, NoSuchRangeError, asked_of

log = get_logger(__name__)

_MAX_PATH = MAX_MEMBER_BYTES  # characters: no file of an archive has more
_MAX_SECONDS = 7 * 86400
_NO_FILE = "There is no such delivery, or no such file of it."
_PIECE = 256 * 1024  # bytes that are written at once
_WRITE_TIMEOUT = 60.0  # seconds in which a client takes as many; slower ones hold a place for ever
_LOOK_INTERVAL = 1.0  # seconds between looks whether a client is still there, while the store reads


def _read_path(given: object) -> object:
    if given is None or given == "":
        return None
    if not isinstance(given, str) or len(given) > _MAX_PATH or not is_plain(given):
        raise ValueError(f"a name of the list of files, of at most {_MAX_PATH} characters")
    return given


def _read_seconds(given: object) -> object:
    if given is None or (type(given) is int and 1 <= given <= _MAX_SECONDS):
        return given
    raise ValueError(f"a number from 1 to {_MAX_SECONDS}")


Path = Annotated[
    str | None,
    BeforeValidator(_read_path),
    WithJsonSchema({"type": "string", "maxLength": _MAX_PATH}),
]
_PATH = Field(
    None,
    description="Name of a file in the list of files, or of the archive, `manifest.json` or "
    "`report.json`. Without: the archive, or the list of files that are delivered as they are.",
)


class LinkRequest(Query):
    """What a link shall lead to, and for how long.

    A name that is unknown is refused: a typo would make a link to more, or for longer.
    """

    model_config = ConfigDict(extra="forbid")

    path: Path = _PATH
    ttl: Annotated[
        int | None,
        BeforeValidator(_read_seconds),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MAX_SECONDS}),
    ] = Field(None, description="Seconds for which it holds: the tenant's `link_ttl` at most.")


class PathQuery(Query):
    """Which file."""

    path: Path = _PATH


class ContentQuery(PathQuery, WhichQuery):
    """Which file of which delivery."""


class ContentLinkView(View):
    """A link: any client that has it has the file, while it holds."""

    url: str
    expires: Seconds
    size: int
    md5: str | None = Field(None, description="Hex, lower case; left out where it is not known.")


class ContentApi:
    """The handlers. `write` is in seconds, for a client to take a quarter of a MiB."""

    def __init__(
        self,
        tracking: Tracking,
        delivered: Delivered,
        links: Links,
        trail: AuditTrail,
        downloads: Downloads,
        *,
        write: float = _WRITE_TIMEOUT,
        bit: int = BIT,
    ) -> None:
        self._tracking = tracking
        self._delivered = delivered
        self._links = links
        self._trail = trail
        self._write = write
        self._bit = bit
        self.downloads = downloads

    async def link(self, request: web.Request) -> web.Response:
        """Make a link to what was delivered."""
        chosen = await self._chosen(request)
        wanted = await _wanted(request)
        made = await self._links.make(
            request[ACTOR], chosen, trail=self._trail, path=wanted.path, seconds=wanted.ttl
        )
        item = made.item
        return shown(
            ContentLinkView(url=made.url, expires=made.expires, size=item.size, md5=item.md5)
        )

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Give a file, or a part of it."""
        chosen = await self._chosen(request)
        if not self.downloads.on:
            raise NotAllowedError(
                "nothing is downloaded through this service: an operator may allow so many at once "
                "by DELIVERY_CONTENT_DOWNLOADS; where the store makes links, take one"
            )
        item = await self._delivered.find(chosen, read(request, PathQuery).path)
        headers = _headers_of(item)
        try:
            asked = asked_of(request, size=item.size, etag=headers[hdrs.ETAG])
        except NoSuchRangeError:
            words = f"the file has {item.size} bytes, and not those"
            answer = refusal(416, words, code=Code.BAD_CALL)
            answer.headers[hdrs.CONTENT_RANGE] = f"bytes */{item.size}"
            return answer
        with self.downloads.taken(request, request[ACTOR]) as full:
            if full is not None:
                return refusal(503, full, code=Code.TOO_MANY_CALLS, Retry_After="5")
            return await self._give(request, chosen, item, asked, headers)

    async def _chosen(self, request: web.Request) -> Tracked:
        return choose(request, await find(request, self._tracking))

    async def _give(
        self,
        request: web.Request,
        chosen: Tracked,
        item: Item,
        asked: Asked,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        """Answer with bytes. What goes wrong after the first breaks the connection."""
        answer = web.StreamResponse(status=200 if asked.whole else 206, headers=headers)
        answer.content_length = asked.length
        if not asked.whole:
            last = asked.offset + asked.length - 1
            answer.headers[hdrs.CONTENT_RANGE] = f"bytes {asked.offset}-{last}/{item.size}"
        elif item.md5 is not None:
            answer.headers[hdrs.CONTENT_MD5] = _base64(item.md5)
        if request.method == hdrs.METH_HEAD:
            await answer.prepare(request)
            return answer
        bits = bits_of(
            self._delivered, item, offset=asked.offset, length=asked.length, bit=self._bit
        )
        permit = request[PERMIT]
        permit.ends_by(lambda: self._break(request, answer, permit.withdrawn or ""))
        try:
            async with contextlib.aclosing(bits):
                await self._send(request, answer, bits, chosen.delivery.tenant)
        except TimeoutError:
            self._break(request, answer, f"the client took nothing for {self._write:g} s")
        except ConnectionError:
            self._break(request, answer, "the client went away, or this service stops")
        except DeliveryError as error:
            if not answer.prepared:
                raise
            self._break(request, answer, str(error))
        except BaseException:  # of which no answer can be made any more
            if answer.prepared:
                self._break(request, answer, "an unforeseen fault")
            raise
        log.info(
            "content_given",
            **chosen.delivery.log_context,
            actor=request[ACTOR].name,
            object=item.key,
            offset=asked.offset,
            bytes=answer.body_length if answer.prepared else 0,
            asked=asked.length,
            **({"cause": answer[CAUSE]} if CAUSE in answer else {}),
        )
        return answer

    async def _send(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        bits: AsyncGenerator[list[bytes], None],
        tenant: str,
    ) -> None:
        """Write all bytes; each piece within its time. What fails before the first is an error."""
        async with contextlib.aclosing(_pieces(request, bits)) as pieces:
            piece = await anext(pieces, None)
            await answer.prepare(request)
            while piece is not None:
                async with asyncio.timeout(self._write):
                    await answer.write(piece)
                CONTENT_BYTES.labels(tenant).inc(len(piece))
                piece = await anext(pieces, None)
            async with asyncio.timeout(self._write):
                await answer.write_eof()

    @staticmethod
    def _break(request: web.Request, answer: web.StreamResponse, cause: str) -> None:
        """Break the connection off, so that what came is not taken for all."""
        if CAUSE not in answer:  # else it was broken off before, for that
            answer[CAUSE] = cause
        if request.transport is not None:
            request.transport.abort()

    async def release(self, site: web.Application) -> None:
        """Let all downloads end."""
        await self.downloads.release(site)

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        always = schemas.errors(401, 403, 404, 409, 410, 422, 429, 503, absent=_NO_FILE)
        by_name = (schemas.path("correlation_id", "Correlation id of the delivery."),)
        by_id = (schemas.path("id", "Id of the delivery.", {"format": "uuid"}),)
        ranged = (
            _header("Range", "Which bytes: one range."),
            _header("If-Range", "ETag of these."),
        )
        file = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        given: dict[int, dict[str, Any]] = {
            200: {"description": "All bytes, as a file to be saved.", "content": file},
            206: {"description": "Those bytes.", "content": file},
        }
        found: list[Endpoint] = []
        for path, named, ending, which in (
            ("/deliveries/{correlation_id}", by_name, "", True),
            ("/deliveries/by-id/{id}", by_id, "ById", False),
        ):
            found += [
                Endpoint(
                    method="POST",
                    path=f"{path}/link",
                    operation=f"linkDelivery{ending}",
                    handler=self.link,
                    summary="A link to what was delivered, for any client that has it; a "
                    "REGISTERED_USER to their own",
                    tag="deliveries",
                    roles=USERS,
                    parameters=named,
                    query=WhichQuery if which else None,
                    body=schemas.json_body(LinkRequest, required=False),
                    responses={200: schemas.answer("The link.", ContentLinkView)}
                    | schemas.errors(400, 408, 413, 415)
                    | always,
                ),
                Endpoint(
                    method="GET",
                    path=f"{path}/content",
                    operation=f"downloadDelivery{ending}",
                    handler=self.content,
                    summary="What was delivered, through this service, where its operator lets it",
                    tag="deliveries",
                    roles=USERS,
                    stream=True,
                    has_head=True,
                    parameters=(*named, *ranged),
                    query=ContentQuery if which else PathQuery,
                    responses=given | schemas.errors(416) | always,
                ),
            ]
        return found


async def _pieces(
    request: web.Request, bits: AsyncGenerator[list[bytes], None]
) -> AsyncGenerator[memoryview, None]:
    """Give pieces that a client takes at once. Raises ConnectionResetError once it has gone.

    aiohttp tells that to those alone who write.
    """
    while (bit := await _while_there(request, bits)) is not None:
        for large in bit:
            whole = memoryview(large)
            for start in range(0, len(whole), _PIECE):
                yield whole[start : start + _PIECE]


async def _while_there(
    request: web.Request, bits: AsyncIterator[list[bytes]]
) -> list[bytes] | None:
    reading = asyncio.ensure_future(anext(bits, None))
    try:
        while not reading.done():
            await asyncio.wait([reading], timeout=_LOOK_INTERVAL)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client has gone")
        return reading.result()
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _wanted(request: web.Request) -> LinkRequest:
    """Return what the body asks for; it may be left out."""
    if not request.body_exists:
        return LinkRequest()
    body = await json_of(request)
    if not isinstance(body, dict):
        raise InvalidRequestError(["the body must be an object: {path, ttl}"])
    flaw = flaw_of(body)
    if flaw is not None:
        raise InvalidRequestError([f"the body {flaw}"])
    return LinkRequest.read(body)


def _headers_of(item: Item) -> dict[str, str]:
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: item.media_type,
        hdrs.CONTENT_DISPOSITION: attachment(item.name),
        hdrs.ETAG: f'"{item.etag}"',
        hdrs.ACCEPT_RANGES: "bytes",
    }
    if item.md5 is not None:
        headers["Repr-Digest"] = f"md5=:{_base64(item.md5)}:"
    return headers


def _base64(md5: str) -> str:
    return base64.b64encode(bytes.fromhex(md5)).decode()


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string"},
    }
