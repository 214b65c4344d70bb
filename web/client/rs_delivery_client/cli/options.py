"""Options that several commands have, and what they take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

json_flag = click.option(
    "--json", "as_json", is_flag=True, help="For scripts: a JSON object a line."
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}  # seconds


class Moment(click.ParamType):
    """A time; one without a zone is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it in ISO 8601."""
        try:
            at = datetime.fromisoformat(value)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2026-01-31T12:00:00Z", param, ctx)
        return at.isoformat()


class Span(click.ParamType):
    """How long."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in seconds."""
        if isinstance(value, int):
            return value
        number, unit = value[:-1], _UNITS.get(value[-1:])
        if unit is None or not (number.isascii() and number.isdecimal() and len(number) <= 9):
            self.fail(f"{value!r} is no time such as 30m, 2h or 1d", param, ctx)
        return int(number) * unit


MOMENT = Moment()
SPAN = Span()
