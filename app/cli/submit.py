"""`delivery submit`: send a request as a client would, and wait for its answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, AbstractQueueIterator
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from app.cli.options import chosen_tenant
from app.cli.tables import in_json
from app.codes import Code
from app.delivery import progress as transfers
from app.delivery.formats import FORMATS
from app.delivery.states import Status
from app.delivery.targets import Target, TargetCheck
from app.encoding import flaw_of
from app.errors import ConfigurationError, DeliveryError
from app.run.wiring.amqp import open_connection
from app.run.wiring.services import open_services
from app.settings import Settings, load_settings
from app.views.progress import rate
from streams.amqp import names
from streams.amqp.topology import REFUSALS, refused, topology_of
from streams.channels import REQUESTS, RESPONSES
from streams.kafka.brokers import cause_of
from streams.kafka.progress import watch_progress

_LAST_REPORT = 3.0  # seconds that the end of a transfer is waited for behind the answer


class DeliveryFailedError(DeliveryError):
    """The answer was DENIED or ERROR."""

    code = Code.DELIVERY_FAILED


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--tenant", help="Tenant of the request; default: the first of DELIVERY_TENANTS.")
@click.option("--priority", type=click.IntRange(1, names.MAX_PRIORITY), default=1)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    help="What the files are delivered as; default: what FILE says, else the tenant's.",
)
@click.option(
    "--archive-name",
    help="What the archive is called, such as '{productId}-{date}'; '' is as REGARDS calls it.",
)
@click.option("--prefix", help="Folders before that of its id, such as 'campaign/{user}'.")
@click.option(
    "--partial/--whole",
    default=None,
    help="Take what there is where files failed, and be told what is missing; or all or none.",
)
@click.option("--label", "labels", multiple=True, help="What you call it, to find it by (repeat).")
@click.option("--deadline", help="When it is of no use any more, as 2026-01-31T12:00:00Z.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Send nothing: tell what would become of it, trying its target; exit code 1 if DENIED.",
)
@click.option("--wait", is_flag=True, help="Show progress, and print the answer.")
@click.option("--timeout", type=float, default=3600, show_default=True, help="Seconds to wait.")
def submit(
    file: Path,
    tenant: str | None,
    priority: int,
    format_name: str | None,
    archive_name: str | None,
    prefix: str | None,
    partial: bool | None,
    labels: Sequence[str],
    deadline: str | None,
    dry_run: bool,
    wait: bool,
    timeout: float,
) -> None:
    """Send the delivery request in FILE (JSON; - for standard input).

    It goes over AMQP, as that of any client. Without a correlationId it is given one, which is
    printed.
    """
    settings = load_settings()
    body = _read(file)
    chosen: dict[str, Any] = {
        "format": format_name,
        "archiveName": archive_name,
        "prefix": prefix,
        "partial": partial,
        "labels": list(labels) or None,
        "deadline": deadline,
    }
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if chosen:
        body["delivery"] = _options(file, body) | chosen
    tenant = chosen_tenant(settings, tenant)
    if dry_run:
        if wait:
            raise click.UsageError("--dry-run sends nothing that could be waited for: leave --wait")
        asyncio.run(_judge(settings, body, tenant=tenant, priority=priority))
        return
    try:
        asyncio.run(
            _submit(settings, body, tenant=tenant, priority=priority, wait=wait, timeout=timeout)
        )
    except REFUSALS as error:
        raise refused(error) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        body = json.loads(text)
    except OSError as error:
        raise click.UsageError(f"can't read {file}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise click.UsageError(f"{file} holds no JSON object")
    if not isinstance(body.setdefault("correlationId", f"d-{uuid4().hex[:12]}"), str):
        raise click.UsageError(f"{file}: correlationId must be a text")
    return body


def _options(file: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Return what a request says of its delivery."""
    options = body.get("delivery") or {}
    if not isinstance(options, dict):
        raise click.UsageError(f"{file}: delivery must be an object")
    return options


async def _judge(settings: Settings, body: dict[str, Any], *, tenant: str, priority: int) -> None:
    """Print what would become of a request. Raises DeliveryFailedError if it would be refused."""
    flaw = flaw_of(body)
    if flaw is not None:
        raise click.UsageError(f"the request {flaw}")
    async with open_services(settings) as opened, opened.asking_users() as services:

        async def trial(_tenant: str, target: Target) -> Sequence[TargetCheck]:
            return await services.objects.probe(target)

        told = await services.dry_runs.judge(
            tenant, body, trial=trial, priority=priority, details=True
        )
    click.echo(in_json(told, indent=2))
    if not told.granted:
        raise DeliveryFailedError("; ".join(told.broken or ()))


