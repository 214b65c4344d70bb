"""`/webhooks`: how a tenant's webhooks take events; tried, and sent again what they never took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from pydantic import Field

from app.audit import AuditRecord, AuditTrail
from app.codes import Code
from app.delivery.webhooks import (
    CONTENT_TYPE,
    EventType,
    Webhook,
    WebhookOutbox,
    WebhookSender,
    ping,
)
from app.errors import InvalidRequestError, UnknownSettingError
from app.network.urls import told
from app.tenants.registry import ConfiguredTenants
from app.views.view import Link, Query, View
from app.views.webhooks import DeadEventView, WebhookView
from web import schemas
from web.answers import refusal, shown
from web.endpoint import ACTOR, ADMINS, OPERATORS, READERS, Endpoint
from web.guard.limits import RateLimit
from web.parameters import LAST, Whole, read

_PER_MINUTE = 5  # pings of a tenant
_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 500
_NO_WEBHOOK = "There is no such webhook."
_MAX_IDS = 200  # they are 8,000 of the 8,192 bytes that a request's first line may have


class Webhooks(View):
    """The webhooks of a tenant."""

    content: list[WebhookView]


class DeadEvents(View):
    """A page of the events that a webhook never took."""

    content: list[DeadEventView]
    links: list[Link]


class Resent(View):
    """What is sent again."""

    events: int


class Tried(View):
    """What came of a ping."""

    ok: bool
    message: str
    status: int | None = None


class DeadQuery(Query):
    """Which page."""

    before: Annotated[int, Whole(1)] = Field(LAST, description="From the link `next`.")
    limit: Annotated[int, Whole(1, _MAX_PAGE_SIZE)] = Field(
        _PAGE_SIZE, description="Entries at most."
    )


class ResendQuery(Query):
    """Which events."""

    id: list[str] | None = Field(None, description="Only these dead events; left out: all.")


class WebhooksApi:
    """The handlers."""

    def __init__(
        self,
        tenants: ConfiguredTenants,
        outbox: WebhookOutbox,
        sender: WebhookSender,
        audit: AuditTrail,
        *,
        pings_per_minute: int = _PER_MINUTE,
    ) -> None:
        self._tenants = tenants
        self._outbox = outbox
        self._sender = sender
        self._audit = audit
        self._rate = RateLimit(pings_per_minute / 60, burst=pings_per_minute)

    async def listing(self, request: web.Request) -> web.Response:
        """Return the tenant's webhooks, and how each takes events."""
        tenant = request[ACTOR].tenant
        seen = {webhook.name: webhook for webhook in await self._outbox.seen([tenant])}
        webhooks = self._tenants.settings(tenant).webhooks
        content = [WebhookView.of(webhooks[name], seen.get(name)) for name in sorted(webhooks)]
        return shown(Webhooks(content=content))

    async def dead(self, request: web.Request) -> web.Response:
        """Return events that a webhook never took, the newest first."""
        webhook, wanted = self._named(request), read(request, DeadQuery)
        found = await self._outbox.dead(
            webhook.tenant, webhook.name, before=wanted.before, limit=wanted.limit
        )
        links = []
        if len(found) == wanted.limit:
            href = f"{request.path}?before={found[-1].number}&limit={wanted.limit}"
            links.append(Link(rel="next", href=href))
        return shown(DeadEvents(content=[DeadEventView.of(event) for event in found], links=links))

    async def resend(self, request: web.Request) -> web.Response:
        """Let dead events be sent again."""
        webhook, wanted = self._named(request), read(request, ResendQuery).id
        events = None if wanted is None else _ids(wanted)
        count = await self._outbox.resend(request[ACTOR], webhook.name, events)
        return shown(Resent(events=count), status=202)

    async def test(self, request: web.Request) -> web.Response:
        """Send a ping, now and once; one that is taken ends a pause, and that a webhook is gone."""
        webhook, actor = self._named(request), request[ACTOR]
        if not webhook.secrets or not all(webhook.secrets):
            return shown(Tried(ok=False, message="its secret can't be read; set it again"))
        wait = self._rate.wait(actor.tenant)
        if wait:
            sentence = "too many pings; a few a minute"
            seconds = str(math.ceil(wait))
            return refusal(429, sentence, code=Code.TOO_MANY_CALLS, Retry_After=seconds)
        await self._audit.record(
            AuditRecord(
                actor=actor,
                action="try",
                subject=f"webhook {webhook.name}",
                before=None,
                after=told(webhook.url),
            )
        )
        async with self._sender.to(webhook) as post:
            answer = await post(ping(webhook.tenant), datetime.now(UTC))
        if answer.taken:
            await self._outbox.revive(webhook)
        message = f"it answered {answer.status}" if answer.taken else answer.flaw
        return shown(Tried(ok=answer.taken, message=message, status=answer.status))

    def _named(self, request: web.Request) -> Webhook:
        """Return the webhook of the path. Raises UnknownSettingError."""
        webhooks = self._tenants.settings(request[ACTOR].tenant).webhooks
        name = request.match_info["name"]
        if name not in webhooks:
            known = ", ".join(sorted(webhooks)) or "none"
            raise UnknownSettingError(f"there is no webhook {name[:100]!r}; there are: {known}")
        return webhooks[name]

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        named = (schemas.path("name", "Name of the webhook."),)
        always = schemas.errors(401, 403, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/webhooks",
                operation="listWebhooks",
                handler=self.listing,
                summary="The tenant's webhooks, and how they take events",
                tag="webhooks",
                roles=OPERATORS | READERS,
                responses={200: schemas.answer("Each, by its name.", Webhooks)} | always,
            ),
            Endpoint(
                method="GET",
                path="/webhooks/{name}/dead",
                operation="listDeadEvents",
                handler=self.dead,
                summary="Events that a webhook never took, the newest first",
                tag="webhooks",
                roles=OPERATORS | READERS,
                parameters=named,
                query=DeadQuery,
                responses={200: schemas.answer("A page.", DeadEvents)}
                | schemas.errors(404, 422, absent=_NO_WEBHOOK)
                | always,
            ),
            Endpoint(
                method="POST",
                path="/webhooks/{name}/resend",
                operation="resendEvents",
                handler=self.resend,
                summary="Send dead events again, and try the webhook at once",
                tag="webhooks",
                roles=OPERATORS,
                parameters=named,
                query=ResendQuery,
                responses={202: schemas.answer("So many are owed again.", Resent)}
                | schemas.errors(404, 422, absent=_NO_WEBHOOK)
                | always,
            ),
            Endpoint(
                method="POST",
                path="/webhooks/{name}/test",
                operation="testWebhook",
                handler=self.test,
                summary="Send a ping to a webhook, and say what it answered",
                tag="webhooks",
                roles=ADMINS,
                parameters=named,
                responses={200: schemas.answer("What came of it.", Tried)}
                | schemas.errors(404, absent=_NO_WEBHOOK)
                | always,
            ),
        ]


