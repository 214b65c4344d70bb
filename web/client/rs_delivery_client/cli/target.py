"""`rs-delivery target`: one is paused, resumed, and tried as a delivery would."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rs_delivery_client.cli import pausing
from rs_delivery_client.cli.completion import TARGET
from rs_delivery_client.cli.ends import (
    EXIT_FAILED,
    EXIT_NOT_THERE,
    Ended,
    Silent,
    encoded,
    printable,
    run,
)
from rs_delivery_client.cli.options import json_flag
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import hint

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient
    from rs_delivery_client.operating import Body, PauseSubject

Checks = Mapping[str, Sequence["Body"]]

# The target of requests without a name, and the settings that targets are in.
_DEFAULT = "regards-s3-minio"
_OF_DEFAULT = "s3_server"
_OF_OTHERS = "delivery_targets"


def _subject(name: str) -> PauseSubject:
    # Imported here: help asks no service.
    from rs_delivery_client.operating import PauseSubject  # noqa: PLC0415

    return PauseSubject(kind="targets", name=name)


@click.command()
@click.argument("target", type=TARGET)
@pausing.pausing
@place_option
def pause(target: str, where: Where, **given: Any) -> None:
    """Let no transfer to a target begin; what runs may finish.

    With --stop, what runs stops, and goes on where it stopped.
    """
    pausing.begin(where, _subject(target), **given)
    hint(where, f"target resume {shlex.quote(target)}", "targets")


@click.command()
@click.argument("target", type=TARGET)
@place_option
def resume(target: str, where: Where) -> None:
    """End the pause of a target: what waited begins."""
    pausing.end(where, _subject(target))
    click.echo(printable(f"transfers to {target} are resumed"))
    hint(where, "targets")


@click.command()
@click.argument("names", metavar="TARGET...", nargs=-1, required=True, type=TARGET)
@place_option
@json_flag
def check(names: Sequence[str], where: Where, as_json: bool) -> None:
    """Try targets as a delivery would: whether each answers, and lets its key do what it must.

    Nothing is left there. A tenant has a few of these a minute. Exit code 1 where something is
    refused.
    """
    client = where.client()

    async def ask() -> dict[str, Sequence[Body]]:
        async with client:
            return await _tried(client, list(dict.fromkeys(names)))

    found = run(ask())
    failed = tell_checks(found, as_json=as_json)
    if not failed:
        return
    if as_json:
        raise Silent(EXIT_FAILED)
    hint(where, "explain TARGET_REFUSED", "explain TARGET_AWAY")
    raise Ended(f"{', '.join(failed)}: not all that a delivery needs is there", EXIT_FAILED)


async def _tried(client: DeliveryClient, names: Sequence[str]) -> dict[str, Sequence[Body]]:
    """Return what each was tried for, and what that found. Raises Ended, ClientError."""
    found: dict[str, Sequence[Body]] = {}
    others = [name for name in names if name != _DEFAULT]
    if others:
        setting = await client.operating.setting(_OF_OTHERS)
        places = setting.value if isinstance(setting.value, dict) else {}
        for name in others:
            if name not in places:
                known = ", ".join([_DEFAULT, *sorted(places)])
                raise Ended(f"there is no target {name}; there are {known}", EXIT_NOT_THERE)
        chosen = {name: places[name] for name in others}
        # What is tried is as it is set: its secrets are kept by their masks, and nothing is saved.
        found |= (await client.operating.change(setting, chosen, check="only")).checks
    if _DEFAULT in names:
        setting = await client.operating.setting(_OF_DEFAULT)
        tried = await client.operating.change(setting, setting.value, check="only")
        found |= {_DEFAULT: [step for steps in tried.checks.values() for step in steps]}
    return found


def tell_checks(found: Checks, *, as_json: bool) -> list[str]:
    """Print what trying targets found, a line each; return those that something is refused at."""
    for name, steps in found.items():
        for step in steps:
            if as_json:
                click.echo(encoded({"target": name, **step}))
                continue
            mark = "✔" if step.get("ok") else click.style("✖", fg="red")
            said = ": ".join(filter(None, (str(step.get("check")), str(step.get("message") or ""))))
            click.echo(f"{mark} {printable(f'{name}  {said}')}")
    return [name for name, steps in found.items() if not all(step.get("ok") for step in steps)]
