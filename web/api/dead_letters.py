"""`/dead-letters`: what could not be handled, with the reason; mend it, put it back, remove it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.audit import Actor
from app.errors import InvalidRequestError
from app.views.dead_letters import (
    DeadLetterDesk,
    DeadLetterFilter,
    DeadLetterView,
    Handled,
    KeptLetter,
    WholeDeadLetterView,
)
from app.views.view import Link, View
from web import schemas
from web.answers import body_as, shown
from web.conditions import versions_of
from web.endpoint import ACTOR, ADMINS, READERS, Endpoint
from web.parameters import Whole, read

_PAGE_SIZE = 500
_BATCH_SIZE = 500  # letters that one request puts back or removes
_NO_LETTER = "There is no such dead letter."
_MAX_ID = 255  # characters
_MAX_NUMBER = 2**63 - 1  # of a letter, in the database


def _scope(actor: Actor) -> str | None:
    """Return whose letters the caller may see; None: all, those of no known tenant among them."""
    return None if actor.role == "INSTANCE_ADMIN" else actor.tenant


class DeadLetters(View):
    """The dead letters that the caller may see, the first buried first."""

    content: list[DeadLetterView]
    truncated: bool = Field(description="There are more than are shown: the link next has them.")
    total: int = Field(description="All that were asked for, of all pages.")
    links: list[Link]


class DeadLetterQuery(DeadLetterFilter):
    """Which dead letters, and which page of them."""

    model_config = ConfigDict(extra="ignore")

    size: Annotated[int, Whole(1, _PAGE_SIZE)] = Field(_PAGE_SIZE, description="Entries at most.")
    after: Annotated[int, Whole(0)] = Field(0, description="From the link `next`.")


def _texts(given: object) -> object:
    """Return a filter as a query string has it: of texts.

    An empty one finds all there. Here, it is more likely one that a script lacked.
    """
    values = given.values() if isinstance(given, dict) else ()
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError("its values must be texts, none of them empty; leave out what finds all")
    return given


class DeadLetterChoice(BaseModel):
    """Which letters are put back or removed: `ids`, or all that a `filter` finds."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    ids: Annotated[list[str], Field(min_length=1, max_length=_BATCH_SIZE)] | None = None
    filter: Annotated[DeadLetterFilter | None, BeforeValidator(_texts)] = Field(
        None, description="As the parameters of `GET /dead-letters`; {} is all."
    )
    after: int = Field(
        0,
        ge=0,
        le=_MAX_NUMBER,
        description="With a filter: behind the `last` of the answer before.",
    )
    dry_run: bool = Field(False, alias="dryRun", description="Only tell which, and how many.")


