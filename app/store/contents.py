"""What deliveries that are done have left at their targets: until when, and what is due for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from app.delivery.content import WARNED_BEFORE, WARNED_FROM, Content, ContentNews, DueContent
from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME
from app.delivery.model import Delivery
from app.store.pool import translate_errors
from app.store.sql import load

SQL = load(__name__)


def content_of(row: asyncpg.Record) -> Content:
    """Read what is known of a content."""
    return Content(
        delivery_id=row["delivery_id"],
        tenant=row["tenant"],
        correlation_id=row["correlation_id"],
        user=row["user_email"],
        target=row["target"],
        archive_name=row["archive_name"],
        attempt=row["attempt"],
        file_count=row["file_count"],
        url=row["url"],
        namespace=row["namespace"],
        key=row["key"],
        etag=row["etag"],
        size=row["size"],
        until=row["until"],
    )


class ContentsInTransaction:
    """The part of a `UnitOfWork` that is about contents."""

    _connection: asyncpg.pool.PoolConnectionProxy

    async def now(self) -> datetime:
        """Return when this transaction began."""
        began: datetime = await self._connection.fetchval(*SQL["now"]())
        return began

    async def keep_content(
        self,
        delivery: Delivery,
        *,
        until: datetime,
        key: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Note until when the content of a delivery stays that is done now."""
        await self._connection.execute(
            *SQL["keep_content"](
                id=delivery.id,
                until=until,
                key=key,
                namespace=namespace,
                report_name=REPORT_NAME,
                warned_before=WARNED_BEFORE,
                warned_from=WARNED_FROM,
            )
        )

    async def ask_removal(self, deliveries: Sequence[UUID]) -> list[UUID]:
        """Let content be removed now; return of which."""
        asked = SQL["ask_removal"](ids=deliveries, report_name=REPORT_NAME)
        return [row["id"] for row in await self._connection.fetch(*asked)]

    async def old_contents(
        self, tenant: str, age: timedelta, *, limit: int
    ) -> list[tuple[UUID, int]]:
        """Return deliveries that were done so long ago and whose content stays, and its bytes."""
        rows = await self._connection.fetch(
            *SQL["old_contents"](tenant=tenant, age=age, limit=limit, manifest=MANIFEST_NAME)
        )
        return [(row["id"], row["bytes"] or 0) for row in rows]

    async def count_old_contents(self, tenant: str, age: timedelta) -> tuple[int, int]:
        """Return how many these are, and their bytes."""
        row = await self._connection.fetchrow(
            *SQL["count_old_contents"](tenant=tenant, age=age, manifest=MANIFEST_NAME)
        )
        assert row is not None  # noqa: S101 - an aggregate has a row
        return row["contents"], row["bytes"]

    async def may_remove(self, content: Content, url: str, namespace: str) -> bool:
        """Whether a content is to be removed now, and nothing may be appearing in its place."""
        asked = SQL["may_remove"](id=content.delivery_id, url=url, namespace=namespace)
        return bool(await self._connection.fetchval(*asked))

    async def is_told_by_a_later(self, content: Content, etag: str) -> bool:
        """Whether the client of a later delivery was told this object, and it stays for that."""
        asked = SQL["is_told_by_a_later"](
            id=content.delivery_id, url=content.url, etag=etag, namespace=content.namespace
        )
        return bool(await self._connection.fetchval(*asked))

    async def is_replaced(self, content: Content) -> bool:
        """Whether a delivery that was done later has put something else in its place."""
        asked = SQL["is_replaced"](
            id=content.delivery_id,
            url=content.url,
            namespace=content.namespace,
            is_report=content.is_report,
        )
        return bool(await self._connection.fetchval(*asked))

    async def content_warned(self, content: Content, *, told: bool = True) -> bool:
        """Note that it is told of a content that it expires soon."""
        news = ContentNews.EXPIRES_SOON.value if told else None
        warned = SQL["content_warned"](id=content.delivery_id, news=news)
        return await self._connection.fetchval(*warned) is not None

    async def content_removed(
        self, content: Content, *, within: timedelta, told: bool = True, cause: str | None = None
    ) -> bool:
        """Note that a content is removed."""
        news = ContentNews.REMOVED.value if told else None
        removed = SQL["content_removed"](
            id=content.delivery_id, within=within, news=news, cause=cause
        )
        return await self._connection.fetchval(*removed) is not None


class PostgresContents:
    """See `ports.Contents`. Raises StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def due(self, *, limit: int) -> list[DueContent]:
        """Return what something is due for: of each target so many."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["due_contents"](limit=limit))
        return [
            DueContent(
                content=content_of(row),
                removes=row["removes"],
                overdue=row["overdue"] or timedelta(),
                tries=row["tries"],
                cause=row["last_cause"],
                position=row["position"],
            )
            for row in rows
        ]

    async def postpone(
        self,
        content: Content,
        pause: timedelta,
        *,
        position: int,
        cause: str | None = None,
    ) -> None:
        """Put off the next look at a content."""
        with translate_errors():
            await self._pool.execute(
                *SQL["postpone_content"](
                    id=content.delivery_id,
                    pause=pause,
                    cause=cause,
                    tried=cause is not None,
                    position=position,
                )
            )

    async def postpone_all(self, tenant: str, target: str, pause: timedelta, cause: str) -> None:
        """Put off all removals that are due at a target."""
        with translate_errors():
            await self._pool.execute(
                *SQL["postpone_contents"](tenant=tenant, target=target, pause=pause, cause=cause)
            )

    async def give_up(self, content: Content, cause: str) -> None:
        """Note that a removal is not tried any more, unless it is asked for again."""
        with translate_errors():
            await self._pool.execute(*SQL["give_up_content"](id=content.delivery_id, cause=cause))
