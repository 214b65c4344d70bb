"""`rs-delivery explain`: what a code means, or why a delivery stands as it does; and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rs_delivery_client.cli import codes
from rs_delivery_client.cli.completion import DELIVERY_ID
from rs_delivery_client.cli.deliveries import follow_ups, standing
from rs_delivery_client.cli.ends import EXIT_NOT_THERE, Ended, printable, run
from rs_delivery_client.cli.place import Place, Where, place_option
from rs_delivery_client.cli.tables import hint
from rs_delivery_client.cli.when import both

if TYPE_CHECKING:
    from rs_delivery_client.models import Delivery

_CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|[A-Z]{3,}")
_WAITING = {
    "yes": "it helps to wait",
    "maybe": "it may help to wait",
    "no": "waiting does not help",
}
_AGAIN = {
    True: "asked for again as it is, it would end the same way; `retry --force` does so",
    False: "it may go well when it is tried again",
}


@click.command()
@click.argument("code_or_id", metavar="CODE|ID", type=DELIVERY_ID)
@place_option
def explain(code_or_id: str, where: Where) -> None:
    """Tell what the CODE of an error means, or why a delivery (ID) failed or waits; what to do.

    The service is asked what a code means; where it does not answer, this program's own catalogue
    is.
    """
    stanza = _stanza(_place(where), code_or_id) if _CODE.fullmatch(code_or_id) else None
    if stanza is not None:
        lines = _meaning(stanza)
    else:
        delivery, found = _standing(where, code_or_id)
        lines = _told(delivery, found)
    for line in lines:
        click.echo(printable(line))
    if stanza is None:
        hint(where, *follow_ups(delivery))


def _place(where: Where) -> Place | None:
    """Return where the service is; None: the call says it nowhere, and needs it not."""
    try:
        return where.place()
    except click.UsageError:
        if where.url.in_call:
            raise
        return None


def _stanza(place: Place | None, code: str) -> codes.Stanza | None:
    return run(codes.catalogue(place)).get(code)


def _standing(where: Where, name: str) -> tuple[Delivery, codes.Stanza | None]:
    """Return a delivery, and what its code means. Raises Ended."""
    place = where.place()
    client = place.client(tries=where.tries)

    async def ask() -> tuple[Delivery, codes.Stanza | None]:
        async with client:
            delivery = await client.delivery(name)
        if delivery.code is None:
            return delivery, None
        return delivery, (await codes.catalogue(place)).get(delivery.code)

    try:
        return run(ask())
    except Ended as error:
        if error.exit_code == EXIT_NOT_THERE and _CODE.fullmatch(name):
            raise Ended(f"{error.message}; and {name} is no code that is known", 3) from None
        raise


def _meaning(stanza: codes.Stanza) -> Iterator[str]:
    yield f"{stanza['code']}: {stanza.get('title')}"
    for name, field in (
        ("what it means", "means"),
        ("does waiting help", "waiting"),
        ("who can mend it", "who"),
        ("what to do", "do"),
        ("is anything lost", "lost"),
    ):
        if stanza.get(field):
            yield f"  {name + ':':<20} {stanza[field]}"


def _told(delivery: Delivery, stanza: codes.Stanza | None) -> Iterator[str]:
    raw: Mapping[str, Any] = delivery.raw
    now = datetime.now(UTC)
    since = both(raw.get("finishedAt") or raw.get("stateSince"), now)
    yield f"{delivery.correlation_id}: {standing(delivery)} since {since}"
    cause = delivery.error_message or raw.get("lastCause")
    yield f"  why:   {cause or 'no attempt was given up'}"
    if raw.get("nextAttemptAt"):
        yield f"  next:  it is tried again at {both(raw['nextAttemptAt'], now)}"
    if stanza is None:
        if delivery.code:
            yield f"  code:  {delivery.code}"
    else:
        helps = _WAITING.get(str(stanza.get("waiting")), "")
        yield "; ".join(filter(None, (f"  code:  {delivery.code}: {stanza.get('title')}", helps)))
        for name, field in (("mends:", "who"), ("do:", "do"), ("lost:", "lost")):
            yield f"  {name:<6} {stanza.get(field)}"
    if delivery.ended and not delivery.done:
        yield f"  again: {_AGAIN[bool(raw.get('failsAgain'))]}"
    if raw.get("reportUrl"):
        yield f"  files: what happened to each is told by {raw['reportUrl']}"
