"""JSON as it is sent and appended, and what others sent of it."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import Any

_MAX_DEPTH = 64  # of a body; a good one has 4
_MANY = 10_000  # values; a good body has a thousand queries, at most
_HALF = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def dumps(value: Any) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def is_crowded(encoded: bytes) -> bool:
    """Whether JSON may hold so many values that reading it would hold an event loop."""
    return sum(map(encoded.count, (b",", b"[", b"{"))) > _MANY


def flaw_of(body: Any) -> str | None:
    """Return why decoded JSON can't be kept or passed on, in words; None if it can.

    It goes from level to level, by what a level holds of each kind: a body may have 200,000 values.
    """
    level = [body]
    for _ in range(_MAX_DEPTH):
        kinds = set(map(type, level))
        objects = [value for value in level if type(value) is dict] if dict in kinds else []
        lists = [value for value in level if type(value) is list] if list in kinds else []
        texts = [value for value in level if type(value) is str] if str in kinds else []
        text = "".join(chain(texts, chain.from_iterable(objects)))
        if "\0" in text:
            return "holds a NUL character"  # neither PostgreSQL nor a file name can
        if not text.isascii() and _HALF.search(text):
            return "holds half of a surrogate pair"  # can be written in JSON, but is no text
        level = [*chain.from_iterable(lists)]
        level += chain.from_iterable(value.values() for value in objects)
        if not level:
            return None
    return f"is nested deeper than {_MAX_DEPTH} levels"


def is_plain(text: str) -> bool:
    """Whether a text has no control character, nor half of a pair.

    Not what `isprintable` means: spaces other than " ", and what joins letters, are part of names.
    """
    return _CONTROLS.search(text) is None
