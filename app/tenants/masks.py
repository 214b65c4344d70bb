"""Secrets within the values of settings: each is masked where it is shown, and kept by its mask.

A secret is told by its name, whatever it opens: `secret`, `previous_secret`, `password`, `sas`,
`credentials`; and `key`, unless a `secret` stands beside it, whose name it is then. Credentials
that are `identity` are none: this service signs in as itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic.config import JsonDict

from app.network.hosts import endpoint_of
from app.network.urls import told

MASK = "*******"  # what a secret reads as, and what keeps it when it is sent back

# Marks one in the schema of a setting, by which a form does not show what is typed.
SECRET: JsonDict = {"format": "password"}

IDENTITY = "identity"  # credentials that are no secret

_NAMES = ("secret", "previous_secret", "password", "sas", "key", "credentials")


def masked(value: Any) -> Any:
    """Return a value as it may be shown."""
    return with_secrets(value, lambda _: MASK)


def noted(value: Any) -> Any:
    """Return a value as the audit trail has it: URLs, too, without what may be a secret in them.

    Who may set them sees them whole; the trail is read by others.
    """
    return _with_short_urls(masked(value))


def _with_short_urls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        name: told(inner) if name == "url" and isinstance(inner, str) else _with_short_urls(inner)
        for name, inner in value.items()
    }


def with_secrets(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with each of its secrets changed."""
    if not isinstance(value, dict):
        return value
    found = _secrets_of(value)
    return {
        name: change(inner) if name in found else with_secrets(inner, change)
        for name, inner in value.items()
    }


def same_secrets(left: Any, right: Any) -> bool:
    """Whether two values have the same secrets."""
    found: list[list[str]] = [[], []]
    for value, into in zip((left, right), found, strict=True):
        with_secrets(value, lambda secret, into=into: into.append(secret) or MASK)  # type: ignore[misc]
    return secrets.compare_digest(
        *("\0".join(secrets_of_value).encode() for secrets_of_value in found)
    )


def unmasked(value: Any, current: Any) -> Any:
    """Return a value with its masked secrets taken from the current one: `not_kept` gave none."""
    if not isinstance(value, dict):
        return value
    known = current if isinstance(current, dict) else {}
    found = _secrets_of(value)
    return {
        name: known[name] if name in found and inner == MASK else unmasked(inner, known.get(name))
        for name, inner in value.items()
    }


def not_kept(value: Any, current: Any, where: tuple[str, ...]) -> Iterator[str]:
    """Give a reason for each secret that is masked and can't be kept.

    One that was given for a server is not sent, as a signature, to another. One that was typed
    behind a mask, or before it, is neither the stored one nor the one that was meant.
    """
    if not isinstance(value, dict):
        return
    known = current if isinstance(current, dict) else {}
    found, stored = _secrets_of(value), _secrets_of(known)
    for name, inner in value.items():
        at = ".".join((*where, name))
        if name not in found:
            yield from not_kept(inner, known.get(name), (*where, name))
        elif inner != MASK and _is_of_mask(inner):
            yield f"{at}: has in it what stands for the stored one; send all of it"
        elif inner == MASK and name not in stored:
            yield f"{at}: there is no stored one to keep; send it"
        elif inner == MASK and _beside(value) != _beside(known):
            other = "another scheme, host or port" if "host" in value else "other values beside it"
            other = "another url" if "url" in value else other
            yield f"{at}: the stored one is for {other}; send the {name} for this one"


def _is_of_mask(secret: str) -> bool:
    """Whether it was made of the mask: typed to it or into it, or some of it was taken away."""
    rest = secret.strip("*")
    return not rest or secret.replace(rest, "", 1) == MASK or MASK in secret


def _beside(place: Mapping[str, Any]) -> Any:
    """Return what a secret is for: the server beside it, or else all that stands there."""
    if "host" in place:
        return endpoint_of({"scheme": "", "port": ""} | dict(place)).lower()
    if "url" in place:
        return place["url"]
    found = _secrets_of(place)
    return {name: value for name, value in place.items() if name not in found}


def _secrets_of(value: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the secrets of an object itself; a target may be called "secret"."""
    found = {name for name in _NAMES if isinstance(value.get(name), str)}
    if value.get("credentials") == IDENTITY:
        found.discard("credentials")
    return frozenset(found - {"key"} if "secret" in found else found)
