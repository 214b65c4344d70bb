"""REGARDS' own consumers, as strict as Gson makes them: what they know of messages, and no more.

A field that a class has not is passed over, whatever is in it. One that it has must be of its type:
an object for a text ends the message in the dead letters, a word that an enum has not becomes null,
which no consumer checks for. So each of these is an error here, as is null, which is never sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Read = Callable[[str, Any], Any]

STATUSES = ("GRANTED", "DENIED", "DONE", "ERROR")
ERROR_TYPES = (
    "INVALID_CONTENT",
    "FORBIDDEN",
    "ORDER_LIMIT_REACHED",
    "TOO_MANY_SUBORDERS",
    "EMPTY_ORDER",
    "EXPIRED",
    "INTERNAL_ERROR",
)
# What a consumer of each status goes by.
_NEEDED = {
    "GRANTED": ("correlationId",),
    "DENIED": ("correlationId", "errorType", "message"),
    "DONE": ("correlationId", "url", "md5"),
    "ERROR": ("correlationId", "errorType", "message"),
}


class GsonError(Exception):
    """What a REGARDS consumer could not read, or would read as something else."""


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise GsonError(f"{field} is no text, but {value!r}")
    return value


def _long(field: str, value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise GsonError(f"{field} is no long, but {value!r}")
    return value


def _word_of(*words: str) -> Read:
    def read(field: str, value: Any) -> str:
        if value not in words:
            raise GsonError(f"{field} is none of {words}, but {value!r}: Gson reads null")
        return str(value)

    return read


def _texts(field: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise GsonError(f"{field} is no list, but {value!r}")
    return [_text(field, each) for each in value]


def _object(fields: Mapping[str, Read]) -> Read:
    def read(field: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise GsonError(f"{field} is no object, but {value!r}")
        return {
            name: read(f"{field}.{name}", value[name])
            for name, read in fields.items()
            if name in value
        }

    return read


RESPONSE = _object(
    {
        "correlationId": _text,
        "status": _word_of(*STATUSES),
        "errorType": _word_of(*ERROR_TYPES),
        "message": _text,
        "url": _text,
        "md5": _text,
    }
)
ORDER_REQUEST = _object(
    {
        "queries": _texts,
        "filters": _object({"dataTypes": _texts, "filenameRegExp": _text}),
        "user": _text,
        "correlationId": _text,
        "sizeLimitInBytes": _long,
    }
)
ORDER_CANCEL = _object({"orderId": _long, "correlationId": _text})


def read(body: bytes, of: Read) -> dict[str, Any]:
    """Return what a consumer has of a message. Raises GsonError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise GsonError(f"a name is there twice: {[name for name, _ in pairs]}")
        return found

    def no_number(word: str) -> None:
        raise GsonError(f"{word} is no number of JSON")

    message: dict[str, Any] = of(
        "message", json.loads(body, object_pairs_hook=once, parse_constant=no_number)
    )
    return message


def read_response(body: bytes) -> dict[str, Any]:
    """Return what a client of REGARDS' has of a response, which is all that it goes by."""
    known = read(body, RESPONSE)
    if "status" not in known:
        raise GsonError("there is no status")
    lacks = [name for name in _NEEDED[known["status"]] if not known.get(name)]
    if lacks:
        raise GsonError(f"{known['status']} lacks {lacks}")
    return known
