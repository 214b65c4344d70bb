"""What stands before every handler: a token, a role, a tenant, its rate, maintenance."""

from __future__ import annotations

import math

from aiohttp import web

from app.logs import get_logger
from app.tenants import ConfiguredTenants
from web.answers import refusal
from web.auth import Verifier, token_of
from web.endpoint import ACTOR, Endpoint, Handler
from web.limits import RateLimit

log = get_logger(__name__)


class Gate:
    """Lets a request through to its endpoint, or says why not."""

    def __init__(self, verifier: Verifier, tenants: ConfiguredTenants, *, limit: RateLimit) -> None:
        self._verifier = verifier
        self._tenants = tenants
        self._limit = limit

    def before(self, endpoint: Endpoint) -> Handler:
        """Return the endpoint's handler behind the gate."""
        if endpoint.roles is None:
            return endpoint.handler
        roles = endpoint.roles

        async def guarded(request: web.Request) -> web.StreamResponse:
            actor = self._verifier.verify(token_of(request))
            wait = self._limit.wait(f"{actor.tenant}\0{actor.name}")
            if wait:
                return refusal(
                    429, "too many requests; wait a moment", Retry_After=str(math.ceil(wait))
                )
            if actor.role not in roles:
                return refusal(403, f"this needs one of the roles {', '.join(sorted(roles))}")
            if not self._tenants.known(actor.tenant):
                return refusal(403, "the token is of a tenant that is not served here")
            if self._tenants.paused(actor.tenant) and not endpoint.in_maintenance:
                return refusal(503, f"tenant {actor.tenant} is in maintenance", Retry_After="60")
            request[ACTOR] = actor
            return await endpoint.handler(request)

        return guarded
