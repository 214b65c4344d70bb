"""By what deliveries are looked for: options of `list`, `retry` and `cancel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

import rs_delivery_client
from rs_delivery_client.cli.completion import TARGET, WORKER
from rs_delivery_client.cli.options import MOMENT

if TYPE_CHECKING:
    from rs_delivery_client.models import DeliveryFilter

F = TypeVar("F", bound=Callable[..., Any])

_RUNNING = ("RECEIVED", "GRANTED", "ORDERED", "AVAILABLE", "READY", "TRANSFERRING")
STATES = (*_RUNNING, "DONE", "ERROR")
ACTIVITIES = ("moving", "retrying", "waiting", "paused")


def filtering(command: F) -> F:
    """Give a command what deliveries are looked for by: it takes these as keywords."""
    options: tuple[Callable[[F], F], ...] = (
        click.option("--text", help="In correlation id, archive name or cause."),
        click.option("--until", type=MOMENT, help="Only those requested before."),
        click.option("--since", type=MOMENT, help="Only those requested then or later."),
        click.option(
            "--hours",
            type=click.FloatRange(min=0, min_open=True, max=1e6),
            help="Only those requested in the last hours.",
        ),
        click.option(
            "--label", "labels", multiple=True, help="Only with this label (repeat: with all)."
        ),
        click.option("--user", help="Only of this ordering user."),
        click.option("--worker", type=WORKER, help="Only what this worker has under way."),
        click.option("--target", type=TARGET, help="Only to this target."),
        click.option(
            "--code", "codes", multiple=True, help="Only with this code of a cause (repeat)."
        ),
        click.option(
            "--activity",
            "activities",
            multiple=True,
            type=click.Choice(ACTIVITIES),
            help="Only where this goes on (repeat).",
        ),
        click.option("--active", is_flag=True, help="Only those that have not ended."),
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice(STATES),
            help="Only these (repeat).",
        ),
    )
    for option in options:
        command = option(command)
    return command


def wanted(
    *, active: bool, states: Sequence[str], hours: float | None, since: str | None, **others: Any
) -> DeliveryFilter:
    """Return a filter of what `filtering` gave. Raises UsageError."""
    if active and states:
        raise click.UsageError("give --active or --state, not both")
    if hours is not None and since is not None:
        raise click.UsageError("give --hours or --since, not both")
    if hours is not None:
        since = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    return rs_delivery_client.DeliveryFilter(
        states=_RUNNING if active else states, since=since, **others
    )


def has_empty(filters: DeliveryFilter) -> bool:
    """Whether a value is empty, as of a variable that a script lacks: it would find all."""
    return any(
        not text.strip()
        for value in filters.parameters.values()
        for text in ([value] if isinstance(value, str) else value)
    )
