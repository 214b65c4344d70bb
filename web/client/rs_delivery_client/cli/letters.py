"""`rs-delivery letter`: messages and events that could not be handled."""

from __future__ import annotations

import base64
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from rs_delivery_client.cli.completion import LETTER_ID
from rs_delivery_client.cli.confirm import confirmed, yes_option
from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, encoded, printable, run
from rs_delivery_client.cli.fields import LETTER, WHOLE_LETTER, JsonCommand, fields_option
from rs_delivery_client.cli.options import MOMENT
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import Column, counted, hint, show_json, show_table, size
from rs_delivery_client.cli.when import both, relative

if TYPE_CHECKING:
    from rs_delivery_client.operating import Body

F = TypeVar("F", bound=Callable[..., Any])
_Act = Literal["requeue", "remove"]

_COLUMNS = (
    Column(title="ID"),
    Column(title="BURIED"),
    Column(title="TENANT", least=8),
    Column(title="SIZE"),
    Column(title="DELIVERY", least=8),
    Column(title="MENDED BY", least=9),
    Column(title="REASON", least=16),
)
_LETTERS = ("dead letter", "dead letters")


def _filtering(command: F) -> F:
    """Give a command what letters are looked for by."""
    options: tuple[Callable[[F], F], ...] = (
        click.option("--mended/--not-mended", default=None, help="Only those that are, or not."),
        click.option("--until", type=MOMENT, help="Only what was buried before."),
        click.option("--since", type=MOMENT, help="Only what was buried then or later."),
        click.option("--correlation-id", help="Only of this one."),
        click.option("--reason", help="Only where the reason holds this."),
        click.option("--place", help="Only where the name of queue or topic holds this."),
        click.option("--tenant", help="Only of this tenant, for those who see all."),
    )
    for option in options:
        command = option(command)
    return command


def _wanted(
    *,
    tenant: str | None,
    place: str | None,
    reason: str | None,
    correlation_id: str | None,
    since: str | None,
    until: str | None,
    mended: bool | None,
) -> dict[str, str]:
    """Return a filter as the service takes it."""
    found = {
        "tenant": tenant,
        "place": place,
        "reason": reason,
        "correlationId": correlation_id,
        "since": since,
        "until": until,
        "mended": None if mended is None else str(mended).lower(),
    }
    return {name: value for name, value in found.items() if value is not None}


@click.command("list", cls=JsonCommand)
@_filtering
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@place_option
@fields_option(LETTER)
def list_(limit: int, where: Where, fields: Sequence[str] | None, **asked: Any) -> None:
    """List dead letters, the first buried first, with the reason for each."""
    wanted = _wanted(**asked)
    client = where.client()

    async def ask() -> list[Body]:
        found: list[Body] = []
        async with client:
            async for letter in client.operating.letters(wanted, page=limit):
                found.append(letter)
                if len(found) == limit:
                    break
        return found

    found = run(ask())
    if fields is not None:
        show_json(found, fields)
        return
    if not found:
        click.echo("no dead letters", err=True)
        return
    now = datetime.now(UTC)
    show_table(_COLUMNS, [_row(letter, now) for letter in found])
    more = ", the first; --limit shows more" if len(found) == limit else ""
    click.echo(f"{counted(len(found), *_LETTERS)}{more}", err=True)
    first = shlex.quote(str(found[0]["id"]))
    hint(where, f"letter show {first}", f"letter put-back {first}")


def _row(letter: Mapping[str, Any], now: datetime) -> Sequence[str | None]:
    return (
        str(letter["id"]),
        relative(letter.get("buriedAt"), now),
        letter.get("tenant"),
        size(letter.get("bytes") or 0),
        letter.get("correlationId"),
        letter.get("mendedBy"),
        letter.get("reason"),
    )


@click.command(cls=JsonCommand)
@click.argument("letter_id", metavar="ID", type=LETTER_ID)
@click.option(
    "--body",
    "only_body",
    is_flag=True,
    help="Print the body only, as it came; at a terminal, what would drive that is escaped.",
)
@click.option("--raw", is_flag=True, help="Print the body only, also to a terminal as it came.")
@place_option
@fields_option(WHOLE_LETTER)
def show(
    letter_id: str, only_body: bool, raw: bool, where: Where, fields: Sequence[str] | None
) -> None:
    """Show a dead letter with its body."""
    client = where.client()

    async def ask() -> Body:
        async with client:
            return await client.operating.letter(letter_id)

    letter = run(ask())
    if only_body or raw:
        content = body_of(letter["body"])
        if sys.stdout.isatty() and not raw:
            content = _escaped(content)
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    if fields is not None:
        show_json([letter], fields)
        return
    now = datetime.now(UTC)
    click.echo(printable(f"{letter['id']}  {letter.get('reason')}"))
    for name, value in (
        ("place", letter.get("place")),
        ("goes to", letter.get("goesTo")),
        ("tenant", letter.get("tenant")),
        ("delivery", letter.get("correlationId")),
        ("buried", both(letter.get("buriedAt"), now)),
        ("size", size(letter.get("bytes") or 0)),
        ("mended", _mended(letter, now)),
        ("headers", encoded(letter["headers"]) if letter.get("headers") else None),
    ):
        if value:
            click.echo(printable(f"  {name:<9} {value}"))
    body = letter.get("mendedBody") or letter["body"]
    for line in str(body.get("text", "(no text: --body prints it)")).splitlines():
        click.echo(printable(f"  | {line}"))
    name = shlex.quote(letter_id)
    hint(where, f"letter mend {name}", f"letter put-back {name}", f"letter remove {name}")


