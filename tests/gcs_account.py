"""A service account of the tests' own, as Google gives its key."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

EMAIL = "deliverer@mission.iam.gserviceaccount.com"


@cache
def _keys() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def private_key() -> str:
    """Return its private key."""
    return _keys()[0]


def public_key() -> str:
    """Return what its tokens are checked with."""
    return _keys()[1]


def private_numbers() -> rsa.RSAPrivateNumbers:
    """Return the numbers of its private key."""
    key = load_pem_private_key(private_key().encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.private_numbers()


def private_key_with(**changes: int) -> str:
    """Return a private key with other numbers, as a hostile tenant writes it."""
    own = private_numbers()
    numbers = {name: getattr(own, name) for name in ("d", "p", "q", "dmp1", "dmq1", "iqmp")}
    numbers |= {"n": own.public_numbers.n, "e": own.public_numbers.e} | changes
    order = ("n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp")
    body = b"".join(_der(0x02, _unsigned(number)) for number in (0, *map(numbers.get, order)))
    text = base64.encodebytes(_der(0x30, body)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n"


def _unsigned(number: int | None) -> bytes:
    assert number is not None
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _der(kind: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes((kind, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((kind, 0x80 + size)) + length.to_bytes(size, "big") + content


def account(**changes: Any) -> dict[str, Any]:
    """Return the file, with fields changed; None leaves one out."""
    known = {
        "type": "service_account",
        "project_id": "mission",
        "private_key_id": "0123456789abcdef",
        "private_key": private_key(),
        "client_email": EMAIL,
        "token_uri": "https://169.254.169.254/token",  # never asked
    }
    return {name: value for name, value in (known | changes).items() if value is not None}


def credentials(**changes: Any) -> str:
    """Return the file's text."""
    return json.dumps(account(**changes))
