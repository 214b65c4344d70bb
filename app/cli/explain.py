"""`delivery explain`: what a code means, or why a delivery stands as it does; and what to do."""

from __future__ import annotations

import asyncio

import click

from app.cli.options import named_tenant, tenant_option
from app.cli.tables import printable
from app.codes import CATALOGUE, PAGE, Code, Waiting, known
from app.errors import ErrorType, UnknownDeliveryError
from app.run.wiring.database import open_database
from app.settings import load_settings
from app.views.deliveries import DeliveryView, Tracked

_HELPS = {
    Waiting.YES: "it helps to wait",
    Waiting.MAYBE: "it may help to wait",
    Waiting.NO: "waiting does not help",
}


@click.command()
@click.argument("code_or_id", metavar="CODE|ID")
@tenant_option
def explain(code_or_id: str, tenant: str | None) -> None:
    """Tell what the CODE of an error means, or why a delivery (ID) failed or waits; what to do.

    A code is looked up without the service; of a delivery, the newest of this id is told.
    """
    code = known(code_or_id)
    lines = _meaning(code) if code is not None else _standing(_found(code_or_id, tenant))
    for line in lines:
        click.echo(printable(line))


def _found(correlation_id: str, tenant: str | None) -> Tracked:
    settings = load_settings()
    owner = named_tenant(settings, tenant)

    async def run() -> list[Tracked]:
        async with open_database(settings) as database:
            return await database.tracking.of(owner, correlation_id)

    found = asyncio.run(run())
    if not found and correlation_id in tuple(ErrorType):
        raise UnknownDeliveryError(
            f"{correlation_id} is an error type, as clients are told over AMQP, and no code: "
            f"explain a delivery by its id, or the code beside its cause ({PAGE} lists them)"
        )
    if not found:
        raise UnknownDeliveryError(
            f"{correlation_id!r} is no code ({PAGE} lists them), and tenant {owner} has no "
            "delivery of this id, or it was long ago"
        )
    return found[0]


def _meaning(code: Code) -> list[str]:
    stanza = CATALOGUE[code]
    return [
        f"{code}: {stanza.title}",
        f"  what it means:       {stanza.means}",
        f"  does waiting help:   {stanza.waiting}",
        f"  who can mend it:     {stanza.who}",
        f"  what to do:          {stanza.do}",
        f"  is anything lost:    {stanza.lost}",
    ]


def _standing(tracked: Tracked) -> list[str]:
    shown = DeliveryView.of(tracked)
    why = shown.error_message or shown.last_cause or tracked.suborders
    since = tracked.since.isoformat(" ", timespec="seconds")
    lines = [
        f"{shown.correlation_id} of tenant {shown.tenant}: {shown.state} since {since}",
        f"  why:   {why or 'no attempt was given up'}",
    ]
    if shown.next_attempt_at is not None:
        at = shown.next_attempt_at.isoformat(" ", timespec="seconds")
        lines.append(f"  next:  it is tried again at {at}")
    code = known(tracked.code)
    if code is None:
        # One of a later version is a word that is told, too.
        return [*lines, f"  code:  {tracked.code}"] if tracked.code else lines
    stanza = CATALOGUE[code]
    lines += [
        f"  code:  {code}: {stanza.title}; {_HELPS[stanza.waiting]}",
        f"  mends: {stanza.who}",
        f"  do:    {stanza.do}",
        f"  lost:  {stanza.lost}",
    ]
    if tracked.fails_again:
        lines.append(
            "  Tried again as it is, it would fail again; `delivery retry --force` does so."
        )
    return lines
