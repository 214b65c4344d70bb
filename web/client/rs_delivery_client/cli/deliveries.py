"""`rs-delivery list`, `show`, `files`: deliveries as the service tells of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rs_delivery_client.cli.completion import DELIVERY_ID
from rs_delivery_client.cli.ends import printable, run
from rs_delivery_client.cli.fields import DELIVERY, FILE, WHOLE_DELIVERY, JsonCommand, fields_option
from rs_delivery_client.cli.filters import filtering, wanted
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import Column, counted, hint, show_json, show_table, size
from rs_delivery_client.cli.when import both, read, relative, span

if TYPE_CHECKING:
    from rs_delivery_client.models import DeliveredFile, Delivery

_COLUMNS = (
    Column(title="ID"),
    Column(title="STATE", least=12),
    Column(title="FOR"),
    Column(title="SIZE"),
    Column(title="TARGET", least=8),
    Column(title="USER", least=10),
    Column(title="WHY", least=16),
)
_PAGE = 500  # that the service gives at a time


@click.command("list", cls=JsonCommand)
@filtering
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@place_option
@fields_option(DELIVERY)
def list_(limit: int, where: Where, fields: Sequence[str] | None, **asked: Any) -> None:
    """List deliveries, the newest first."""
    sought = wanted(**asked)
    client = where.client()

    async def ask() -> list[Delivery]:
        found: list[Delivery] = []
        async with client:
            async for delivery in client.deliveries(**vars(sought), page=min(limit, _PAGE)):
                found.append(delivery)
                if len(found) == limit:
                    break
        return found

    found = run(ask())
    if fields is not None:
        show_json([delivery.raw for delivery in found], fields)
        return
    if not found:
        click.echo("no deliveries", err=True)
        return
    now = datetime.now(UTC)
    show_table(_COLUMNS, [_row(delivery, now) for delivery in found])
    more = ", the newest; --limit shows more" if len(found) == limit else ""
    click.echo(f"{counted(len(found), 'delivery', 'deliveries')}{more}", err=True)
    hint(where, f"show {shlex.quote(found[0].correlation_id)}")


def _row(delivery: Delivery, now: datetime) -> Sequence[str | None]:
    raw = delivery.raw
    since = read(raw.get("finishedAt") or raw.get("stateSince"))
    return (
        delivery.correlation_id,
        standing(delivery),
        None if since is None else span((now - since).total_seconds()),
        size(delivery.bytes or 0) if delivery.files else None,
        delivery.target,
        delivery.user,
        why(delivery),
    )


def standing(delivery: Delivery) -> str:
    """Return the state of a delivery, and what goes on in it."""
    activity, tries = delivery.raw.get("activity"), delivery.raw.get("tries")
    if not activity:
        return delivery.state
    words = f"{delivery.state}, {activity}"
    if activity == "retrying" and tries:
        words += f" ({counted(tries, 'try', 'tries')} failed)"
    done = progress_of(delivery)
    return words if done is None else f"{words} {done:.0f} %"


def progress_of(delivery: Delivery) -> float | None:
    """Return how much of its bytes was sent, in percent; None: none is."""
    told = delivery.raw.get("progress") or {}
    total = told.get("bytesTotal")
    return 100 * (told.get("bytesDone") or 0) / total if total else None


def why(delivery: Delivery) -> str | None:
    """Return why it failed, or waits."""
    cause = delivery.error_message or delivery.raw.get("lastCause")
    named = delivery.code or delivery.error_type
    return f"{named}: {cause}" if named and cause else cause or named


@click.command(cls=JsonCommand)
@click.argument("correlation_id", metavar="ID", type=DELIVERY_ID)
@place_option
@fields_option(WHOLE_DELIVERY)
def show(correlation_id: str, where: Where, fields: Sequence[str] | None) -> None:
    """Show all that is known of a delivery: states, attempts, cause, result, what is missing."""
    delivery = _one(where, correlation_id)
    if fields is not None:
        show_json([delivery.raw], fields)
        return
    now = datetime.now(UTC)
    click.echo(printable(f"{delivery.correlation_id}  {standing(delivery)}"))
    for name, value in _facts(delivery, now):
        if value:
            click.echo(printable(f"  {name:<9} {value}"))
    hint(where, *follow_ups(delivery))


def _one(where: Where, correlation_id: str) -> Delivery:
    client = where.client()

    async def ask() -> Delivery:
        async with client:
            return await client.delivery(correlation_id)

    return run(ask())


def _facts(delivery: Delivery, now: datetime) -> Iterator[tuple[str, str | None]]:
    raw = delivery.raw
    files = "" if delivery.files is None else f", {counted(delivery.files, 'file', 'files')}"
    files += f", {size(delivery.bytes)}" if delivery.bytes is not None else ""
    yield "why", why(delivery)
    yield "tenant", f"{raw.get('tenant')}, target {delivery.target}"
    yield "asked", f"{both(raw.get('requestedAt'), now)} by {delivery.user}{files}"
    yield "labels", ", ".join(map(str, delivery.labels))
    yield "since", both(raw.get("finishedAt") or raw.get("stateSince"), now)
    yield "next", both(raw.get("nextAttemptAt"), now)
    if not delivery.ended:
        yield "ends", both(raw.get("expiresAt"), now)
    progress = raw.get("progress")
    if progress:
        yield "sent", transferred(progress)
    yield "worker", raw.get("worker")
    missing = raw.get("missing")
    yield "missing", counted(missing, "file", "files") if missing else None
    yield "url", delivery.url
    yield "md5", delivery.md5
    yield "sha256", raw.get("sha256")
    yield "kept", until(raw.get("expires"), now)
    yield "report", raw.get("reportUrl")
    attempts = delivery.attempts
    if attempts:
        newest = attempts[0]
        said = f"{len(attempts)}, the last {relative(newest.began, now)} on {newest.worker}"
        outcome = "under way" if newest.ended is None else (newest.outcome or "").replace("_", " ")
        yield "attempts", f"{said}: {outcome}"


def until(text: str | None, now: datetime) -> str | None:
    """Return until when something is kept."""
    said = both(text, now)
    return None if said is None else f"until {said}"


def transferred(progress: Mapping[str, Any]) -> str:
    """Return how far a transfer is, in a line."""
    done, total = progress.get("bytesDone") or 0, progress.get("bytesTotal") or 0
    said = f"{size(done)} of {size(total)}"
    said += f", {progress.get('filesDone') or 0}/{progress.get('filesTotal') or 0} files"
    rate, left = progress.get("bytesPerSecond"), progress.get("secondsLeft")
    stalled = progress.get("stalledFor")
    said += f", {size(rate)}/s" if rate else ""
    said += f", stalled: no byte for {span(stalled)}" if stalled is not None else ""
    return said if left is None else f"{said}, {span(left)} left"


def follow_ups(delivery: Delivery) -> Sequence[str]:
    """Return what one may call next for a delivery."""
    name = shlex.quote(delivery.correlation_id)
    if delivery.done:
        return f"download {name}", f"link {name}"
    if delivery.ended:
        return f"explain {name}", f"retry {name}"
    return f"watch {name}", f"cancel {name}"


@click.command(cls=JsonCommand)
@click.argument("correlation_id", metavar="ID", type=DELIVERY_ID)
@place_option
@fields_option(FILE)
def files(correlation_id: str, where: Where, fields: Sequence[str] | None) -> None:
    """List the files of a delivery, as they are in its archive."""
    client = where.client()

    async def ask() -> list[DeliveredFile]:
        async with client:
            return [file async for file in client.files(correlation_id)]

    found = run(ask())
    if fields is not None:
        show_json([file.raw for file in found], fields)
        return
    if not found:
        click.echo("no files are listed yet", err=True)
        return
    columns = (Column(title="SIZE"), Column(title="MD5", least=8), Column(title="FILE"))
    show_table(
        columns,
        [(None if file.size is None else size(file.size), file.md5, file.path) for file in found],
    )
    total = size(sum(file.size or 0 for file in found))
    click.echo(f"{counted(len(found), 'file', 'files')}, {total}", err=True)
