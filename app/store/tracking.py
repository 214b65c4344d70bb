"""Looking deliveries up. Reads only: nothing here changes one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from app.delivery.attempts import Attempt
from app.delivery.content import ContentSeen, ContentState
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.pauses import WORKED_OFF
from app.delivery.states import State
from app.store.manifest import file_named, files_after, missing_after, missing_count
from app.store.outbox import owed
from app.store.pool import translate_errors
from app.store.rows import delivery_of, listed_of, told_of
from app.store.sql import load
from app.views.deliveries import (
    Activity,
    Change,
    Depth,
    Filter,
    Outcome,
    OverdueContents,
    Owed,
    PlacesHeld,
    Step,
    Tracked,
    WorkerSeen,
)
from app.views.progress import Underway
from app.views.segments import SegmentSeen
from app.waiting.slices import in_slices

SQL = load(__name__)

_OPEN = frozenset(state for state in State if not state.ended)
_BEGUN = frozenset({Activity.MOVING, Activity.STALLED, Activity.RETRYING})


def _is_within(asked: Collection[str] | None, kinds: frozenset[str]) -> bool:
    """Whether these are asked for, and no others."""
    return asked is not None and kinds >= set(asked)


def _tracked_of(row: asyncpg.Record, delivery: Delivery) -> Tracked:
    """Read what is known of a delivery beside it."""
    ended = row["finished_at"] is not None
    return Tracked(
        delivery=delivery,
        updated_at=row["updated_at"],
        state_since=row["state_since"],
        not_before=row["not_before"],
        finished_at=row["finished_at"],
        worker=None if ended else row["lease_owner"],
        result=StoredObject(
            url=row["url"], md5=row["md5"], size=row["archive_size"], etag=row["etag"]
        )
        if row["url"]
        else None,
        error=(row["error_type"], row["error_message"]) if row["error_type"] else None,
        error_code=row["error_code"],
        listed=row["listed"],
        content=_content_of(row),
        told=told_of(row),
    )


def _listed(row: asyncpg.Record) -> Tracked:
    return _tracked_of(row, listed_of(row))


def _content_of(row: asyncpg.Record) -> ContentSeen | None:
    if row["content_of"] is None:
        return None
    state = ContentState.REMOVING if row["content_is_over"] else ContentState.PRESENT
    if row["content_removed_at"] is not None:
        state = ContentState.REMOVED
    return ContentSeen(
        state=state, removed_at=row["content_removed_at"], cause=row["content_cause"]
    )


def _change_of(row: asyncpg.Record) -> Change:
    return Change(
        step=Step(
            id=row["change_id"],
            state=State(row["change_state"]),
            attempt=row["change_attempt"],
            at=row["change_at"],
            cause=row["change_cause"],
            code=row["change_code"],
            news=row["change_news"],
        ),
        tracked=_tracked_of(row, listed_of(row)),
    )


class PostgresTracking:
    """See `views.deliveries`: Tracking, Changes and Overview. Raises StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def _fetch(self, text: str, *arguments: object) -> list[asyncpg.Record]:
        with translate_errors():
            return await self._pool.fetch(text, *arguments)

    async def browse(
        self,
        tenants: Sequence[str],
        wanted: Filter,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Tracked]:
        """Return their deliveries, the newest first, without what they ordered."""
        at, delivery = before or (None, None)
        given = {
            "tenants": list(tenants),
            "before_at": at,
            "before_id": delivery,
            "limit": limit,
            **wanted.arguments(),
        }
        if wanted.worker is not None or _is_within(wanted.activities, _BEGUN):
            asked = SQL["browse_begun"](**given)
        elif wanted.activities is not None or _is_within(wanted.states, _OPEN):
            asked = SQL["browse_open"](**given)
        elif wanted.codes is not None:
            asked = SQL["browse_with_causes"](**given)
        else:
            asked = SQL["browse"](**given)
        rows = await self._fetch(*asked)
        return await in_slices(_listed, rows)

    async def of(self, tenant: str, correlation_id: str) -> list[Tracked]:
        """Return every delivery of a correlation id, the newest first."""
        return [
            _tracked_of(row, delivery_of(row))
            for row in await self._fetch(
                *SQL["deliveries_of"](tenant=tenant, correlation_id=correlation_id)
            )
        ]

    async def one(self, tenant: str, delivery: UUID) -> Tracked | None:
        """Return a delivery by its id."""
        rows = await self._fetch(*SQL["delivery_of"](tenant=tenant, id=delivery))
        return _tracked_of(rows[0], delivery_of(rows[0])) if rows else None

    async def some(self, tenant: str, deliveries: Sequence[UUID]) -> list[Tracked]:
        """Return those of a tenant's deliveries that there are, as `browse` shows them."""
        rows = await self._fetch(*SQL["some"](tenant=tenant, ids=list(deliveries)))
        return await in_slices(_listed, rows)

    async def newest(self, tenant: str, correlation_ids: Collection[str]) -> set[UUID]:
        """Return of each correlation id the delivery that was requested last."""
        statement = SQL["newest_of"](tenant=tenant, correlation_ids=list(correlation_ids))
        return {row["id"] for row in await self._fetch(*statement)}

    async def steps(self, delivery: UUID) -> list[Step]:
        """Return how a delivery got where it is."""
        return [
            Step(**{**row, "state": State(row["state"])})
            for row in await self._fetch(*SQL["history_of"](delivery=delivery))
        ]

    async def attempts(self, delivery: UUID) -> list[Attempt]:
        """Return the attempts of a delivery's transfer, the newest first."""
        rows = await self._fetch(*SQL["attempts_of"](delivery=delivery))
        return [Attempt(**row) for row in rows]

    async def manifest(self, delivery: UUID, *, after: int, limit: int) -> list[ManifestFile]:
        """Return files of a delivery after a position."""
        with translate_errors():
            return await files_after(self._pool, delivery, after, limit=limit)

    async def file(self, delivery: UUID, member: str) -> ManifestFile | None:
        """Return a file of a delivery by its name."""
        with translate_errors():
            return await file_named(self._pool, delivery, member)

    async def missing(self, delivery: UUID, *, limit: int) -> list[MissingFile]:
        """Return files that a delivery is without, the first of them."""
        with translate_errors():
            found = await missing_after(self._pool, delivery, -1, limit=limit)
        return [file for _, file in found]

    async def missing_count(self, delivery: UUID) -> int:
        """Return how many files a delivery is without."""
        with translate_errors():
            return await missing_count(self._pool, delivery)

    async def segments(self, delivery: UUID) -> list[SegmentSeen]:
        """Return the suborders of a delivery that were announced."""
        return [
            SegmentSeen(**row) for row in await self._fetch(*SQL["segments_of"](delivery=delivery))
        ]

    async def underway(self, attempts: Mapping[UUID, int]) -> list[Underway]:
        """Return of these deliveries the ones that have not ended, and are at this attempt."""
        statement = SQL["underway"](ids=list(attempts), attempts=list(attempts.values()))
        return [
            Underway(
                delivery=listed_of(row),
                told=row["told"],
                segments=tuple(zip(row["suborders"], row["file_counts"], strict=True)),
            )
            for row in await self._fetch(*statement)
        ]

    async def last(self) -> int:
        """Return the number of the newest step."""
        with translate_errors():
            return int(await self._pool.fetchval(*SQL["last_change"]()))

    async def last_of(self, tenant: str, user: str, *, until: int) -> int:
        """Return the number of the newest step of a user's deliveries."""
        statement = SQL["last_change_of_user"](tenant=tenant, user=user, until=until)
        with translate_errors():
            return int(await self._pool.fetchval(*statement))

    async def since(self, last: int, *, missing: Sequence[int], limit: int) -> list[Change]:
        """Return steps after `last`, and missing ones that are there now."""
        rows = await self._fetch(*SQL["changes"](last=last, missing=list(missing), limit=limit))
        return await in_slices(_change_of, rows)

    async def replay(
        self, tenant: str, last: int, *, limit: int, user: str | None = None
    ) -> list[Change]:
        """Return a tenant's steps after `last`, or those of one user's deliveries."""
        if user is None:
            statement = SQL["changes_of_tenant"](tenant=tenant, last=last, limit=limit)
        else:
            statement = SQL["changes_of_user"](tenant=tenant, user=user, last=last, limit=limit)
        return await in_slices(_change_of, await self._fetch(*statement))

    async def workers(self) -> list[WorkerSeen]:
        """Return the workers that there are."""
        return [WorkerSeen(**row) for row in await self._fetch(*SQL["workers"]())]

    async def depths(self) -> list[Depth]:
        """Count deliveries before their end."""
        return [
            Depth(**{**row, "state": State(row["state"])})
            for row in await self._fetch(*SQL["depth"](worked_off=WORKED_OFF))
        ]

    async def places_held(self) -> list[PlacesHeld]:
        """Count orders that may keep a place."""
        return [PlacesHeld(**row) for row in await self._fetch(*SQL["places_held"]())]

    async def contents_overdue(self) -> list[OverdueContents]:
        """Count contents that are to be removed by now."""
        rows = await self._fetch(*SQL["contents_overdue"]())
        return [OverdueContents(**row) for row in rows]

    async def owed(self) -> list[Owed]:
        """Count messages that wait."""
        with translate_errors():
            return await owed(self._pool)

    async def outcomes(self, tenants: Sequence[str], *, since: datetime) -> list[Outcome]:
        """Count deliveries that ended."""
        return [
            Outcome(**{**row, "state": State(row["state"])})
            for row in await self._fetch(*SQL["outcomes"](tenants=list(tenants), since=since))
        ]
