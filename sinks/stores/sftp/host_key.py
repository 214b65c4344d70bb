"""The host key that a tenant has pinned: no other server is spoken to, wherever a name leads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

_FINGERPRINT = re.compile(r"SHA256:([A-Za-z0-9+/]{43})=?")

# What a server signs with, by the type of its key. `ssh-rsa`, which means SHA-1, is not taken.
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_ECDSA = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_SIGNED_WITH = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ssh-rsa": _RSA,
    **{name: (name,) for name in _ECDSA},
}
_FAMILIES = (("ssh-ed25519",), _ECDSA, _RSA)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostKey:
    """A pinned host key."""

    fingerprint: str  # as `ssh-keygen -lf` prints it: SHA256:…
    # Algorithms to ask the server for, those of one connection together. A fingerprint does not
    # tell the type of its key, and a server shows one key a connection.
    algorithms: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, text: str) -> HostKey:
        """Read a public key as OpenSSH writes it, or a SHA-256 fingerprint of one. ValueError.

        A line of `ssh-keyscan`, with the host before the key, will do, too.
        """
        if found := _FINGERPRINT.fullmatch(text.strip()):
            return cls(fingerprint=f"SHA256:{found[1]}", algorithms=_FAMILIES)
        words = text.split()
        place = next((n for n, word in enumerate(words[:2]) if word in _SIGNED_WITH), None)
        if place is None or len(words) < place + 2 or len(text.splitlines()) > 1:
            raise ValueError(
                "must be one line with the server's public key, as in /etc/ssh/ssh_host_*_key.pub "
                f"({', '.join(_SIGNED_WITH)}), or its fingerprint SHA256:…"
            )
        kind = words[place]
        try:
            blob = base64.b64decode(words[place + 1], validate=True)
        except binascii.Error:
            raise ValueError("has a public key that is cut off or mistyped") from None
        if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
            raise ValueError("has a public key that is of another type than the word before it")
        return cls(fingerprint=fingerprint_of(blob), algorithms=(_SIGNED_WITH[kind],))


def fingerprint_of(blob: bytes) -> str:
    """Return the fingerprint of a public key in its form on the wire."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"
