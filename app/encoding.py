"""JSON as it is sent and appended, and what others sent of it."""

from __future__ import annotations

import json
import re
from typing import Any

_MAX_DEPTH = 64  # of a body; a good one has 4
_HALF = re.compile("[\ud800-\udfff]")


def dumps(value: Any) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def flaw_of(body: Any) -> str | None:
    """Return why decoded JSON can't be kept or passed on, in words; None if it can."""
    pending = [(body, 1)]
    while pending:
        value, depth = pending.pop()
        if depth > _MAX_DEPTH:
            return f"is nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, str):
            if "\0" in value:
                return "holds a NUL character"  # neither PostgreSQL nor a file name can
            if not value.isascii() and _HALF.search(value):
                return "holds half of a surrogate pair"  # can be written in JSON, but is no text
        elif isinstance(value, dict):
            pending += [(inner, depth + 1) for inner in value]
            pending += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            pending += [(inner, depth + 1) for inner in value]
    return None
