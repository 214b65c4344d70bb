"""`rs-delivery submit`: ask for a delivery; wait for it, and fetch it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, Silent, encoded, printable, run
from rs_delivery_client.cli.follow import Teller, followed, timeout_option
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import hint
from rs_delivery_client.cli.transfer_bar import transfer_bar
from rs_delivery_client.cli.when import at, read

if TYPE_CHECKING:
    from rs_delivery_client.models import Delivery


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--target", help="Where to; default: what FILE says, else the tenant's.")
@click.option("--label", "labels", multiple=True, help="What you call it, to find it by (repeat).")
@click.option("--priority", type=click.IntRange(1, 255), help="255 first.")
@click.option("--key", help="Names this request: sent again with it, it is the same delivery.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Send nothing: tell what would become of it, trying its target; exit code 1 if DENIED.",
)
@click.option("--wait", "waits", is_flag=True, help="Tell what happens until it is done.")
@click.option(
    "--download",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Wait, then fetch it into this folder, verified.",
)
@timeout_option
@place_option
@json_flag
def submit(
    file: IO[bytes],
    target: str | None,
    labels: Sequence[str],
    priority: int | None,
    key: str | None,
    dry_run: bool,
    waits: bool,
    folder: Path | None,
    timeout: float | None,
    where: Where,
    as_json: bool,
) -> None:
    """Send the delivery request in FILE (JSON; - for standard input).

    Its id is printed; with --wait the address of what was delivered, too.
    """
    request = _request(file, target, labels)
    if dry_run and (waits or folder):
        raise click.UsageError("--dry-run sends nothing that could be waited for")
    if dry_run:
        _judge(where, request, priority, as_json=as_json)
        return
    client = where.client()

    async def send() -> Delivery:
        async with client:
            return await client.send(request, priority=priority, idempotency_key=key)

    delivery = run(send())
    click.echo(json.dumps(dict(delivery.raw)) if as_json else printable(delivery.correlation_id))
    if not waits and folder is None:
        hint(where, f"watch {shlex.quote(delivery.correlation_id)}")
        return
    with transfer_bar(quiet=as_json) as drawn:
        teller = Teller(as_json=as_json, on_error=True, drawn=drawn)
        done = followed(where, delivery, timeout, teller)
    if folder is not None:
        # Imported here: it needs what reads archives, and help does not.
        import_module("rs_delivery_client.cli.download").fetch(
            where, done, folder, unpack=False, parallel=8, as_json=as_json
        )
    elif not as_json:
        click.echo(printable(str(done.url)))


def _request(file: IO[bytes], target: str | None, labels: Sequence[str]) -> dict[str, Any]:
    """Read a request, and put into it what the call says. Raises UsageError."""
    try:
        request = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{file.name} is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise click.UsageError(f"{file.name} holds no JSON object")
    if target is not None:
        request["targetDelivery"] = target
    if labels:
        chosen = request.get("delivery") or {}
        if not isinstance(chosen, dict):
            raise click.UsageError(f"{file.name}: delivery must be an object")
        request["delivery"] = {**chosen, "labels": list(labels)}
    return request


def _judge(
    where: Where, request: Mapping[str, Any], priority: int | None, *, as_json: bool
) -> None:
    """Tell what would become of a request. Raises Ended if it would be denied."""
    client = where.client()

    async def ask() -> Mapping[str, Any]:
        async with client:
            return await client.validate(request, priority=priority)

    found = run(ask())
    granted = bool(found.get("granted"))
    if as_json:
        click.echo(encoded(found))
        if not granted:
            raise Silent(EXIT_FAILED)
        return
    for flaw in found.get("broken") or ():
        click.echo(printable(f"broken: {flaw}"))
    for problem in found.get("problems") or ():
        click.echo(printable(f"problem: {problem}"))
    if not granted:
        kind = found.get("errorType")
        named = "" if kind is None else f" ({kind})"
        raise Ended(f"it would be denied{named}; nothing was sent", EXIT_FAILED)
    expires = read(found.get("expiresAt"))
    until = "" if expires is None else f"; it would have until {at(expires)}"
    click.echo(f"it would be granted{until}; nothing was sent")
