"""Dead letters in memory."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from app.audit import AuditRecord
from app.store.memory.audit import record
from app.store.memory.database import MemoryDatabase
from app.store.memory.locks import Mode
from app.store.memory.rows import DeadLetterRow
from app.store.memory.session import Session
from app.views.dead_letters import (
    BEGINNING_BYTES,
    MAX_KEPT_OF_PLACE,
    MAX_KEPT_OF_TENANT,
    BuriedLetter,
    CopyMark,
    DeadLetterFilter,
    HandledLetter,
    KeptLetter,
    LetterKind,
    LettersWaiting,
    Mend,
)


class MemoryDeadLetters:
    """See `app.views.dead_letters.DeadLetterTable`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._letters = database.dead_letters
        self._looks = database.dead_letter_looks

    async def keep(self, letters: Sequence[BuriedLetter], *, again: bool) -> None:
        """Keep letters."""
        async with self._database.session() as session:
            for letter in sorted(letters, key=lambda letter: letter.id):
                body = letter.body
                if self._is_too_much(session, letter):
                    body = body[:BEGINNING_BYTES]
                kept = KeptLetter(
                    number=self._letters.number(),
                    letter=replace(letter, body=body),
                    buried_at=self._database.clock(),
                    is_whole=len(body) == letter.size,
                )
                if await session.insert(self._letters, letter.id, DeadLetterRow(kept=kept)):
                    continue
                await session.update(
                    self._letters,
                    letter.id,
                    lambda row, kept=kept: _joined(row, kept, again=again),  # type: ignore[misc]
                )

    def _is_too_much(self, session: Session, letter: BuriedLetter) -> bool:
        """Whether longer bodies would be more than may be kept, with this one."""
        if len(letter.body) <= BEGINNING_BYTES:
            return False
        found = [row.kept.letter for _, row in session.rows(self._letters)]
        longer = [
            each
            for each in found
            if each.place == letter.place and len(each.body) > BEGINNING_BYTES
        ]
        of_place = sum(len(each.body) for each in longer)
        of_tenant = sum(len(each.body) for each in longer if each.tenant == letter.tenant)
        return (
            len(letter.body) + of_tenant > MAX_KEPT_OF_TENANT
            or len(letter.body) + of_place > MAX_KEPT_OF_PLACE
        )

    async def browse(
        self, tenant: str | None, wanted: DeadLetterFilter, *, after: int, limit: int
    ) -> list[KeptLetter]:
        """Return letters that wait, with the beginning of their bodies."""
        async with self._database.session() as session:
            found = self._waiting(session, tenant, wanted)
        return [_begun(kept) for kept in found if kept.number > after][:limit]

    async def count(self, tenant: str | None, wanted: DeadLetterFilter, *, after: int = 0) -> int:
        """Return how many of them wait."""
        async with self._database.session() as session:
            found = self._waiting(session, tenant, wanted)
        return sum(kept.number > after for kept in found)

    async def one(self, tenant: str | None, letter_id: str) -> KeptLetter | None:
        """Return a letter that waits, with its body."""
        async with self._database.session() as session:
            found = self._waiting(session, tenant, DeadLetterFilter())
        return next((kept for kept in found if kept.letter.id == letter_id), None)

    async def several(self, tenant: str | None, ids: Sequence[str]) -> list[KeptLetter]:
        """Return those of some letters that wait."""
        async with self._database.session() as session:
            found = self._waiting(session, tenant, DeadLetterFilter())
        return [_begun(kept) for kept in found if kept.letter.id in ids]

    async def mend(
        self, letter_id: str, mend: Mend, *, done: AuditRecord, seen: KeptLetter | None = None
    ) -> bool:
        """Note how a letter is mended, unless it is not as it was `seen`."""

        def is_seen(row: DeadLetterRow) -> bool:
            return _waits(row) and (seen is None or row.kept.version == seen.version)

        async with self._database.session() as session:
            mended = await session.update(
                self._letters,
                letter_id,
                lambda row: replace(row, kept=replace(row.kept, mend=mend)),
                is_seen,
            )
            if mended is None:
                return False
            record(self._database, session, done)
        return True

    @contextlib.asynccontextmanager
    async def settling(
        self, letter_id: str, *, held: int, done: AuditRecord
    ) -> AsyncIterator[KeptLetter | None]:
        """Give a letter, locked; when the block ends, it is handled."""
        async with self._database.session() as session:
            row = await session.lock_row(self._letters, letter_id, _waits, mode=Mode.UPDATE)
            yield None if row is None else row.kept
            if row is not None:
                session.put(
                    self._letters,
                    letter_id,
                    replace(row, handled_at=self._database.clock(), held=held),
                )
                record(self._database, session, done)

    async def settled(self, ids: Sequence[str]) -> None:
        """Forget letters that were handled."""
        async with self._database.session() as session:
            for letter_id in ids:
                await session.delete(self._letters, letter_id, lambda row: row.handled)

    async def discard(self, ids: Sequence[str]) -> None:
        """Note that letters were handled by another way."""
        async with self._database.session() as session:
            now = self._database.clock()
            for letter_id in ids:
                await session.update(
                    self._letters,
                    letter_id,
                    lambda row: replace(
                        row, handled_at=row.handled_at or now, held=max(row.held - 1, 0)
                    ),
                )

    async def handled(self, place: str | None = None) -> list[HandledLetter]:
        """Return letters that are handled and not settled."""
        async with self._database.session() as session:
            found = session.where(self._letters, lambda row: row.handled)
        return [
            HandledLetter(
                id=letter_id,
                key=row.kept.letter.key,
                held=row.held,
                since=(self._database.clock() - row.handled_at).total_seconds(),
                copies=row.kept.letter.copies,
            )
            for letter_id, row in found
            if row.handled_at is not None
            and (
                row.kept.letter.kind is LetterKind.EVENT
                if place is None
                else row.kept.letter.kind is LetterKind.AMQP and row.kept.letter.place == place
            )
        ]

    async def marked(self, marks: Sequence[CopyMark]) -> None:
        """Note copies of events that another way has put back; forget events that have no other."""
        async with self._database.session() as session:
            for letter_id in sorted(letter_id for letter_id, _ in session.rows(self._letters)):
                gone = {mark.copy for mark in marks if mark.is_of(letter_id)}
                await session.delete(
                    self._letters,
                    letter_id,
                    lambda row, gone=gone: (  # type: ignore[misc]
                        _waits(row)
                        and row.kept.letter.kind is LetterKind.EVENT
                        and bool(row.kept.letter.copies)
                        and {*row.kept.letter.copies} <= gone
                    ),
                )
                await session.update(
                    self._letters,
                    letter_id,
                    lambda row, gone=gone: _without(row, gone),  # type: ignore[misc]
                    _waits,
                )

    async def forget_copies(self, partitions: Sequence[int]) -> None:
        """Note that what was in some partitions of the dead-letter topic is gone."""
        lost = {str(partition) for partition in partitions}
        async with self._database.session() as session:
            for letter_id, row in sorted(session.rows(self._letters)):
                copies = {*row.kept.letter.copies}
                gone = {copy for copy in copies if copy.partition(":")[0] in lost}
                if gone:
                    await session.update(
                        self._letters,
                        letter_id,
                        lambda row, gone=gone: _without(row, gone),  # type: ignore[misc]
                    )

    async def known(self, ids: Sequence[str]) -> Mapping[str, bool]:
        """Return those that there are."""
        async with self._database.session() as session:
            return {key: row.handled for key, row in session.rows(self._letters) if key in ids}

    async def rows(self, place: str) -> int:
        """Return how many letters of a place there are."""
        async with self._database.session() as session:
            return len(session.where(self._letters, lambda row: row.kept.letter.place == place))

    async def seen(self) -> Mapping[str, int]:
        """Return how far the copies in each place were looked through."""
        async with self._database.session() as session:
            return dict(session.rows(self._looks))

    async def saw(self, ends: Mapping[str, int]) -> None:
        """Note how far the copies in some places were looked through."""
        async with self._database.session() as session:
            for place, end in sorted(ends.items()):
                if not await session.insert(self._looks, place, end):
                    await session.update(self._looks, place, lambda _, end=end: end)  # type: ignore[misc]

    async def waiting(self, tenants: Sequence[str]) -> list[LettersWaiting]:
        """Return how many wait, by place and tenant."""
        ages: dict[tuple[str, str | None], list[float]] = defaultdict(list)
        async with self._database.session() as session:
            for kept in self._waiting(session, None, DeadLetterFilter()):
                letter = kept.letter
                age = (session.now - kept.buried_at).total_seconds()
                known = letter.ours and letter.tenant in tenants
                ages[letter.place, letter.tenant if known else None].append(age)
        return [
            LettersWaiting(place=place, tenant=tenant, letters=len(of_one), oldest=max(of_one))
            for (place, tenant), of_one in sorted(
                ages.items(), key=lambda item: (item[0][0], item[0][1] is None, item[0][1] or "")
            )
        ]

    def _waiting(
        self, session: Session, whose: str | None, wanted: DeadLetterFilter
    ) -> list[KeptLetter]:
        """Return what waits and fits, by number."""
        found = (row.kept for _, row in session.rows(self._letters) if _waits(row))
        return sorted(
            (
                kept
                for kept in found
                if (whose is None or (kept.letter.tenant == whose and kept.letter.ours))
                and _fits(kept, wanted)
            ),
            key=lambda kept: kept.number,
        )


