"""What rs-order never listed of an order that is done, for a delivery that takes a part.

By name where it tells all files of the order; else as a number, with its own words. A file that it
has, and has in no list (it became available late, or another program has read it), is not missing:
it is read by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.delivery.manifest import Addition, ListedFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.order_facts import FileState, OrderFacts, OrderFile
from app.delivery.ports import DeliveryStore, OrderSource, UnitOfWork
from app.errors import LeaseLostError, OrderNotToldError, SourceNotReadyError
from app.telemetry import metrics
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_BATCH_SIZE = 1000  # written in one go
_WHY = {
    FileState.ERROR: "rs-order could not restore it",
    FileState.PROCESSING_ERROR: "rs-order could not make it",
    FileState.PENDING: "rs-order ended the order before it was restored",
}


def filters_files(delivery: Delivery) -> bool:
    """Whether some files of the products that were ordered may not be of the order."""
    return bool((delivery.order.get("filters") or {}).get("filenameRegExp"))


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What is known of missing files that rs-order does not name."""

    least: int  # by what was planned, or announced
    said: str | None  # rs-order's words of an order that ended with errors
    in_error: int  # files that it counted then; what was left out since may be among them
    # Whether `least` is by the number of files that were ordered: then none is counted twice.
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Unlisted:
    """The files of an order that are in no list, by name."""

    missing: list[OrderFile] = field(default_factory=list)
    readable: list[ListedFile] = field(default_factory=list)  # all the same


def is_exact(delivery: Delivery, facts: OrderFacts | None) -> bool:
    """Whether the number of files that were ordered is told, and is that of the delivery."""
    return facts is not None and bool(facts.files) and not filters_files(delivery)


async def never_listed(
    source: OrderSource, delivery: Delivery, facts: OrderFacts, known: Collection[int]
) -> Unlisted | None:
    """Return the files of an order that are not among the `known` ids; None: it does not tell all.

    Raises SourceNotReadyError while some of them may be only late, and SourceUnavailableError.
    """
    told = source.every_file(delivery, facts)
    try:
        unlisted = [each async for each in told if each.file.file_id not in known]
    except OrderNotToldError:
        return None
    missing = [each for each in unlisted if not each.can_be_read]
    if missing and not facts.complete:
        raise SourceNotReadyError(
            f"{len(missing)} files of order {delivery.order_id} are not available, and rs-order "
            f"has it as {facts.status}: they may come"
        )
    readable = [each.file for each in unlisted if each.can_be_read]
    return Unlisted(missing=missing, readable=sorted(readable, key=lambda file: file.file_id))


async def named(
    files: Sequence[OrderFile], addition: Addition, said: str | None
) -> list[MissingFile]:
    """Return missing files by the names that they would have behind those of an archive."""
    listed = [each.file for each in files]
    members = await asyncio.to_thread(
        lambda: {file.file_id: file.member for file in addition.of(listed)}
    )
    return [
        MissingFile.never_listed(each.file, members[each.file.file_id], why_not_listed(each, said))
        for each in files
    ]


def why_not_listed(file: OrderFile, said: str | None) -> str:
    """Return why a file of an order is in no list, with what rs-order said of the order."""
    default = f"rs-order has it as {file.state}, and does not list it"
    why = next((words for state, words in _WHY.items() if state == file.state), default)
    return f"{why}: {said}" if said else why


def unnamed(delivery: Delivery, counted: Counted) -> list[MissingFile]:
    """Return the entry for missing files that rs-order counts, and does not name, if any."""
    files = counted.least if counted.exact else max(counted.least, counted.in_error)
    if files <= 0:
        return []
    order = f"order {delivery.order_id}"
    why = f"rs-order made less of {order} available than was ordered, and does not tell which files"
    if counted.said:
        why += f" (downloads that broke off may be counted): {counted.said}"
    return [MissingFile.unnamed(files, why)]


async def write(tx: UnitOfWork, delivery: Delivery, missing: Sequence[MissingFile]) -> None:
    """Note what was never listed, in place of what was noted before."""
    if delivery.partial:  # of others nothing is noted
        await tx.forget_never_listed(delivery)
    for first in range(0, len(missing), _BATCH_SIZE):
        await tx.add_missing(delivery, missing[first : first + _BATCH_SIZE])
    if files := sum(each.files for each in missing):
        tx.on_commit(partial(_tell, delivery, files, missing[0].cause))


def _tell(delivery: Delivery, files: int, cause: str) -> None:
    metrics.FILES_LEFT_OUT.labels(delivery.tenant, "never-listed").inc(files)
    log.warning("files_never_listed", **delivery.log_context, files=files, cause=cause)


async def note(store: DeliveryStore, delivery: Delivery, missing: Sequence[MissingFile]) -> None:
    """Note what was never listed, of an attempt that is about to end an archive.

    Raises LeaseLostError where another one has it.
    """
    async with store.transaction() as tx:
        current = await tx.lock(delivery.tenant, delivery.correlation_id)
        if current is None or (current.id, current.attempt) != (delivery.id, delivery.attempt):
            raise LeaseLostError(f"{delivery} was taken over before its archive was whole")
        await write(tx, delivery, missing)
