"""`/quota`: what is left of the quotas of a tenant and its users."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from app.usecases.quotas import Quotas
from app.views.quotas import QuotaView
from app.views.view import Link, Query, Text, View
from web import schemas
from web.answers import shown
from web.api.deliveries import own_only
from web.endpoint import ACTOR, READERS, USERS, Endpoint
from web.parameters import read


class QuotaLeft(View):
    """What is left of quotas."""

    content: QuotaView
    links: list[Link]


class QuotaQuery(Query):
    """Whose quota."""

    user: Text = Field(None, description="Of this ordering user, too; a REGISTERED_USER's is own.")


class QuotaApi:
    """The handler."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    async def quota(self, request: web.Request) -> web.Response:
        """Return what is left for the tenant, and for a user."""
        actor = request[ACTOR]
        own = own_only(actor)
        user = read(request, QuotaQuery).user if own is None else own
        usage = await self._quotas.usage(actor.tenant, user or "")
        content = QuotaView.of(
            self._quotas.of(actor.tenant),
            usage,
            tenant=actor.tenant if own is None else None,
            user=user,
        )
        return shown(QuotaLeft(content=content, links=[]))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/quota",
                operation="getQuota",
                handler=self.quota,
                summary="What is left of quotas: of the tenant, and of a user who is named; a "
                "REGISTERED_USER sees their own alone",
                tag="deliveries",
                roles=USERS | READERS,
                query=QuotaQuery,
                responses={200: schemas.answer("What is left.", QuotaLeft)}
                | schemas.errors(401, 403, 422, 429, 503),
            )
        ]
