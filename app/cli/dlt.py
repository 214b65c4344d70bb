"""`delivery dlt`: events that no agent could handle; look, put back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.settings import load_settings
from streams.dead_events import DeadEvent, look, pick, put_back
from streams.kafka import open_event_log
from streams.topics import Topics

_COLUMNS = ("id", "topic", "key", "bytes", "at", "reason")


@click.group()
def dlt() -> None:
    """Dead-letter topic: events that failed again and again, each with the reason."""


def _dead() -> list[DeadEvent]:
    settings = load_settings()
    topics = Topics(prefix=settings.kafka_topic_prefix)
    return asyncio.run(look(settings.kafka_bootstrap_servers, topics.dead_letters))


def _summary(event: DeadEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "topic": event.topic,
        "key": event.key.decode(errors="replace"),
        "bytes": len(event.value),
        "at": event.at.isoformat(timespec="seconds"),
        "reason": event.reason,
    }


@dlt.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(as_json: bool) -> None:
    """List the events that were not put back."""
    found = [_summary(event) for event in _dead()]
    if as_json:
        for entry in found:
            click.echo(json.dumps(entry, ensure_ascii=False))
        return
    if not found:
        click.echo("no dead events")
        return
    table = Table(box=None, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for entry in found:
        table.add_row(*(printable(str(entry[name])) for name in _COLUMNS))
    Console(markup=False, highlight=False).print(table)
    click.echo(f"{len(found)} dead events; `delivery dlt show ID` shows one, whole")


@dlt.command()
@click.argument("event_id", metavar="ID")
def show(event_id: str) -> None:
    """Show an event."""
    (event,) = pick(_dead(), [event_id])
    whole = _summary(event) | {"value": event.value.decode(errors="replace")}
    click.echo(json.dumps(whole, indent=2, ensure_ascii=False))


@dlt.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def requeue(ids: Sequence[str], everything: bool) -> None:
    """Put events back into the topic that they were in."""
    if bool(ids) == everything:
        raise click.UsageError("give IDs (`delivery dlt list` shows them), or --all")
    found = _dead()

    async def run() -> None:
        async with open_event_log(load_settings()) as events:
            for event in found if everything else pick(found, ids):
                click.echo(f"{event.id} put back into {await put_back(event, events)}")

    asyncio.run(run())


def printable(text: str) -> str:
    """Keep what a stranger sent from driving the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
