"""`/pauses`: transfers of a tenant, to a target, of all tenants; workers that are drained."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.audit import Actor
from app.delivery.pauses import MAX_PAUSE, PauseScope, PauseSubject, Running
from app.encoding import flaw_of
from app.errors import InvalidRequestError
from app.usecases.pausing import MAX_REASON, Pausing
from app.views.pauses import PauseView
from app.views.view import View
from web import schemas
from web.answers import body_as, shown
from web.endpoint import ACTOR, OPERATORS, READERS, Endpoint, Handler

_NO_PAUSE = "There is no such pause, or no such target or worker."
_INSTANCE_ADMIN = frozenset({"INSTANCE_ADMIN"})


class PauseWish(BaseModel):
    """Why something is paused, until when, and what becomes of what runs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    reason: str = Field(min_length=1, max_length=MAX_REASON)
    until: AwareDatetime | None = Field(None, description="Its end; left out: until it is resumed.")
    for_seconds: int | None = Field(
        None, ge=1, le=int(MAX_PAUSE.total_seconds()), description="Instead: how long it lasts."
    )
    running: Running | None = Field(
        None,
        description="What becomes of what runs: `finish` (the default), or `stop`, to be gone on "
        "with later (the default for a worker, whose work others go on with).",
    )


class Pauses(View):
    """The pauses that concern the caller."""

    content: list[PauseView]


class PauseAnswer(View):
    """A pause that was begun or ended."""

    content: PauseView


Subject = Callable[[web.Request], PauseSubject]


class PausesApi:
    """The handlers."""

    def __init__(self, pausing: Pausing) -> None:
        self._pausing = pausing

    async def listing(self, request: web.Request) -> web.Response:
        """Return the pauses in effect that concern the caller's tenant."""
        actor = request[ACTOR]
        tenants = () if actor.role in _INSTANCE_ADMIN else (actor.tenant,)
        found = self._pausing.all(*tenants)
        return shown(Pauses(content=[PauseView.of(pause) for pause in found]))

    async def pause(self, subject: Subject, request: web.Request) -> web.Response:
        """Begin a pause, or change it."""
        wish = await body_as(PauseWish, request)
        lasts = None if wish.for_seconds is None else timedelta(seconds=wish.for_seconds)
        pause = await self._pausing.pause(
            request[ACTOR],
            subject(request),
            reason=wish.reason,
            running=wish.running,
            until=wish.until,
            lasts=lasts,
        )
        return shown(PauseAnswer(content=PauseView.of(pause)))

    async def resume(self, subject: Subject, request: web.Request) -> web.Response:
        """End a pause."""
        pause = await self._pausing.resume(request[ACTOR], subject(request))
        return shown(PauseAnswer(content=PauseView.of(pause)))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        listing = Endpoint(
            method="GET",
            path="/pauses",
            operation="listPauses",
            handler=self.listing,
            summary="What is paused: of the tenant, and for all; an INSTANCE_ADMIN sees all",
            tag="pauses",
            roles=OPERATORS | READERS,
            in_maintenance=True,
            whole_instance=True,
            responses={200: schemas.answer("The pauses in effect.", Pauses)}
            | schemas.errors(401, 403, 429, 503),
        )
        target = schemas.path("target", "One of the tenant's targets.")
        worker = schemas.path("worker", "A worker, as `GET /workers` names it.")
        return [
            listing,
            *self._of(PauseScope.TENANT, "/pauses/tenant", "transfers of the tenant"),
            *self._of(
                PauseScope.TARGET,
                "/pauses/targets/{target}",
                "transfers of the tenant to a target",
                target,
            ),
            *self._of(PauseScope.WORKER, "/pauses/workers/{worker}", "a worker: drain it", worker),
            *self._of(PauseScope.INSTANCE, "/pauses/instance", "transfers of all tenants"),
        ]

    def _of(
        self, scope: PauseScope, path: str, what: str, *parameters: dict[str, Any]
    ) -> list[Endpoint]:
        of_tenant = scope in (PauseScope.TENANT, PauseScope.TARGET)
        name = scope.value.capitalize()
        subject = partial(_subject, scope)

        def endpoint(
            method: str, operation: str, handler: Handler, summary: str, *codes: int, **more: Any
        ) -> Endpoint:
            return Endpoint(
                method=method,
                path=path,
                operation=f"{operation}{name}",
                handler=handler,
                summary=summary,
                tag="pauses",
                roles=OPERATORS if of_tenant else _INSTANCE_ADMIN,
                in_maintenance=True,
                whole_instance=not of_tenant,
                parameters=parameters,
                responses={200: schemas.answer("The pause.", PauseAnswer)}
                | schemas.errors(*codes, 401, 403, 404, 429, 503, absent=_NO_PAUSE),
                **more,
            )

        return [
            endpoint(
                "PUT",
                "pause",
                partial(self.pause, subject),
                f"Pause {what}; or change that",
                *(400, 408, 413, 415, 422),
                body=schemas.json_body(PauseWish),
            ),
            endpoint(
                "DELETE",
                "resume",
                partial(self.resume, subject),
                f"Resume {what}".split(":")[0],
                *((422,) if parameters else ()),
            ),
        ]


def _subject(scope: PauseScope, request: web.Request) -> PauseSubject:
    actor: Actor = request[ACTOR]
    match scope:
        case PauseScope.TENANT:
            return PauseSubject(scope=scope, tenant=actor.tenant)
        case PauseScope.TARGET:
            return PauseSubject(scope=scope, tenant=actor.tenant, name=_name(request, "target"))
        case PauseScope.WORKER:
            return PauseSubject(scope=scope, name=_name(request, "worker"))
        case PauseScope.INSTANCE:
            return PauseSubject(scope=scope)


def _name(request: web.Request, part: str) -> str:
    name = request.match_info[part]
    if flaw := flaw_of(name):
        raise InvalidRequestError([f"{part} {flaw}"])
    return name
