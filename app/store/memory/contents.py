"""What deliveries that are done have left at their targets, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from app.delivery.content import WARNED_BEFORE, WARNED_FROM, Content, ContentNews, DueContent
from app.delivery.manifest import REPORT_NAME
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.states import State
from app.store.memory import deliveries
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import ContentRow, DeliveryRow, StepRow
from app.store.memory.session import Session
from app.store.memory.statements import Statements, statement


class ContentsInTransaction(Statements):
    """The part of a `UnitOfWork` that is about contents."""

    @statement
    async def now(self) -> datetime:
        """Return when this transaction began."""
        return self._session.now

    @statement
    async def keep_content(
        self,
        delivery: Delivery,
        *,
        until: datetime,
        key: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Note until when the content of a delivery stays that is done now."""
        row = self._session.get(self._database.deliveries, delivery.id)
        content = None if row is None else _content_of(row, key, namespace, until)
        if content is None:
            return
        warns = not content.is_report and until >= self._session.now + WARNED_FROM
        due_at = until - WARNED_BEFORE if warns else until
        kept = ContentRow(content=content, warned=not warns, due_at=due_at)
        if await self._session.insert(self._database.kept_contents, delivery.id, kept):
            await self._keep(delivery.id, keeps=True)

    async def _keep(self, delivery: UUID, *, keeps: bool) -> None:
        await deliveries.update(
            self._database,
            self._session,
            delivery,
            lambda row: replace(row, keeps_content=keeps),
        )

    @statement
    async def ask_removal(self, deliveries: Sequence[UUID]) -> list[UUID]:
        """Let content be removed now; return of which."""
        asked = []
        for delivery in deliveries:
            row = self._session.get(self._database.deliveries, delivery)
            content = None if row is None else _content_of(row, None, row.done_in, None)
            if content is not None and await self._ask_removal(content):
                await self._keep(delivery, keeps=True)
                asked.append(delivery)
        return asked

    async def _ask_removal(self, content: Content) -> bool:
        now, contents = self._session.now, self._database.kept_contents
        new = ContentRow(content=content, warned=True, due_at=now, asked_at=now)
        if await self._session.insert(contents, content.delivery_id, new):
            return True
        asked = await self._session.update(
            contents,
            content.delivery_id,
            lambda row: replace(
                row,
                # What was given up has as long again.
                asked_at=now if row.due_at is None else row.asked_at or now,
                due_at=now,
                tries=0,
            ),
            lambda row: row.removed_at is None,
        )
        return asked is not None

    @statement
    async def old_contents(
        self, tenant: str, age: timedelta, *, limit: int
    ) -> list[tuple[UUID, int]]:
        """Return deliveries that were done so long ago and whose content stays, and its bytes."""
        return _old(self._database, self._session, tenant, age)[:limit]

    @statement
    async def count_old_contents(self, tenant: str, age: timedelta) -> tuple[int, int]:
        """Return how many these are, and their bytes."""
        found = _old(self._database, self._session, tenant, age)
        return len(found), sum(size for _, size in found)

    @statement
    async def may_remove(self, content: Content, url: str, namespace: str) -> bool:
        """Whether a content is to be removed now, and nothing may be appearing in its place."""
        now = self._session.now
        row = self._session.get(self._database.kept_contents, content.delivery_id)
        if row is None or row.removed_at is not None or not row.is_over(now):
            return False
        return not self._session.where(
            self._database.deliveries,
            lambda other: (
                other.delivery.id != content.delivery_id
                and other.is_completing(url, namespace, now)
            ),
        )

    @statement
    async def is_told_by_a_later(self, content: Content, etag: str) -> bool:
        """Whether the client of a later delivery was told this object, and it stays for that."""
        own = self._session.get(self._database.deliveries, content.delivery_id)
        since = own.finished_at if own is not None else None

        def tells(row: DeliveryRow) -> bool:
            result, kept = (
                row.result,
                self._session.get(self._database.kept_contents, row.delivery.id),
            )
            return (
                row.state is State.DONE
                and row.delivery.id != content.delivery_id
                and result is not None
                and result.url == content.url
                and result.etag in (etag, None)
                and (content.namespace is None or row.done_in in (content.namespace, None))
                and row.finished_at is not None
                and (since is None or row.finished_at >= since)
                and (
                    kept is None
                    or (kept.removed_at is None and not kept.is_over(self._session.now))
                )
            )

        return bool(self._session.where(self._database.deliveries, tells))

    @statement
    async def is_replaced(self, content: Content) -> bool:
        """Whether a delivery that was done later has put something else in its place."""
        own = self._session.get(self._database.deliveries, content.delivery_id)
        since = own.finished_at if own is not None else None

        def makes_up_for(row: DeliveryRow) -> bool:
            return (
                own is not None
                and row.delivery.requested_at > own.delivery.requested_at
                and (
                    row.state is State.DONE
                    or (row.report is not None and row.report.url == content.url)
                )
            )

        def replaces(row: DeliveryRow) -> bool:
            return (
                row.state is State.DONE
                and row.delivery.id != content.delivery_id
                and row.result is not None
                and row.result.url == content.url
                and (content.namespace is None or row.done_in in (content.namespace, None))
                and row.finished_at is not None
                and since is not None
                and row.finished_at >= since
            )

        replaced = self._session.where(self._database.deliveries, replaces)
        if content.is_report:
            same = content.tenant, content.correlation_id
            replaced += self._session.where(self._database.deliveries, makes_up_for, group=same)
        return bool(replaced)

    @statement
    async def content_warned(self, content: Content, *, told: bool = True) -> bool:
        """Note that it is told of a content that it expires soon."""
        warned = await self._session.update(
            self._database.kept_contents,
            content.delivery_id,
            lambda row: replace(row, warned=True, due_at=row.content.until),
            lambda row: not row.warned and row.removed_at is None and row.asked_at is None,
        )
        if warned is not None and told:
            self._note(content, ContentNews.EXPIRES_SOON)
        return warned is not None

    @statement
    async def content_removed(
        self, content: Content, *, within: timedelta, told: bool = True, cause: str | None = None
    ) -> bool:
        """Note that a content is removed."""
        now = self._session.now
        removed = await self._session.update(
            self._database.kept_contents,
            content.delivery_id,
            lambda row: replace(row, removed_at=now, due_at=None, last_cause=cause),
            lambda row: row.removed_at is None,
        )
        if removed is not None:
            await self._keep(content.delivery_id, keeps=False)
            # What is removed of one that failed is its report.
            await deliveries.update(
                self._database,
                self._session,
                content.delivery_id,
                lambda row: replace(row, report_until=now + within),
                lambda row: row.state is State.ERROR,
            )
            if told:
                self._note(content, ContentNews.REMOVED)
        return removed is not None

    def _note(self, content: Content, news: ContentNews) -> None:
        row = self._session.get(self._database.deliveries, content.delivery_id)
        if row is None:
            return
        step = StepRow(
            id=self._database.history.number(),
            delivery_id=content.delivery_id,
            state=row.state,
            attempt=row.delivery.attempt,
            at=self._database.clock(),
            news=news,
        )
        self._session.put(self._database.history, step.id, step)


