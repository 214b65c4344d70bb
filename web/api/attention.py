"""`/attention`: what needs an operator now."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web

from app.views.attention import AttentionView, Troubles, strangers_merged
from app.views.view import View
from web import schemas
from web.answers import shown
from web.endpoint import ACTOR, OPERATORS, READERS, Endpoint


class AttentionAnswer(View):
    """What needs an operator now, what matters most first."""

    content: list[AttentionView]


class AttentionApi:
    """The handler."""

    def __init__(self, troubles: Troubles, *, served: Callable[[], Collection[str]]) -> None:
        self._troubles = troubles
        self._served = served  # tenants

    async def listing(self, request: web.Request) -> web.Response:
        """Return what concerns the caller's tenant; to an INSTANCE_ADMIN all."""
        actor = request[ACTOR]
        tenants = None if actor.role == "INSTANCE_ADMIN" else [actor.tenant]
        found = strangers_merged(await self._troubles.troubles(tenants), self._served())
        return shown(AttentionAnswer(content=[AttentionView.of(trouble) for trouble in found]))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/attention",
                operation="listAttention",
                handler=self.listing,
                summary="What needs an operator now, since when, and what to do: of the tenant, "
                "and what concerns all; an INSTANCE_ADMIN sees all",
                tag="workers",
                roles=OPERATORS | READERS,
                in_maintenance=True,
                whole_instance=True,
                responses={200: schemas.answer("What matters most first.", AttentionAnswer)}
                | schemas.errors(401, 403, 429, 503),
            ),
        ]
