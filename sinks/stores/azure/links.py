"""Links to blobs: shared access signatures that may read one blob, and nothing else.

The key of an account signs by itself. An identity asks Azure for a key of its own that signs for so
long (user delegation), for which it needs the role "Storage Blob Delegator", or one with that
right. What has a SAS alone can sign nothing.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from azure.storage.blob import generate_blob_sas

from app.delivery.disposition import attachment
from app.delivery.object_store import LinkAsked
from app.errors import NoLinkError
from sinks.stores.azure.calls import AzureCalls
from sinks.stores.azure.target import AzureTarget


async def link(calls: AzureCalls, target: AzureTarget, key: str, asked: LinkAsked) -> str:
    """Return the URL of a blob with a SAS. Raises NoLinkError."""
    if target.sas is not None:
        raise NoLinkError(
            f"{target} is signed in to with a SAS, by which no links are made: give it the key of "
            "the account, or an identity"
        )
    calls.check_tenant(target, asked.marks)
    signed: dict[str, Any] = {"account_key": target.key}
    if target.key is None:
        signed = {"user_delegation_key": await calls.delegation_key(target, asked)}
    secure = urlsplit(target.endpoint).scheme == "https"
    sas = generate_blob_sas(
        account_name=target.account,
        container_name=target.container,
        blob_name=key,
        permission="r",
        expiry=asked.until,
        protocol="https" if secure else "https,http",
        content_disposition=attachment(asked.name),
        content_type=asked.media_type,
        **signed,
    )
    return f"{target.url_of(key)}?{sas}"
