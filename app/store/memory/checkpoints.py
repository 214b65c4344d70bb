"""Checkpoints in memory: how far half-made archives are."""

from __future__ import annotations

from app.delivery.checkpoint import Step
from app.delivery.model import Delivery
from app.delivery.object_store import Upload
from app.delivery.states import State
from app.store.memory import deliveries
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import CheckpointRow, DeliveryRow


class MemoryCheckpoints:
    """See `app.delivery.ports.Checkpoints`: those of one worker, the `owner`."""

    def __init__(self, database: MemoryDatabase, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def save(self, delivery: Delivery, upload: Upload, step: Step) -> bool:
        """Add a step to what was saved of an upload."""

        def fits(row: DeliveryRow) -> bool:
            return (
                row.delivery.attempt == delivery.attempt
                and row.lease_owner == self._owner
                and row.state is State.TRANSFERRING
                and row.delivery.upload is not None
                and row.delivery.upload.upload_id == upload.upload_id
            )

        table = self._database.checkpoints
        async with self._database.session() as session:
            held = await deliveries.update(
                self._database, session, delivery.id, lambda row: row, fits
            )
            if held is None:
                return False
            for key, row in list(session.rows(table, delivery.id)):
                if row.upload_id != upload.upload_id or row.step.boundary.parts > step.follows:
                    session.remove(table, key)
            session.put(
                table,
                (delivery.id, step.boundary.parts),
                CheckpointRow(delivery_id=delivery.id, upload_id=upload.upload_id, step=step),
            )
        return True

    async def steps(self, delivery: Delivery, upload: Upload) -> list[Step]:
        """Return what was saved of an upload."""
        async with self._database.session() as session:
            found = [
                row.step
                for _, row in session.rows(self._database.checkpoints, delivery.id)
                if row.upload_id == upload.upload_id
            ]
        return sorted(found, key=lambda step: step.boundary.parts)
