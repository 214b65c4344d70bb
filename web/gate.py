"""What stands before every handler: a token, a role, a tenant, its limits, maintenance."""

from __future__ import annotations

import math

from aiohttp import web

from app.logs import get_logger
from app.tenants import ConfiguredTenants
from web.answers import refusal
from web.auth import Verifier, token_of
from web.endpoint import ACTOR, Endpoint, Handler
from web.limits import Limits

log = get_logger(__name__)


class Gate:
    """Lets a request through to its endpoint, or says why not."""

    def __init__(self, verifier: Verifier, tenants: ConfiguredTenants, *, limits: Limits) -> None:
        self._verifier = verifier
        self._tenants = tenants
        self._limits = limits

    def before(self, endpoint: Endpoint) -> Handler:
        """Return the endpoint's handler behind the gate."""
        if endpoint.roles is None:
            return endpoint.handler
        roles = endpoint.roles

        async def guarded(request: web.Request) -> web.StreamResponse:
            actor = self._verifier.verify(token_of(request))
            caller = f"{actor.tenant}\0{actor.name}"
            wait = self._limits.rate.wait(caller)
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
            turns = self._limits.streams if endpoint.stream else self._limits.requests
            async with turns.taken(caller) as taken:
                if taken:
                    return await endpoint.handler(request)
            what = "streams are open" if endpoint.stream else "requests are under way"
            return refusal(429, f"too many {what}; end one first", Retry_After="1")

        return guarded
