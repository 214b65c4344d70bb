"""`delivery dlq`: the messages that could not be answered; look, mend, put back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import click
from pydantic import Field

from app.audit import INSTANCE
from app.cli.mended import refuse_mended
from app.cli.tables import in_json, show_all
from app.cli.who import caller
from app.errors import DeliveryError
from app.run.wiring.database import connected, open_database
from app.run.wiring.dead_letters import open_queues
from app.settings import Settings, load_settings
from app.views.audit import DeadLetterTrail
from app.views.dead_letters import DEAD_LETTERS_JOB, DeadLetterTable
from app.views.view import Moment, View
from streams.amqp.dead_letters import (
    QUEUES,
    DeadLetterQueues,
    DeadMessage,
    NoSuchDeadLetterError,
)
from streams.amqp.kept_letters import kept_of

_DATABASE_TIMEOUT = 5.0  # seconds that a look waits for it to come up
_LIMIT = 1000  # letters that one command looks at in each queue
_COLUMNS = ("id", "tenant", "correlationId", "bytes", "reason")  # an id names its queue
T = TypeVar("T")

queue_option = click.option(
    "--queue",
    "queues",
    type=click.Choice(list(QUEUES)),
    multiple=True,
    help="Only this queue's dead letters (repeat for several).",
)
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=_LIMIT, show_default=True, help="Of each queue."
)


@click.group("dlq")
def dead_letter_queues() -> None:
    """Dead letters: messages that no client could be answered for."""


@dead_letter_queues.command("list")
@queue_option
@limit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(queues: Sequence[str], limit: int, as_json: bool) -> None:
    """List dead letters, with the reason for each."""

    async def run(dead_letters: DeadLetterQueues) -> list[DeadMessageView]:
        found = await dead_letters.look(queues or list(QUEUES), limit=limit)
        return [DeadMessageView.of(dead_letter) for dead_letter in found]

    show_all(
        _on_dead_letters(run),
        _COLUMNS,
        as_json=as_json,
        what="dead letters",
        more="`delivery dlq show ID` shows one, whole",
    )


@dead_letter_queues.command()
@click.argument("letter_id", metavar="ID")
@click.option("--body", "only_body", is_flag=True, help="Print the body only, as it came.")
@limit_option
def show(letter_id: str, only_body: bool, limit: int) -> None:
    """Show a dead letter: properties, headers and body."""

    async def run(dead_letters: DeadLetterQueues) -> DeadMessage:
        (dead_letter,) = _pick(await dead_letters.look(list(QUEUES), limit=limit), [letter_id])
        return dead_letter

    dead_letter = _on_dead_letters(run)
    if only_body:
        sys.stdout.buffer.write(dead_letter.message.body)
        sys.stdout.flush()
        return
    click.echo(in_json(_whole(dead_letter), indent=2))


@dead_letter_queues.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them (of --queue, if given).")
@click.option(
    "--body",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a mended body, for one letter.",
)
@click.option("--tenant", help="Put this into the header regards.tenant.")
@queue_option
@limit_option
def requeue(
    ids: Sequence[str],
    everything: bool,
    body: Path | None,
    tenant: str | None,
    queues: Sequence[str],
    limit: int,
) -> None:
    """Put dead letters back into the queue they were in."""
    _check_choice(ids, everything=everything)
    if body is not None and (everything or len(ids) != 1):
        raise click.UsageError("--body is for one letter: give its ID")

    mended = body.read_bytes() if body else None

    async def run(
        dead_letters: DeadLetterQueues, trail: DeadLetterTrail, table: DeadLetterTable
    ) -> None:
        found = await dead_letters.look(queues or list(QUEUES), limit=limit)
        chosen = found if everything else _pick(found, ids)
        if mended is None:
            letters = [kept_of(dead_letter).id for dead_letter in chosen]
            refuse_mended(await table.several(None, letters))
        for dead_letter in chosen:
            kept = kept_of(dead_letter)
            async with trail.requeued(kept.shown, dead_letter.origin):
                where = await dead_letters.requeue(dead_letter, body=mended, tenant=tenant)
            await table.discard([kept.id])
            click.echo(f"{dead_letter.id} put back into {where}")

    _changing_dead_letters(run)


@dead_letter_queues.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them (of --queue, if given).")
@click.option("--yes", is_flag=True, help="Don't ask.")
@queue_option
@limit_option
def purge(
    ids: Sequence[str], everything: bool, yes: bool, queues: Sequence[str], limit: int
) -> None:
    """Remove dead letters for good."""
    _check_choice(ids, everything=everything)

    async def choose(dead_letters: DeadLetterQueues) -> list[DeadMessage]:
        found = await dead_letters.look(queues or list(QUEUES), limit=limit)
        return found if everything else _pick(found, ids)

    asked: set[str] | None = None
    if not yes:  # before letters are held: others would wait for the answer
        told = _on_dead_letters(choose)
        asked = {dead_letter.id for dead_letter in told}
        if told:
            click.confirm(f"remove {len(told)} dead letters for good?", abort=True)

    async def run(
        dead_letters: DeadLetterQueues, trail: DeadLetterTrail, table: DeadLetterTable
    ) -> None:
        found = await choose(dead_letters)
        chosen = [each for each in found if asked is None or each.id in asked]
        for dead_letter in chosen:
            kept = kept_of(dead_letter)
            async with trail.purged(kept.shown):
                await dead_letters.remove(dead_letter)
            await table.discard([kept.id])
        click.echo(f"{len(chosen)} dead letters removed")

    _changing_dead_letters(run)


def _check_choice(ids: Sequence[str], *, everything: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("give IDs (`delivery dlq list` shows them), or --all")


def _on_dead_letters(run: Callable[[DeadLetterQueues], Coroutine[Any, Any, T]]) -> T:
    """Run what looks at letters, while no other process changes them.

    A look holds all that it reads: a letter that is handled meanwhile would seem to have no copy.
    """

    async def main() -> T:
        settings = load_settings()
        async with looking_alone(settings), open_queues(settings) as dead_letters:
            return await run(dead_letters)

    return asyncio.run(main())


@contextlib.asynccontextmanager
async def looking_alone(settings: Settings) -> AsyncIterator[None]:
    """Wait for the others that have letters in their hands; not where the database is away.

    Then none handles letters, and what is there can still be looked at.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(
                connected(settings, size=1, start_timeout=_DATABASE_TIMEOUT)
            )
            await stack.enter_async_context(database.alone(DEAD_LETTERS_JOB))
        except DeliveryError as error:
            await stack.aclose()
            click.echo(f"warning: looking without the database ({error})", err=True)
        yield