class MemoryContents:
    """See `app.delivery.ports.Contents`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def due(self, *, limit: int) -> list[DueContent]:
        """Return what something is due for: of each target so many."""
        places: defaultdict[tuple[str, str], list[ContentRow]] = defaultdict(list)
        async with self._database.session() as session:
            now = session.now
            for _, row in session.rows(self._database.kept_contents):
                if row.due_at is not None and row.due_at <= now:
                    places[row.content.tenant, row.content.target].append(row)
        found = []
        for _, rows in sorted(places.items()):
            rows.sort(key=lambda row: row.due_at or now)
            for row in rows[:limit]:
                overdue = max(now - (row.asked_at or row.content.until or now), timedelta())
                found.append(
                    DueContent(
                        content=row.content,
                        removes=row.is_over(now),
                        overdue=overdue,
                        tries=row.tries,
                        cause=row.last_cause,
                        position=row.position,
                    )
                )
        return found

    async def postpone(
        self,
        content: Content,
        pause: timedelta,
        *,
        position: int,
        cause: str | None = None,
    ) -> None:
        """Put off the next look at a content."""
        async with self._database.session() as session:
            at = session.now + pause
            await session.update(
                self._database.kept_contents,
                content.delivery_id,
                lambda row: replace(
                    row,
                    due_at=at,
                    tries=row.tries + (cause is not None),
                    last_cause=cause,
                    position=position,
                ),
                lambda row: row.due_at is not None,
            )

    async def postpone_all(self, tenant: str, target: str, pause: timedelta, cause: str) -> None:
        """Put off all removals that are due at a target."""
        async with self._database.session() as session:
            now = session.now

            def is_due(row: ContentRow) -> bool:
                place = row.content.tenant, row.content.target
                return (
                    place == (tenant, target)
                    and row.due_at is not None
                    and row.due_at <= now
                    and row.is_over(now)
                )

            for delivery_id, _ in session.where(self._database.kept_contents, is_due):
                await session.update(
                    self._database.kept_contents,
                    delivery_id,
                    lambda row: replace(row, due_at=now + pause, last_cause=cause),
                    is_due,
                )

    async def give_up(self, content: Content, cause: str) -> None:
        """Note that a removal is not tried any more, unless it is asked for again."""
        async with self._database.session() as session:
            left = await session.update(
                self._database.kept_contents,
                content.delivery_id,
                lambda row: replace(row, due_at=None, last_cause=cause),
                lambda row: row.removed_at is None,
            )
            if left is not None:
                await deliveries.update(
                    self._database,
                    session,
                    content.delivery_id,
                    lambda row: replace(row, keeps_content=False),
                )


def _content_of(
    row: DeliveryRow, key: str | None, namespace: str | None, until: datetime | None
) -> Content | None:
    """Return what is kept of a delivery's content; None where it has none that is known.

    Of one that failed, that is its report.
    """
    delivery, result, report = row.delivery, row.result, row.report
    if row.state is State.ERROR and report is not None and report.is_there:
        result = StoredObject(url=report.url, md5="", size=report.size or 0, etag=report.etag)
        return replace(
            _content(delivery, result, report.key, report.namespace, until),
            archive_name=REPORT_NAME,
        )
    key = key or (delivery.upload.key if delivery.upload else None)
    if row.state is not State.DONE or result is None or key is None:
        return None
    return _content(delivery, result, key, namespace, until)


def _content(
    delivery: Delivery,
    result: StoredObject,
    key: str,
    namespace: str | None,
    until: datetime | None,
) -> Content:
    return Content(
        delivery_id=delivery.id,
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        user=delivery.user,
        target=delivery.target,
        archive_name=delivery.archive_name or "",
        attempt=delivery.attempt,
        file_count=delivery.file_count,
        url=result.url,
        namespace=namespace,
        key=key,
        etag=result.etag,
        size=result.size,
        until=until,
    )


def _old(
    database: MemoryDatabase, session: Session, tenant: str, age: timedelta
) -> list[tuple[UUID, int]]:
    """Return deliveries that were done so long ago and whose content stays, the oldest first."""
    old = []
    for delivery_id, row in session.rows(database.deliveries):
        kept = session.get(database.kept_contents, delivery_id)
        stays = kept is None or (kept.removed_at is None and not kept.is_over(session.now))
        if (
            row.delivery.tenant == tenant
            and row.finished_at is not None
            and row.finished_at < session.now - age
            and stays
            and (content := _content_of(row, None, None, None)) is not None
        ):
            size = row.delivery.total_bytes if content.is_folder else content.size
            old.append((row.finished_at, delivery_id, size))
    return [(delivery_id, size) for _, delivery_id, size in sorted(old)]
