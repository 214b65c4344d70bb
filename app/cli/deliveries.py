"""`delivery list`, `show`, `stats`: deliveries as the database has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import click
from pydantic import PlainSerializer
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from app.cli.options import chosen_tenant, hours_ago, tenant_option
from app.cli.tables import in_json, printable, show_all, size
from app.delivery.states import State
from app.errors import UnknownDeliveryError
from app.run.wiring.database import PostgresDatabase, open_database
from app.settings import load_settings
from app.views.deliveries import DeliveryStepView, DeliveryView, Filter, Step, Tracked
from app.views.segments import SegmentSeen, SegmentView, shown_segments
from app.views.view import View

T = TypeVar("T")
Segments = Sequence[SegmentSeen]
_COLUMNS = ("correlationId", "tenant", "state", "since", "user", "bytes", "requestedAt", "why")

json_option = click.option("--json", "as_json", is_flag=True, help="For scripts: JSON.")


def _on_database(run: Callable[[PostgresDatabase], Awaitable[T]]) -> T:
    async def main() -> T:
        async with open_database(load_settings()) as database:
            return await run(database)

    return asyncio.run(main())


@click.command("list")
@click.option("--tenant", "tenants", multiple=True, help="Only of this one (repeat); default: all.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([*State]), help="Only these (repeat)."
)
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@click.option("--user", help="Only of this ordering user.")
@click.option("--label", "labels", multiple=True, help="Only with this label (repeat: with all).")
@click.option("--text", help="In correlation id, archive name or cause.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    help="Only those requested in the last hours.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def list_(
    tenants: Sequence[str],
    states: Sequence[str],
    active: bool,
    user: str | None,
    labels: Sequence[str],
    text: str | None,
    hours: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """List deliveries, the newest first."""
    settings = load_settings()
    for tenant in tenants:
        chosen_tenant(settings, tenant)
    wanted = Filter.read(
        {
            "state": _states(states, active=active),
            "label": list(labels) or None,
            "text": text,
            "since": hours_ago(hours) if hours is not None else None,
        }
    ).model_copy(update={"user": user})  # an empty name is no user's, not every user's
    found = _on_database(
        lambda database: database.tracking.browse(
            tenants or settings.tenants, wanted, before=None, limit=limit
        )
    )
    words = {str(tracked.delivery.id): tracked.suborders for tracked in found}
    show_all(
        [DeliveryView.of(delivery) for delivery in found],
        _COLUMNS,
        as_json=as_json,
        what="deliveries",
        more="`delivery show ID` shows one, whole",
        row=lambda shown: _row(shown, words[shown.id]),
    )


def _states(states: Sequence[str], *, active: bool) -> list[State] | None:
    if active and states:
        raise click.UsageError("give --active or --state, not both")
    if active:
        return [state for state in State if not state.ended]
    return [State(state) for state in states] or None


def _row(shown: DeliveryView, suborders: str | None) -> dict[str, Any]:
    why = shown.error_message or shown.last_cause
    if shown.parked_since:
        why = suborders
    if shown.error_type:
        why = f"{shown.error_type}: {why}"
    return {
        **shown.body(),
        "since": shown.state_since and _at(shown.state_since),
        "bytes": size(shown.bytes or 0) if shown.files else None,
        "requestedAt": _at(shown.requested_at),
        "why": why,
    }


class PrintedStepView(DeliveryStepView):
    """A step, as this command prints times: in full."""

    at: Annotated[datetime, PlainSerializer(str, return_type=str)]


class WholeDeliveryView(DeliveryView):
    """All that is known of a delivery."""

    order: dict[str, Any]
    history: list[PrintedStepView]
    segments: list[SegmentView] | None = None


@click.command()
@click.argument("correlation_id", metavar="ID")
@tenant_option
@json_option
def show(correlation_id: str, tenant: str | None, as_json: bool) -> None:
    """Show all that is known of a delivery: states, times, attempts, cause, result."""
    owner = chosen_tenant(load_settings(), tenant)

    async def run(database: PostgresDatabase) -> list[tuple[Tracked, list[Step], Segments]]:
        tracking = database.tracking
        return [
            (
                tracked,
                await tracking.steps(tracked.delivery.id),
                await tracking.segments(tracked.delivery.id) if tracked.delivery.announced else [],
            )
            for tracked in await tracking.of(owner, correlation_id)
        ]

    found = _on_database(run)
    if not found:
        raise UnknownDeliveryError(
            f"tenant {owner} has no delivery {correlation_id!r}, or it was long ago; "
            "`delivery list` shows those that there are"
        )
    if as_json:
        for tracked, steps, segments in found:
            history = [PrintedStepView.of(step) for step in steps]
            whole = WholeDeliveryView.of(
                tracked,
                order=tracked.delivery.order,
                history=history,
                segments=shown_segments(tracked.delivery, segments) or None,
            )
            click.echo(in_json(whole))
        return
    console = Console(markup=False, highlight=False)
    for tracked, steps, segments in found:
        console.print(_tree(tracked, steps, segments))


def _tree(tracked: Tracked, steps: Sequence[Step], segments: Segments) -> Tree:
    shown = DeliveryView.of(tracked).body()
    title = f"{shown.pop('correlationId')}  {shown.pop('state')}"
    tree = Tree(printable(title))
    if tracked.suborders is not None:
        tree.add(tracked.suborders)
    for name, value in shown.items():
        tree.add(printable(f"{name}: {value}"))
    tree.add(printable(f"order: {json.dumps(tracked.delivery.order, ensure_ascii=False)}"))
    history = tree.add("history")
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        line = f"{step.at.isoformat(' ', timespec='milliseconds')}  {step.state}"
        if step.news is not None:
            history.add(printable(f"{line}, {step.news}"))
            continue
        if step.attempt:
            line += f", attempt {step.attempt}"
        if step.cause is not None:
            line += printable(f", put off: {step.cause}")
        if following is not None and following.news is None:
            line += f", for {(following.at - step.at).total_seconds():.3f} s"
        history.add(line)
    if segments:
        branch = tree.add("suborders")
        for segment in shown_segments(tracked.delivery, segments):
            branch.add(_segment(segment))
    return tree


def _segment(shown: SegmentView) -> str:
    what = "the rest of the order" if shown.sub_order_id is None else f"{shown.sub_order_id}"
    line = f"{shown.number}: {what}, available since {_at(shown.announced_at)}"
    if shown.listed_at is not None:
        line += f", {shown.files} files listed {_at(shown.listed_at)}"
    return line + (", in the archive" if shown.archived else "")


def _at(time: datetime) -> str:
    return time.isoformat(" ", timespec="seconds")


class WaitingView(View):
    """Deliveries of a tenant that are in a state before the end."""

    tenant: str
    state: State
    deliveries: int
    oldest_seconds: int
    parked: int | None = None  # of them, those whose archive waits for the next suborder
    oldest_parked_seconds: int | None = None


class EndedView(View):
    """Deliveries of a tenant that ended alike."""

    tenant: str
    state: State
    error_type: str | None
    deliveries: int
    bytes: int
    median_seconds: float


class WorkerListed(View):
    """A worker, by its own word."""

    worker: str
    version: str
    running: str
    silent_for_seconds: int


class OwedView(View):
    """Messages that no broker has confirmed yet."""

    lane: str
    messages: int
    overdue_seconds: int


class StatsView(View):
    """What waits, who works, what is owed, and what became of what ended lately."""

    waiting: list[WaitingView]
    ended: list[EndedView]
    workers: list[WorkerListed]
    owed: list[OwedView]


@click.command()
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=24, show_default=True)
@json_option
def stats(hours: float, as_json: bool) -> None:
    """Tell what waits, who works, what is owed, and what became of what ended lately."""
    settings = load_settings()
    since = hours_ago(hours)

    async def run(database: PostgresDatabase) -> StatsView:
        tracking = database.tracking
        return StatsView(
            waiting=[
                WaitingView(
                    tenant=depth.tenant,
                    state=depth.state,
                    deliveries=depth.deliveries,
                    oldest_seconds=round(depth.oldest),
                    parked=depth.parked or None,
                    oldest_parked_seconds=round(depth.oldest_parked) if depth.parked else None,
                )
                for depth in await tracking.depths()
            ],
            ended=[
                EndedView(
                    tenant=tenant,
                    state=outcome.state,
                    error_type=outcome.error_type,
                    deliveries=outcome.deliveries,
                    bytes=outcome.bytes,
                    median_seconds=round(outcome.median_seconds, 1),
                )
                for tenant in settings.tenants
                for outcome in await tracking.outcomes([tenant], since=since)
            ],
            workers=[
                WorkerListed(
                    worker=status.id,
                    version=status.version,
                    running=f"{status.running}/{status.slots}",
                    silent_for_seconds=round(status.silent_for),
                )
                for status in await tracking.workers()
            ],
            owed=[
                OwedView(
                    lane=backlog.lane,
                    messages=backlog.messages,
                    overdue_seconds=round(backlog.oldest),
                )
                for backlog in await tracking.owed()
            ],
        )

    found = _on_database(run).body()
    if as_json:
        click.echo(json.dumps(found))
        return
    console = Console(markup=False, highlight=False)
    for title, rows in found.items():
        _table(console, title, rows)


def _table(console: Console, title: str, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        console.print(f"{title}: nothing")
        return
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = [row.get(name) for name in names]
        table.add_row(*("-" if value is None else printable(str(value)) for value in cells))
    console.print(table)