def _changing_dead_letters(
    run: Callable[[DeadLetterQueues, DeadLetterTrail, DeadLetterTable], Coroutine[Any, Any, None]],
) -> None:
    """Run what changes letters, while no other process does.

    Each change is in the audit trail, and letters are kept, so the database is needed.
    """

    async def main() -> None:
        settings = load_settings()
        async with (
            open_database(settings) as database,
            database.alone(DEAD_LETTERS_JOB),
            open_queues(settings) as dead_letters,
        ):
            trail = DeadLetterTrail(
                trail=database.audit,
                actor=caller(INSTANCE),
                serves=settings.tenants.__contains__,
            )
            await run(dead_letters, trail, database.dead_letters)

    asyncio.run(main())


def _pick(dead_letters: Sequence[DeadMessage], ids: Sequence[str]) -> list[DeadMessage]:
    by_id = {dead_letter.id: dead_letter for dead_letter in dead_letters}
    missing = [letter_id for letter_id in ids if letter_id not in by_id]
    if missing:
        raise NoSuchDeadLetterError(
            f"no dead letter {', '.join(missing)} among the {len(dead_letters)} looked at; "
            "`delivery dlq list` shows what is there"
        )
    return [by_id[letter_id] for letter_id in ids]


class DeadMessageView(View):
    """A message, as it is listed."""

    id: str
    queue: str
    tenant: str | None
    correlation_id: str | None
    message_id: str | None
    timestamp: Moment | None
    bytes: int
    reason: str

    @classmethod
    def of(cls, dead_letter: DeadMessage, **more: Any) -> Self:
        """Show a message, with `more` fields than are listed."""
        message = dead_letter.message
        return cls(
            id=dead_letter.id,
            queue=dead_letter.queue,
            tenant=dead_letter.tenant,
            correlation_id=dead_letter.correlation_id,
            message_id=message.message_id,
            timestamp=message.timestamp or None,
            bytes=len(message.body),
            reason=dead_letter.reason,
            **more,
        )


class WholeDeadMessageView(DeadMessageView):
    """A message with all that came with it.

    What others sent may be nested deeper than pydantic writes, so it is put in as it is.
    """

    origin: str | None
    properties: dict[str, Any] = Field(exclude=True)
    headers: dict[str, Any] = Field(exclude=True)
    content: Any = Field(exclude=True)

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return super().body() | {
            "properties": self.properties,
            "headers": self.headers,
            "body": self.content,
        }


def _whole(dead_letter: DeadMessage) -> WholeDeadMessageView:
    message = dead_letter.message
    try:
        body: Any = message.body.decode()
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(body)
    except UnicodeDecodeError:
        body = {"base64": base64.b64encode(message.body).decode()}
    properties = {
        name: getattr(message, name)
        for name in ("content_type", "app_id", "priority", "correlation_id", "reply_to", "type")
    }
    return WholeDeadMessageView.of(
        dead_letter,
        origin=dead_letter.origin,
        properties={name: value for name, value in properties.items() if value is not None},
        headers=message.headers,
        content=body,
    )
