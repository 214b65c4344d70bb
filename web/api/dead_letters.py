"""`/dead-letters`: what could not be handled, with the reason; put it back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.audit import Actor, AuditTrail
from app.errors import InvalidRequestError
from app.telemetry.logs import get_logger
from app.views.audit import of_letter
from app.views.dead_letters import Letter, LetterBox
from app.views.view import Moment, View
from web import schemas
from web.answers import json_of, shown
from web.endpoint import ACTOR, ADMINS, Endpoint

log = get_logger(__name__)

_AT_ONCE = 500  # letters


def _scope(actor: Actor) -> str | None:
    """Return whose letters the caller may see; None: all, those of no known tenant among them."""
    return None if actor.role == "INSTANCE_ADMIN" else actor.tenant


class DeadLetterView(View):
    """A message that could not be answered, or an event that no agent could handle."""

    id: str
    place: str
    tenant: str | None = None
    correlation_id: str | None = None
    at: Moment | None = None
    bytes: int
    reason: str
    text: str

    @classmethod
    def of(cls, letter: Letter) -> Self:
        """Show a letter."""
        return cls(
            id=letter.id,
            place=letter.place,
            tenant=letter.tenant,
            correlation_id=letter.correlation_id,
            at=letter.at,
            bytes=letter.size,
            reason=letter.reason,
            text=letter.text,
        )


class DeadLetters(View):
    """The dead letters that the caller may see."""

    content: list[DeadLetterView]
    truncated: bool = Field(description="There are more than are shown, or may be.")


class DeadLetterIds(BaseModel):
    """Which letters are put back."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    ids: list[str] = Field(min_length=1, max_length=_AT_ONCE)


class DeadLettersRequeued(View):
    """Where each letter went."""

    content: dict[str, str]


class LettersApi:
    """The handlers."""

    def __init__(self, box: LetterBox, audit: AuditTrail, *, serves: Callable[[str], bool]) -> None:
        self._box = box
        self._audit = audit
        self._serves = serves

    async def listing(self, request: web.Request) -> web.Response:
        """Return the dead letters that the caller may see."""
        seen = await self._box.look(_scope(request[ACTOR]))
        content = [DeadLetterView.of(letter) for letter in seen.letters]
        return shown(DeadLetters(content=content, truncated=seen.truncated))

    async def requeue(self, request: web.Request) -> web.Response:
        """Put dead letters back where they were."""
        try:
            ids = DeadLetterIds.model_validate(await json_of(request)).ids
        except ValidationError:
            raise InvalidRequestError([f"ids: must be a list of 1 to {_AT_ONCE} ids"]) from None
        actor = request[ACTOR]

        def noting(letter: Letter, place: str) -> AbstractAsyncContextManager[None]:
            served = letter.tenant is not None and self._serves(letter.tenant)
            return self._audit.noting(
                of_letter(actor, "requeue", letter, served=served, after=place)
            )

        where = await self._box.requeue(_scope(actor), list(dict.fromkeys(ids)), noting=noting)
        log.info(
            "dead_letters_requeued",
            tenant=actor.tenant,
            actor=actor.name,
            role=actor.role,
            letters=where,
        )
        return shown(DeadLettersRequeued(content=where))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/dead-letters",
                operation="listDeadLetters",
                handler=self.listing,
                summary="Messages and events that could not be handled; an INSTANCE_ADMIN sees all",
                tag="dead letters",
                roles=ADMINS,
                in_maintenance=True,
                whole_instance=True,
                responses={200: schemas.answer("The letters.", DeadLetters)} | errors,
            ),
            Endpoint(
                method="POST",
                path="/dead-letters/requeue",
                operation="requeueDeadLetters",
                handler=self.requeue,
                summary="Put dead letters back where they were",
                tag="dead letters",
                roles=ADMINS,
                in_maintenance=True,
                whole_instance=True,
                body=schemas.json_body(DeadLetterIds),
                responses={200: schemas.answer("Where each went.", DeadLettersRequeued)}
                | schemas.errors(400, 404, 408, 409, 413, 415, 422)
                | errors,
            ),
        ]
