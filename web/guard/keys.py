"""What tokens are checked with that the operator gives as keys: several of a kind at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.errors import ConfigurationError

MAX_CLOCK_SKEW = 30  # seconds that clocks may differ

_HMAC = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512")
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


class TokenKeys:
    """Shared secrets and RSA keys. Each kind has its own algorithms: none stands in for another.

    What a token's header says (`kid`, `jku`, `x5u`, `jwk`) never chooses among them: each of the
    kind is tried, so that tokens of the one before are good while keys are changed.

    `public_keys` are in PEM, one after the other. Raises ConfigurationError where one is none.
    """

    def __init__(self, *, secrets: Sequence[str] = (), public_keys: str = "") -> None:
        given = tuple(secret for secret in secrets if secret)
        self._keys: dict[str, Sequence[Any]] = {}
        if given:
            self._keys |= dict.fromkeys(_HMAC, given)
        if public_keys.strip():
            self._keys |= dict.fromkeys(_RSA, tuple(_parsed(public_keys)))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def take(self, algorithm: str) -> bool:
        """Whether there are keys for an algorithm."""
        return algorithm in self._keys

    def claims(self, token: str, algorithm: str) -> dict[str, Any]:
        """Return what a token says. Raises what PyJWT raises where no key has signed it."""
        failed: jwt.PyJWTError = jwt.InvalidAlgorithmError(algorithm)
        for key in self._keys.get(algorithm, ()):
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    leeway=MAX_CLOCK_SKEW,
                    options={"require": ["exp"], "verify_aud": False},
                )
            except jwt.InvalidSignatureError as error:
                failed = error
        raise failed


def _parsed(text: str) -> Iterator[RSAPublicKey]:
    found = _PEM.findall(text)
    if not found or _PEM.sub("", text).strip():
        found = [""]  # what is between them is no key
    for pem in found:
        try:
            key = load_pem_public_key(pem.encode())
        except ValueError:
            key = None
        if not isinstance(key, RSAPublicKey):
            raise ConfigurationError(
                "DELIVERY_JWT_PUBLIC_KEY must be an RSA public key in PEM, or several, one after "
                "the other"
            )
        yield key
