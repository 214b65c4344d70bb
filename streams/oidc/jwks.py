"""The keys that a provider publishes (JSON Web Key Set), and which of them may check a token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_MAX_KEYS = 100  # of a set that are read
_MIN_RSA_BITS = 2048

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_READERS: Mapping[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKey:
    """A key, and the algorithms that it is for; never one of a shared secret."""

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a provider signs with, as far as it is of use here."""

    keys: Sequence[SigningKey]
    unusable: int = 0  # that were left out: of another kind, weak, or for something else

    def of(self, kid: str | None, algorithm: str) -> list[PublicKey]:
        """Return the keys that a token may be signed with; one that names none may be by any."""
        return [
            each.key
            for each in self.keys
            if algorithm in each.algorithms and kid in (None, each.kid)
        ]

    @property
    def algorithms(self) -> list[str]:
        """All that there are keys for."""
        return sorted(frozenset[str]().union(*(each.algorithms for each in self.keys)))

    @property
    def names(self) -> frozenset[str | None]:
        """Their `kid`s."""
        return frozenset(each.kid for each in self.keys)


def read_keys(document: object) -> KeySet:
    """Read a set; what is of no use here is left out. Raises ValueError in words."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no set of keys")  # noqa: TRY004 - as what is no JSON
    read = [_read(each) for each in listed[:_MAX_KEYS]]
    keys = [each for each in read if each is not None]
    return KeySet(keys, len(listed) - len(keys))


def _read(given: object) -> SigningKey | None:
    if not isinstance(given, dict) or given.get("use", "sig") != "sig" or "d" in given:
        return None
    uses = given.get("key_ops", ["verify"])
    reader = _READERS.get(str(given.get("kty")))
    # Some publish their private key's uses: what signs is what this half checks.
    if reader is None or not isinstance(uses, list) or not {"verify", "sign"} & {*map(str, uses)}:
        return None
    try:
        key = reader.from_jwk(json.dumps(given))
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError):
        return None
    algorithms = _algorithms(key)
    if "alg" in given:
        algorithms &= {str(given["alg"])}
    kid = given.get("kid")
    if not algorithms or not isinstance(kid, str | None):
        return None
    return SigningKey(kid=kid, algorithms=algorithms, key=key)


def _algorithms(key: object) -> frozenset[str]:
    match key:
        case rsa.RSAPublicKey() if key.key_size >= _MIN_RSA_BITS:
            return frozenset(_RSA)
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return frozenset({_CURVES[key.curve.name]})
        case ed25519.Ed25519PublicKey():
            return frozenset({"EdDSA"})
    return frozenset()
