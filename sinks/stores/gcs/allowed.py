"""What Google lets an object be called: told before its bytes are sent, not after."""

from __future__ import annotations

_MAX_NAME = 1024  # bytes
_OWN_NAMES = 138  # bytes that the name of a part has behind the prefix
_CHALLENGES = ".well-known/acme-challenge/"
_OWN_FOLDERS = ".rs-delivery-"


def flaw_of_name(name: str) -> str | None:
    """Return why no object can be called so; None if one can."""
    size = len(name.encode())
    if size > _MAX_NAME:
        return f"its name has {size} bytes, and Google takes {_MAX_NAME}"
    if name.startswith(_CHALLENGES):
        return f"Google takes no name that begins with {_CHALLENGES}"
    if "\r" in name or "\n" in name:
        return "Google takes no name of several lines"
    return None


def flaw_of_prefix(prefix: str) -> str | None:
    """Return why no upload can be made behind a prefix, which ends with /; None if one can."""
    size = len(prefix.encode())
    if size > _MAX_NAME - _OWN_NAMES:
        return (
            f"it has {size} bytes with its slash, and {_MAX_NAME - _OWN_NAMES} leave room for the "
            "names of parts"
        )
    if prefix.startswith(_CHALLENGES):
        return f"Google takes no name that begins with {_CHALLENGES}"
    if any(part.startswith(_OWN_FOLDERS) for part in prefix.split("/")):
        return f"it must have no part that begins with {_OWN_FOLDERS}: the service's own do"
    return None
