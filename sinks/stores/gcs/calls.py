"""Each request that is made of a bucket, once, within a deadline; all else is made of these."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import quote

from prometheus_client import Gauge

from app.delivery.object_store import PartBody
from app.errors import TargetRefusedError, TargetUnavailableError, WrongObjectError
from app.telemetry import tracing
from sinks.stores.breaker import Breakers
from sinks.stores.deadlines import CALL_TIMEOUT, for_part
from sinks.stores.gcs import answers, checksum
from sinks.stores.gcs.breaker import SIGNS
from sinks.stores.gcs.clients import GcsClient, GcsClients, Signed
from sinks.stores.gcs.requests import (
    COMPOSE_TIMEOUT,
    GONE,
    NO_RANGE,
    NOT_MET,
    of_other_bytes,
    status_of,
    translate_errors,
)
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.guard import EndlessAnswerError

FoundT = TypeVar("FoundT")

NONE = "0"  # the generation of what is not there
MAX_SOURCES = 32  # of which an object may be composed at once
_FIELDS = "kind,name,generation,size,md5Hash,crc32c,metadata,contentType"
_LISTED = "kind,name,generation,size,crc32c"
_PAGE = "1000"  # objects
# An upload has 10,000 parts at most; each may have been sent again, and composed.
_MAX_PAGES = 200
_MAX_LISTED = 100_000  # objects
_MAX_DIGITS = 20  # of 64 bits


class NotMetError(Exception):
    """A request was not carried out: an object is not as its condition says, or is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An object as Google describes it."""

    name: str
    generation: str  # which every object that takes its place changes
    size: int  # bytes
    crc32c: int
    md5: bytes | None = None  # None: it is composed, or was not asked for
    metadata: Mapping[str, str] = field(default_factory=dict)
    media_type: str = ""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Read what was answered. Raises NotGoogleError."""
        try:
            return cls(
                name=_text(told["name"]),
                generation=_digits(told["generation"]),
                size=int(_digits(told["size"])),
                crc32c=checksum.of_base64(told["crc32c"]),
                md5=base64.b64decode(told["md5Hash"]) if "md5Hash" in told else None,
                metadata={
                    name: _text(value) for name, value in (told.get("metadata") or {}).items()
                },
                media_type=_text(told.get("contentType") or ""),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise answers.unreadable("the description of an object") from None


class GcsCalls:
    """Requests to Google Cloud Storage. A condition is the generation that an object must have.

    `NONE` is that of an object that must not be there. Every one may raise TargetUnavailableError
    and TargetRefusedError.
    """

    def __init__(
        self,
        clients: GcsClients,
        *,
        up: Gauge | None = None,
        short: float = CALL_TIMEOUT,
        compose: float = COMPOSE_TIMEOUT,
    ) -> None:
        self.clients = clients
        self.breakers = Breakers(self.reach, SIGNS, up=up)
        self._short = short  # seconds
        self._compose = compose  # seconds

    @contextlib.asynccontextmanager
    async def _call(
        self,
        target: GcsTarget,
        verb: str,
        action: str,
        *,
        key: str = "",
        part: int | None = None,
        seconds: float | None = None,
        unsigned: bool = False,
    ) -> AsyncIterator[Signed]:
        """Give the client for one call: every call goes through here, and tells the breaker.

        But of the server alone: it has no part in what this machine has no token for. `unsigned`
        asks without, then.
        """
        async with self.clients.of(target) as client:
            with _traced(verb, target, key, part):
                signed = await self._signed(target, client, action, unsigned=unsigned)
                with self.breakers.watching(target, quick=seconds is None):
                    async with translate_errors(target, action, seconds or self._short):
                        yield signed

    async def _signed(
        self, target: GcsTarget, client: GcsClient, action: str, *, unsigned: bool
    ) -> Signed:
        try:
            async with translate_errors(target, action, self._short):
                return Signed(client=client, token=await client.tokens.token())
        except TargetUnavailableError:
            if unsigned:
                return Signed(client=client, token="")
            raise

    def check_tenant(self, target: GcsTarget, marks: Mapping[str, str]) -> None:
        """Raise TargetForbiddenError where the tenant of the marks may put nothing."""
        self.clients.check_tenant(target, marks)

    async def look_at_bucket(self, target: GcsTarget) -> None:
        """Raise DeliveryError unless the bucket is there and may be listed."""
        await self._look(target)

    async def reach(self, target: GcsTarget) -> None:
        """Look likewise, to find out whether the server answers; without a token if need be."""
        await self._look(target, unsigned=True)

    async def _look(self, target: GcsTarget, *, unsigned: bool = False) -> None:
        async with (
            self._call(target, "look", "look", unsigned=unsigned) as client,
            client.ask("GET", _all(target), {"maxResults": "1", "fields": "kind"}) as answer,
        ):
            await answers.resource(answer, "storage#objects")

    async def listed(self, target: GcsTarget, beginning: str) -> list[Stored]:
        """Return the objects whose names begin so; of each, what a list tells."""
        asked = {"prefix": beginning, "fields": f"kind,nextPageToken,items({_LISTED})"}
        return await self._pages(target, beginning, asked, _objects_in)

    async def names(self, target: GcsTarget, beginning: str) -> list[str]:
        """Return names that begin so, up to the next slash: of objects, and of folders with it."""
        fields = "kind,nextPageToken,prefixes,items(name)"
        asked = {"prefix": beginning, "delimiter": "/", "fields": fields}
        return await self._pages(target, beginning, asked, _names_in)

    async def _pages(
        self,
        target: GcsTarget,
        beginning: str,
        asked: Mapping[str, str],
        read: Callable[[Mapping[str, Any]], list[FoundT]],
    ) -> list[FoundT]:
        found: list[FoundT] = []
        more = ""
        for page_number in itertools.count(1):
            parameters = {**asked, "maxResults": _PAGE} | ({"pageToken": more} if more else {})
            async with (
                self._call(target, "list", f"list {beginning}…", key=beginning) as client,
                client.ask("GET", _all(target), parameters) as answer,
            ):
                page = await answers.resource(answer, "storage#objects", answers.MAX_PAGE)
                found += read(page)
                last, more = more, _next_in(page)
                if not more:
                    return found
                if more == last or page_number == _MAX_PAGES or len(found) > _MAX_LISTED:
                    raise EndlessAnswerError("a list of objects has no end")
        raise AssertionError("pages are counted without end")

    async def describe(self, target: GcsTarget, name: str) -> Stored | None:
        """Describe an object; None if there is none."""
        try:
            async with (
                self._call(target, "find", f"describe {name}", key=name) as client,
                client.ask("GET", _one(target, name), {"fields": _FIELDS}) as answer,
            ):
                return Stored.read(await answers.resource(answer, "storage#object"))
        except TargetRefusedError as error:
            if status_of(error) == GONE:
                return None
            raise

    async def insert(
        self,
        target: GcsTarget,
        name: str,
        body: PartBody,
        *,
        verb: str,
        action: str,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        generation: str | None = None,
        part: int | None = None,
    ) -> None:
        """Make an object; Google compares its MD5. On a condition, unless it is None.

        Raises NotMetError, and WrongObjectError if it has other bytes.
        """
        told = {"name": name, "contentType": media_type, "md5Hash": _base64(body.md5)}
        form = _Form(told | {"metadata": dict(metadata or {})}, body, media_type)
        asked = {"uploadType": "multipart", "name": name, "fields": _FIELDS}
        with _conditional(), _compared(name, body):
            async with (
                self._call(
                    target, verb, action, key=name, part=part, seconds=for_part(len(body))
                ) as client,
                client.ask(
                    "POST",
                    f"/upload{_all(target)}",
                    asked | _condition(generation),
                    headers=form.headers,
                    data=form.pieces(),
                ) as answer,
            ):
                stored = Stored.read(await answers.resource(answer, "storage#object"))
        if (stored.size, stored.md5) != (len(body), body.md5):
            raise WrongObjectError(
                f"Google Cloud Storage has {name} with {stored.size} bytes and MD5 "
                f"{stored.md5.hex() if stored.md5 else None}, sent were {len(body)} bytes with "
                f"{body.md5.hex()}"
            )

    async def compose(
        self,
        target: GcsTarget,
        name: str,
        sources: Sequence[Stored],
        *,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        generation: str,
    ) -> Stored:
        """Make an object of up to 32 others, which stay. On a condition, which they have, too.

        Raises NotMetError.
        """
        body = {
            "sourceObjects": [
                {
                    "name": source.name,
                    "objectPreconditions": {"ifGenerationMatch": source.generation},
                }
                for source in sources
            ],
            "destination": {"contentType": media_type, "metadata": dict(metadata or {})},
        }
        with _conditional((NOT_MET, GONE)):
            async with (
                self._call(
                    target, "complete", f"complete {name}", key=name, seconds=self._compose
                ) as client,
                client.ask(
                    "POST",
                    f"{_one(target, name)}/compose",
                    {"fields": _FIELDS} | _condition(generation),
                    json=body,
                ) as answer,
            ):
                return Stored.read(await answers.resource(answer, "storage#object"))

    async def remove(self, target: GcsTarget, name: str, *, generation: str | None = None) -> None:
        """Remove an object, whichever it is if no generation is named; one that is gone is fine.

        No version of one that is named stays, where a bucket keeps them. Raises NotMetError.
        """
        asked = _condition(generation) | ({"generation": generation} if generation else {})
        try:
            with _conditional():
                async with (
                    self._call(target, "delete", f"remove {name}", key=name) as client,
                    client.ask("DELETE", _one(target, name), asked) as answer,
                ):
                    await answers.done(answer)
        except TargetRefusedError as error:
            if status_of(error) != GONE:
                raise

    async def read(self, target: GcsTarget, name: str, *, size: int) -> list[bytes]:
        """Return the first bytes of an object, in pieces; none if it is not there or empty."""
        stored = await self.describe(target, name)
        if stored is None:
            await self.look_at_bucket(target)  # 404 is said of an object, and of all of its bucket
        if stored is None or not stored.size:
            return []
        return await self._media(target, stored, "read aside", offset=0, length=size)

    async def read_range(
        self, target: GcsTarget, stored: Stored, *, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object of this generation. Raises NotMetError if it is gone."""
        with _conditional((NOT_MET, GONE, NO_RANGE)):
            return await self._media(target, stored, "read", offset=offset, length=length)

    async def _media(
        self, target: GcsTarget, stored: Stored, verb: str, *, offset: int, length: int
    ) -> list[bytes]:
        name = stored.name
        async with (
            self._call(target, verb, f"give {name}", key=name, seconds=for_part(length)) as client,
            client.ask(
                "GET",
                _one(target, name),
                {"alt": "media", "generation": stored.generation},
                headers={"Range": f"bytes={offset}-{offset + length - 1}"},
            ) as answer,
        ):
            return await answers.media(answer, length)

    async def aclose(self) -> None:
        """End all probes, close all clients."""
        await self.breakers.close()
        await self.clients.aclose()


class _Form:
    """What an object is made of, as one body: what is told of it, and its bytes."""

    def __init__(self, told: Mapping[str, Any], body: PartBody, media_type: str) -> None:
        boundary = secrets.token_hex(16)
        begin = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
        begin += f"{json.dumps(told)}\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\r\n"
        self._begin = begin.encode()
        self._end = f"\r\n--{boundary}--\r\n".encode()
        self._body = body
        self.headers = {
            "Content-Type": f"multipart/related; boundary={boundary}",
            "Content-Length": str(len(self._begin) + len(body) + len(self._end)),
        }

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        """Give all bytes, once: no part of a library can send the request again."""
        yield self._begin
        async for piece in self._body:
            yield piece
        yield self._end


def _items_in(page: Mapping[str, Any], kind: str) -> list[Any]:
    items = page.get(kind) or []
    if not isinstance(items, list):
        raise answers.unreadable("a list of objects")
    return items


def _objects_in(page: Mapping[str, Any]) -> list[Stored]:
    return [Stored.read(item) for item in _items_in(page, "items")]


def _names_in(page: Mapping[str, Any]) -> list[str]:
    try:
        names = [_text(item["name"]) for item in _items_in(page, "items")]
        return names + [_text(prefix) for prefix in _items_in(page, "prefixes")]
    except (KeyError, TypeError):
        raise answers.unreadable("a list of objects") from None


def _next_in(page: Mapping[str, Any]) -> str:
    """Return what the next page is asked for with; empty if there is none."""
    token = page.get("nextPageToken") or ""
    if not isinstance(token, str):
        raise answers.unreadable("a list of objects")
    return token


def _text(told: object) -> str:
    if not isinstance(told, str):
        raise TypeError
    return told


def _digits(told: object) -> str:
    """Return a whole number as it is told: a text, or a number."""
    text = str(told)
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise ValueError
    return text


def _all(target: GcsTarget) -> str:
    return f"/storage/v1/b/{quote(target.container, safe='')}/o"


def _one(target: GcsTarget, name: str) -> str:
    return f"{_all(target)}/{quote(name, safe='')}"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _condition(generation: str | None) -> dict[str, str]:
    return {} if generation is None else {"ifGenerationMatch": generation}


def _traced(
    verb: str, target: GcsTarget, key: str, part: int | None = None
) -> AbstractContextManager[None]:
    """Trace a request."""
    return tracing.span(
        f"GCS {verb}",
        kind=tracing.CLIENT,
        attributes={
            "server.address": target.endpoint,
            "gcs.bucket": target.container,
            "gcs.object": key,
            "gcs.part_number": part,
        },
    )


@contextlib.contextmanager
def _compared(name: str, body: PartBody) -> Iterator[None]:
    """Take a refusal for that of bytes which came with another MD5, where there are any."""
    try:
        yield
    except TargetRefusedError as error:
        if len(body) and of_other_bytes(error):
            raise WrongObjectError(
                f"{name} came with another MD5 than it was sent with, or can't be made: {error}"
            ) from error
        raise


@contextlib.contextmanager
def _conditional(statuses: Sequence[int] = (NOT_MET,)) -> Iterator[None]:
    try:
        yield
    except TargetRefusedError as error:
        if status_of(error) in statuses:
            raise NotMetError from error
        raise
