"""The tokens that this service signs for rs-order (contract, section 2)."""

from __future__ import annotations

import time
from typing import Any

import jwt


class TokenSigner:
    """Signs HS512 tokens as the ordering user; one is used again until shortly before its end."""

    def __init__(self, secret: str, *, ttl: float) -> None:
        self._secret = secret
        self._ttl = ttl
        self._tokens: dict[tuple[str, str], tuple[float, str]] = {}

    def sign_with(self, secret: str) -> bool:
        """Sign with this secret from now on; return whether it is another."""
        if secret == self._secret:
            return False
        self._secret = secret
        self._tokens.clear()
        return True

    def token(self, tenant: str, user: str) -> str:
        """Return a token that is good for at least half its time to live."""
        now = time.time()
        expires, token = self._tokens.get((tenant, user), (0.0, ""))
        if expires - now < self._ttl / 2:
            if len(self._tokens) > 10_000:
                self._tokens.clear()
            expires = now + self._ttl
            claims: dict[str, Any] = {
                "tenant": tenant,
                "sub": user,
                "email": user,
                "role": "REGISTERED_USER",
                "iat": int(now),
                "exp": int(expires) + 1,
            }
            token = jwt.encode(claims, self._secret, algorithm="HS512")
            self._tokens[tenant, user] = expires, token
        return token
