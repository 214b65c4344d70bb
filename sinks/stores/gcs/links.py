"""Links to objects: URLs that the key of a service account signs (V4, `GOOG4-RSA-SHA256`).

The machine's own identity has no key here, so it signs none: Google would (IAM `signBlob`), and is
not asked, as that takes a right which lets this service sign anything in its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC
from urllib.parse import quote, urlsplit

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from app.delivery.disposition import attachment
from app.delivery.object_store import LinkAsked
from app.errors import NoLinkError
from app.network.hosts import PORTS
from sinks.stores.gcs.account import Account, read_account
from sinks.stores.gcs.target import GcsTarget

_ALGORITHM = "GOOG4-RSA-SHA256"


def link(target: GcsTarget, key: str, asked: LinkAsked) -> str:
    """Return the signed URL of an object. Raises NoLinkError."""
    if target.own_identity:
        raise NoLinkError(
            f"{target} is signed in to as this service, by which no links are made: give it the "
            "key of a service account"
        )
    told = {
        "response-content-disposition": attachment(asked.name),
        "response-content-type": asked.media_type,
    }
    try:
        return signed(target, key, asked, read_account(target.credentials), told)
    except (ValueError, InternalError, UnsupportedAlgorithm) as error:
        raise NoLinkError(
            f"the key of the service account of {target} signs nothing ({type(error).__name__}): "
            "give it another"
        ) from None


def signed(
    target: GcsTarget, key: str, asked: LinkAsked, account: Account, told: Mapping[str, str]
) -> str:
    """Return the URL by which an object is had for a while, with what is `told` in its query."""
    stamp = asked.at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    path = f"/{target.container}/{quote(key, safe='/~')}"
    query = _query(
        {
            "X-Goog-Algorithm": _ALGORITHM,
            "X-Goog-Credential": f"{account.email}/{scope}",
            "X-Goog-Date": stamp,
            "X-Goog-Expires": str(asked.seconds),
            "X-Goog-SignedHeaders": "host",
            **told,
        }
    )
    host = _told_by_clients(target.endpoint)
    canonical = f"GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    signature = account.key.sign(to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{target.endpoint}{path}?{query}&X-Goog-Signature={signature.hex()}"


def _told_by_clients(endpoint: str) -> str:
    """Return the header `Host` of a request there: without a port that the scheme tells."""
    address = urlsplit(endpoint)
    return address.netloc.removesuffix(f":{PORTS[address.scheme]}")


def _query(parameters: Mapping[str, str]) -> str:
    """Return parameters as they are signed: by their names, all else but letters escaped."""
    pairs = (f"{quote(name, safe='~')}={quote(parameters[name], safe='~')}" for name in parameters)
    return "&".join(sorted(pairs))
