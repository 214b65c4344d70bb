"""`/maintenance`, `/security/resources`, `/audit`: a tenant's operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from aiohttp import hdrs, web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from app.audit import AuditEntry, AuditTrail
from app.codes import Code
from app.delivery.maintenance import Maintenance
from app.errors import DeliveryError
from app.telemetry.logs import get_logger
from app.tenants.configure import MAX_REASON, Configure
from app.views.audit import AuditEntryView, csv_head, csv_lines, json_lines
from app.views.maintenance import MaintenanceStateView
from app.views.view import Link, Query, Text, Time, View
from web import schemas
from web.answers import body_as, body_of, refusal, shown
from web.endpoint import ACTOR, ADMINS, ENDPOINTS, PROJECT_ADMINS, READERS, Endpoint
from web.parameters import LAST, Whole, read

log = get_logger(__name__)

_ANOTHER = "the token is of another tenant"
_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1000
# By form: what it is answered as, and what else Accept may call it.
_TYPES = {
    "json": ("application/json",),
    "csv": ("text/csv",),
    "jsonl": ("application/x-ndjson", "application/jsonl"),
}
# The least first.
_ROLES = ("REGISTERED_USER", "EXPLOIT", "ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN")


class MaintenanceView(View):
    """Which tenants are in maintenance; those that never were are missing."""

    content: dict[str, MaintenanceStateView]
    links: list[Link]


class MaintenanceWish(BaseModel):
    """What is said of a maintenance; of one that goes on, it takes the place of what was said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str | None = Field(None, max_length=MAX_REASON)
    until: AwareDatetime | None = Field(
        None,
        description="When it should be over. It is not ended by that: `GET /attention` tells that "
        "it goes on.",
    )


class ResourceAccessView(View):
    """Who may use an endpoint, as rs-admin has it."""

    description: str
    role: str


class ResourceView(View):
    """An endpoint, as rs-admin has it."""

    resource_access: ResourceAccessView
    method: str
    full_path: str
    controller_simple_name: str


class Resources(RootModel[list[ResourceView]]):
    """The endpoints that there are."""


class Audit(View):
    """A page of the audit trail."""

    content: list[AuditEntryView]
    links: list[Link]


class FormQuery(Query):
    """What the audit trail is answered as."""

    format: Literal["json", "csv", "jsonl"] | None = Field(
        None, description="What is answered; without it, the header Accept says it."
    )


class AuditQuery(FormQuery):
    """Which entries of the audit trail."""

    since: Time = Field(None, description="Only entries from this time on.")
    until: Time = Field(None, description="Only entries before this time.")
    actor: Text = Field(None, description="Only what the user of this name did.")
    action: Text = Field(None, description="Only this, such as set, reset, try, cancel, retry.")
    subject: Text = Field(
        None,
        description="Only what was done to this: a setting by its name, or a delivery by `delivery`"
        " and its correlation id.",
    )
    before: Annotated[int, Whole(1)] = Field(LAST, description="Only entries with smaller ids.")
    limit: Annotated[int, Whole(1)] = Field(
        LAST,
        description=f"Entries of a page, up to {_MAX_PAGE_SIZE}; of a file, as many as are "
        "wanted (default: all).",
    )


class PageQuery(AuditQuery):
    """Which entries on a page."""

    limit: Annotated[int, Whole(1, _MAX_PAGE_SIZE)] = _PAGE_SIZE


