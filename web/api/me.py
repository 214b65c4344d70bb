"""`/me`: who the caller is here, and what their correlation ids begin with."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from app.delivery.own_ids import prefix_of
from app.views.view import Link, View
from web import schemas
from web.answers import shown
from web.endpoint import ACTOR, ONLY_OWN, READERS, USERS, Endpoint


class CallerView(View):
    """Who the caller is here."""

    name: str
    role: str = Field(description="What counts, of READ_ONLY and those of REGARDS.")
    named_role: str | None = Field(
        None,
        description="As the token names it: a role of the site (DELIVERY_ROLES).",
    )
    tenant: str
    correlation_id_prefix: str | None = Field(
        None,
        description="What ids of the caller's own begin with; missing where any may be chosen.",
    )


class Me(View):
    """The caller."""

    content: CallerView
    links: list[Link]


async def _me(request: web.Request) -> web.Response:
    """Return who the caller is."""
    actor = request[ACTOR]
    caller = CallerView(
        name=actor.name,
        role=actor.role,
        named_role=actor.named,
        tenant=actor.tenant,
        correlation_id_prefix=prefix_of(actor.name) if actor.role in ONLY_OWN else None,
    )
    return shown(Me(content=caller, links=[]))


def endpoints() -> list[Endpoint]:
    """Return what this part serves."""
    return [
        Endpoint(
            method="GET",
            path="/me",
            operation="getMe",
            handler=_me,
            summary="Who the token is of, and what correlation ids of their own begin with",
            tag="deliveries",
            roles=USERS | READERS,
            in_maintenance=True,
            whole_instance=True,
            responses={200: schemas.answer("The caller.", Me)} | schemas.errors(401, 403, 429),
        )
    ]
