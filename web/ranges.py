"""Which bytes of an answer a client asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import hdrs, web

# One range; of several, and of what is none, all bytes are the answer.
_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class NoSuchRangeError(Exception):
    """There are no such bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The bytes to answer with."""

    offset: int
    length: int
    whole: bool  # all there are, as no range was asked for


def asked_of(request: web.Request, *, size: int, etag: str) -> Asked:
    """Return what is asked for of a file. `etag` as the header has it.

    Raises NoSuchRangeError for bytes that it has not.
    """
    whole = Asked(offset=0, length=size, whole=True)
    given = request.headers.getall(hdrs.RANGE, [])
    match = _RANGE.fullmatch(given[0]) if len(given) == 1 else None
    if request.method != hdrs.METH_GET or match is None or not any(match.groups()):
        return whole
    if request.headers.get(hdrs.IF_RANGE, etag) != etag:
        return whole  # the client has the beginning of another file
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if not length:
            raise NoSuchRangeError
        return Asked(offset=size - length, length=length, whole=False)
    if last and int(last) < int(first):
        return whole
    if int(first) >= size:
        raise NoSuchRangeError
    end = min(int(last), size - 1) if last else size - 1
    return Asked(offset=int(first), length=end - int(first) + 1, whole=False)