def _waits(row: DeadLetterRow) -> bool:
    return not row.handled


def _joined(row: DeadLetterRow, kept: KeptLetter, *, again: bool) -> DeadLetterRow:
    """Return a letter that is kept once more."""
    copies = tuple(sorted({*row.kept.letter.copies, *kept.letter.copies}))
    if not again and not (row.handled and {*kept.letter.copies} - {*row.kept.letter.copies}):
        return replace(row, kept=replace(row.kept, letter=replace(row.kept.letter, copies=copies)))
    letter = replace(row.kept.letter, copies=copies, reason=kept.letter.reason)
    return DeadLetterRow(
        kept=replace(
            kept,
            is_whole=row.kept.is_whole,
            number=kept.number if again else row.kept.number,
            letter=letter,
            mend=None if row.handled else row.kept.mend,
        )
    )


def _without(row: DeadLetterRow, gone: set[str]) -> DeadLetterRow:
    """Return an event whose other copies wait."""
    copies = tuple(copy for copy in row.kept.letter.copies if copy not in gone)
    return replace(row, kept=replace(row.kept, letter=replace(row.kept.letter, copies=copies)))


def _begun(kept: KeptLetter) -> KeptLetter:
    """Return a letter as a list has it."""
    mend = kept.mend and replace(kept.mend, body=None)
    body = kept.letter.body[:BEGINNING_BYTES]
    return replace(kept, letter=replace(kept.letter, body=body), mend=mend)


def _fits(kept: KeptLetter, wanted: DeadLetterFilter) -> bool:
    letter = kept.letter
    where = " ".join(name for name in (letter.place, letter.origin) if name is not None)
    return (
        wanted.tenant in (None, letter.tenant)
        and (wanted.place is None or wanted.place.lower() in where.lower())
        and (wanted.reason is None or wanted.reason.lower() in letter.reason.lower())
        and wanted.correlation_id in (None, letter.correlation_id)
        and (wanted.since is None or kept.buried_at >= wanted.since)
        and (wanted.until is None or kept.buried_at < wanted.until)
        and (wanted.mended is None or (kept.mend is not None) == (wanted.mended == "true"))
    )
