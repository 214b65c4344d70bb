"""`rs-delivery cancel`, `retry`, `link`: what is done about deliveries."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rs_delivery_client.cli.completion import DELIVERY_ID
from rs_delivery_client.cli.confirm import yes_option
from rs_delivery_client.cli.deliveries import standing
from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, code_of, ended, printable, run
from rs_delivery_client.cli.filters import filtering, has_empty, wanted
from rs_delivery_client.cli.many import all_found
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import hint
from rs_delivery_client.cli.when import at, read
from rs_delivery_client.errors import ClientError, NotReachableError, NotSignedInError

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient
    from rs_delivery_client.content import Link
    from rs_delivery_client.models import DeliveryFilter

F = TypeVar("F", bound=Callable[..., Any])

_MAX_SECONDS = 7 * 86400


def _each(
    where: Where,
    ids: Sequence[str],
    do: Callable[[DeliveryClient, str], Awaitable[str]],
) -> None:
    """Do it to each, and say what came of it. Raises Ended where it did not go well for all."""
    client = where.client()

    async def all_of_them() -> list[int]:
        codes = []
        async with client:
            for correlation_id in ids:
                try:
                    click.echo(printable(await do(client, correlation_id)))
                except (NotReachableError, NotSignedInError):
                    raise  # it is so for all that follow
                except ClientError as error:
                    if len(ids) == 1:
                        raise
                    ended(error).show()
                    codes.append(code_of(error))
        return codes

    codes = run(all_of_them())
    if codes:
        same = codes[0] if len(set(codes)) == 1 and len(codes) == len(ids) else EXIT_FAILED
        raise Ended(f"{len(codes)} of {len(ids)} were refused", same)


async def _as_it_is(client: DeliveryClient, correlation_id: str) -> str:
    delivery = await client.delivery(correlation_id)
    return f"{correlation_id}: {standing(delivery)}"


def _choosing(command: F) -> F:
    """Give a command what deliveries are chosen by: ids, a filter, or all."""
    options: tuple[Callable[[F], F], ...] = (
        click.option(
            "--dry-run",
            is_flag=True,
            help="Only tell: of IDs how each is now, else which, and which not and why.",
        ),
        click.option("--all", "everything", is_flag=True, help="All that there are."),
        filtering,
        click.argument("ids", metavar="[ID]...", nargs=-1, type=DELIVERY_ID),
    )
    for option in options:
        command = option(command)
    return command


def _chosen(
    ids: Sequence[str], *, everything: bool, asked: Mapping[str, Any]
) -> DeliveryFilter | None:
    """Return the filter of those that are meant; None: the ids are. Raises UsageError."""
    chosen = wanted(**asked)
    if has_empty(chosen):
        raise click.UsageError("an option is empty; leave it out, or give --all for all deliveries")
    if sum((bool(ids), everything, bool(chosen.parameters))) != 1:
        raise click.UsageError("give IDs (`list` shows them), a filter as of `list`, or --all")
    return None if ids else chosen


@click.command()
@_choosing
@click.option("--reason", help="Told to the client, in the log and the audit trail.")
@yes_option
@place_option
def cancel(
    ids: Sequence[str],
    everything: bool,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    where: Where,
    **asked: Any,
) -> None:
    """End deliveries now; their clients are told ERROR.

    By IDs; or all that a filter finds, as of `list`. These are shown first, and asked for at a
    terminal; elsewhere it takes --yes.
    """
    chosen = _chosen(ids, everything=everything, asked=asked)
    if chosen is not None:
        all_found(where, "cancel", chosen, dry_run=dry_run, yes=yes, reason=reason)
        return

    async def end(client: DeliveryClient, correlation_id: str) -> str:
        delivery = await client.cancel(correlation_id, reason=reason)
        if delivery.ended:
            return f"{correlation_id} cancelled"
        return (
            f"{correlation_id} is just being completed: it ends when it is known whether its "
            "archive has appeared, and is done if it has"
        )

    _each(where, ids, _as_it_is if dry_run else end)


@click.command()
@_choosing
@click.option("--force", is_flag=True, help="Also what would fail again for a cause that stays.")
@yes_option
@place_option
def retry(
    ids: Sequence[str],
    everything: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
    where: Where,
    **asked: Any,
) -> None:
    """Try again: at once what waits for a later attempt, from the start what ended in ERROR.

    What failed for a cause that stays (`explain ID` tells it) only with --force. By IDs; or all
    that a filter finds, as of `list`. These are shown first, and asked for at a terminal; elsewhere
    it takes --yes.
    """
    chosen = _chosen(ids, everything=everything, asked=asked)
    if chosen is not None:
        all_found(where, "retry", chosen, dry_run=dry_run, yes=yes, force=force)
        return

    async def again(client: DeliveryClient, correlation_id: str) -> str:
        delivery = await client.retry(correlation_id, force=force)
        return f"{correlation_id} is tried again ({delivery.state})"

    _each(where, ids, _as_it_is if dry_run else again)
    if not dry_run:
        hint(where, f"watch {shlex.quote(ids[0])}")


@click.command()
@click.argument("correlation_id", metavar="ID", type=DELIVERY_ID)
@click.option("--path", help="Of a file in the list of files; default: the archive, or that list.")
@click.option(
    "--ttl",
    type=click.IntRange(1, _MAX_SECONDS),
    help="Seconds for which it holds; what the service allows at most, and by default.",
)
@place_option
def link(correlation_id: str, path: str | None, ttl: int | None, where: Where) -> None:
    """Print a link by which any client that has it has what was delivered.

    Until when it holds is told on standard error.
    """
    client = where.client()

    async def ask() -> Link:
        async with client:
            return await client.link(correlation_id, path=path, ttl=ttl)

    made = run(ask())
    click.echo(printable(made.url))
    expires = read(made.expires)
    if expires is not None:
        click.echo(f"it holds until {at(expires)}", err=True)
