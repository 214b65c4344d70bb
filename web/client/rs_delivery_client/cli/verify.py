"""`rs-delivery verify`: whether what was delivered is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.reports import bar, tell_end, teller
from rs_delivery_client.client import DeliveryClient
from rs_delivery_client.flaws import Report
from rs_delivery_client.manifest import digest
from rs_delivery_client.pauses import Pauses
from rs_delivery_client.verification import verify as check
from rs_delivery_client.verification import verify_delivery


def _digest(name: str) -> Callable[..., str | None]:
    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        try:
            return None if value is None else digest(value, name)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


@click.command()
@click.argument("target", required=False)
@click.option("--manifest", help="File or address of it; default: what lies beside TARGET.")
@click.option("--id", "correlation_id", help="Ask the service of --url about this delivery.")
@click.option("--md5", callback=_digest("md5"), help="Of the archive as a whole.")
@click.option("--sha256", callback=_digest("sha256"), help="Of the archive as a whole.")
@click.option("--size", type=click.IntRange(0), help="Of the archive as a whole, in bytes.")
@place_option
@json_flag
def verify(
    target: str | None,
    manifest: str | None,
    correlation_id: str | None,
    md5: str | None,
    sha256: str | None,
    size: int | None,
    where: Where,
    as_json: bool,
) -> None:
    """Check TARGET (an archive, its address, or a folder) against its manifest.

    Every file that is wrong, missing or too many is named. With --id, the manifest and the digest
    are the service's, and so is the archive, if no TARGET is given.
    """
    if target is None and correlation_id is None:
        raise click.UsageError("give what is to be checked, or --id")
    for named in (target, manifest):
        if named is not None and "://" not in named and not os.path.lexists(named):
            raise click.UsageError(f"there is no {printable(named)}")
    with bar(quiet=as_json) as progress:
        told: dict[str, Any] = {
            "manifest": manifest,
            "md5": md5,
            "sha256": sha256,
            "size": size,
            "on_flaw": teller(as_json=as_json),
            "progress": progress,
        }
        if correlation_id is None:
            assert target is not None  # noqa: S101 - else it was refused above
            report = run(check(target, pauses=Pauses(tries=where.tries), **told))
        else:
            client = where.client()
            report = run(_by_id(client, correlation_id, target, told))
    tell_end(report, as_json=as_json)


async def _by_id(
    client: DeliveryClient, correlation_id: str, target: str | None, told: dict[str, Any]
) -> Report:
    async with client:
        return await verify_delivery(client, correlation_id, target, **told)
