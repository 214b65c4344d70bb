"""`/errors`: the catalogue of error codes, for clients that are older than a code."""

from __future__ import annotations

import hashlib

from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY
from pydantic import Field

from app.codes import CATALOGUE, Code, Stanza, Waiting, Who
from app.views.view import View
from web import schemas
from web.answers import shown
from web.endpoint import READERS, USERS, Endpoint


class ErrorCodeView(View):
    """What there is to know of a code."""

    code: Code
    title: str
    means: str
    waiting: Waiting = Field(description="Whether it helps to wait.")
    who: Who = Field(description="Who can mend it.")
    do: str
    lost: str = Field(description="Whether anything is.")
    user: str | None = Field(None, description="What has happened, in its user's words.")
    user_does: str | None = Field(None, description="What its user does.")

    @classmethod
    def of(cls, code: Code, stanza: Stanza) -> ErrorCodeView:
        """Show one."""
        return cls(
            code=code,
            title=stanza.title,
            means=stanza.means,
            waiting=stanza.waiting,
            who=stanza.who,
            do=stanza.do,
            lost=stanza.lost,
            user=stanza.user,
            user_does=stanza.user_does,
        )


class ErrorCodes(View):
    """The catalogue of error codes."""

    content: list[ErrorCodeView]


class ErrorsApi:
    """The handler. The catalogue is that of the program: it stays the same while this runs."""

    def __init__(self) -> None:
        self._codes = ErrorCodes(content=[ErrorCodeView.of(code, CATALOGUE[code]) for code in Code])
        self._etag = hashlib.sha256(self._codes.model_dump_json().encode()).hexdigest()[:16]

    async def listing(self, request: web.Request) -> web.Response:
        """Return it; 304 where the caller has it already."""
        if any(tag.value in (self._etag, ETAG_ANY) for tag in request.if_none_match or ()):
            answer = web.Response(status=304)
        else:
            answer = shown(self._codes)
        answer.etag = self._etag
        answer.headers[hdrs.CACHE_CONTROL] = "private, no-cache"  # kept, and asked about each time
        return answer

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/errors",
                operation="listErrorCodes",
                handler=self.listing,
                summary="What each error code means, whether waiting helps, who can mend it, and "
                "what to do",
                tag="errors",
                roles=USERS | READERS,
                in_maintenance=True,
                whole_instance=True,
                parameters=(schemas.IF_NONE_MATCH,),
                responses={
                    200: schemas.answer("The catalogue.", ErrorCodes, etag="Of the catalogue."),
                    304: {"description": "It is the one that `If-None-Match` names."},
                    **schemas.errors(401, 403, 429),
                },
            )
        ]
