"""What a token says, as far as it may be believed to be a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_CLAIM = 255  # characters
MAX_TIME = 2**53  # seconds: an issuer may write any number
_MAX_TEXTS = 1000  # of a list


def text_of(value: object) -> str | None:
    """Return a text that is fit to name something."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CLAIM:
        return None
    return value if value.isprintable() and value.strip() else None


def text_at(claims: Mapping[str, Any], path: str) -> Sequence[str]:
    """Return the text, or the list of them, that a claim holds.

    Dots lead into what is nested (`realm_access.roles`), and may be part of a name
    (`https://example.org/role`): the longest name counts.
    """
    value = _at(claims, path)
    given = value[:_MAX_TEXTS] if isinstance(value, list) else [value]
    return [text for text in map(text_of, given) if text is not None]


def _at(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:
        return claims[path]
    head = path
    while "." in head:
        head = head.rpartition(".")[0]
        inner = claims.get(head)
        if isinstance(inner, Mapping):
            return _at(inner, path[len(head) + 1 :])
    return None
