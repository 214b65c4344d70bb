"""`rs-delivery submit`: ask for a delivery."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

import click

from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option

if TYPE_CHECKING:
    from rs_delivery_client.models import Delivery


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--priority", type=click.IntRange(1, 255), help="255 first.")
@click.option("--key", help="Names this request: sent again with it, it is the same delivery.")
@place_option
@json_flag
def submit(
    file: IO[bytes],
    priority: int | None,
    key: str | None,
    where: Where,
    as_json: bool,
) -> None:
    """Send the delivery request in FILE (JSON; - for standard input)."""
    try:
        request = json.loads(file.read())
    except ValueError as error:
        raise click.UsageError(f"{file.name} is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise click.UsageError(f"{file.name} holds no JSON object")
    client = where.client()

    async def send() -> Delivery:
        async with client:
            return await client.send(request, priority=priority, idempotency_key=key)

    delivery = run(send())
    click.echo(json.dumps(dict(delivery.raw)) if as_json else printable(delivery.correlation_id))