def _mended(letter: Mapping[str, Any], now: datetime) -> str | None:
    if not letter.get("mendedBy"):
        return None
    return f"{both(letter.get('mendedAt'), now)} by {letter['mendedBy']}"


def body_of(body: Mapping[str, Any]) -> bytes:
    """Return the bytes of a body, as the service shows it."""
    if body.get("base64") is not None:
        return base64.b64decode(body["base64"])
    return str(body.get("text", "")).encode()


def _escaped(content: bytes) -> bytes:
    """Escape what would drive a terminal, and what is no UTF-8; lines stay lines."""
    text = content.decode(errors="backslashreplace")
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    ).encode()


def _choosing(command: F) -> F:
    """Give a command what letters are chosen by: ids, a filter, or all."""
    options: tuple[Callable[[F], F], ...] = (
        click.option("--dry-run", is_flag=True, help="Only tell which, and how many."),
        click.option("--all", "everything", is_flag=True, help="All that there are."),
        _filtering,
        click.argument("ids", metavar="[ID]...", nargs=-1, type=LETTER_ID),
    )
    for option in options:
        command = option(command)
    return command


def _chosen(
    ids: Sequence[str], *, everything: bool, asked: Mapping[str, Any]
) -> Sequence[str] | dict[str, str]:
    """Return which letters are meant. Raises UsageError."""
    wanted = _wanted(**asked)
    if not all(value.strip() for value in wanted.values()):
        raise click.UsageError("an option is empty; leave it out, or give --all for all letters")
    if sum((bool(ids), everything, bool(wanted))) != 1:
        raise click.UsageError("give IDs (`letter list` shows them), a filter, or --all")
    return list(dict.fromkeys(ids)) if ids else wanted


def _handle(
    where: Where,
    act: _Act,
    which: Sequence[str] | Mapping[str, str],
    *,
    dry_run: bool = False,
) -> tuple[int, int]:
    """Do it, tell what became of each, and return how many went well, and how many did not."""
    words = {
        ("requeue", False): "put back into",
        ("requeue", True): "would be put back into",
        ("remove", False): "removed from",
        ("remove", True): "would be removed; it goes back to",
    }[act, dry_run]
    client = where.client()

    async def lots() -> tuple[int, int]:
        well, badly = 0, 0
        async with client:
            async for lot in client.operating.handle_letters(act, which, dry_run=dry_run):
                for letter_id, place in lot["content"].items():
                    click.echo(printable(f"{letter_id} {words} {place}"))
                for cause in (lot.get("failed") or {}).values():
                    click.echo(printable(cause), err=True)
                well += len(lot["content"])
                badly += len(lot.get("failed") or ())
        return well, badly

    return run(lots())


@click.command("put-back")
@_choosing
@place_option
def put_back(
    ids: Sequence[str], everything: bool, dry_run: bool, where: Where, **asked: Any
) -> None:
    """Put dead letters back where they were, mended where they are."""
    which = _chosen(ids, everything=everything, asked=asked)
    well, badly = _handle(where, "requeue", which, dry_run=dry_run)
    _conclude(well, badly, "would be put back" if dry_run else "put back")
    if not dry_run:
        hint(where, "letter list")


@click.command()
@_choosing
@yes_option
@place_option
def remove(
    ids: Sequence[str], everything: bool, dry_run: bool, yes: bool, where: Where, **asked: Any
) -> None:
    """Remove dead letters for good.

    It is asked for at a terminal; elsewhere only with --yes.
    """
    which = _chosen(ids, everything=everything, asked=asked)
    if dry_run:
        well, badly = _handle(where, "remove", which, dry_run=True)
        _conclude(well, badly, "would be removed")
        return
    meant = counted(len(ids), *_LETTERS) if ids else "all dead letters that are meant"
    confirmed(f"remove {meant} for good?", yes=yes)
    well, badly = _handle(where, "remove", which)
    _conclude(well, badly, "removed")


def _conclude(well: int, badly: int, done: str) -> None:
    """Tell how many; raise Ended where some could not be handled."""
    said = f"{well} of {counted(well + badly, *_LETTERS)} {done}"
    if badly:
        raise Ended(f"{said}; the others wait on", EXIT_FAILED)
    click.echo(said, err=True)
