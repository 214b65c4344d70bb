"""`rs-delivery download`: fetch what was delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rs_delivery_client.cli.completion import DELIVERY_ID
from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.reports import bar, tell_end, teller
from rs_delivery_client.client import DeliveryClient
from rs_delivery_client.models import Delivery


@click.command()
@click.argument("correlation_id", metavar="ID", type=DELIVERY_ID)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder to put it into.",
)
@click.option("--unpack", is_flag=True, help="Unpack the archive while it arrives.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Files at a time, where files were delivered as they are.",
)
@place_option
@json_flag
def download(
    correlation_id: str,
    to: Path,
    unpack: bool,
    parallel: int,
    where: Where,
    as_json: bool,
) -> None:
    """Fetch what was delivered for ID, and verify it; no key of its place is needed.

    What broke off is taken up by the next call.
    """
    fetch(where, correlation_id, to, unpack=unpack, parallel=parallel, as_json=as_json)


def fetch(
    where: Where,
    which: str | Delivery,
    to: Path,
    *,
    unpack: bool,
    parallel: int,
    as_json: bool,
) -> None:
    """Fetch a delivery, and say what it came to. Raises Ended."""
    client = where.client()
    with bar(quiet=as_json) as progress:
        got = run(
            _download(
                client,
                which,
                to,
                unpack=unpack,
                parallel=parallel,
                on_flaw=teller(as_json=as_json),
                progress=progress,
            )
        )
    if not as_json:
        click.echo(printable(str(got.path)))
    tell_end(got.report, as_json=as_json, path=str(got.path))


async def _download(client: DeliveryClient, which: str | Delivery, to: Path, **options: Any) -> Any:
    async with client:
        return await client.download(which, to, **options)
