"""The key of a service account: the JSON file that Google gives, read and judged.

A tenant gives it. That its primes are some would take minutes to find out where they are large, so
nothing asks for that; all else is arithmetic that takes no time, and what passes it signs within
milliseconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.tenants.masks import IDENTITY

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers

_MIN_RSA = 1024  # bits
_MAX_RSA = 4096  # bits
_MAX_EXPONENT = 2**32


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What tokens are signed with."""

    email: str
    key_id: str
    key: RSAPrivateKey = field(repr=False)


def read_account(text: str) -> Account:
    """Read the key of a service account. Raises ValueError."""
    try:
        account = json.loads(text)
    except (ValueError, RecursionError):
        account = None
    if not isinstance(account, dict) or account.get("type") != "service_account":
        raise ValueError(
            f"must be the key of a service account, the whole JSON file as a text, or {IDENTITY}"
        )
    told = {name: _text(account, name) for name in ("client_email", "private_key_id")}
    return Account(
        email=told["client_email"],
        key_id=told["private_key_id"],
        key=_key_of(_text(account, "private_key")),
    )


def _text(account: dict[str, Any], name: str) -> str:
    found = account.get(name)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"must be the whole key of a service account: it has no {name}")
    return found


def _key_of(text: str) -> RSAPrivateKey:
    # Imported when one is read: most commands read none.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or not _MIN_RSA <= key.key_size <= _MAX_RSA:
        raise ValueError(
            "must be the whole key of a service account: its private_key is no RSA key in PEM "
            f"form of {_MIN_RSA} to {_MAX_RSA} bits"
        )
    if not _fits(key.private_numbers()):
        raise ValueError(
            "must be the whole key of a service account: the numbers of its private_key are not "
            "those of one RSA key"
        )
    return key


def _fits(key: RSAPrivateNumbers) -> bool:
    """Whether the numbers belong together, and none is larger than those of a key are."""
    public, p, q, d = key.public_numbers, key.p, key.q, key.d
    return (
        p * q == public.n
        and min(p, q) > 2
        and p % 2 == q % 2 == 1
        and 2 < public.e < _MAX_EXPONENT
        and 0 < d < public.n
        and d * public.e % (p - 1) == 1
        and d * public.e % (q - 1) == 1
        and key.dmp1 == d % (p - 1)
        and key.dmq1 == d % (q - 1)
        and 0 < key.iqmp < p
        and key.iqmp * q % p == 1
    )
