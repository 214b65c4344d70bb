"""`delivery dlt`: events that no agent could handle; look, put back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import click

from app.audit import INSTANCE
from app.cli.mended import refuse_mended
from app.cli.tables import in_json, show_all
from app.cli.who import caller
from app.run.wiring.database import open_database
from app.run.wiring.kafka import open_events
from app.settings import load_settings
from app.views.audit import DeadLetterTrail
from app.views.dead_letters import DEAD_LETTERS_JOB, CopyMark
from app.views.view import Seconds, View
from streams.kafka.dead_letters import DeadEvent, look, pick, put_back

_COLUMNS = ("id", "topic", "key", "bytes", "at", "reason")


@click.group("dlt")
def dead_letter_topic() -> None:
    """Dead-letter topic: events that failed again and again, each with the reason."""


def _dead() -> list[DeadEvent]:
    return asyncio.run(look(load_settings()))


class DeadEventView(View):
    """An event, as it is listed."""

    id: str
    topic: str | None
    key: str
    bytes: int
    at: Seconds
    reason: str

    @classmethod
    def of(cls, event: DeadEvent, **more: Any) -> Self:
        """Show an event, with `more` fields than are listed."""
        return cls(
            id=event.id,
            topic=event.topic,
            key=event.key.decode(errors="replace"),
            bytes=len(event.value),
            at=event.at,
            reason=event.reason,
            **more,
        )


class WholeDeadEventView(DeadEventView):
    """An event with its content."""

    value: str


@dead_letter_topic.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(as_json: bool) -> None:
    """List the events that were not put back."""
    show_all(
        [DeadEventView.of(event) for event in _dead()],
        _COLUMNS,
        as_json=as_json,
        what="dead events",
        more="`delivery dlt show ID` shows one, whole",
    )


@dead_letter_topic.command()
@click.argument("event_id", metavar="ID")
def show(event_id: str) -> None:
    """Show an event."""
    (event,) = pick(_dead(), [event_id])
    whole = WholeDeadEventView.of(event, value=event.value.decode(errors="replace"))
    click.echo(in_json(whole, indent=2))


@dead_letter_topic.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def requeue(ids: Sequence[str], everything: bool) -> None:
    """Put events back into the topic that they were in."""
    if bool(ids) == everything:
        raise click.UsageError("give IDs (`delivery dlt list` shows them), or --all")
    settings = load_settings()

    async def run() -> None:
        async with (
            open_database(settings) as database,
            database.alone(DEAD_LETTERS_JOB),
            open_events(settings) as events,
        ):
            # Not before: what others put back meanwhile is not there any more.
            found = await look(settings)
            chosen = found if everything else pick(found, ids)
            trail = DeadLetterTrail(
                trail=database.audit,
                actor=caller(INSTANCE),
                serves=settings.tenants.__contains__,
            )
            letters = [event.kept().id for event in chosen]
            refuse_mended(await database.dead_letters.several(None, letters))
            for event in chosen:
                kept = event.kept()
                async with trail.requeued(kept.shown, event.topic):
                    where = await put_back(event, events)
                mark = CopyMark(copy=event.id, letter_id=kept.id)
                await database.dead_letters.marked([mark])
                click.echo(f"{event.id} put back into {where}")

    asyncio.run(run())
