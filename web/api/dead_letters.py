"""`/dead-letters`: what could not be handled, with the reason; put it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.audit import Actor, AuditTrail
from app.errors import InvalidRequestError
from app.telemetry.logs import get_logger
from app.views.audit import DeadLetterTrail
from app.views.dead_letters import DeadLetter, DeadLetterStore
from app.views.view import Moment, View
from web import schemas
from web.answers import json_of, shown
from web.endpoint import ACTOR, ADMINS, Endpoint

log = get_logger(__name__)

_BATCH_SIZE = 500  # letters


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
    def of(cls, dead_letter: DeadLetter) -> Self:
        """Show a letter."""
        return cls(
            id=dead_letter.id,
            place=dead_letter.place,
            tenant=dead_letter.tenant,
            correlation_id=dead_letter.correlation_id,
            at=dead_letter.at,
            bytes=dead_letter.size,
            reason=dead_letter.reason,
            text=dead_letter.text,
        )


class DeadLetters(View):
    """The dead letters that the caller may see."""

    content: list[DeadLetterView]
    truncated: bool = Field(description="There are more than are shown, or may be.")


class DeadLetterIds(BaseModel):
    """Which letters are put back."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    ids: list[str] = Field(min_length=1, max_length=_BATCH_SIZE)


class DeadLettersRequeued(View):
    """Where each letter went."""

    content: dict[str, str]


class DeadLettersApi:
    """The handlers."""

    def __init__(
        self, dead_letters: DeadLetterStore, audit: AuditTrail, *, serves: Callable[[str], bool]
    ) -> None:
        self._dead_letters = dead_letters
        self._audit = audit
        self._serves = serves

    async def listing(self, request: web.Request) -> web.Response:
        """Return the dead letters that the caller may see."""
        seen = await self._dead_letters.look(_scope(request[ACTOR]))
        content = [DeadLetterView.of(dead_letter) for dead_letter in seen.dead_letters]
        return shown(DeadLetters(content=content, truncated=seen.truncated))

    async def requeue(self, request: web.Request) -> web.Response:
        """Put dead letters back where they were."""
        try:
            ids = DeadLetterIds.model_validate(await json_of(request)).ids
        except ValidationError:
            raise InvalidRequestError([f"ids: must be a list of 1 to {_BATCH_SIZE} ids"]) from None
        actor = request[ACTOR]
        trail = DeadLetterTrail(trail=self._audit, actor=actor, serves=self._serves)
        where = await self._dead_letters.requeue(
            _scope(actor), list(dict.fromkeys(ids)), audited=trail.requeued
        )
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
