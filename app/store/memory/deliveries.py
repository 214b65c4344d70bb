"""How rows of deliveries are written: with what PostgreSQL does of itself, by triggers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from app.delivery.attempts import FIRST_KEPT, LAST_KEPT, Attempt, AttemptOutcome
from app.delivery.model import Delivery
from app.delivery.states import State
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import AttemptRow, DeliveryRow, StepRow
from app.store.memory.session import Session


async def insert(
    database: MemoryDatabase, session: Session, row: DeliveryRow
) -> DeliveryRow | None:
    """Insert a delivery; None when its correlation id is in use by an active one.

    Nothing is requested in the future.
    """
    delivery = row.delivery
    row = row.having(requested_at=min(delivery.requested_at, database.clock()))
    client = delivery.tenant, delivery.correlation_id
    inserted = await session.insert(
        database.deliveries,
        delivery.id,
        row,
        group=client,
        unless=lambda other: (
            (other.delivery.tenant, other.delivery.correlation_id) == client
            and not other.state.ended
        ),
    )
    if not inserted:
        return None
    _note_step(database, session, row)
    return row


async def update(
    database: MemoryDatabase,
    session: Session,
    delivery_id: UUID,
    change: Callable[[DeliveryRow], DeliveryRow],
    fits: Callable[[DeliveryRow], bool] = lambda _row: True,
) -> DeliveryRow | None:
    """Change a delivery that fits, and return it as it is now; None if there is none."""
    before = await session.lock_row(database.deliveries, delivery_id, fits)
    if before is None:
        return None
    row = change(before)
    moved = row.state is not before.state
    if moved:
        row = replace(row, state_since=session.now)
    session.put(database.deliveries, delivery_id, row)
    if row.state.ended:
        _forget_checkpoints(database, session, delivery_id)
    if moved or row.delivery.attempt != before.delivery.attempt:
        _note_step(database, session, row)
    if before.lease_owner is not None and row.lease_owner is None and not moved:
        _note_given_up(database, session, row)
    if row.delivery.attempt != before.delivery.attempt and row.lease_owner is not None:
        _begin_attempt(database, session, before, row)
    elif before.lease_owner is not None and row.lease_owner is None:
        _end_attempt(database, session, before, row)
    return row


async def delete(
    database: MemoryDatabase,
    session: Session,
    delivery_id: UUID,
    fits: Callable[[DeliveryRow], bool],
) -> bool:
    """Delete a delivery that fits, with all that refers to it."""
    if await session.delete(database.deliveries, delivery_id, fits) is None:
        return False
    for key, _ in list(session.rows(database.files, delivery_id)):
        session.remove(database.files, key)
    for key, _ in list(session.rows(database.missing, delivery_id)):
        session.remove(database.missing, key)
    for told, _ in list(session.rows(database.told_crc32s, delivery_id)):
        session.remove(database.told_crc32s, told)
    for key, _ in list(session.rows(database.segments, delivery_id)):
        session.remove(database.segments, key)
    _forget_checkpoints(database, session, delivery_id)
    for tail, _ in list(session.rows(database.tails, delivery_id)):
        session.remove(database.tails, tail)
    if session.get(database.places, delivery_id) is not None:
        session.remove(database.places, delivery_id)
    for number, _ in list(session.rows(database.history, delivery_id)):
        session.remove(database.history, number)
    for attempt, _ in list(session.rows(database.attempts, delivery_id)):
        session.remove(database.attempts, attempt)
    return True


def _forget_checkpoints(database: MemoryDatabase, session: Session, delivery_id: UUID) -> None:
    """Delete what was saved of a half-made archive, its manifest, and files sent in part."""
    for key, _ in list(session.rows(database.checkpoints, delivery_id)):
        session.remove(database.checkpoints, key)
    for step, _ in list(session.rows(database.file_checkpoints, delivery_id)):
        session.remove(database.file_checkpoints, step)
    for of_files, _ in list(session.rows(database.contents, delivery_id)):
        session.remove(database.contents, of_files)


def _note_step(
    database: MemoryDatabase,
    session: Session,
    row: DeliveryRow,
    *,
    cause: str | None = None,
    code: str | None = None,
) -> None:
    step = StepRow(
        id=database.history.number(),
        delivery_id=row.delivery.id,
        state=row.state,
        attempt=row.delivery.attempt,
        at=database.clock(),
        cause=cause,
        code=code,
    )
    session.put(database.history, step.id, step)


def _note_given_up(database: MemoryDatabase, session: Session, row: DeliveryRow) -> None:
    """Note that an attempt was given up; of those in a state and attempt, the last is kept."""
    delivery = row.delivery
    for number, step in list(session.rows(database.history, delivery.id)):
        if (step.state, step.attempt) == (row.state, delivery.attempt) and step.cause is not None:
            session.remove(database.history, number)
    _note_step(database, session, row, cause=delivery.last_cause or "", code=delivery.last_code)


def _begin_attempt(
    database: MemoryDatabase, session: Session, before: DeliveryRow, row: DeliveryRow
) -> None:
    """Note an attempt; one that no worker has ended was lost, and not all are kept."""
    delivery = row.delivery
    last = session.get(database.attempts, (delivery.id, before.delivery.attempt))
    if last is not None and last.attempt.ended is None:
        ended = before.lease_until or database.clock()
        lost = replace(last.attempt, ended=ended, outcome=AttemptOutcome.LOST)
        key = last.delivery_id, lost.attempt
        session.put(database.attempts, key, replace(last, attempt=lost))
    for key, _ in list(session.rows(database.attempts, delivery.id)):
        if FIRST_KEPT < key[1] <= delivery.attempt - LAST_KEPT:
            session.remove(database.attempts, key)
    assert row.lease_owner is not None  # noqa: S101 - it was just claimed
    attempt = Attempt(
        attempt=delivery.attempt,
        worker=row.lease_owner,
        target=delivery.target,
        began=database.clock(),
    )
    begun = AttemptRow(delivery_id=delivery.id, tenant=delivery.tenant, attempt=attempt)
    session.put(database.attempts, (delivery.id, delivery.attempt), begun)


def _end_attempt(
    database: MemoryDatabase, session: Session, before: DeliveryRow, row: DeliveryRow
) -> None:
    """Note what came of an attempt."""
    key = row.delivery.id, row.delivery.attempt
    known = session.get(database.attempts, key)
    if before.state is not State.TRANSFERRING or known is None or known.attempt.ended is not None:
        return
    delivery = row.delivery
    if row.state is State.DONE:
        outcome, cause, code = AttemptOutcome.DONE, None, None
    elif row.state is State.ERROR:
        outcome, cause = AttemptOutcome.ERROR, row.error[1] if row.error else None
        code = row.error_code
    elif delivery.parked:
        outcome, cause, code = AttemptOutcome.PARKED, delivery.last_cause, delivery.last_code
    elif delivery.tries > before.delivery.tries:
        outcome, cause, code = AttemptOutcome.POSTPONED, delivery.last_cause, delivery.last_code
    else:
        outcome, cause, code = AttemptOutcome.HANDED_OVER, delivery.last_cause, delivery.last_code
    archived = delivery.total_bytes if row.state is State.DONE else known.attempt.bytes
    ended = replace(
        known.attempt,
        ended=database.clock(),
        outcome=outcome,
        code=code,
        cause=cause,
        bytes=archived,
    )
    session.put(database.attempts, key, replace(known, attempt=ended))


def note_archived(
    database: MemoryDatabase, session: Session, delivery: Delivery, archived: int | None
) -> None:
    """Note how many bytes an attempt has archived, where that is known."""
    key = delivery.id, delivery.attempt
    known = session.get(database.attempts, key)
    if archived is not None and known is not None:
        told = replace(known.attempt, bytes=archived)
        session.put(database.attempts, key, replace(known, attempt=told))
