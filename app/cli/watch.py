"""`delivery watch`: bars for all transfers that run, until you have seen enough."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from app.cli.tables import printable, size
from app.delivery import progress as transfers
from app.errors import DeliveryError
from app.run.wiring.database import open_database
from app.run.wiring.kafka import progress_table
from app.settings import Settings, load_settings
from app.views import progress
from app.views.deliveries import Overview
from streams.channels import PROGRESS
from streams.kafka.brokers import cause_of
from streams.kafka.progress_table import ProgressTable
from streams.kafka.topics import Topics

_POLL_INTERVAL = 0.5  # seconds
_REPORT_INTERVAL = 1.5  # seconds in which every transfer has reported: each does once a second


@click.command()
@click.option("--tenant", "tenants", multiple=True, help="Only of this one (repeat); default: all.")
@click.option("--once", is_flag=True, help="Tell what runs now, and end.")
def watch(tenants: Sequence[str], once: bool) -> None:
    """Show all running transfers, live; Ctrl-C ends it."""
    settings = load_settings()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(settings, tenants or settings.tenants, once=once))


async def _watch(settings: Settings, tenants: Sequence[str], *, once: bool) -> None:
    topic = Topics(prefix=settings.kafka_topic_prefix).of(PROGRESS)
    table = progress_table(settings)
    async with open_database(settings) as database:
        overview = database.tracking
        await table.start()
        try:
            try:
                async with asyncio.timeout(10):
                    await table.reading.wait()
            except TimeoutError as error:
                raise DeliveryError(
                    f"can't follow {topic} on Kafka at {settings.kafka_bootstrap_servers} "
                    f"({cause_of(error)}); "
                    "is it up, and was a worker ever started?"
                ) from None
            console = Console()
            if once or not console.is_terminal:
                await asyncio.sleep(_REPORT_INTERVAL)
                await _lines(table, overview, tenants, once=once)
            else:
                await _bars(console, table, overview, tenants)
        finally:
            await table.stop()


async def told(overview: Overview, tenants: Sequence[str]) -> str:
    """Return what is under way and what waits, in a line."""
    depths = [depth for depth in await overview.depths() if depth.tenant in tenants]
    counts: dict[str, int] = {}
    for depth in depths:
        counts[depth.state.value] = counts.get(depth.state.value, 0) + depth.deliveries
    waiting = [f"{count} {state}" for state, count in counts.items()]
    if parked := sum(depth.parked for depth in depths):
        longest = max(depth.oldest_parked for depth in depths)
        waiting.append(f"of them {parked} for a suborder, the longest for {longest:.0f} s")
    return ", ".join(waiting) or "nothing waits"


async def _lines(
    table: ProgressTable, overview: Overview, tenants: Sequence[str], *, once: bool
) -> None:
    """Plain lines, for logs and pipes."""
    running = [
        transfer
        for transfer in table.all()
        if transfer.tenant in tenants and not transfer.phase.ended
    ]
    while True:
        for transfer in running:
            click.echo(line(transfer))
        if once:
            click.echo(await told(overview, tenants))
            return
        await asyncio.sleep(_POLL_INTERVAL)
        running = [transfer for transfer in table.news() if transfer.tenant in tenants]


def line(transfer: transfers.Progress) -> str:
    """Return how far a transfer is, in a line."""
    percent = 100 * transfer.bytes_done / transfer.bytes_total if transfer.bytes_total else 100
    speed, left = progress.rate(transfer), progress.seconds_left(transfer)
    stalled = progress.stalled_for(transfer)
    return printable(
        f"{transfer.tenant}/{transfer.correlation_id}  {transfer.phase}  {percent:5.1f} %  "
        f"{size(transfer.bytes_done)} of {size(transfer.bytes_total)}  "
        f"{transfer.files_done}/{transfer.files_total} files"
        + (f"  {size(speed)}/s" if speed else "")
        + (f"  stalled: no byte for {stalled:.0f} s" if stalled is not None else "")
        + (f"  {left:.0f} s left" if left is not None else "")
    )


async def _bars(
    console: Console,
    table: ProgressTable,
    overview: Overview,
    tenants: Sequence[str],
) -> None:
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[files]}"),
        console=console,
        expand=True,
    )
    tasks: dict[tuple[str, str], TaskID] = {}
    with bars:
        waiting = bars.add_task("", total=None, files="", visible=True)
        while True:
            known = [transfer for transfer in table.all() if transfer.tenant in tenants]
            for transfer in known:
                _update(bars, tasks, transfer)
            # What is parked, or whose worker died, reports nothing.
            for key in tasks.keys() - {
                (transfer.tenant, transfer.correlation_id) for transfer in known
            }:
                bars.remove_task(tasks.pop(key))
            bars.update(waiting, description=await told(overview, tenants))
            await asyncio.sleep(_POLL_INTERVAL)


def _phase(transfer: transfers.Progress) -> str:
    stalled = progress.stalled_for(transfer)
    return transfer.phase if stalled is None else f"stalled for {stalled:.0f} s"


def _update(
    bars: Progress, tasks: dict[tuple[str, str], TaskID], transfer: transfers.Progress
) -> None:
    key = transfer.tenant, transfer.correlation_id
    if transfer.phase.ended:
        if key in tasks:
            bars.remove_task(tasks.pop(key))
            bars.console.print(line(transfer), highlight=False, markup=False)
        return
    if key not in tasks:
        tasks[key] = bars.add_task("", total=transfer.bytes_total, files="")
    bars.update(
        tasks[key],
        completed=transfer.bytes_done,
        total=transfer.bytes_total,
        description=printable(f"{transfer.tenant}/{transfer.correlation_id} {_phase(transfer)}"),
        files=f"{transfer.files_done}/{transfer.files_total} files",
    )
