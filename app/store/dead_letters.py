"""Dead letters, beside their copies in RabbitMQ and Kafka."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg

from app.audit import AuditRecord
from app.store.audit import record
from app.store.pool import translate_errors
from app.store.sql import load
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

SQL = load(__name__)

_KINDS = [kind.value for kind in LetterKind]  # a later version may keep others


class PostgresDeadLetters:
    """See `app.views.dead_letters.DeadLetterTable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def keep(self, letters: Sequence[BuriedLetter], *, again: bool) -> None:
        """Keep letters."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                # In one order: of two who keep the same ones, none waits for the other's other.
                rows = [
                    (letter.id, _arguments(letter, again=again))
                    for letter in sorted(letters, key=lambda letter: letter.id)
                ]
                keep = SQL["keep_letter"]
                if not again:  # many, that no caller waits for: one round trip, and no new order
                    await connection.executemany(keep.text, [arguments for _, arguments in rows])
                    return
                for letter_id, arguments in rows:
                    if await connection.fetchval(keep.text, *arguments):
                        await connection.execute(*SQL["letter_comes_last"](id=letter_id))

    async def browse(
        self, tenant: str | None, wanted: DeadLetterFilter, *, after: int, limit: int
    ) -> list[KeptLetter]:
        """Return letters that wait, with the beginning of their bodies."""
        asked = SQL["browse_letters"](
            whose=tenant,
            kinds=_KINDS,
            after=after,
            limit=limit,
            beginning=BEGINNING_BYTES,
            **wanted.arguments(),
        )
        with translate_errors():
            return [_kept(row) for row in await self._pool.fetch(*asked)]

    async def count(self, tenant: str | None, wanted: DeadLetterFilter, *, after: int = 0) -> int:
        """Return how many of them wait."""
        wait = wanted.arguments()
        asked = SQL["count_letters"](whose=tenant, after=after, kinds=_KINDS, **wait)
        with translate_errors():
            return int(await self._pool.fetchval(*asked))

    async def one(self, tenant: str | None, letter_id: str) -> KeptLetter | None:
        """Return a letter that waits, with its body."""
        asked = SQL["letter"](whose=tenant, kinds=_KINDS, id=letter_id)
        with translate_errors():
            row = await self._pool.fetchrow(*asked)
        return None if row is None else _kept(row)

    async def several(self, tenant: str | None, ids: Sequence[str]) -> list[KeptLetter]:
        """Return those of some letters that wait."""
        asked = SQL["letters"](whose=tenant, kinds=_KINDS, ids=list(ids), beginning=BEGINNING_BYTES)
        with translate_errors():
            return [_kept(row) for row in await self._pool.fetch(*asked)]

    async def mend(
        self, letter_id: str, mend: Mend, *, done: AuditRecord, seen: KeptLetter | None = None
    ) -> bool:
        """Note how a letter is mended, unless it is not as it was `seen`."""
        mended = SQL["mend_letter"](
            id=letter_id,
            body=mend.body,
            tenant=mend.tenant,
            by=mend.by,
            at=mend.at,
            seen_number=seen.number if seen is not None else None,
            seen_mend=seen.mend.at if seen is not None and seen.mend is not None else None,
        )
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(*mended) is None:
                    return False
                await record(connection, done)
        return True

    @contextlib.asynccontextmanager
    async def settling(
        self, letter_id: str, *, held: int, done: AuditRecord
    ) -> AsyncIterator[KeptLetter | None]:
        """Give a letter, locked; when the block ends, it is handled.

        What the block raises leaves as it is: RabbitMQ's silence is not PostgreSQL's.
        """
        with translate_errors():
            async with contextlib.AsyncExitStack() as stack:
                connection = await stack.enter_async_context(self._pool.acquire())
                await stack.enter_async_context(connection.transaction())
                row = await connection.fetchrow(*SQL["lock_letter"](id=letter_id))
                locked = stack.pop_all()
        try:
            yield None if row is None else _kept(row)
            if row is not None:
                with translate_errors():
                    await connection.execute(*SQL["letter_handled"](id=letter_id, held=held))
                    await record(connection, done)
        except BaseException as error:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await locked.__aexit__(type(error), error, error.__traceback__)
            raise
        with translate_errors():
            await locked.aclose()

    async def settled(self, ids: Sequence[str]) -> None:
        """Forget letters that were handled."""
        with translate_errors():
            await self._pool.execute(*SQL["forget_settled_letters"](ids=list(ids)))

    async def discard(self, ids: Sequence[str]) -> None:
        """Note that letters were handled by another way."""
        with translate_errors():
            await self._pool.execute(*SQL["discard_letters"](ids=list(ids)))

    async def handled(self, place: str | None = None) -> list[HandledLetter]:
        """Return letters that are handled and not settled."""
        asked = SQL["handled_events"]() if place is None else SQL["handled_messages"](place=place)
        with translate_errors():
            rows = await self._pool.fetch(*asked)
        return [
            HandledLetter(
                id=row["id"],
                key=row["key"],
                held=row["held"],
                since=row["since"],
                copies=tuple(row["copies"]),
            )
            for row in rows
        ]

    async def marked(self, marks: Sequence[CopyMark]) -> None:
        """Note copies of events that another way has put back; forget events that have no other."""
        asked = SQL["forget_marked_events"](
            copies=[mark.copy for mark in marks], letters=[mark.letter_id for mark in marks]
        )
        with translate_errors():
            await self._pool.execute(*asked)

    async def forget_copies(self, partitions: Sequence[int]) -> None:
        """Note that what was in some partitions of the dead-letter topic is gone."""
        with translate_errors():
            await self._pool.execute(
                *SQL["forget_copies"](partitions=[str(partition) for partition in partitions])
            )

    async def known(self, ids: Sequence[str]) -> Mapping[str, bool]:
        """Return those that there are."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["known_letters"](ids=list(ids)))
        return {row["id"]: row["handled"] for row in rows}

    async def rows(self, place: str) -> int:
        """Return how many letters of a place there are."""
        with translate_errors():
            return int(await self._pool.fetchval(*SQL["letters_of_place"](place=place)))

    async def seen(self) -> Mapping[str, int]:
        """Return how far the copies in each place were looked through."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["letters_seen"]())
        return {row["place"]: row["seen"] for row in rows}

    async def saw(self, ends: Mapping[str, int]) -> None:
        """Note how far the copies in some places were looked through."""
        asked = SQL["letters_looked_through"](places=list(ends), seen=list(ends.values()))
        with translate_errors():
            await self._pool.execute(*asked)

    async def waiting(self, tenants: Sequence[str]) -> list[LettersWaiting]:
        """Return how many wait, by place and tenant."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["letters_waiting"](tenants=list(tenants)))
        return [LettersWaiting(**row) for row in rows]


def _arguments(letter: BuriedLetter, *, again: bool) -> tuple[Any, ...]:
    return SQL["keep_letter"].arguments(
        id=letter.id,
        kind=letter.kind.value,
        place=letter.place,
        origin=letter.origin,
        tenant=letter.tenant,
        ours=letter.ours,
        correlation_id=letter.correlation_id,
        reason=letter.reason,
        at=letter.at,
        size=letter.size,
        body=letter.body,
        key=letter.key,
        properties=letter.properties,
        copies=list(letter.copies),
        again=again,
        of_tenant=MAX_KEPT_OF_TENANT,
        of_place=MAX_KEPT_OF_PLACE,
    )


def _kept(row: asyncpg.Record) -> KeptLetter:
    mend = None
    if row["mended_at"] is not None:
        mend = Mend(
            body=row["mended_body"],
            tenant=row["mended_tenant"],
            by=row["mended_by"],
            at=row["mended_at"],
        )
    return KeptLetter(
        number=row["number"],
        letter=BuriedLetter(
            id=row["id"],
            kind=LetterKind(row["kind"]),
            place=row["place"],
            origin=row["origin"],
            tenant=row["tenant"],
            ours=row["ours"],
            correlation_id=row["correlation_id"],
            reason=row["reason"],
            at=row["at"],
            size=row["size"],
            body=row["body"],
            key=row["key"],
            properties=row["properties"],
            copies=tuple(row["copies"]),
        ),
        buried_at=row["buried_at"],
        mend=mend,
        is_whole=row["is_whole"],
    )
