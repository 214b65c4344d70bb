"""What an endpoint is: one entry makes the route, its guard, its description, its resource."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from app.audit import Actor
from app.roles import READ_ONLY
from app.views.view import Query

PREFIX = "/api/v1/rs-delivery"

ADMINS = frozenset({"ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN"})
OPERATORS = ADMINS | {"EXPLOIT"}
ONLY_OWN = frozenset({"REGISTERED_USER"})  # of deliveries
USERS = OPERATORS | ONLY_OWN
PROJECT_ADMINS = frozenset({"PROJECT_ADMIN", "INSTANCE_ADMIN"})
# Who may look where one of the others may: at what shows and changes nothing, and is no content.
READERS = frozenset({READ_ONLY})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A path, who may use it, and what it takes and answers.

    `parameters`, `body` and `responses` are OpenAPI objects; a schema in them may be a model.
    """

    method: str
    path: str
    operation: str  # its id: what generated clients call it
    handler: Handler
    summary: str
    tag: str
    roles: frozenset[str] | None = None  # None: any client, without a token
    details: frozenset[str] | None = None  # of what any client may ask: who is told more
    scraped: bool = False  # whether the token for Prometheus opens it, too
    in_maintenance: bool = False  # whether it answers then, too
    whole_instance: bool = False  # of no tenant: open to an INSTANCE_ADMIN of INSTANCE, too
    stream: bool = False  # whether its answer lasts
    has_head: bool = False  # of such a one: whether its head is told alone, too
    parameters: tuple[Mapping[str, Any], ...] = ()  # in path and header
    query: type[Query] | None = None
    body: Mapping[str, Any] | None = None
    responses: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


# All that a site serves, but what describes it.
ENDPOINTS: web.AppKey[list[Endpoint]] = web.AppKey("endpoints", list[Endpoint])