async def _submit(
    settings: Settings,
    body: dict[str, Any],
    *,
    tenant: str,
    priority: int,
    wait: bool,
    timeout: float,  # noqa: ASYNC109 - the user's word for it
) -> None:
    correlation_id = body["correlationId"]
    async with (
        open_connection(settings) as connection,
        connection.channel() as channel,
    ):
        topology = topology_of(settings)
        exchange = await topology.exchange(channel, REQUESTS.exchange.name)
        message = Message(
            json.dumps(body).encode(),
            headers={names.HEADER_TENANT: tenant},
            priority=priority,
            content_type="application/json",
            app_id="delivery-cli",
        )
        if not wait:
            await exchange.publish(message, "")
            click.echo(correlation_id)
            return
        await topology.exchange(channel, RESPONSES.exchange.name)
        responses = await channel.declare_queue(exclusive=True, auto_delete=True)
        await responses.bind(RESPONSES.exchange.name)
        async with (
            show_progress(settings, tenant, correlation_id) as bar,
            responses.iterator(no_ack=True) as answers,
        ):
            await exchange.publish(message, "")
            try:
                async with asyncio.timeout(timeout):
                    answer = await _final(answers, tenant, correlation_id, bar)
            except TimeoutError:
                raise DeliveryError(
                    f"no final answer for {correlation_id} within {timeout:g} s; it may still "
                    "come: is a worker running?"
                ) from None
    click.echo(json.dumps(answer, indent=2))
    if answer["status"] != Status.DONE:
        raise DeliveryFailedError(f"{answer['errorType']}: {answer.get('message', '')}")


async def _final(
    answers: AbstractQueueIterator, tenant: str, correlation_id: str, bar: Progress
) -> dict[str, Any]:
    async for message in answers:
        body = _answer(message, tenant)
        if body.get("correlationId") != correlation_id:
            continue
        bar.console.print(f"{body['status']} {correlation_id}", highlight=False)
        if body["status"] != Status.GRANTED:
            return body
    raise DeliveryError("the connection to RabbitMQ was closed while waiting for the answer")


def _answer(message: AbstractIncomingMessage, tenant: str) -> dict[str, Any]:
    if message.headers.get(names.HEADER_TENANT) != tenant:
        return {}
    body: dict[str, Any] = json.loads(message.body)
    return body


@contextlib.asynccontextmanager
async def show_progress(
    settings: Settings,
    tenant: str,
    correlation_id: str,
    *,
    console: Console | None = None,
    last_report: float = _LAST_REPORT,
) -> AsyncIterator[Progress]:
    """Show a bar of bytes, files and rate while the block runs (plain lines without a terminal).

    Behind the block it waits up to `last_report` seconds for the end of a transfer that is shown.
    """
    console = console or Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]}"),
        TimeElapsedColumn(),
        console=console,
    )
    started = asyncio.Event()
    settled = asyncio.Event()  # no report is to come: the attempt that was told of has ended
    settled.set()

    async def follow() -> None:
        try:
            await show_reports()
        finally:
            settled.set()

    async def show_reports() -> None:
        task = None
        async for tick in watch_progress(
            settings, tenant=tenant, correlation_id=correlation_id, started=started
        ):
            if not console.is_terminal:
                console.print(_line(tick), highlight=False, markup=False, soft_wrap=True)
            else:
                if task is None:
                    task = bar.add_task(correlation_id, total=tick.bytes_total, files="")
                bar.update(
                    task,
                    completed=tick.bytes_done,
                    total=tick.bytes_total,
                    description=f"{correlation_id} {tick.phase}",
                    files=f"{tick.files_done}/{tick.files_total} files",
                )
            if tick.phase.ended:
                settled.set()
            else:
                settled.clear()

    following = asyncio.create_task(follow())
    ready = asyncio.create_task(started.wait())
    try:
        await asyncio.wait({following, ready}, return_when=asyncio.FIRST_COMPLETED)
        if following.done() and (error := following.exception()) is not None:
            raise ConfigurationError(
                f"can't follow the progress on Kafka at {settings.kafka_bootstrap_servers}: "
                f"{cause_of(error)}"
            )
        with bar:
            yield bar
            # The last report comes right after the answer, if not before. (Not of what was
            # cancelled: its worker may go on for a while.)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(last_report):
                    await settled.wait()
    finally:
        ready.cancel()
        following.cancel()
        await asyncio.gather(ready, following, return_exceptions=True)


def _line(tick: transfers.Progress) -> str:
    percent = 100 * tick.bytes_done / tick.bytes_total if tick.bytes_total else 100
    speed = (rate(tick) or 0) / 1e6
    mark = "#" * int(percent / 5)
    return (
        f"[{mark:<20}] {percent:5.1f} %  {tick.bytes_done / 1e6:,.1f}/"
        f"{tick.bytes_total / 1e6:,.1f} MB  {tick.files_done}/{tick.files_total} files  "
        f"{speed:,.1f} MB/s  {tick.phase}"
    )
