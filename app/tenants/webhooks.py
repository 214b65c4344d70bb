"""What a tenant's setting `webhooks` says: how an entry is written, and what it means."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.delivery.webhooks import EVENT_TYPES, Webhook
from app.network.callbacks import Callbacks
from app.settings import Settings
from app.settings.texts import host, line
from app.tenants.masks import MASK, SECRET

MAX_WEBHOOKS = 10  # of a tenant
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a secret, as Standard Webhooks has it
_MAX_URL = 2048  # characters


def secret_bytes(secret: str) -> bytes:
    """Return what a secret signs with. Raises ValueError for one that is none."""
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def _secret(text: str) -> str:
    if text == MASK:
        return text
    try:
        length = len(secret_bytes(text)) if text.startswith(_PREFIX) else 0
    except ValueError:
        length = 0
    if not _SHORTEST <= length <= _LONGEST:
        raise ValueError(
            f'must be {_PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64: echo "{_PREFIX}'
            '$(openssl rand -base64 32)" makes one'
        )
    return text


def _url(text: str) -> str:
    if len(text) > _MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be a URL in ASCII, of at most {_MAX_URL} characters")
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        raise ValueError("can't be read as a URL") from None
    if address.scheme not in ("http", "https"):
        raise ValueError("must begin with https://")
    if "@" in address.netloc or "\\" in text:
        raise ValueError("must not hold a user or a password: the signature tells who sends")
    if address.fragment or port == 0:
        raise ValueError("must have no fragment, and no port 0")
    host(address.hostname or "")
    return text


_EventName = Literal[EVENT_TYPES]  # type: ignore[valid-type]
_Secret = Annotated[
    str,
    AfterValidator(_secret),
    Field(json_schema_extra={"pattern": r"^(whsec_[A-Za-z0-9+/=]{32,90}|\*{7})$"}),
]
Name = Annotated[
    str,
    AfterValidator(line),
    Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
]


class WebhookValue(BaseModel):
    """An entry of `webhooks`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: Annotated[
        str,
        AfterValidator(_url),
        Field(json_schema_extra={"pattern": "^https?://", "maxLength": _MAX_URL}),
    ] = Field(description="Where events are sent to by POST.")
    secret: _Secret = Field(
        repr=False,
        json_schema_extra=SECRET,
        description=f"What signs: `whsec_` and base64. Reads `{MASK}`; sent back like that, the "
        "stored one is kept, while the URL stays the same.",
    )
    previous_secret: _Secret | None = Field(
        None,
        repr=False,
        json_schema_extra=SECRET,
        description="Signs, too, while the consumer changes from one to the other.",
    )
    events: list[_EventName] | None = Field(
        None, max_length=50, description="Those that it is told of; left out: all, also new ones."
    )
    enabled: bool = Field(
        default=True, description="Whether events are sent; what happens meanwhile never is."
    )


def webhooks_of(tenant: str, value: Mapping[str, Any]) -> dict[str, Webhook]:
    """Return what the setting means. A secret that no key opens is empty: nothing is sent."""
    return {
        name: Webhook(
            tenant=tenant,
            name=name,
            url=entry["url"],
            secrets=tuple(
                entry[field] or "" for field in ("secret", "previous_secret") if field in entry
            ),
            enabled=entry.get("enabled", True),
            events=None if entry.get("events") is None else frozenset(entry["events"]),
        )
        for name, entry in value.items()
        # A later version may write others.
        if isinstance(entry, Mapping) and isinstance(entry.get("url"), str)
    }


def callbacks_of(settings: Settings) -> Callbacks:
    """Return where webhooks may be."""
    return Callbacks(hosts=settings.webhook_hosts, plain=settings.development)


def flaws(value: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Give a reason for each webhook that the operator does not allow."""
    callbacks = callbacks_of(settings)
    for name, entry in value.items():
        flaw = callbacks.flaw_of(entry["url"])
        if flaw is not None:
            yield f"webhooks.{name}.url: {flaw}"
