"""What became of deliveries in time, in memory. Nothing is forgotten there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from app.codes import Code
from app.delivery.states import State
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import DeliveryRow
from app.views.history import Bucket, Step

_EPOCH = datetime.fromtimestamp(0, UTC)


class MemoryHistory:
    """See `app.views.history.Histories`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def history(
        self, tenants: Sequence[str], *, step: Step, target: str | None
    ) -> list[Bucket]:
        """Return each bucket of some tenants, the oldest first."""
        async with self._database.session() as session:
            rows = [row for _, row in session.rows(self._database.deliveries)]
            last = (session.now - _EPOCH) // step.length
        return [
            _bucket(
                tenant,
                [
                    row
                    for row in rows
                    if row.delivery.tenant == tenant and target in (None, row.delivery.target)
                ],
                begins=_EPOCH + number * step.length,
                step=step,
            )
            for tenant in sorted(tenants)
            for number in range(last - step.buckets + 1, last + 1)
        ]


def _bucket(tenant: str, rows: Iterable[DeliveryRow], *, begins: datetime, step: Step) -> Bucket:
    ends = begins + step.length
    done = failed = cancelled = size = active = 0
    for row in rows:
        at = row.finished_at
        active += row.delivery.requested_at < ends and (at is None or at >= ends)
        if at is None or not begins <= at < ends:
            continue
        if row.state is State.DONE:
            done += 1
            size += row.delivery.total_bytes or 0
        elif row.error_code == Code.CANCELLED:
            cancelled += 1
        else:
            failed += 1
    return Bucket(
        tenant=tenant,
        begins=begins,
        done=done,
        failed=failed,
        cancelled=cancelled,
        bytes=size,
        active=active,
    )
