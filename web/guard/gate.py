"""What stands before every handler: a token, a role, a tenant, its limits, maintenance."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

from aiohttp import hdrs, web

from app.audit import INSTANCE, Actor
from app.codes import Code
from app.errors import IdentityUnavailableError
from app.roles import KNOWN, READ_ONLY
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from web.answers import refusal
from web.endpoint import ACTOR, Endpoint, Handler
from web.guard.auth import TokenVerifier, token_of
from web.guard.errors import NotSignedInError
from web.guard.keys import TokenKeys
from web.guard.limits import CallerLimits
from web.guard.permits import PERMIT, Permit

log = get_logger(__name__)

_LOOK_INTERVAL = 15.0  # seconds after which it is looked whether what lasts may go on

# Who brings the token for Prometheus: no tenant's, and no role but its own.
SCRAPER = Actor(name="prometheus", role="SCRAPER", tenant="")


async def _look_interval() -> None:
    await asyncio.sleep(_LOOK_INTERVAL)


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
        roles: Mapping[str, str] = MappingProxyType({}),
        provider_roles: Mapping[str, str] = MappingProxyType({}),
        until_look: Callable[[], Awaitable[None]] = _look_interval,
    ) -> None:
        """Take what checks tokens, and what roles of the site stand for.

        In tokens by the operator's keys, and in those of the identity provider. `until_look`
        returns when it is to be looked again whether a stream or a download may go on.
        """
        self._until_look = until_look
        self._verifier = verifier
        self._tenants = tenants
        self._limits = limits
        self._metrics_token = metrics_token
        self._roles, self._provider_roles = roles, provider_roles

    def check_with(self, keys: TokenKeys) -> None:
        """Check tokens by other keys of the operator, from the next request on."""
        self._verifier.keys = keys

    def scraped_with(self, token: str) -> bool:
        """Take another token of Prometheus from now on; return whether it is another."""
        before, self._metrics_token = self._metrics_token, token
        return before != token

    def before(self, endpoint: Endpoint) -> Handler:
        """Return the endpoint's handler behind the gate."""
        if endpoint.roles is None:
            return self._open(endpoint)
        if endpoint.scraped:
            return partial(self._scraped, endpoint, endpoint.roles)
        return partial(self._guarded, endpoint, endpoint.roles)

    async def _guarded(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request
    ) -> web.StreamResponse:
        # From here on the log knows who it is, whatever comes of it.
        actor = request[ACTOR] = self._as_here(await self._verifier.actor_of(token_of(request)))
        caller = f"{actor.tenant}\0{actor.name}"
        refused = self._refused(endpoint, roles, actor, caller)
        if refused is not None:
            return refused
        if endpoint.stream:
            return await self._streamed(endpoint, roles, request, caller)
        async with self._limits.requests.taken(caller) as taken:
            if taken:
                return await endpoint.handler(request)
        words = "too many requests are under way; end one first"
        return refusal(429, words, code=Code.TOO_MANY_CALLS, Retry_After="1")

    def _as_here(self, actor: Actor) -> Actor:
        """Return the actor with the role that the one of the token stands for."""
        roles = self._provider_roles if actor.by_provider else self._roles
        meant = roles.get(actor.role)
        return actor if meant is None else replace(actor, role=meant, named=actor.role)

    def _refused(
        self, endpoint: Endpoint, roles: frozenset[str], actor: Actor, caller: str
    ) -> web.Response | None:
        wait = self._limits.rate.wait(caller)
        if wait:
            words, seconds = "too many requests; wait a moment", str(math.ceil(wait))
            return refusal(429, words, code=Code.TOO_MANY_CALLS, Retry_After=seconds)
        forbidden = self._forbidden(endpoint, roles, actor)
        if forbidden is not None:
            return refusal(403, forbidden, code=Code.FORBIDDEN)
        maintenance = self._tenants.maintenance_of(actor.tenant)
        if maintenance is not None and not endpoint.in_maintenance:
            words = f"tenant {actor.tenant} is in maintenance{maintenance.announced}"
            seconds = str(maintenance.retry_after(datetime.now(UTC)))
            return refusal(503, words, code=Code.MAINTENANCE, Retry_After=seconds)
        return None

    def _forbidden(self, endpoint: Endpoint, roles: frozenset[str], actor: Actor) -> str | None:
        """Return why an actor may not ask for it; None if they may."""
        if actor.role not in roles:
            return _lacking(actor, roles)
        if not actor.tenant:
            return "the token names no tenant"
        if not self._tenants.known(actor.tenant) and not _of_instance(actor, endpoint):
            return "the token is of a tenant that is not served here"
        return None

    async def _streamed(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request, caller: str
    ) -> web.StreamResponse:
        async with self._limits.streams.taken(caller) as own:
            if not own:
                words = "too many streams of yours are open; end one first"
                return refusal(503, words, code=Code.TOO_MANY_CALLS, Retry_After="5")
            async with self._limits.all_streams.taken("all") as taken:
                if taken:
                    return await self._permitted(endpoint, roles, request)
        words = "too many streams are open here; try again later"
        return refusal(503, words, code=Code.TOO_MANY_CALLS, Retry_After="5")

    async def _permitted(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request
    ) -> web.StreamResponse:
        """Answer with what lasts, as long as its caller may have it."""
        permit = request[PERMIT] = Permit()
        watching = asyncio.create_task(self._watched(endpoint, roles, request, permit))
        try:
            return await endpoint.handler(request)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watched(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request, permit: Permit
    ) -> None:
        """Watch; a fault of that breaks off what is watched, as none may go on unwatched."""
        try:
            await self._watch(endpoint, roles, request, permit)
        except Exception:
            actor = request[ACTOR]
            log.exception("stream_not_watched", tenant=actor.tenant, actor=actor.name)
            # Its client comes again, and is looked at as with any request.
            if request.transport is not None:
                request.transport.abort()

    async def _watch(
        self, endpoint: Endpoint, roles: frozenset[str], request: web.Request, permit: Permit
    ) -> None:
        """Withdraw a permit once its caller's token, or tenant, would not be let in any more.

        A token that was good and has run out since ends a stream by itself, and no download.
        """
        actor = request[ACTOR]
        while permit.withdrawn is None:
            await self._until_look()
            now = actor
            try:
                if actor.expires is None or actor.expires > time.time():
                    now = self._as_here(await self._verifier.actor_of(token_of(request)))
            except IdentityUnavailableError:
                pass  # as for requests: the last keys stay good
            except NotSignedInError as error:
                permit.withdraw(str(error), signed_out=True)
            forbidden = self._forbidden(endpoint, roles, now)
            if permit.withdrawn is None and forbidden is not None:
                permit.withdraw(forbidden, signed_out=False)
        log.info("stream_ended", tenant=actor.tenant, actor=actor.name, cause=permit.withdrawn)

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
            actor = self._as_here(await self._verifier.actor_of(token_of(request)))
        # A probe whose token has expired, or can't be checked now, is a stranger, and answered.
        except (NotSignedInError, IdentityUnavailableError):
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
        if (
            self._metrics_token
            and len(given) == 1
            and hmac.compare_digest(given[0].encode(errors="surrogateescape"), wanted)
        ):
            request[ACTOR] = SCRAPER
            return await endpoint.handler(request)
        return await self._guarded(endpoint, roles, request)


def _lacking(actor: Actor, roles: frozenset[str]) -> str:
    """Return why a role does not suffice, in words."""
    needed = f"this needs one of the roles {', '.join(sorted(roles))}"
    named = "" if actor.named is None else f"{actor.named} stands for {actor.role} here"
    looks = "READ_ONLY looks, and changes nothing" if actor.role == READ_ONLY else ""
    unknown = "" if actor.role in KNOWN else "the token names none that is known here"
    why = ", and ".join(filter(None, (named, looks, unknown)))
    return f"{needed}; {why}" if why else needed
