"""`delivery dead-letters`: what could not be handled, of both kinds, as it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from app.audit import INSTANCE
from app.cli.options import MOMENT
from app.cli.tables import in_json, show_all
from app.cli.who import caller
from app.run.wiring.database import open_database
from app.run.wiring.dead_letters import dead_letter_desk
from app.run.wiring.tenants import open_configuration
from app.settings import load_settings
from app.views.dead_letters import (
    DeadLetterDesk,
    DeadLetterFilter,
    DeadLetterView,
    Handled,
    KeptLetter,
    WholeDeadLetterView,
)

_COLUMNS = ("id", "tenant", "correlationId", "bytes", "mendedBy", "reason")
_PAGE_SIZE = 500
_LIMIT = 1000  # letters that are listed

Filter = dict[str, Any]


def filtering(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that letters are looked for by."""
    for option in (
        click.option("--mended/--not-mended", default=None, help="Only those that are, or not."),
        click.option("--until", type=MOMENT, help="Only what was buried before."),
        click.option("--since", type=MOMENT, help="Only what was buried then or later."),
        click.option("--correlation-id", help="Only of this one."),
        click.option("--reason", help="Only where the reason holds this."),
        click.option("--place", help="Only where the name of queue or topic holds this."),
        click.option("--tenant", help="Only of this tenant; default: of all, and of none."),
    ):
        command = option(command)
    return command


def _wanted(asked: Filter) -> DeadLetterFilter:
    mended: bool | None = asked.pop("mended")
    told = None if mended is None else str(mended).lower()
    times = {
        name: at.isoformat() if isinstance(at := asked.pop(name), datetime) else None
        for name in ("since", "until")
    }
    return DeadLetterFilter.read({**asked, **times, "mended": told})


@click.group("dead-letters")
def dead_letters() -> None:
    """Messages and events that could not be handled: look, mend, put back, remove."""


