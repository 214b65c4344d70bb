"""Access tokens of the site's identity provider: which are believed, and whom they name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jwt

from app.audit import Actor
from app.roles import MEANT
from web.guard.claims import MAX_CLAIM, MAX_TIME, text_at
from web.guard.errors import EXPIRED, NotSignedInError
from web.guard.keys import MAX_CLOCK_SKEW

# Takes a token's `kid` and `alg`; returns the keys that may have signed it. Raises
# IdentityUnavailableError where that can't be told.
KeysOf = Callable[[str | None, str], Awaitable[Sequence[Any]]]

# None of a shared secret, and not `none`: a key that is public must not become one.
_ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
_ACCESS_TOKENS = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # RFC 9068, and before
_NAMED_ACCESS_TOKENS = _ACCESS_TOKENS - {"jwt"}
_OTHER_TOKENS = frozenset({"id", "refresh", "offline", "logout"})  # Keycloak's claim `typ`
_OF_ID_TOKENS = frozenset({"at_hash", "c_hash"})


@dataclass(frozen=True, kw_only=True)
class ClaimNames:
    """Where the provider's tokens say who a caller is. With dots into what is nested."""

    users: Sequence[str] = ("email", "sub")  # the first that there is
    role: str = "role"
    tenant: str = "tenant"
    fixed_tenant: str = ""  # of every token, in place of the claim


class ProviderTokens:
    """Checks tokens of one issuer that are for one audience, by the keys that it publishes."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        keys: KeysOf,
        names: ClaimNames | None = None,
        roles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Take, beside what tokens are checked by, what `roles` of the site stand for."""
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._names = names or ClaimNames()
        self._roles = dict(zip(MEANT, MEANT, strict=True)) | dict(roles)

    def issued(self, token: str) -> bool:
        """Whether a token says that it is the provider's: no other key is tried then."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        return claims.get("iss") == self._issuer

    async def verify(self, token: str) -> Actor:
        """Return whom an access token names. Raises NotSignedInError, IdentityUnavailableError."""
        header, claims = await self._checked(token, self._audience)
        _require_access_token(header, claims)
        name = self._name(claims)
        if name is None:
            raise NotSignedInError(
                f"the token names no user: it needs {' or '.join(self._names.users)}, printable, "
                f"of at most {MAX_CLAIM} characters"
            )
        return Actor(
            name=name,
            role=self._role(text_at(claims, self._names.role)),
            tenant=self._names.fixed_tenant or _only(text_at(claims, self._names.tenant)),
            expires=min(int(claims["exp"]), MAX_TIME),
            by_provider=True,
        )

    async def check_identity(self, token: str, *, client: str, nonce: str) -> None:
        """Raise NotSignedInError unless an ID token is of the sign-in that the nonce began.

        Raises IdentityUnavailableError, too.
        """
        _, claims = await self._checked(token, client)
        if claims.get("nonce") != nonce or claims.get("azp", client) != client:
            raise NotSignedInError("the identity provider answered for another sign-in")

    async def _checked(self, token: str, audience: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in _ALGORITHMS or not isinstance(kid, str | None):
                raise NotSignedInError("the token is not signed in a way that is accepted here")
            if "crit" in header:
                raise NotSignedInError("the token asks for extensions that are unknown here")
            return header, self._decoded(
                token, algorithm, await self._keys(kid, algorithm), audience
            )
        except jwt.ExpiredSignatureError:
            raise NotSignedInError(EXPIRED) from None
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
            raise NotSignedInError("the token is not good yet; is a clock wrong?") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise NotSignedInError("the token is for another service") from None
        except jwt.MissingRequiredClaimError as error:
            raise NotSignedInError(f"the token lacks {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise NotSignedInError("the token is not valid") from None

    def _decoded(
        self, token: str, algorithm: str, keys: Sequence[Any], audience: str
    ) -> dict[str, Any]:
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=audience,
                    issuer=self._issuer,
                    leeway=MAX_CLOCK_SKEW,
                    options={"require": ["exp", "iss", "aud"]},
                )
            except jwt.InvalidSignatureError:
                continue
        raise NotSignedInError("the token is signed by no key that the identity provider publishes")

    def _role(self, found: Sequence[str]) -> str:
        """Return the one that stands for the highest; where none is known, what is said alone."""
        known = (role for role in found if role in self._roles)
        return max(known, key=lambda role: MEANT.index(self._roles[role]), default=_only(found))

    def _name(self, claims: Mapping[str, Any]) -> str | None:
        for path in self._names.users:
            # An address that the provider has not seen to may be another user's.
            if path == "email" and claims.get("email_verified", True) not in (True, "true"):
                continue
            if name := _only(text_at(claims, path)):
                return name
        return None


def _require_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """Refuse what else a provider signs for the same audience."""
    kinds = (str(header.get("typ", "JWT")).lower(), str(claims.get("typ", "")).lower())
    # Where ID tokens are for the same audience, and have no hash: they tell the nonce of a sign-in.
    # (Keycloak's access tokens may do that, too, and say what they are.)
    named = kinds[0] in _NAMED_ACCESS_TOKENS or kinds[1] == "bearer"
    if (
        kinds[0] not in _ACCESS_TOKENS
        or kinds[1] in _OTHER_TOKENS
        or _OF_ID_TOKENS & claims.keys()
        or ("nonce" in claims and not named)
    ):
        raise NotSignedInError("the token is no access token; an ID token opens nothing here")
    if "cnf" in claims:
        raise NotSignedInError(
            "the token is bound to a key of its client (cnf), which is not checked here; ask for "
            "one that is not"
        )


def _only(found: Sequence[str]) -> str:
    """Return what is said once; of several, none is chosen."""
    return found[0] if len(found) == 1 else ""
