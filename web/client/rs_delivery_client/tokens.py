"""Where a token for the service comes from."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

# A token, or what gives one: asked for again when the last one has expired.
Token = str | Callable[[], str] | Callable[[], Awaitable[str]]


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """What an identity provider gives."""

    token: str = field(repr=False)
    refresh: str | None = field(default=None, repr=False)  # by which the next one is had


@dataclass(frozen=True, kw_only=True)
class Key:
    """Signs tokens with the secret that the service checks them with, each for some minutes.

    For programs that the operator of the service trusts with it: it opens everything.
    """

    secret: str = field(repr=False)
    tenant: str
    user: str
    role: str = "REGISTERED_USER"
    seconds: int = 600  # that a token holds

    def __call__(self) -> str:
        """Return a new token."""
        # A digest that is longer than the secret adds nothing.
        long = len(self.secret.encode()) >= 64
        now = int(time.time())
        head = {"alg": "HS512" if long else "HS256", "typ": "JWT"}
        claims = {
            "tenant": self.tenant,
            "sub": self.user,
            "email": self.user,
            "role": self.role,
            "iat": now,
            "exp": now + self.seconds,
        }
        signed = f"{_part(_json(head))}.{_part(_json(claims))}"
        digest = hashlib.sha512 if long else hashlib.sha256
        mac = hmac.new(self.secret.encode(), signed.encode(), digest).digest()
        return f"{signed}.{_part(mac)}"


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
