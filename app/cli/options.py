"""Options that several commands have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.codes import Code
from app.errors import DeliveryError
from app.settings import Settings


class NotWellError(DeliveryError):
    """Problems were found."""

    code = Code.NOT_WELL


tenant_option = click.option("--tenant", help="Default: the first of DELIVERY_TENANTS.")


def chosen_tenant(settings: Settings, tenant: str | None) -> str:
    """Return the tenant that is meant. Raises UsageError."""
    if tenant is not None and tenant not in settings.tenants:
        known = ", ".join(settings.tenants)
        raise click.UsageError(f"unknown tenant {tenant}; DELIVERY_TENANTS has {known}")
    return tenant or settings.tenants[0]


def named_tenant(settings: Settings, tenant: str | None) -> str:
    """Return the tenant that is meant, for what can be done of one that is served no more, too.

    What it has asked for is finished: it is looked at, ended and resumed until then.
    """
    return settings.tenants[0] if tenant is None else tenant


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
    units = _UNITS
    examples = "12h, 30d or 8w"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], self.units.get(value[-1:])
        if unit is None or not (number.isascii() and number.isdecimal() and len(number) <= 5):
            self.fail(f"{value!r} is no {self.name} such as {self.examples}", param, ctx)
        return int(number) * unit


AGE = Age()


class Span(Age):
    """How long, as `30m`, `2h` or `1d`."""

    name = "time"
    units = {"m": timedelta(minutes=1), **_UNITS}  # noqa: RUF012 - never changed
    examples = "30m, 2h or 1d"


SPAN = Span()


def hours_ago(hours: float) -> datetime:
    """Return when that was. Raises UsageError for what is no such time."""
    try:
        return datetime.now(UTC) - timedelta(hours=hours)
    except (ValueError, OverflowError):
        raise click.UsageError(f"--hours {hours:g} is no time ago") from None
