"""`rs-delivery cancel`, `retry`, `link`: what is done about deliveries."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from rs_delivery_client.cli.completion import DELIVERY_ID
from rs_delivery_client.cli.deliveries import standing
from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, code_of, ended, printable, run
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import hint
from rs_delivery_client.cli.when import at, read
from rs_delivery_client.errors import ClientError, NotReachableError, NotSignedInError

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient
    from rs_delivery_client.content import Link

_dry_run = click.option("--dry-run", is_flag=True, help="Only tell how each is now.")
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


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=DELIVERY_ID)
@click.option("--reason", help="Told to the client, in the log and the audit trail.")
@_dry_run
@place_option
def cancel(ids: Sequence[str], reason: str | None, dry_run: bool, where: Where) -> None:
    """End deliveries now; their clients are told ERROR."""

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
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=DELIVERY_ID)
@click.option("--force", is_flag=True, help="Also what would fail again for a cause that stays.")
@_dry_run
@place_option
def retry(ids: Sequence[str], force: bool, dry_run: bool, where: Where) -> None:
    """Try again: at once what waits for a later attempt, from the start what ended in ERROR.

    What failed for a cause that stays (`explain ID` tells it) only with --force.
    """

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
