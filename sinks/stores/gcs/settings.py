"""What tenants set of a bucket of Google Cloud Storage: an entry of `delivery_targets`."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from app.settings.texts import google_bucket, host, token
from app.tenants.definitions import Prefix, Value
from app.tenants.masks import IDENTITY, MASK, SECRET
from sinks.stores.gcs.account import read_account

_BUCKET = "^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$"
_MAX_CREDENTIALS = 16_384  # characters


def _endpoint(text: str) -> str:
    token(text)
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        raise ValueError("can't be read as a URL") from None
    if address.scheme not in ("http", "https") or port == 0:
        raise ValueError("must be http://host[:port] or https://…")
    if address.username or address.password or address.query or address.fragment:
        raise ValueError("must be scheme, host and port alone")
    if address.path.strip("/"):
        raise ValueError("must have no path")
    host(address.hostname or "")
    return text.rstrip("/")


def _credentials(text: str) -> str:
    if text not in (MASK, IDENTITY):
        read_account(text)
    return text


class GcsDeliveryTarget(Value):
    """A bucket of Google Cloud Storage."""

    type: Literal["gcs"]
    bucket: Annotated[
        str, AfterValidator(google_bucket), Field(json_schema_extra={"pattern": _BUCKET})
    ]
    endpoint: (
        Annotated[str, AfterValidator(_endpoint), Field(json_schema_extra={"format": "uri"})] | None
    ) = Field(
        None,
        description="URL of the JSON API, where it is not `https://storage.googleapis.com`.",
    )
    prefix: Prefix | None = Field(None, description="Put before every key, with a / between.")
    credentials: Annotated[
        str, AfterValidator(_credentials), Field(min_length=1, max_length=_MAX_CREDENTIALS)
    ] = Field(
        repr=False,
        json_schema_extra=SECRET,
        description="Key of a service account: the JSON file as a text. Reads "
        f"`{MASK}`; sent back like that, the stored one is kept, while all else stays. Or "
        f"`{IDENTITY}`: this service signs in as itself, where the operator allows it.",
    )
