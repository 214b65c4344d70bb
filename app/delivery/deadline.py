"""When a client needs its delivery (contract, section 6): `delivery.deadline`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

# RFC 3339: with a zone, so that it is one moment everywhere.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _read(given: Any) -> datetime:
    if isinstance(given, str) and len(given) <= 64 and _RFC_3339.fullmatch(given):
        try:
            return datetime.fromisoformat(given.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("must be a time with its zone, such as 2026-01-31T12:00:00Z")


Deadline = Annotated[
    datetime, BeforeValidator(_read), WithJsonSchema({"type": "string", "format": "date-time"})
]