def _ids(given: list[str]) -> list[UUID]:
    if len(given) > _MAX_IDS:
        raise InvalidRequestError([f"id must be given at most {_MAX_IDS} times"])
    try:
        return [UUID(name) for name in given]
    except ValueError:
        raise InvalidRequestError(["id must be the id of an event"]) from None


def described() -> Mapping[str, Any]:
    """Return OpenAPI's `webhooks`: what a webhook is sent."""
    text = {"type": "string"}
    header = {"in": "header", "required": True}
    event = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**text, "description": "The same each time it is sent."},
            "source": {**text, "description": "`/rs-delivery/` and the tenant."},
            "type": {"enum": [known.name_on_the_wire for known in EventType]},
            "subject": {**text, "description": "The correlation id."},
            "time": {**text, "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "deliveryid": {**text, "format": "uuid"},
            "traceparent": text,
            "data": {"type": "object", "description": "The body of the response over AMQP."},
        },
    }
    post = {
        "operationId": "deliveryEvent",
        "summary": "What has happened to a delivery, signed as Standard Webhooks are",
        "tags": ["webhooks"],
        "parameters": [
            {**header, "name": "webhook-id", "schema": text, "description": "The event's id."},
            {
                **header,
                "name": "webhook-timestamp",
                "schema": text,
                "description": "Seconds since 1970, of this try.",
            },
            {
                **header,
                "name": "webhook-signature",
                "schema": text,
                "description": "`v1,` and an HMAC-SHA-256 in base64; one for each secret.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {CONTENT_TYPE.partition(";")[0]: {"schema": event}},
        },
        "responses": {
            "2XX": {"description": "It is taken."},
            "410": {"description": "Nothing is sent here any more."},
            "default": {"description": "It is sent again later; Retry-After is kept to."},
        },
    }
    return {"deliveryEvent": {"post": post}}
