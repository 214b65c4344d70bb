"""`rs-delivery wait`: until a delivery is done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from rs_delivery_client.cli.ends import EXIT_NOT_ENDED, Ended, printable, run
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option

if TYPE_CHECKING:
    from rs_delivery_client.models import Delivery


@click.command()
@click.argument("correlation_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds.")
@place_option
@json_flag
def wait(
    correlation_id: str,
    timeout: float | None,
    where: Where,
    as_json: bool,
) -> None:
    """Wait until a delivery is done; exit code 1 when it ends in ERROR."""
    client = where.client()

    async def until() -> Delivery:
        async with client:
            return await client.wait(correlation_id, timeout=timeout)

    try:
        delivery = run(until())
    except TimeoutError:
        says = f"{correlation_id} has not ended within {timeout:g} s; it goes on"
        raise Ended(says, EXIT_NOT_ENDED) from None
    click.echo(json.dumps(dict(delivery.raw)) if as_json else printable(str(delivery.url)))
