"""`rs-delivery maintenance`: the tenant's requests wait, until an administrator ends that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.fields import MAINTENANCE, JsonCommand, fields_option
from rs_delivery_client.cli.options import MOMENT, SPAN
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import hint, show_json
from rs_delivery_client.cli.when import at, read

if TYPE_CHECKING:
    from rs_delivery_client.operating import Body, Operating


@click.command("on", cls=JsonCommand)
@click.option("--reason", help="Told to operators, in the log and the audit trail.")
@click.option("--until", type=MOMENT, help="When it should be over; it is not ended by that.")
@click.option("--for", "lasts", type=SPAN, help="Instead: in how long, such as 30m, 2h or 1d.")
@place_option
@fields_option(MAINTENANCE)
def begin(
    reason: str | None,
    until: str | None,
    lasts: int | None,
    where: Where,
    fields: Sequence[str] | None,
) -> None:
    """Put your tenant into maintenance, or say something else of the one that it is in.

    New requests wait, and the service answers 503 to most of what is asked for the tenant, until
    `maintenance off`. After the end that was announced, operators are told that it goes on.
    """
    if until is not None and lasts is not None:
        raise click.UsageError("give --until or --for, not both")
    if lasts is not None:
        until = _in(lasts)
    begun = _asked(where, lambda operating: operating.begin_maintenance(reason=reason, until=until))
    _tell(begun, fields)
    hint(where, "maintenance show", "maintenance off")


@click.command("off", cls=JsonCommand)
@place_option
@fields_option(MAINTENANCE)
def end(where: Where, fields: Sequence[str] | None) -> None:
    """Take your tenant out of maintenance: what waited begins."""
    _tell(_asked(where, lambda operating: operating.end_maintenance()), fields)


@click.command("show", cls=JsonCommand)
@place_option
@fields_option(MAINTENANCE)
def show(where: Where, fields: Sequence[str] | None) -> None:
    """Tell whether your tenant is in maintenance, since when, until when, and why."""
    _tell(_asked(where, lambda operating: operating.maintenance()), fields)


def _in(seconds: int) -> str:
    """Return when that is. Raises UsageError for what no calendar has."""
    try:
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise click.UsageError("--for is too long") from None
    return ends.replace(microsecond=0).isoformat()


def _asked(where: Where, act: Callable[[Operating], Awaitable[Body]]) -> Body:
    client = where.client()

    async def ask() -> Body:
        async with client:
            return await act(client.operating)

    return run(ask())


def _tell(found: Body, fields: Sequence[str] | None) -> None:
    if fields is not None:
        show_json([found], fields)
        return
    if not found.get("active"):
        click.echo(printable(f"tenant {found['tenant']} is in no maintenance"))
        return
    since, until = read(found.get("lastUpdate")), read(found.get("until"))
    by = found.get("enabledBy")
    parts = (
        None if since is None else f"since {at(since)}",
        None if by is None else f"by {by}",
        None if until is None else f"until {at(until)}",
    )
    words = ", ".join(filter(None, parts))
    reason = f": {found['reason']}" if found.get("reason") else ""
    click.echo(printable(f"tenant {found['tenant']} is in maintenance {words}".rstrip() + reason))
