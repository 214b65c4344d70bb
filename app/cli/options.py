"""Options that several commands have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.settings import Settings

tenant_option = click.option("--tenant", help="Default: the first of DELIVERY_TENANTS.")


def chosen_tenant(settings: Settings, tenant: str | None) -> str:
    """Return the tenant that is meant. Raises UsageError."""
    if tenant is not None and tenant not in settings.tenants:
        known = ", ".join(settings.tenants)
        raise click.UsageError(f"unknown tenant {tenant}; DELIVERY_TENANTS has {known}")
    return tenant or settings.tenants[0]


class Moment(click.ParamType):
    """A time; one without a zone is UTC."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        try:
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2026-01-31T12:00:00Z", param, ctx)


MOMENT = Moment()

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Age(click.ParamType):
    """How long ago, as `12h`, `30d` or `8w`."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], _UNITS.get(value[-1:])
        if unit is None or not (number.isascii() and number.isdecimal() and len(number) <= 5):
            self.fail(f"{value!r} is no age such as 12h, 30d or 8w", param, ctx)
        return int(number) * unit


AGE = Age()


def hours_ago(hours: float) -> datetime:
    """Return when that was. Raises UsageError for what is no such time."""
    try:
        return datetime.now(UTC) - timedelta(hours=hours)
    except (ValueError, OverflowError):
        raise click.UsageError(f"--hours {hours:g} is no time ago") from None