@dead_letters.command("list")
@filtering
@click.option("--limit", type=click.IntRange(1), default=_LIMIT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(limit: int, as_json: bool, **asked: Any) -> None:
    """List dead letters, the first buried first, with the reason for each."""
    wanted = _wanted(asked)
    found = asyncio.run(_with_desk(lambda desk: _found(desk, wanted, limit)))
    show_all(
        [DeadLetterView.of(kept) for kept in found],
        _COLUMNS,
        as_json=as_json,
        what="dead letters",
        more="`delivery dead-letters show ID` shows one, whole",
        row=lambda view: dict.fromkeys(_COLUMNS) | view.body(),
    )


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@click.option("--body", "only_body", is_flag=True, help="Print the body only, as it came.")
def show(letter_id: str, only_body: bool) -> None:
    """Show a dead letter with its body."""
    kept = asyncio.run(_with_desk(lambda desk: desk.one(None, letter_id)))
    if only_body:
        sys.stdout.buffer.write(kept.letter.body)
        sys.stdout.flush()
        return
    click.echo(in_json(WholeDeadLetterView.whole(kept), indent=2))


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@click.option(
    "--body",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with what goes back in the place of the body.",
)
@click.option("--tenant", help="For the header regards.tenant of a message.")
@click.option("--force", is_flag=True, help="Although it would be refused again.")
def mend(letter_id: str, body: Path | None, tenant: str | None, force: bool) -> None:
    """Put another body, or tenant, in the place of a letter's, for when it is put back."""
    if body is None and tenant is None:
        raise click.UsageError("give --body, --tenant, or both")
    mended = body.read_bytes() if body is not None else None
    actor = caller(INSTANCE)

    async def run(desk: DeadLetterDesk) -> KeptLetter:
        return await desk.mend(actor, None, letter_id, body=mended, tenant=tenant, forced=force)

    asyncio.run(_with_desk(run))
    click.echo(f"{letter_id} is mended; `delivery dead-letters requeue` puts it back")


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filtering
@click.option("--all", "everything", is_flag=True, help="All that there are.")
@click.option("--dry-run", is_flag=True, help="Only tell which.")
def requeue(ids: Sequence[str], everything: bool, dry_run: bool, **asked: Any) -> None:
    """Put dead letters back where they were, mended where they are."""
    actor = caller(INSTANCE)
    wanted = _chosen(ids, everything=everything, asked=asked)

    async def run(desk: DeadLetterDesk) -> bool:
        chosen = await _ids(desk, ids, wanted)
        if dry_run:
            return _told(chosen, "would be put back")
        return await _in_pages(
            chosen, lambda page: desk.requeue(actor, None, page), "put back into"
        )

    if not asyncio.run(_with_desk(run)):
        sys.exit(1)


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filtering
@click.option("--all", "everything", is_flag=True, help="All that there are.")
@click.option("--dry-run", is_flag=True, help="Only tell which.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def remove(ids: Sequence[str], everything: bool, dry_run: bool, yes: bool, **asked: Any) -> None:
    """Remove dead letters for good."""
    actor = caller(INSTANCE)
    wanted = _chosen(ids, everything=everything, asked=asked)

    async def run(desk: DeadLetterDesk) -> bool:
        chosen = await _ids(desk, ids, wanted)
        if dry_run:
            return _told(chosen, "would be removed")
        if chosen and not yes:
            await asyncio.to_thread(
                click.confirm, f"remove {len(chosen)} dead letters for good?", abort=True
            )
        return await _in_pages(chosen, lambda page: desk.remove(actor, None, page), "removed from")

    if not asyncio.run(_with_desk(run)):
        sys.exit(1)


def _chosen(ids: Sequence[str], *, everything: bool, asked: Filter) -> DeadLetterFilter | None:
    """Return what is looked for; None where ids are given. Raises UsageError."""
    filtered = any(value is not None for value in asked.values())
    if any(isinstance(value, str) and not value.strip() for value in asked.values()):
        raise click.UsageError("an option is empty; leave it out, or give --all for all letters")
    if sum((bool(ids), everything, filtered)) != 1:
        raise click.UsageError(
            "give IDs (`delivery dead-letters list` shows them), a filter, or --all"
        )
    return None if ids else _wanted(asked)


async def _ids(
    desk: DeadLetterDesk, ids: Sequence[str], wanted: DeadLetterFilter | None
) -> list[str]:
    if wanted is None:
        return list(dict.fromkeys(ids))
    found, after = list[str](), 0
    while page := await desk.browse(None, wanted, after=after, limit=_PAGE_SIZE):
        found += [kept.letter.id for kept in page]  # the letters themselves may be many megabytes
        after = page[-1].number
    return found


async def _found(desk: DeadLetterDesk, wanted: DeadLetterFilter, limit: int) -> list[KeptLetter]:
    found: list[KeptLetter] = []
    after = 0
    while len(found) < limit:
        size = min(_PAGE_SIZE, limit - len(found))
        page = await desk.browse(None, wanted, after=after, limit=size)
        found += page
        if len(page) < size:
            break
        after = page[-1].number
    return found


def _told(ids: Sequence[str], what: str) -> bool:
    for letter_id in ids:
        click.echo(f"{letter_id} {what}")
    click.echo(f"{len(ids)} dead letters {what}; nothing was done")
    return True


async def _in_pages(
    ids: Sequence[str], act: Callable[[Sequence[str]], Awaitable[Handled]], what: str
) -> bool:
    """Handle letters; return whether all could be."""
    count, all_of_them = 0, True
    for start in range(0, len(ids), _PAGE_SIZE):
        done = await act(ids[start : start + _PAGE_SIZE])
        for letter_id, where in done.where.items():
            click.echo(f"{letter_id} {what} {where}")
        for why in done.failed.values():
            click.echo(why, err=True)
            all_of_them = False
        count += len(done.where)
    click.echo(f"{count} of {len(ids)} dead letters {what.rpartition(' ')[0]}")
    return all_of_them


async def _with_desk(run: Callable[[DeadLetterDesk], Awaitable[Any]]) -> Any:
    async with _desk() as desk:
        return await run(desk)


@contextlib.asynccontextmanager
async def _desk() -> AsyncIterator[DeadLetterDesk]:
    settings = load_settings()
    async with open_database(settings) as database:
        configuration = await open_configuration(settings, database.pool)
        yield dead_letter_desk(database, configuration.tenants)
