"""What stands before every handler: a token, a role, a tenant, its limits, maintenance."""

from __future__ import annotations

import hmac
import math
from collections.abc import Container
from functools import partial

from aiohttp import hdrs, web

from app.audit import INSTANCE, Actor
from app.tenants.registry import ConfiguredTenants
from web.answers import refusal
from web.endpoint import ACTOR, Endpoint, Handler
from web.guard.auth import NotSignedInError, TokenVerifier, token_of
from web.guard.limits import CallerLimits

# Who brings the token for Prometheus: no tenant's, and no role but its own.
SCRAPER = Actor(name="prometheus", role="SCRAPER", tenant="")


def _of_instance(actor: Actor, endpoint: Endpoint) -> bool:
    """Whether it is asked by one who administers all tenants, and about none of them."""
    is_admin = (actor.tenant, actor.role) == (INSTANCE, "INSTANCE_ADMIN")
    return endpoint.whole_instance and is_admin


class Gate:
    """Lets a request through to its endpoint, or says why not."""

    def __init__(
        self,
        verifier: TokenVerifier,
        tenants: ConfiguredTenants,
        *,
        limits: CallerLimits,
        metrics_token: str = "",
    ) -> None:
        self._verifier = verifier
        self._tenants = tenants
        self._limits = limits
        self._metrics_token = metrics_token

    def before(self, endpoint: Endpoint) -> Handler:
        """Return the endpoint's handler behind the gate."""
        if endpoint.roles is None:
            return self._open(endpoint)
        if endpoint.scraped and self._metrics_token:
            return partial(self._scraped, endpoint, endpoint.roles)
        return partial(self._guarded, endpoint, endpoint.roles)

    async def _guarded(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request
    ) -> web.StreamResponse:
        # From here on the log knows who it is, whatever comes of it.
        actor = request[ACTOR] = self._verifier.verify(token_of(request))
        caller = f"{actor.tenant}\0{actor.name}"
        refused = self._refused(endpoint, roles, actor, caller)
        if refused is not None:
            return refused
        if endpoint.stream:
            return await self._streamed(endpoint, request, caller)
        async with self._limits.requests.taken(caller) as taken:
            if taken:
                return await endpoint.handler(request)
        return refusal(429, "too many requests are under way; end one first", Retry_After="1")

    def _refused(
        self, endpoint: Endpoint, roles: frozenset[str], actor: Actor, caller: str
    ) -> web.Response | None:
        wait = self._limits.rate.wait(caller)
        if wait:
            return refusal(
                429, "too many requests; wait a moment", Retry_After=str(math.ceil(wait))
            )
        if actor.role not in roles:
            return refusal(403, f"this needs one of the roles {', '.join(sorted(roles))}")
        if not self._tenants.known(actor.tenant) and not _of_instance(actor, endpoint):
            return refusal(403, "the token is of a tenant that is not served here")
        if self._tenants.paused(actor.tenant) and not endpoint.in_maintenance:
            return refusal(503, f"tenant {actor.tenant} is in maintenance", Retry_After="60")
        return None

    async def _streamed(
        self, endpoint: Endpoint, request: web.Request, caller: str
    ) -> web.StreamResponse:
        async with self._limits.streams.taken(caller) as own:
            if not own:
                return refusal(
                    503, "too many streams of yours are open; end one first", Retry_After="5"
                )
            async with self._limits.all_streams.taken("all") as taken:
                if taken:
                    return await endpoint.handler(request)
        return refusal(503, "too many streams are open here; try again later", Retry_After="5")

    def _open(self, endpoint: Endpoint) -> Handler:
        """Return the handler of what any client may ask; it finds an actor who may be told more."""
        details = endpoint.details
        if details is None:
            return endpoint.handler
        return partial(self._answer_any_client, endpoint, details)

    async def _answer_any_client(
        self, endpoint: Endpoint, details: Container[str], request: web.Request
    ) -> web.StreamResponse:
        """Answer a request; its handler finds an actor only where that one may be told details."""
        try:
            actor = self._verifier.verify(token_of(request))
        except NotSignedInError:  # a probe whose token has expired is a stranger, and answered
            pass
        else:
            served = self._tenants.known(actor.tenant) or _of_instance(actor, endpoint)
            if actor.role in details and served:
                request[ACTOR] = actor
        return await endpoint.handler(request)

    async def _scraped(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request
    ) -> web.StreamResponse:
        """Let the token for Prometheus through, too."""
        wanted = f"Bearer {self._metrics_token}".encode()
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        if len(given) == 1 and hmac.compare_digest(
            given[0].encode(errors="surrogateescape"), wanted
        ):
            request[ACTOR] = SCRAPER
            return await endpoint.handler(request)
        return await self._guarded(endpoint, roles, request)
