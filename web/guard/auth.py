"""Who calls: JSON Web Tokens, as REGARDS issues them (contract, section 4)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jwt
from aiohttp import hdrs, web

from app.audit import Actor
from app.errors import ConfigurationError
from web.guard.claims import MAX_CLAIM, MAX_TIME, text_of
from web.guard.errors import EXPIRED, NotSignedInError
from web.guard.keys import TokenKeys
from web.guard.oidc import ProviderTokens

_MAX_TOKEN_LENGTH = 16 * 1024  # characters of a token
_BEARER = re.compile(
    r"Bearer +([A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+) *", re.IGNORECASE
)


class TokenVerifier:
    """Checks tokens: those of the identity provider by its keys, others by the operator's.

    `keys` may be replaced, as a whole, while requests are answered.
    """

    def __init__(
        self,
        *,
        secret: str,
        public_key: str,
        former_secrets: Sequence[str] = (),
        provider: ProviderTokens | None = None,
    ) -> None:
        self.keys = TokenKeys(secrets=(secret, *former_secrets), public_keys=public_key)
        self._provider = provider
        if not self.keys and provider is None:
            raise ConfigurationError(
                "no user could sign in: set DELIVERY_JWT_SECRET or DELIVERY_JWT_PUBLIC_KEY to what "
                "REGARDS' tokens are checked with, or DELIVERY_OIDC_ISSUER to the identity "
                "provider whose tokens are taken"
            )

    async def actor_of(self, token: str) -> Actor:
        """Return who a token was given to.

        Raises NotSignedInError, or IdentityUnavailableError where that can't be told now.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            raise NotSignedInError(f"the token has more than {_MAX_TOKEN_LENGTH} characters")
        if self._provider is not None and self._provider.issued(token):
            return await self._provider.verify(token)
        return self.verify(token)

    def verify(self, token: str) -> Actor:
        """Return who a token by the operator's keys was given to. Raises NotSignedInError."""
        keys = self.keys
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if not isinstance(algorithm, str) or not keys.take(algorithm):
                raise NotSignedInError("the token is not signed in a way that is accepted here")
            if "crit" in header:
                raise NotSignedInError("the token asks for extensions that are unknown here")
            claims = keys.claims(token, algorithm)
        except jwt.ExpiredSignatureError:
            raise NotSignedInError(EXPIRED) from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise NotSignedInError("the token is not valid") from None
        name = text_of(claims.get("email")) or text_of(claims.get("sub"))
        if name is None:
            raise NotSignedInError(
                "the token names no user: it needs email or sub, printable, of at most "
                f"{MAX_CLAIM} characters"
            )
        return Actor(
            name=name,
            role=text_of(claims.get("role")) or "",
            tenant=text_of(claims.get("tenant")) or "",
            expires=min(int(claims["exp"]), MAX_TIME),
        )


def token_of(request: web.Request) -> str:
    """Return the request's token. Raises NotSignedInError."""
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not given:
        raise NotSignedInError("sign in: send Authorization: Bearer <token>")
    match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise NotSignedInError("the header Authorization must be: Bearer <token>, once")
    return match[1]
