"""What tenants set of a container of Azure's: an entry of `delivery_targets`."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, model_validator

from app.settings.texts import host, token
from app.tenants.definitions import Prefix, Token, Value
from app.tenants.masks import MASK, SECRET

_ACCOUNT = "^[a-z0-9]{3,24}$"
_CONTAINER = "^[a-z0-9](-?[a-z0-9]){2,62}$"
_OWN_HOST = ".blob.core."
_IDENTITY = "^(default|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$"


def _container(text: str) -> str:
    if not re.fullmatch(_CONTAINER, text):
        raise ValueError(
            "must be 3 to 63 lower-case letters, digits and single hyphens, with a letter or digit "
            "at both ends"
        )
    return text


def _endpoint(text: str) -> str:
    token(text)
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        raise ValueError("can't be read as a URL") from None
    if address.scheme not in ("http", "https") or port == 0:
        raise ValueError("must be http://host[:port][/account] or https://…")
    if address.username or address.password or address.query or address.fragment:
        raise ValueError("must be scheme, host, port and path alone: a SAS is a field of its own")
    name = host(address.hostname or "")
    if _OWN_HOST in f".{name.lower()}." and address.path.strip("/"):
        raise ValueError("must have no path: the host is an account's own")
    return text.rstrip("/")


def _key(text: str) -> str:
    if text != MASK:
        try:
            base64.b64decode(token(text), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be an account key, which is base64") from None
    return text


def _sas(text: str) -> str:
    token(text)
    if text != MASK and not {"sig", "sv"} <= parse_qs(text.lstrip("?")).keys():
        raise ValueError("must be a shared access signature, with sv=… and sig=…")
    return text.lstrip("?")


_SECRET = f"Reads `{MASK}`; sent back like that, the stored one is kept, while all else stays."


class AzureDeliveryTarget(Value):
    """A container of an Azure storage account."""

    type: Literal["azure"]
    account: str = Field(pattern=_ACCOUNT, description="Name of the storage account.")
    container: Annotated[
        str, AfterValidator(_container), Field(json_schema_extra={"pattern": _CONTAINER})
    ]
    endpoint: (
        Annotated[str, AfterValidator(_endpoint), Field(json_schema_extra={"format": "uri"})] | None
    ) = Field(
        None,
        description="URL of the account's blob storage, where it is not "
        "`https://ACCOUNT.blob.core.windows.net`.",
    )
    prefix: Prefix | None = Field(None, description="Put before every key, with a / between.")
    key: Annotated[Token, AfterValidator(_key)] | None = Field(
        None,
        repr=False,
        json_schema_extra=SECRET,
        description=f"Key of the account. {_SECRET}",
    )
    sas: Annotated[Token, AfterValidator(_sas)] | None = Field(
        None,
        repr=False,
        json_schema_extra=SECRET,
        description="Shared access signature that may read, create, write, delete and list in the "
        f"container. {_SECRET}",
    )
    identity: str | None = Field(
        None,
        pattern=_IDENTITY,
        description="`default`, or the client id of a managed identity: this service signs in as "
        "itself, where the operator allows it.",
    )

    @model_validator(mode="after")
    def _signs_in_once(self) -> Self:
        given = [name for name in ("key", "sas", "identity") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("must have one of key, sas and identity")
        return self
