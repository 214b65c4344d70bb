"""`/limits`: what holds for the caller's requests."""

from __future__ import annotations

from aiohttp import web

from app.tenants.registry import ConfiguredTenants
from app.usecases.limits import limits_of
from app.views.limits import CallerLimitsView, LimitsView
from app.views.view import Link, View
from web import schemas
from web.answers import MAX_BODY, shown
from web.api.deliveries import own_only
from web.endpoint import ACTOR, READERS, USERS, Endpoint


class LimitsAnswer(View):
    """What holds for requests."""

    content: LimitsView
    links: list[Link]


class LimitsApi:
    """The handler."""

    def __init__(self, tenants: ConfiguredTenants) -> None:
        self._tenants = tenants

    async def limits(self, request: web.Request) -> web.Response:
        """Return what holds for the caller."""
        actor, static = request[ACTOR], self._tenants.static
        found = limits_of(actor.tenant, tenants=self._tenants, user=own_only(actor))
        http = CallerLimitsView(
            requests_per_second=static.web_requests_per_second,
            burst=static.web_requests_burst,
            at_once=static.web_requests_at_once,
        )
        sizes = found.request.model_copy(update={"body_bytes": MAX_BODY})
        content = found.model_copy(update={"http": http, "request": sizes})
        return shown(LimitsAnswer(content=content, links=[]))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/limits",
                operation="getLimits",
                handler=self.limits,
                summary="What holds for the caller's requests: sizes, formats, names of targets, "
                "and the tenant's settings that are no secret and no place",
                tag="deliveries",
                roles=USERS | READERS,
                in_maintenance=True,
                responses={200: schemas.answer("What holds.", LimitsAnswer)}
                | schemas.errors(401, 403, 429),
            )
        ]
