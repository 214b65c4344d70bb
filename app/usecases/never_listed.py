"""What rs-order never made available of an order that is done, for a delivery that takes a part.

By name where it tells all files of the order; else as a number, with its own words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.delivery.manifest import Addition
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.order_facts import FileState, OrderFacts, OrderFile
from app.delivery.ports import DeliveryStore, OrderSource, UnitOfWork
from app.errors import LeaseLostError, OrderNotToldError, SourceNotReadyError
from app.usecases.untold import TRIES

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
    in_error: int  # files that it counted then


async def never_listed(
    source: OrderSource, delivery: Delivery, facts: OrderFacts, known: Collection[int]
) -> list[OrderFile] | None:
    """Return the files of an order that are not among the `known` ids; None: it does not tell all.

    Raises SourceNotReadyError while some of them may be only late, and SourceUnavailableError.
    """
    told = source.every_file(delivery, facts)
    try:
        missing = [each async for each in told if each.file.file_id not in known]
    except OrderNotToldError:
        return None
    late = sum(each.state == FileState.AVAILABLE for each in missing)
    if missing and not facts.complete:
        raise SourceNotReadyError(
            f"{len(missing)} files of order {delivery.order_id} are not available, and rs-order "
            f"has it as {facts.status}: they may come"
        )
    if late and delivery.tries < TRIES:
        raise SourceNotReadyError(
            f"{late} files of order {delivery.order_id} are available by now, and in no list yet"
        )
    return missing


async def named(
    files: Sequence[OrderFile], addition: Addition, said: str | None
) -> list[MissingFile]:
    """Return missing files by the names that they would have behind those of an archive."""
    listed = [each.file for each in files]
    members = await asyncio.to_thread(
        lambda: {file.file_id: file.member for file in addition.of(listed)}
    )
    return [
        MissingFile.never_listed(each.file, members[each.file.file_id], _why(each, said))
        for each in files
    ]


def _why(file: OrderFile, said: str | None) -> str:
    default = f"rs-order has it as {file.state}, and does not list it"
    why = next((words for state, words in _WHY.items() if state == file.state), default)
    return f"{why}: {said}" if said else why


def unnamed(delivery: Delivery, counted: Counted) -> list[MissingFile]:
    """Return the entry for missing files that rs-order counts, and does not name, if any."""
    files = max(counted.least, counted.in_error)
    if files <= 0:
        return []
    order = f"order {delivery.order_id}"
    why = f"rs-order made less of {order} available than was ordered, and does not tell which files"
    if counted.said:
        why += f" (downloads that broke off may be counted): {counted.said}"
    return [MissingFile.unnamed(files, why)]


async def write(tx: UnitOfWork, delivery: Delivery, missing: Sequence[MissingFile]) -> None:
    """Note what was never listed, in place of what was noted before."""
    await tx.forget_never_listed(delivery)
    for first in range(0, len(missing), _BATCH_SIZE):
        await tx.add_missing(delivery, missing[first : first + _BATCH_SIZE])


async def note(store: DeliveryStore, delivery: Delivery, missing: Sequence[MissingFile]) -> None:
    """Note what was never listed, of an attempt that is about to end an archive.

    Raises LeaseLostError where another one has it.
    """
    async with store.transaction() as tx:
        current = await tx.lock(delivery.tenant, delivery.correlation_id)
        if current is None or (current.id, current.attempt) != (delivery.id, delivery.attempt):
            raise LeaseLostError(f"{delivery} was taken over before its archive was whole")
        await write(tx, delivery, missing)
