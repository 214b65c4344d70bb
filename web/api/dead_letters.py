"""`/dead-letters`: what could not be handled, with the reason; put it back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web

from app.delivery.ports import AuditTrail
from app.errors import InvalidRequestError
from app.telemetry.logs import get_logger
from app.tenants.values import Actor
from app.views.audit import of_letter
from app.views.dead_letters import Letter, LetterBox
from web import schemas
from web.answers import json_of
from web.endpoint import ACTOR, ADMINS, Endpoint

log = get_logger(__name__)

_AT_ONCE = 500  # letters


def _scope(actor: Actor) -> str | None:
    """Return whose letters the caller may see; None: all, those of no known tenant among them."""
    return None if actor.role == "INSTANCE_ADMIN" else actor.tenant


def _shown(letter: Letter) -> dict[str, Any]:
    shown = {
        "id": letter.id,
        "place": letter.place,
        "tenant": letter.tenant,
        "correlationId": letter.correlation_id,
        "at": letter.at.isoformat() if letter.at else None,
        "bytes": letter.size,
        "reason": letter.reason,
        "text": letter.text,
    }
    return {name: value for name, value in shown.items() if value is not None}


class LettersApi:
    """The handlers."""

    def __init__(self, box: LetterBox, audit: AuditTrail, *, serves: Callable[[str], bool]) -> None:
        self._box = box
        self._audit = audit
        self._serves = serves

    async def listing(self, request: web.Request) -> web.Response:
        """Return the dead letters that the caller may see."""
        seen = await self._box.look(_scope(request[ACTOR]))
        content = [_shown(letter) for letter in seen.letters]
        return web.json_response({"content": content, "truncated": seen.truncated})

    async def requeue(self, request: web.Request) -> web.Response:
        """Put dead letters back where they were."""
        body = await json_of(request)
        ids = body.get("ids") if isinstance(body, dict) else None
        if not (
            isinstance(ids, list)
            and ids
            and len(ids) <= _AT_ONCE
            and all(isinstance(one, str) for one in ids)
        ):
            raise InvalidRequestError([f"ids: must be a list of 1 to {_AT_ONCE} ids"])
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
        return web.json_response({"content": where})

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
                responses={200: schemas.answer("The letters.", "DeadLetters")} | errors,
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
                body=schemas.json_body("DeadLetterIds"),
                responses={200: schemas.answer("Where each went.", "DeadLettersRequeued")}
                | schemas.errors(400, 404, 408, 409, 413, 415, 422)
                | errors,
            ),
        ]


def components() -> dict[str, Any]:
    """Return the schemas of what these endpoints take and answer."""
    text = {"type": "string"}
    letter = {
        "type": "object",
        "required": ["id", "place", "bytes", "reason", "text"],
        "properties": {
            **dict.fromkeys(("id", "place", "tenant", "correlationId", "reason", "text"), text),
            "at": {"type": "string", "format": "date-time"},
            "bytes": {"type": "integer"},
        },
    }
    return {
        "DeadLetters": {
            "type": "object",
            "required": ["content", "truncated"],
            "properties": {
                "content": {"type": "array", "items": letter},
                "truncated": {
                    "type": "boolean",
                    "description": "There are more than are shown, or may be.",
                },
            },
        },
        "DeadLetterIds": {
            "type": "object",
            "required": ["ids"],
            "properties": {
                "ids": {"type": "array", "items": text, "minItems": 1, "maxItems": _AT_ONCE}
            },
        },
        "DeadLettersRequeued": {
            "type": "object",
            "required": ["content"],
            "properties": {"content": {"type": "object", "additionalProperties": text}},
        },
    }
