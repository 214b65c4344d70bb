"""What tenants set of a bucket of Google Cloud Storage: an entry of `delivery_targets`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from app.settings.texts import google_bucket, host, token
from app.tenants.definitions import Prefix, Value
from app.tenants.masks import IDENTITY, MASK

_BUCKET = "^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$"
_MAX_CREDENTIALS = 16_384  # characters
_MAX_RSA = 4096  # bits


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


def read_account(text: str) -> dict[str, Any]:
    """Return the key of a service account. Raises ValueError."""
    try:
        account = json.loads(text)
    except ValueError:
        account = None
    if not isinstance(account, dict) or account.get("type") != "service_account":
        raise ValueError(
            f"must be the key of a service account, the whole JSON file as a text, or {IDENTITY}"
        )
    for name in ("client_email", "private_key", "private_key_id"):
        if not isinstance(account.get(name), str) or not account[name].strip():
            raise ValueError(f"must be the whole key of a service account: it has no {name}")
    _check_key(account["private_key"])
    return account


def _check_key(text: str) -> None:
    # Imported when one is set: most commands read none.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # That the primes of an RSA key are some takes a second for 4096 bits, minutes for more.
        key = load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size > _MAX_RSA:
        raise ValueError(
            "must be the whole key of a service account: its private_key is no RSA key in PEM "
            f"form of {_MAX_RSA} bits at most"
        )


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
        description="Key of a service account: the JSON file as a text. Reads "
        f"`{MASK}`; sent back like that, the stored one is kept, while all else stays. Or "
        f"`{IDENTITY}`: this service signs in as itself, where the operator allows it.",
    )
