"""A service account of the tests' own, as Google gives its key."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
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
