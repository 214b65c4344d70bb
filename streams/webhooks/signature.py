"""Signatures of Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

What is signed is id, seconds since 1970 and body, with a dot between, by HMAC-SHA-256 with the
bytes of the secret. Each secret makes a signature, so that one can be changed for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

from app.tenants.webhooks import secret_bytes


def signed(secrets: Iterable[str], *, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message that is sent at that time (seconds since 1970)."""
    content = f"{message_id}.{at}.".encode() + body
    signatures = (
        base64.b64encode(hmac.digest(secret_bytes(secret), content, hashlib.sha256)).decode()
        for secret in secrets
    )
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
