"""`delivery topics`: whether Kafka's topics are as they should be, and making them so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

import click

from app.audit import INSTANCE, AuditRecord
from app.cli.tables import show_all
from app.cli.who import caller
from app.codes import Code
from app.errors import RetryableError
from app.run.wiring.database import open_database
from app.run.wiring.kafka import make_topics
from app.settings import load_settings
from app.views.view import View
from streams.kafka.topic_check import Difference, apply, differences

_COLUMNS = ("topic", "what", "found", "wanted", "advice")


class TopicsDifferError(RetryableError):
    """Some topics are not as they should be."""

    code = Code.TOPICS_DIFFER


class DifferenceView(View):
    """Something about a topic that is not as it should be."""

    topic: str
    what: str
    found: str
    wanted: str
    advice: str

    @classmethod
    def of(cls, difference: Difference) -> Self:
        """Show it."""
        return cls(**asdict(difference))


@click.group()
def topics() -> None:
    """Kafka topics: partitions, replicas, retention, compaction."""


def _report(remaining: Sequence[Difference], *, as_json: bool) -> None:
    show_all(
        [DifferenceView.of(difference) for difference in remaining],
        _COLUMNS,
        as_json=as_json,
        what="differences",
        more="see the advice of each",
    )
    if remaining:
        raise TopicsDifferError(f"{len(remaining)} differences are left")


@topics.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def check(as_json: bool) -> None:
    """Compare the topics with the settings; exit code 1 when they differ."""
    _report(asyncio.run(differences(load_settings())), as_json=as_json)


@topics.command("apply")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def apply_(as_json: bool) -> None:
    """Create what is missing, add partitions, set configurations; tell what is left.

    What arrived and was lost with a topic is appended again, so the database is needed, too.
    """
    settings = load_settings()

    async def make() -> tuple[list[str], list[Difference]]:
        async with open_database(settings) as database:
            created = await make_topics(database)
            left = await apply(settings)
            done = AuditRecord(
                actor=caller(INSTANCE),
                action="apply",
                subject="Kafka topics",
                before=None,
                after={"created": created, "differencesLeft": len(left)},
            )
            await database.audit.record(done)
        return created, left

    made, left = asyncio.run(make())
    for name in made:
        click.echo(f"created {name}", err=as_json)
    _report(left, as_json=as_json)
