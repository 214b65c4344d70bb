"""Secrets within the values of settings: each is masked where it is shown, and kept by its mask."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.network.hosts import endpoint_of

MASK = "*******"  # what a secret reads as, and what keeps it when it is sent back


def masked(value: Any) -> Any:
    """Return a value as it may be shown."""
    return with_secrets(value, lambda _: MASK)


def with_secrets(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with each of its secrets changed."""
    if not isinstance(value, dict):
        return value
    return {
        name: change(inner)
        if name == "secret" and isinstance(inner, str)
        else with_secrets(inner, change)
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
    if _is_server(value) and value["secret"] == MASK:
        return value | {"secret": known["secret"]}
    return {name: unmasked(inner, known.get(name)) for name, inner in value.items()}


def not_kept(value: Any, current: Any, where: tuple[str, ...]) -> Iterator[str]:
    """Give a reason for each secret that is masked and can't be kept.

    One that was given for a server is not sent, as a signature, to another.
    """
    known = current if isinstance(current, dict) else {}
    if _is_server(value) and value["secret"] == MASK:
        if not isinstance(known.get("secret"), str):
            yield f"{'.'.join(where)}.secret: there is no stored one to keep; send it"
        elif _beside(value) != _beside(known):
            other = "another scheme, host or port" if "host" in value else "other values beside it"
            yield (
                f"{'.'.join(where)}.secret: the stored one is for {other}; "
                "send the secret for this one"
            )
    for name, inner, at in _inner(value, where):
        yield from not_kept(inner, known.get(name), at)


def _beside(server: Mapping[str, Any]) -> Any:
    """Return what a secret is for: the server beside it, or else all that stands there."""
    if "host" in server:
        return endpoint_of({"scheme": "", "port": ""} | dict(server)).lower()
    return {name: value for name, value in server.items() if name != "secret"}


def _is_server(value: Any) -> bool:
    # A target may be called "secret".
    return isinstance(value, dict) and isinstance(value.get("secret"), str)


def _inner(value: Any, where: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    if isinstance(value, dict):
        yield from ((name, inner, (*where, name)) for name, inner in value.items())
