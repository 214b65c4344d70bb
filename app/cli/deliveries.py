"""`delivery list`, `show`, `stats`: deliveries as the database has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated, Any, TypeVar

import click
from pydantic import PlainSerializer
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from app.cli.options import chosen_tenant, hours_ago, named_tenant, tenant_option
from app.cli.tables import in_json, printable, show_all, size
from app.delivery.attempts import Attempt
from app.delivery.missing import MissingFile
from app.delivery.states import State
from app.errors import UnknownDeliveryError
from app.run.wiring.database import PostgresDatabase, open_database
from app.settings import load_settings
from app.views.deliveries import (
    Activity,
    AttemptView,
    DeliveryStepView,
    DeliveryView,
    Filter,
    MissingFileView,
    MissingSeen,
    Step,
    Tracked,
    missing_of,
)
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
    if not found:  # of one that is served no more there may be some
        for tenant in tenants:
            chosen_tenant(settings, tenant)
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
    if shown.code or shown.error_type:
        why = f"{shown.code or shown.error_type}: {why}"
    return {
        **shown.body(),
        "state": standing(shown),
        "since": shown.state_since and _at(shown.state_since),
        "bytes": size(shown.bytes or 0) if shown.files else None,
        "requestedAt": _at(shown.requested_at),
        "why": why,
    }


def standing(shown: DeliveryView) -> str:
    """Return the state of a delivery, and what goes on in it."""
    if shown.activity is None:
        return shown.state.value
    words = f"{shown.state}, {shown.activity}"
    if shown.activity is Activity.RETRYING and shown.tries:
        words += f" ({shown.tries} {'try' if shown.tries == 1 else 'tries'} failed)"
    return words


class PrintedStepView(DeliveryStepView):
    """A step, as this command prints times: in full."""

    at: Annotated[datetime, PlainSerializer(str, return_type=str)]


class WholeDeliveryView(DeliveryView):
    """All that is known of a delivery."""

    order: dict[str, Any]
    history: list[PrintedStepView]
    attempts: list[AttemptView] | None = None  # of its transfer, the newest first
    segments: list[SegmentView] | None = None
    missing_files: list[MissingFileView] | None = None  # the first of them; `missing` counts all


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A delivery, with what is asked for it beside."""

    tracked: Tracked
    steps: Sequence[Step]
    attempts: Sequence[Attempt]
    segments: Segments
    missing: MissingSeen | None


@click.command()
@click.argument("correlation_id", metavar="ID")
@tenant_option
@json_option
def show(correlation_id: str, tenant: str | None, as_json: bool) -> None:
    """Show all that is known of a delivery: states, attempts, cause, result, what is missing."""
    owner = named_tenant(load_settings(), tenant)

    async def run(database: PostgresDatabase) -> list[_Found]:
        tracking = database.tracking
        return [
            _Found(
                tracked=tracked,
                steps=await tracking.steps(tracked.delivery.id),
                attempts=await tracking.attempts(tracked.delivery.id),
                segments=await tracking.segments(tracked.delivery.id)
                if tracked.delivery.announced
                else [],
                missing=await missing_of(tracking, tracked),
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
        for shown in found:
            history = [PrintedStepView.of(step) for step in shown.steps]
            missing = shown.missing
            whole = WholeDeliveryView.of(
                shown.tracked,
                missing=missing,
                order=shown.tracked.delivery.order,
                history=history,
                attempts=[AttemptView.of(attempt) for attempt in shown.attempts] or None,
                segments=shown_segments(shown.tracked.delivery, shown.segments) or None,
                missing_files=missing and [MissingFileView.of(file) for file in missing.first],
            )
            click.echo(in_json(whole))
        return
    console = Console(markup=False, highlight=False)
    for shown in found:
        console.print(_tree(shown))


def _tree(found: _Found) -> Tree:
    tracked, segments = found.tracked, found.segments
    shown = DeliveryView.of(tracked, missing=found.missing).body()
    title = f"{shown.pop('correlationId')}  {shown.pop('state')}"
    tree = Tree(printable(title))
    if tracked.suborders is not None:
        tree.add(tracked.suborders)
    for name, value in shown.items():
        tree.add(printable(f"{name}: {value}"))
    tree.add(printable(f"order: {json.dumps(tracked.delivery.order, ensure_ascii=False)}"))
    _add_history(tree.add("history"), found.steps)
    if found.attempts:
        branch = tree.add("attempts, the newest first")
        for line in _alike(found.attempts):
            branch.add(printable(line))
    if segments:
        branch = tree.add("suborders")
        for segment in shown_segments(tracked.delivery, segments):
            branch.add(_segment(segment))
    if found.missing is not None:
        _add_missing(tree.add("missing files"), found.missing)
    return tree


def _add_history(history: Tree, steps: Sequence[Step]) -> None:
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        line = f"{step.at.isoformat(' ', timespec='milliseconds')}  {step.state}"
        if step.news is not None:
            history.add(printable(f"{line}, {step.news}"))
            continue
        if step.attempt:
            line += f", attempt {step.attempt}"
        if step.cause is not None:
            said = f"{step.code}: {step.cause}" if step.code else step.cause
            line += printable(f", put off: {said}")
        if following is not None and following.news is None:
            line += f", for {(following.at - step.at).total_seconds():.3f} s"
        elif following is None and not step.state.ended:
            lasts = max(datetime.now(UTC) - step.at, timedelta())
            line += f", for {lasts.total_seconds():.0f} s until now"
        history.add(line)


def _alike(attempts: Sequence[Attempt]) -> Iterator[str]:
    """Yield a line an attempt; those that follow each other and ended alike fold into one."""
    for _, group in groupby(attempts, key=lambda each: (each.worker, each.outcome, each.cause)):
        newest, *rest = group
        yield _attempt(newest)
        if len(rest) == 1:
            yield _attempt(rest[0])
        elif rest:
            yield f"{len(rest)} more alike, the first of them {_at(rest[-1].began)}"


def _attempt(attempt: Attempt) -> str:
    line = f"{attempt.attempt}: {_at(attempt.began)} on {attempt.worker}"
    if attempt.ended is None:
        return f"{line}, under way"
    outcome = (attempt.outcome or "").replace("_", " ")
    line += f", {outcome} after {(attempt.ended - attempt.began).total_seconds():.1f} s"
    if attempt.bytes is not None:
        line += f", {size(attempt.bytes)}"
    if attempt.code is not None:
        line += f", {attempt.code}"
    return line if attempt.cause is None else f"{line}: {attempt.cause}"


def _add_missing(branch: Tree, missing: MissingSeen) -> None:
    for file in missing.first:
        branch.add(printable(_missing(file)))
    more = missing.files - sum(file.files for file in missing.first)
    if more:
        branch.add(f"and {more} more: its manifest, or its list of files, names them")


def _missing(file: MissingFile) -> str:
    named = file.member if file.member is not None else f"{file.files} files"
    return f"{named}: {file.cause}"


def _segment(shown: SegmentView) -> str:
    what = "the rest of the order" if shown.sub_order_id is None else f"{shown.sub_order_id}"
    line = f"{shown.number}: {what}, available since {_at(shown.announced_at)}"
    if shown.listed_at is not None:
        line += f", {shown.files} files listed {_at(shown.listed_at)}"
    return line + (", in the archive" if shown.archived else "")


def _at(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"  # folds between day and time


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
