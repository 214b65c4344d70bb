"""Who calls: JSON Web Tokens, as REGARDS issues them (contract, section 4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jwt
from aiohttp import hdrs, web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.audit import Actor
from app.errors import ConfigurationError

_MAX_CLOCK_SKEW = 30  # seconds that clocks may differ
_MAX_TOKEN_LENGTH = 16 * 1024  # characters of a token
_MAX_CLAIM = 255
_MAX_TIME = 2**53  # seconds: an issuer may write any number
_BEARER = re.compile(
    r"Bearer +([A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+) *", re.IGNORECASE
)

_HMAC = ["HS256", "HS384", "HS512"]
_RSA = ["RS256", "RS384", "RS512"]


class NotSignedInError(Exception):
    """There is no token, or none to believe. Says why, never what the token holds."""


class TokenVerifier:
    """Checks tokens. Each kind of key has its own algorithms, so that none stands in for another.

    What a token's header says (`kid`, `jku`, `x5u`, `jwk`) never chooses a key.
    """

    def __init__(self, *, secret: str, public_key: str) -> None:
        self._keys: dict[str, tuple[Any, list[str]]] = {}
        if secret:
            self._keys |= dict.fromkeys(_HMAC, (secret, _HMAC))
        if public_key:
            try:
                key = load_pem_public_key(public_key.encode())
            except ValueError:
                key = None
            if not isinstance(key, RSAPublicKey):
                raise ConfigurationError("DELIVERY_JWT_PUBLIC_KEY must be an RSA public key in PEM")
            self._keys |= dict.fromkeys(_RSA, (key, _RSA))
        if not self._keys:
            raise ConfigurationError(
                "no user could sign in: set DELIVERY_JWT_SECRET or DELIVERY_JWT_PUBLIC_KEY to what "
                "REGARDS' tokens are checked with"
            )

    def verify(self, token: str) -> Actor:
        """Return who a token was given to. Raises NotSignedInError."""
        if len(token) > _MAX_TOKEN_LENGTH:
            raise NotSignedInError(f"the token has more than {_MAX_TOKEN_LENGTH} characters")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if not isinstance(algorithm, str) or algorithm not in self._keys:
                raise NotSignedInError("the token is not signed in a way that is accepted here")
            if "crit" in header:
                raise NotSignedInError("the token asks for extensions that are unknown here")
            key, algorithms = self._keys[algorithm]
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                leeway=_MAX_CLOCK_SKEW,
                options={"require": ["exp"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise NotSignedInError("the token has expired; sign in again") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise NotSignedInError("the token is not valid") from None
        name = _text(claims, "email") or _text(claims, "sub")
        if name is None:
            raise NotSignedInError(
                "the token names no user: it needs email or sub, printable, of at most "
                f"{_MAX_CLAIM} characters"
            )
        return Actor(
            name=name,
            role=_text(claims, "role") or "",
            tenant=_text(claims, "tenant") or "",
            expires=min(int(claims["exp"]), _MAX_TIME),
        )


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CLAIM:
        return None
    return value if value.isprintable() and value.strip() else None


def token_of(request: web.Request) -> str:
    """Return the request's token. Raises NotSignedInError."""
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not given:
        raise NotSignedInError("sign in: send Authorization: Bearer <token>")
    match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise NotSignedInError("the header Authorization must be: Bearer <token>, once")
    return match[1]
