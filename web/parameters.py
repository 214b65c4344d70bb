"""Reading what a request's query says. What is wrong raises InvalidRequestError in words."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NoReturn

from aiohttp import web

from app.errors import InvalidRequestError

LAST = 2**63 - 1  # largest id
_LONGEST = 300  # characters


def _wrong(name: str, what: str) -> NoReturn:
    raise InvalidRequestError([f"{name} must be {what}"])


def number(
    request: web.Request, name: str, default: int, *, least: int = 1, largest: int = LAST
) -> int:
    """Return a whole number."""
    given = request.query.get(name)
    if given is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,19}", given) or not least <= int(given) <= largest:
        _wrong(name, f"a number from {least} to {largest}")
    return int(given)


def text(request: web.Request, name: str) -> str | None:
    """Return a text; None if it is missing or empty."""
    given = request.query.get(name)
    if not given:
        return None
    if len(given) > _LONGEST or not given.isprintable():
        _wrong(name, f"printable, of at most {_LONGEST} characters")
    return given


def time(request: web.Request, name: str) -> datetime | None:
    """Return a time; one without a zone is UTC."""
    given = request.query.get(name)
    if not given:
        return None
    try:
        return moment(given)
    except ValueError:
        _wrong(name, "a time such as 2026-01-31T12:00:00Z")


def moment(given: str) -> datetime:
    """Return a time in UTC; one without a zone is UTC. Raises ValueError for what is no time."""
    try:
        at = datetime.fromisoformat(given)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:  # in its zone it is a year that there is, in UTC it is not
        raise ValueError("before the year 1, or after 9999") from None
