"""`rs-delivery wait`, `watch`: until a delivery has ended, in silence or with what happens."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

import rs_delivery_client
from rs_delivery_client.cli.completion import DELIVERY_ID
from rs_delivery_client.cli.deliveries import standing, transferred
from rs_delivery_client.cli.ends import EXIT_NOT_ENDED, Ended, encoded, printable, program, run
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import hint
from rs_delivery_client.cli.transfer_bar import TransferBar, transfer_bar
from rs_delivery_client.cli.when import at

if TYPE_CHECKING:
    from rs_delivery_client.models import Delivery, Event

EXIT_INTERRUPTED = 130
_STEP = 10  # percent of the bytes between two lines

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds; exit code 8 when it has not ended by then.",
)


def followed(
    where: Where,
    which: str | Delivery,
    timeout: float | None,
    on_event: Callable[[Event], None] | None = None,
) -> Delivery:
    """Wait until a delivery is done, and return it. Raises Ended."""
    client = where.client()
    name = which if isinstance(which, str) else which.correlation_id

    async def until() -> Delivery:
        async with client:
            return await client.wait(which, timeout=timeout, on_event=on_event)

    try:
        return run(until())
    except TimeoutError:
        says = f"{name} has not ended within {timeout:g} s; it goes on"
        raise Ended(says, EXIT_NOT_ENDED) from None
    except KeyboardInterrupt:
        again = f"{program()} watch {shlex.quote(name)}{where.repeated}"
        says = f"{name} goes on; `{again}` follows it again"
        raise Ended(says, EXIT_INTERRUPTED) from None


class Teller:
    """Prints what happens, a line each: states, and every so many percent of the bytes.

    Where there is a bar, that tells of the bytes, below the lines.
    """

    def __init__(
        self, *, as_json: bool = False, on_error: bool = False, drawn: TransferBar | None = None
    ) -> None:
        self._as_json = as_json
        self._bar = drawn
        self._on_error = on_error  # on standard error, beside what the command itself prints
        self._step: tuple[int, int] | None = None  # attempt, tenths

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        if self._bar is not None:
            self._bar.clear()
        self._tell(event)
        if self._bar is not None:
            self._bar.show(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, rs_delivery_client.ProgressEvent):
            done = 100 * event.bytes_done // event.bytes_total if event.bytes_total else 100
            step = event.attempt, done // _STEP
            if self._as_json or (self._bar is None and step != self._step):
                self._step = step
                self._say("progress", dict(event.raw), f"{done} %, {transferred(event.raw)}")
            return
        cause = event.cause if isinstance(event, rs_delivery_client.StateEvent) else None
        said = standing(event.delivery) if cause is None else f"put off: {cause}"
        self._say("state", dict(event.delivery.raw), f"{event.delivery.correlation_id}  {said}")

    def _say(self, kind: str, body: dict[str, object], text: str) -> None:
        if self._as_json:
            click.echo(encoded({"event": kind, **body}))
            return
        click.echo(f"{at(datetime.now(UTC))}  {printable(text)}", err=self._on_error)


@click.command()
@click.argument("correlation_id", metavar="ID", type=DELIVERY_ID)
@timeout_option
@place_option
@json_flag
def wait(correlation_id: str, timeout: float | None, where: Where, as_json: bool) -> None:
    """Wait until a delivery is done; exit code 1 when it ends in ERROR.

    And 8 where --timeout is over before: it goes on, and can be waited for again. A terminal is
    shown how far it is meanwhile.
    """
    with transfer_bar(quiet=as_json) as drawn:
        delivery = followed(where, correlation_id, timeout, None if drawn is None else drawn.show)
    click.echo(json.dumps(dict(delivery.raw)) if as_json else printable(str(delivery.url)))


@click.command()
@click.argument("correlation_id", metavar="ID", type=DELIVERY_ID)
@timeout_option
@place_option
@json_flag
def watch(correlation_id: str, timeout: float | None, where: Where, as_json: bool) -> None:
    """Tell what happens to a delivery until it has ended; it ends as `wait` does.

    At a terminal, a line below tells of the bytes: how many, how fast, and whether none come.
    """
    with transfer_bar(quiet=as_json) as drawn:
        teller = Teller(as_json=as_json, drawn=drawn)
        delivery = followed(where, correlation_id, timeout, teller)
    if not as_json:
        click.echo(printable(f"{delivery.correlation_id} is done: {delivery.url}"))
        hint(where, f"download {shlex.quote(delivery.correlation_id)}")
