"""`rs-delivery worker`: who works, what each carries; one is drained, and works again."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rs_delivery_client.cli import pausing
from rs_delivery_client.cli.completion import WORKER
from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.fields import WORKER as WORKER_FIELDS
from rs_delivery_client.cli.fields import JsonCommand, fields_option
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import Column, counted, hint, show_json, show_table
from rs_delivery_client.cli.when import read, span

if TYPE_CHECKING:
    from rs_delivery_client.operating import Body, PauseSubject

_COLUMNS = (
    Column(title="WORKER"),
    Column(title="STATE", least=7),
    Column(title="RUNNING"),
    Column(title="UP FOR"),
    Column(title="VERSION", least=7),
    Column(title="WHY", least=16),
)
_WAIT_INTERVAL = 1.0  # seconds between looks at what a worker still has


@click.command("list", cls=JsonCommand)
@place_option
@fields_option(WORKER_FIELDS)
def list_(where: Where, fields: Sequence[str] | None) -> None:
    """List the workers, and what each carries."""
    client = where.client()

    async def ask() -> tuple[list[Body], list[Body]]:
        async with client:
            return await client.operating.workers(), await client.operating.pauses()

    workers, pauses = run(ask())
    drained = {str(pause["name"]): pause for pause in pauses if pause.get("scope") == "worker"}
    found = [{**worker, "pause": drained.get(worker["id"])} for worker in workers]
    if fields is not None:
        show_json(found, fields)
        return
    if not found:
        click.echo("no workers", err=True)
        return
    now = datetime.now(UTC)
    show_table(_COLUMNS, [_row(worker, now) for worker in found])
    click.echo(counted(len(found), "worker", "workers"), err=True)
    hint(where, *(f"worker resume {shlex.quote(name)}" for name in list(drained)[:1]))


def _row(worker: Mapping[str, Any], now: datetime) -> Sequence[str | None]:
    since, pause = read(worker.get("startedAt")), worker["pause"]
    silent = float(worker.get("silentFor") or 0)
    state = "drained" if pause else "working"
    return (
        str(worker["id"]),
        state if worker.get("alive") else f"silent for {span(silent)}",
        f"{worker.get('running', 0)} of {worker.get('slots', 0)}",
        None if since is None else span((now - since).total_seconds()),
        worker.get("version"),
        pause.get("reason") if pause else None,
    )


def _subject(name: str) -> PauseSubject:
    # Imported here: help asks no service.
    from rs_delivery_client.operating import PauseSubject  # noqa: PLC0415

    return PauseSubject(kind="workers", name=name)


@click.command()
@click.argument("worker", type=WORKER)
@pausing.pausing
@click.option("--wait", "waits", is_flag=True, help="Return when it has no transfer any more.")
@place_option
def drain(worker: str, waits: bool, where: Where, **given: Any) -> None:
    """Have a worker begin nothing, and hand over what it has.

    With --finish, that may finish there. `worker resume` ends it.
    """
    pausing.begin(where, _subject(worker), **given)
    if not waits:
        hint(where, "worker list", f"worker resume {shlex.quote(worker)}")
        return
    client = where.client()

    async def until_idle() -> None:
        told = None
        async with client:
            while running := _running_on(worker, await client.operating.workers()):
                if running != told:
                    click.echo(
                        f"{counted(running, 'transfer is', 'transfers are')} under way", err=True
                    )
                told = running
                await asyncio.sleep(_WAIT_INTERVAL)

    run(until_idle())
    click.echo(printable(f"worker {worker} has no transfer under way"))


def _running_on(worker: str, seen: Sequence[Body]) -> int:
    return sum(int(body.get("running") or 0) for body in seen if body["id"] == worker)


@click.command()
@click.argument("worker", type=WORKER)
@place_option
def resume(worker: str, where: Where) -> None:
    """Let a worker that is drained work again."""
    pausing.end(where, _subject(worker))
    click.echo(printable(f"worker {worker} works again"))
    hint(where, "worker list")
