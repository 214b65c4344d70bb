"""Pauses of targets and workers: what each command of them is given, and does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.options import MOMENT, SPAN
from rs_delivery_client.cli.place import Where
from rs_delivery_client.cli.when import at, read

if TYPE_CHECKING:
    from rs_delivery_client.operating import Body, PauseSubject

F = TypeVar("F", bound=Callable[..., Any])

_RUNNING = {
    "finish": "what runs may finish",
    "stop": "what runs stops, and goes on where it stopped",
}


def pausing(command: F) -> F:
    """Give a command what a pause is given: `reason`, `until`, `lasts`, `stops`."""
    options: tuple[Callable[[F], F], ...] = (
        click.option(
            "--reason", required=True, help="Told at deliveries that wait, in log and audit trail."
        ),
        click.option("--until", type=MOMENT, help="When it ends; left out: when resumed."),
        click.option("--for", "lasts", type=SPAN, help="How long it lasts, such as 30m, 2h or 1d."),
        click.option(
            "--stop/--finish",
            "stops",
            default=None,
            help="What runs stops where it is gone on with later, or may finish.",
        ),
    )
    for option in options:
        command = option(command)
    return command


def begin(
    where: Where,
    subject: PauseSubject,
    *,
    reason: str,
    until: str | None,
    lasts: int | None,
    stops: bool | None,
) -> None:
    """Begin a pause, or change it, and tell of it. Raises UsageError, Ended."""
    if until is not None and lasts is not None:
        raise click.UsageError("give --until or --for, not both")
    running: Literal["stop", "finish"] | None = None
    if stops is not None:
        running = "stop" if stops else "finish"
    client = where.client()

    async def ask() -> Body:
        async with client:
            return await client.operating.pause(
                subject, reason=reason, until=until, seconds=lasts, running=running
            )

    begun = run(ask())
    ends = read(begun.get("until"))
    words = [
        _RUNNING.get(str(begun.get("running")), ""),
        "" if ends is None else f"until {at(ends)}",
    ]
    said = ", ".join(filter(None, words))
    click.echo(printable(f"{begun.get('cause')}" + (f" ({said})" if said else "")))


def end(where: Where, subject: PauseSubject) -> None:
    """End a pause. Raises Ended where there is none."""
    client = where.client()

    async def ask() -> Body:
        async with client:
            return await client.operating.resume(subject)

    run(ask())
