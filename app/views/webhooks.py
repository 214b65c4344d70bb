"""Webhooks as they are shown: how each takes events, and which it never took."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from app.delivery.webhooks import DeadEvent, Webhook, WebhookSeen, type_on_the_wire
from app.network.urls import told
from app.views.findings import Finding, bad, good
from app.views.view import Milliseconds, View

WebhookState = Literal["OK", "FAILING", "GONE", "DISABLED", "UNREADABLE"]


class WebhookView(View):
    """A webhook of a tenant."""

    name: str
    url: str = Field(
        description="Scheme and host; where there is more, a short hash of the whole URL: the rest "
        "may be a secret."
    )
    state: WebhookState = Field(
        description="FAILING: it took none of what it was sent last; GONE: it answered 410, and is "
        "sent nothing more; UNREADABLE: no key opens its secret."
    )
    events: list[str] | None = Field(None, description="Those that it asks for; left out: all.")
    owed: int = Field(description="Events that wait to be taken.")
    dead: int = Field(description="Events that were given up, and can be sent again.")
    dropped: int | None = Field(None, description="Events that are lost: too many waited.")
    oldest_owed_at: Milliseconds | None = None
    last_success_at: Milliseconds | None = None
    failing_since: Milliseconds | None = None
    tried_again_at: Milliseconds | None = None
    last_error: str | None = None

    @classmethod
    def of(cls, webhook: Webhook, seen: WebhookSeen | None) -> Self:
        """Show a webhook, and what is known of it."""
        known = seen or WebhookSeen(tenant=webhook.tenant, name=webhook.name)
        return cls(
            name=webhook.name,
            url=told(webhook.url),
            state=_state_of(webhook, known),
            events=None if webhook.events is None else sorted(webhook.events),
            owed=known.owed,
            dead=known.dead,
            dropped=known.dropped or None,
            oldest_owed_at=known.oldest_owed_at,
            last_success_at=known.last_success_at,
            failing_since=known.failing_since,
            tried_again_at=known.tried_again_at,
            last_error=known.last_error,
        )


class DeadEventView(View):
    """An event that a webhook never took."""

    id: str
    type: str
    correlation_id: str
    delivery_id: str
    happened_at: Milliseconds
    died_at: Milliseconds
    tries: int
    last_error: str | None = None

    @classmethod
    def of(cls, dead: DeadEvent) -> Self:
        """Show one."""
        return cls(
            id=str(dead.id),
            type=type_on_the_wire(dead.type),
            correlation_id=dead.correlation_id,
            delivery_id=str(dead.delivery_id),
            happened_at=dead.happened_at,
            died_at=dead.died_at,
            tries=dead.tries,
            last_error=dead.last_error,
        )


def _state_of(webhook: Webhook, seen: WebhookSeen) -> WebhookState:
    if not webhook.enabled:
        return "DISABLED"
    if not webhook.usable:
        return "UNREADABLE"
    if seen.gone_url == webhook.url:
        return "GONE"
    return "FAILING" if seen.failing_since is not None else "OK"


def webhooks_found(seen: list[WebhookSeen]) -> list[Finding]:
    """Report, for an operator, which webhooks take no events; of one that is disabled, nothing."""
    found = []
    for webhook in seen:
        if not webhook.enabled:
            continue
        check = f"{webhook.tenant} {webhook.name}"
        if webhook.gone_url is None and webhook.failing_since is None and not webhook.dead:
            continue
        if webhook.gone_url is not None:
            what = "it answered 410: it is gone, and is sent nothing more"
        elif webhook.failing_since is not None:
            what = (
                f"it has taken no event since {webhook.failing_since:%FT%TZ} ({webhook.last_error})"
            )
        else:
            what = "it does not fail"
        found.append(
            bad(
                "webhooks",
                check,
                f"{what}; {webhook.owed} events wait, {webhook.dead} are dead",
                f"mend it, or change its settings; POST /webhooks/{webhook.name}/test tries it, "
                f"POST /webhooks/{webhook.name}/resend sends what is dead again",
            )
        )
    return found or [good("webhooks", "events", "no webhook fails")]