class Mending(BaseModel):
    """What is put back in the place of a letter's body: one of `text`, `base64`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    text: str | None = None
    base64: str | None = None
    tenant: str | None = Field(
        None, max_length=_MAX_ID, description="For the header `regards.tenant` of a message."
    )
    force: bool = Field(False, description="Although it would be refused again.")

    @property
    def body(self) -> bytes | None:
        """What takes the place of the body; None: it stays. Raises InvalidRequestError."""
        if self.text is not None and self.base64 is not None:
            raise InvalidRequestError(["text, base64: give one of them"])
        if self.text is None and self.base64 is None:
            if self.tenant is None:
                raise InvalidRequestError(["text, base64, tenant: give one of them"])
            return None
        try:
            if self.base64 is not None:
                return base64.b64decode(self.base64, validate=True)
            return (self.text or "").encode()
        except ValueError:  # of what is no base64, or not in ASCII; of half a character
            raise InvalidRequestError(["text, base64: can't be read"]) from None


class DeadLettersHandled(View):
    """What became of letters; of a dry run, what would."""

    content: dict[str, str] = Field(
        description="By id: the queue or topic it went to; of one that is removed, where it was."
    )
    failed: dict[str, str] | None = Field(None, description="By id: why it waits on.")
    left: int | None = Field(
        None, description="With a filter: how many more it finds behind these."
    )
    last: int | None = Field(
        None, description="With a filter, where there are more: give it as `after` for them."
    )


_Act = Callable[[Actor, str | None, Sequence[str]], Awaitable[Handled]]


class DeadLettersApi:
    """The handlers."""

    def __init__(self, desk: DeadLetterDesk) -> None:
        self._desk = desk

    async def listing(self, request: web.Request) -> web.Response:
        """Return a page of the dead letters that the caller may see."""
        wanted = read(request, DeadLetterQuery)
        whose, size = _scope(request[ACTOR]), wanted.size
        found = await self._desk.browse(whose, wanted, after=wanted.after, limit=size + 1)
        page, links = found[:size], []
        if len(found) > size:
            query = [(name, v) for name, v in request.query.items() if name != "after"]
            query.append(("after", str(page[-1].number)))
            links.append(Link(rel="next", href=f"{request.path}?{urlencode(query)}"))
        return shown(
            DeadLetters(
                content=[DeadLetterView.of(kept) for kept in page],
                truncated=bool(links),
                total=await self._desk.count(whose, wanted),
                links=links,
            )
        )

    async def one(self, request: web.Request) -> web.Response:
        """Return a letter with its body."""
        return _whole(await self._desk.one(_scope(request[ACTOR]), _id(request)))

    async def mend(self, request: web.Request) -> web.Response:
        """Put another body in the place of a letter's own, unless it is another version by now."""
        asked = await body_as(Mending, request)
        kept = await self._desk.mend(
            request[ACTOR],
            _scope(request[ACTOR]),
            _id(request),
            body=asked.body,
            tenant=asked.tenant,
            forced=asked.force,
            versions=versions_of(request),
        )
        return _whole(kept)

    async def many(self, act: _Act, request: web.Request) -> web.Response:
        """Put dead letters back where they were, or forget them for good."""
        asked = await body_as(DeadLetterChoice, request)
        if (asked.ids is None) == (asked.filter is None):
            raise InvalidRequestError([f"ids, filter: give one; 1 to {_BATCH_SIZE} ids"])
        actor = request[ACTOR]
        whose, left, last = _scope(actor), None, None
        if asked.filter is None:
            ids = list(dict.fromkeys(asked.ids or ()))
            found = await self._desk.several(whose, ids) if asked.dry_run else []
        else:
            after = asked.after
            total = await self._desk.count(whose, asked.filter, after=after)
            found = await self._desk.browse(whose, asked.filter, after=after, limit=_BATCH_SIZE)
            ids = [kept.letter.id for kept in found]
            left = max(0, total - len(ids))
            last = found[-1].number if found and left else None
        if asked.dry_run:
            would = {kept.letter.id: kept.letter.origin or "nowhere" for kept in found}
            return shown(DeadLettersHandled(content=would, left=left, last=last))
        done = await act(actor, whose, ids) if ids else Handled(where={}, failed={})
        return shown(_handled(done, left=left, last=last))

    async def each(self, act: _Act, request: web.Request) -> web.Response:
        """Do so with one."""
        actor = request[ACTOR]
        return shown(_handled(await act(actor, _scope(actor), [_id(request)])))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        changing = schemas.errors(400, 404, 408, 409, 413, 415, 422, absent=_NO_LETTER) | errors
        handled = {200: schemas.answer("What became of each.", DeadLettersHandled)}
        whole = {
            200: schemas.answer("The letter.", WholeDeadLetterView, etag="Version of the letter.")
        }

        def endpoint(
            method: Literal["GET", "PUT", "POST", "DELETE"],
            path: str,
            operation: str,
            handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
            summary: str,
            **more: Any,
        ) -> Endpoint:
            named: tuple[Mapping[str, Any], ...] = ()
            if "{id}" in path:
                named = (schemas.path("id", "Id of the letter."),)
            if method == "PUT":
                named = (*named, schemas.IF_MATCH)
            return Endpoint(
                method=method,
                path=path,
                operation=operation,
                handler=handler,
                summary=summary,
                tag="dead letters",
                roles=ADMINS | READERS if method == "GET" else ADMINS,
                in_maintenance=True,
                whole_instance=True,
                parameters=named,
                **more,
            )

        return [
            endpoint(
                "GET",
                "/dead-letters",
                "listDeadLetters",
                self.listing,
                "Messages and events that could not be handled; an INSTANCE_ADMIN sees all",
                query=DeadLetterQuery,
                responses={200: schemas.answer("A page.", DeadLetters)}
                | schemas.errors(422)
                | errors,
            ),
            endpoint(
                "POST",
                "/dead-letters/requeue",
                "requeueDeadLetters",
                partial(self.many, self._desk.requeue),
                "Put dead letters back where they were, mended where they are",
                body=schemas.json_body(DeadLetterChoice),
                responses=handled | changing,
            ),
            endpoint(
                "POST",
                "/dead-letters/remove",
                "removeDeadLetters",
                partial(self.many, self._desk.remove),
                "Remove dead letters for good",
                body=schemas.json_body(DeadLetterChoice),
                responses=handled | changing,
            ),
            endpoint(
                "GET",
                "/dead-letters/{id}",
                "getDeadLetter",
                self.one,
                "A dead letter with its body",
                responses=whole | schemas.errors(404, absent=_NO_LETTER) | errors,
            ),
            endpoint(
                "PUT",
                "/dead-letters/{id}",
                "mendDeadLetter",
                self.mend,
                "Put another body in the place of a dead letter's, for when it is put back",
                body=schemas.json_body(Mending),
                responses=whole | schemas.errors(412) | changing,
            ),
            endpoint(
                "POST",
                "/dead-letters/{id}/requeue",
                "requeueDeadLetter",
                partial(self.each, self._desk.requeue),
                "Put a dead letter back where it was, mended where it is",
                responses=handled | schemas.errors(404, 409, absent=_NO_LETTER) | errors,
            ),
            endpoint(
                "DELETE",
                "/dead-letters/{id}",
                "removeDeadLetter",
                partial(self.each, self._desk.remove),
                "Remove a dead letter for good",
                responses=handled | schemas.errors(404, 409, absent=_NO_LETTER) | errors,
            ),
        ]


def _whole(kept: KeptLetter) -> web.Response:
    answer = shown(WholeDeadLetterView.whole(kept))
    answer.etag = kept.version
    return answer


def _handled(
    done: Handled, *, left: int | None = None, last: int | None = None
) -> DeadLettersHandled:
    return DeadLettersHandled(content=done.where, failed=done.failed or None, left=left, last=last)


def _id(request: web.Request) -> str:
    return request.match_info["id"].replace("\0", "")[:_MAX_ID]
