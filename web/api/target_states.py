"""`/targets`: how it goes with each target."""

from __future__ import annotations

from aiohttp import web

from app.tenants.registry import ConfiguredTenants
from app.usecases.target_states import TargetStates
from app.views.targets import TargetView
from app.views.view import View
from web import schemas
from web.answers import shown
from web.endpoint import ACTOR, ADMINS, OPERATORS, READERS, Endpoint


class TargetsShown(View):
    """The targets, each with how it goes with it."""

    content: list[TargetView]


class TargetStatesApi:
    """The handler."""

    def __init__(self, states: TargetStates, tenants: ConfiguredTenants) -> None:
        self._states = states
        self._tenants = tenants

    async def listing(self, request: web.Request) -> web.Response:
        """Return the targets of the caller's tenant; to an INSTANCE_ADMIN those of all."""
        actor = request[ACTOR]
        sees_all = actor.role == "INSTANCE_ADMIN"
        tenants = self._tenants.worked_for if sees_all else (actor.tenant,)
        # Where a target is, only those see who see the settings.
        places = actor.role in ADMINS | READERS
        return shown(TargetsShown(content=await self._states.of(tenants, places=places)))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/targets",
                operation="listTargetStates",
                handler=self.listing,
                summary="How it goes with each target of the tenant: whether it works, fails or "
                "is paused, since when, what waits for it; an INSTANCE_ADMIN sees all",
                tag="workers",
                roles=OPERATORS | READERS,
                in_maintenance=True,
                whole_instance=True,
                responses={200: schemas.answer("Each target.", TargetsShown)}
                | schemas.errors(401, 403, 429, 503),
            ),
        ]
