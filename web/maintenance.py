"""`/maintenance`, `/security/resources`, `/audit`: a tenant's operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from app.configuration import Maintenance
from app.usecases.configure import Configure
from web import schemas
from web.answers import refusal
from web.endpoint import ACTOR, ADMINS, PROJECT_ADMINS, Endpoint
from web.parameters import LAST, number

_PAGE = 100
_LARGEST_PAGE = 1000
_ROLES = ("REGISTERED_USER", "EXPLOIT", "ADMIN", "PROJECT_ADMIN")  # the least first


class OperationApi:
    """The handlers. `listed` gives all endpoints of the site, once it is made."""

    def __init__(self, configure: Configure, listed: Callable[[], Sequence[Endpoint]]) -> None:
        self._configure = configure
        self._listed = listed

    async def maintenance(self, request: web.Request) -> web.Response:
        """Say whether the token's tenant is in maintenance."""
        tenant = request[ACTOR].tenant
        return _maintenance(tenant, await self._configure.maintenance(tenant))

    async def enable(self, request: web.Request) -> web.Response:
        """Put the tenant into maintenance."""
        return await self._maintain(request, active=True)

    async def disable(self, request: web.Request) -> web.Response:
        """Take the tenant out of maintenance."""
        return await self._maintain(request, active=False)

    async def _maintain(self, request: web.Request, *, active: bool) -> web.Response:
        actor = request[ACTOR]
        if request.match_info["tenant"] != actor.tenant:
            return refusal(403, "the token is of another tenant")
        return _maintenance(actor.tenant, await self._configure.maintain(actor, active=active))

    async def resources(self, _request: web.Request) -> web.Response:
        """Return every endpoint and the role that it needs, as rs-admin asks for them."""
        return web.json_response(
            [
                {
                    "resourceAccess": {
                        "description": endpoint.summary,
                        "role": _least(endpoint),
                    },
                    "method": endpoint.method,
                    "fullPath": endpoint.path,
                    "controllerSimpleName": f"{endpoint.tag.capitalize()}Controller",
                }
                for endpoint in self._listed()
            ]
        )

    async def audit(self, request: web.Request) -> web.Response:
        """Return who changed what, the newest first; a page at a time."""
        limit = number(request, "limit", _PAGE, largest=_LARGEST_PAGE)
        before = number(request, "before", LAST, largest=LAST)
        entries = await self._configure.audit(request[ACTOR].tenant, before=before, limit=limit)
        links = []
        if len(entries) == limit:
            links.append(
                {"rel": "next", "href": f"{request.path}?limit={limit}&before={entries[-1].id}"}
            )
        content = [
            {
                "id": entry.id,
                "at": entry.at.isoformat(),
                "actor": entry.actor,
                "role": entry.role,
                "action": entry.action,
                "subject": entry.subject,
                "before": entry.before,
                "after": entry.after,
            }
            for entry in entries
        ]
        return web.json_response({"content": content, "links": links})

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        tenant = (schemas.path("tenant", "The token's tenant."),)
        said = {200: schemas.answer("By tenant: whether, and since when.", "Maintenance")} | errors
        return [
            Endpoint(
                method="GET",
                path="/maintenance",
                handler=self.maintenance,
                summary="Whether the tenant is in maintenance",
                tag="maintenance",
                roles=ADMINS,
                in_maintenance=True,
                responses=said,
            ),
            *(
                Endpoint(
                    method="PUT",
                    path=f"/maintenance/{{tenant}}/{verb}",
                    handler=handler,
                    summary=summary,
                    tag="maintenance",
                    roles=ADMINS,
                    in_maintenance=True,
                    parameters=tenant,
                    responses=said,
                )
                for verb, handler, summary in (
                    ("enable", self.enable, "Into maintenance: requests wait, REST answers 503"),
                    ("disable", self.disable, "Out of maintenance: what waited begins"),
                )
            ),
            Endpoint(
                method="GET",
                path="/security/resources",
                handler=self.resources,
                summary="Every endpoint and the role that it needs",
                tag="security",
                roles=PROJECT_ADMINS,
                in_maintenance=True,
                responses={200: schemas.answer("The endpoints.", "Resources")} | errors,
            ),
            Endpoint(
                method="GET",
                path="/audit",
                handler=self.audit,
                summary="Who changed what, the newest first",
                tag="audit",
                roles=ADMINS,
                parameters=(
                    schemas.query(
                        "limit",
                        "Entries at most.",
                        {"type": "integer", "minimum": 1, "maximum": _LARGEST_PAGE},
                    ),
                    schemas.query(
                        "before",
                        "Only entries with smaller ids.",
                        {"type": "integer", "minimum": 1, "maximum": LAST},
                    ),
                ),
                responses={200: schemas.answer("The entries.", "Audit")}
                | schemas.errors(422)
                | errors,
            ),
        ]


def _maintenance(tenant: str, maintenance: Maintenance | None) -> web.Response:
    content: dict[str, Any] = {}
    if maintenance is not None:
        content[tenant] = {
            "active": maintenance.active,
            "lastUpdate": maintenance.updated_at.isoformat(),
        }
    return web.json_response({"content": content, "links": []})


def _least(endpoint: Endpoint) -> str:
    """Return the least role that suffices, as REGARDS orders them."""
    if endpoint.roles is None:
        return "PUBLIC"
    return next(role for role in _ROLES if role in endpoint.roles)
