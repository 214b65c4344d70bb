"""`rs-delivery letter mend`: a body is edited, shown as a diff, and asked for.

What was written is never lost: where the service refuses it, or it is not wanted after all, it is
in a file that is told.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from rs_delivery_client.cli.completion import LETTER_ID
from rs_delivery_client.cli.confirm import confirmed, yes_option
from rs_delivery_client.cli.differences import show_differences
from rs_delivery_client.cli.ends import (
    EXIT_CONFLICT,
    EXIT_FAILED,
    Ended,
    printable,
    program,
    run,
)
from rs_delivery_client.cli.letters import body_of
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import counted, hint

if TYPE_CHECKING:
    from rs_delivery_client.operating import Letter

_MENDED = ("body", "mendedBody", "mendedTenant", "mendedAt")


@click.command()
@click.argument("letter_id", metavar="ID", type=LETTER_ID)
@click.option(
    "--file",
    type=click.File("rb"),
    help="Take the body from this file; - is standard input. Else it is edited in $EDITOR.",
)
@click.option("--tenant", help="For the header regards.tenant of a message; alone, the body stays.")
@click.option("--force", is_flag=True, help="Although it would be refused again.")
@click.option("--dry-run", is_flag=True, help="Change nothing: only tell what would change.")
@yes_option
@place_option
def mend(
    letter_id: str,
    file: IO[bytes] | None,
    tenant: str | None,
    force: bool,
    dry_run: bool,
    yes: bool,
    where: Where,
) -> None:
    """Put another body in the place of a dead letter's, for when it is put back.

    What changes is printed as a diff, and asked for at a terminal; elsewhere it takes --yes. What
    you wrote is kept in a file where it is refused, or not wanted.
    """
    if tenant is not None and not tenant.strip():
        raise click.UsageError("--tenant is empty; leave it out")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask at: add --yes, or --dry-run")
    seen = run(_letter(where, letter_id))
    letter = seen.raw
    before = body_of(letter.get("mendedBody") or letter["body"])
    given = file.read() if file is not None else before
    is_edited = file is None and tenant is None
    if is_edited and not letter.get("mendedBody") and len(before) != letter.get("bytes"):
        raise Ended("the service shows its beginning alone: give all of it by --file", EXIT_FAILED)
    again = f"{program()} letter mend {shlex.quote(letter_id)}{where.repeated} --file"
    drafted = is_edited or _is_input(file)
    with _draft(given, again, stays=dry_run) if drafted else nullcontext() as draft:
        after = _edited(draft, before) if draft is not None and is_edited else given
        differs = before != after
        if differs and not show_differences(letter_id, _lines(before), _lines(after)):
            sizes = f"{counted(len(before), 'byte', 'bytes')} now, {len(after):,} then"
            click.echo(f"no line differs, but line ends, or bytes that are no UTF-8: {sizes}")
        if dry_run or not (differs or tenant is not None):
            said = "nothing was changed" if dry_run else f"{letter_id} has this body already"
            click.echo(said, err=True)
            return
        # A mend takes the place of the whole one before: what this one leaves goes along.
        tenant = tenant or letter.get("mendedTenant")
        body = after if differs or letter.get("mendedBody") else None
        so = "so" if tenant is None else printable(f"so, for the tenant {tenant}")
        confirmed(f"mend {letter_id} {so}?", yes=yes)
        run(_mended(where, seen, body=body, tenant=tenant, force=force))
    click.echo(f"{letter_id} is mended", err=True)
    hint(where, f"letter put-back {shlex.quote(letter_id)}")


def _is_input(file: IO[bytes] | None) -> bool:
    return file is not None and file.name == "<stdin>"


@contextmanager
def _draft(content: bytes, again: str, *, stays: bool) -> Iterator[Path]:
    """Give a file with a body, for its owner alone; where the block raises, it stays and is told.

    So does one that was written to, if it `stays`. Raises Ended in the place of what ends a
    command in a sentence.
    """
    number, name = tempfile.mkstemp(prefix="rs-delivery-letter-", suffix=".txt")
    with os.fdopen(number, "wb") as file:
        file.write(content)
    said = f"what you wrote is in {name}: `{again} {shlex.quote(name)}` takes it"
    try:
        yield Path(name)
    except click.ClickException as error:
        raise Ended(f"{error.message}; {said}", error.exit_code) from None
    except BaseException:
        click.echo(f"\n{said}", err=True)
        raise
    if stays and Path(name).read_bytes() != content:
        click.echo(said, err=True)
        return
    Path(name).unlink(missing_ok=True)


def _edited(draft: Path, before: bytes) -> bytes:
    """Let a body be edited, and return it. Raises ClickException."""
    click.edit(filename=str(draft))
    try:
        after = draft.read_bytes()
    except OSError as error:
        raise Ended(f"can't read {draft}: {error.strerror}", EXIT_FAILED) from None
    # Editors end the last line, which need not have come with an end.
    return after[:-1] if after.endswith(b"\n") and not before.endswith(b"\n") else after


def _lines(content: bytes) -> list[str]:
    return content.decode(errors="backslashreplace").splitlines()


async def _letter(where: Where, letter_id: str) -> Letter:
    async with where.client() as client:
        return await client.operating.letter_seen(letter_id)


async def _mended(
    where: Where, seen: Letter, *, body: bytes | None, tenant: str | None, force: bool
) -> None:
    """Mend a letter, unless another client has since it was read. Raises Ended, ClientError."""
    letter = seen.raw
    letter_id = str(letter["id"])
    async with where.client() as client:
        if seen.version is None:  # what a service of a version before shows is compared
            now = await client.operating.letter(letter_id)
            if any(now.get(name) != letter.get(name) for name in _MENDED):
                by = now.get("mendedBy") or "another client"
                raise Ended(f"{letter_id} was mended meanwhile, by {by}", EXIT_CONFLICT)
        await client.operating.mend_letter(
            letter_id, body=body, tenant=tenant, force=force, version=seen.version
        )
