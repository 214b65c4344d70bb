"""The roles of callers: those of REGARDS, one of this service, and what a site's own stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

# Sees what an operator of the tenant sees, and changes nothing. REGARDS has none like it.
READ_ONLY = "READ_ONLY"

# What a role of a site may stand for, the least first.
MEANT = (READ_ONLY, "REGISTERED_USER", "EXPLOIT", "ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN")
# Names that mean what they mean in REGARDS, or nothing here.
KNOWN = ("PUBLIC", *MEANT)

# Whose tokens a role of a site may be bound to, as written before its name.
REGARDS, PROVIDER = "regards", "oidc"

_MAX_NAME = 255  # characters, as of any claim


def role_map(pairs: Sequence[str], *, issuer: str = REGARDS) -> Mapping[str, str]:
    """Return what the roles of a site stand for in tokens of an issuer.

    Of `name=ROLE` each, or `issuer:name=ROLE`: in tokens of that one alone, whatever is said of the
    name for all. Raises ValueError.
    """
    found: dict[str | None, dict[str, str]] = {None: {}, REGARDS: {}, PROVIDER: {}}
    for pair in pairs:
        bound, name, role = _read(pair)
        known = found[bound].setdefault(name, role)
        if known != role:
            raise ValueError(f"{name} stands for {known} and for {role}; leave one out")
    return MappingProxyType(found[None] | found[issuer])


def _read(pair: str) -> tuple[str | None, str, str]:
    """Return the issuer that a role is bound to, its name, and what it stands for."""
    given, sign, role = (part.strip() for part in pair.partition("="))
    issuer, colon, bound = (part.strip() for part in given.partition(":"))
    is_bound = bool(colon) and issuer in (REGARDS, PROVIDER)
    name = bound if is_bound else given
    if not (sign and name and role):
        raise ValueError(f"{pair[:100]!r} must be name=ROLE, such as support={READ_ONLY}")
    if role not in MEANT:
        raise ValueError(f"{given}={role[:100]}: the role must be one of {', '.join(MEANT)}")
    if name in KNOWN:
        raise ValueError(
            f"{name} is a role of its own, and can't stand for another; take {given}={role} away"
        )
    if len(name) > _MAX_NAME or not name.isprintable():
        raise ValueError(f"{name[:100]!r} is no name of a role that a token could have")
    return issuer if is_bound else None, name, role