class OperationApi:
    """The handlers."""

    def __init__(self, configure: Configure, audit: AuditTrail) -> None:
        self._configure = configure
        self._audit = audit

    async def maintenance(self, request: web.Request) -> web.Response:
        """Say whether the token's tenant is in maintenance."""
        tenant = request[ACTOR].tenant
        return _maintenance(tenant, await self._configure.maintenance(tenant))

    async def enable(self, request: web.Request) -> web.Response:
        """Put the tenant into maintenance, or say something else of it.

        REGARDS sends no body: of one that goes on, what was said holds.
        """
        actor = request[ACTOR]
        if _of_another(request):
            return refusal(403, _ANOTHER, code=Code.FORBIDDEN)
        if not request.body_exists or not await body_of(request):
            return _maintenance(actor.tenant, await self._configure.keep_maintenance(actor))
        wish = await body_as(MaintenanceWish, request)
        begun = await self._configure.enable_maintenance(
            actor, reason=wish.reason, until=wish.until
        )
        return _maintenance(actor.tenant, begun)

    async def disable(self, request: web.Request) -> web.Response:
        """Take the tenant out of maintenance."""
        actor = request[ACTOR]
        if _of_another(request):
            return refusal(403, _ANOTHER, code=Code.FORBIDDEN)
        return _maintenance(actor.tenant, await self._configure.disable_maintenance(actor))

    async def resources(self, request: web.Request) -> web.Response:
        """Return every endpoint and the role that it needs, as rs-admin asks for them."""
        resources = [
            ResourceView(
                resource_access=ResourceAccessView(
                    description=endpoint.summary, role=_least(endpoint)
                ),
                method=endpoint.method,
                full_path=endpoint.path,
                controller_simple_name=f"{endpoint.tag.capitalize()}Controller",
            )
            for endpoint in request.app[ENDPOINTS]
        ]
        return shown(Resources(resources))

    async def audit(self, request: web.Request) -> web.StreamResponse:
        """Return who changed what, the newest first: a page at a time, or all as a file."""
        form = _form(request)
        wanted = read(request, PageQuery if form == "json" else AuditQuery)
        limit, before = wanted.limit, wanted.before

        async def page(before: int, size: int) -> list[AuditEntry]:
            return await self._audit.entries(
                request[ACTOR].tenant,
                before=before,
                limit=size,
                since=wanted.since,
                until=wanted.until,
                actor=wanted.actor,
                action=wanted.action,
                subject=wanted.subject,
            )

        if form != "json":
            return await _exported(request, form, page, before=before, limit=limit)
        entries = await page(before, limit)
        links = []
        if len(entries) == limit:
            query = [(name, v) for name, v in request.query.items() if name != "before"]
            query.append(("before", str(entries[-1].id)))
            links.append(Link(rel="next", href=f"{request.path}?{urlencode(query)}"))
        return shown(Audit(content=[AuditEntryView.of(entry) for entry in entries], links=links))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        tenant = (schemas.path("tenant", "The token's tenant."),)
        said = {
            200: schemas.answer(
                "By tenant: whether, since when, and what is said of it.", MaintenanceView
            )
        } | errors
        return [
            Endpoint(
                method="GET",
                path="/maintenance",
                operation="getMaintenance",
                handler=self.maintenance,
                summary="Whether the tenant is in maintenance",
                tag="maintenance",
                roles=ADMINS | READERS,
                in_maintenance=True,
                responses=said,
            ),
            Endpoint(
                method="PUT",
                path="/maintenance/{tenant}/enable",
                operation="enableMaintenance",
                handler=self.enable,
                summary="Into maintenance: requests wait, REST answers 503",
                tag="maintenance",
                roles=ADMINS,
                in_maintenance=True,
                parameters=tenant,
                body=schemas.json_body(MaintenanceWish, required=False),
                responses=said | schemas.errors(400, 408, 413, 415, 422),
            ),
            Endpoint(
                method="PUT",
                path="/maintenance/{tenant}/disable",
                operation="disableMaintenance",
                handler=self.disable,
                summary="Out of maintenance: what waited begins",
                tag="maintenance",
                roles=ADMINS,
                in_maintenance=True,
                parameters=tenant,
                responses=said,
            ),
            Endpoint(
                method="GET",
                path="/security/resources",
                operation="listResources",
                handler=self.resources,
                summary="Every endpoint and the role that it needs",
                tag="security",
                roles=PROJECT_ADMINS,
                in_maintenance=True,
                responses={200: schemas.answer("The endpoints.", Resources)} | errors,
            ),
            Endpoint(
                method="GET",
                path="/audit",
                operation="listAudit",
                handler=self.audit,
                summary="Who changed what, the newest first; as CSV or JSON lines, all of it",
                tag="audit",
                roles=ADMINS | READERS,
                whole_instance=True,
                in_maintenance=True,
                query=AuditQuery,
                responses={
                    200: _with_files(schemas.answer("The entries.", Audit)),
                }
                | schemas.errors(422)
                | errors,
            ),
        ]


def _form(request: web.Request) -> str:
    """Return what the caller wants; what it names first wins. Raises InvalidRequestError."""
    given = read(request, FormQuery).format
    if given is not None:
        return given
    for wanted in request.headers.get(hdrs.ACCEPT, "").split(","):
        kind = wanted.partition(";")[0].strip().lower()
        for form, types in _TYPES.items():
            if kind in types:
                return form
    return "json"


async def _exported(
    request: web.Request,
    form: str,
    page: Callable[[int, int], Awaitable[list[AuditEntry]]],
    *,
    before: int,
    limit: int,
) -> web.StreamResponse:
    """Write entries as they are read, page after page: a file of any length takes little memory."""
    entries = await page(
        before, min(limit, _MAX_PAGE_SIZE)
    )  # should it fail, it is an answer still
    answer = web.StreamResponse()
    answer.content_type, answer.charset = _TYPES[form][0], "utf-8"
    answer.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="audit.{form}"'
    await answer.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return answer
    lines = csv_lines if form == "csv" else json_lines
    if form == "csv":
        await answer.write(csv_head().encode())
    try:
        while entries:
            await answer.write(lines(entries).encode())
            limit -= len(entries)
            if limit <= 0 or len(entries) < _MAX_PAGE_SIZE:
                break
            entries = await page(entries[-1].id, min(limit, _MAX_PAGE_SIZE))
    except DeliveryError as error:
        # What was written can't be taken back: that the file has no end must be seen.
        log.warning("audit_cut_short", cause=str(error))
        if request.transport is not None:
            request.transport.abort()
    return answer


def _with_files(answer: dict[str, Any]) -> dict[str, Any]:
    texts = {_TYPES[form][0]: {"schema": {"type": "string"}} for form in ("csv", "jsonl")}
    return answer | {"content": answer["content"] | texts}


def _of_another(request: web.Request) -> bool:
    return bool(request.match_info["tenant"] != request[ACTOR].tenant)


def _maintenance(tenant: str, maintenance: Maintenance | None) -> web.Response:
    content = {}
    if maintenance is not None:
        content[tenant] = MaintenanceStateView.of(maintenance)
    return shown(MaintenanceView(content=content, links=[]))


def _least(endpoint: Endpoint) -> str:
    """Return the least role that suffices, as REGARDS orders them."""
    if endpoint.roles is None:
        return "PUBLIC"
    return next(role for role in _ROLES if role in endpoint.roles)
