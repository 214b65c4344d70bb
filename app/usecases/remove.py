"""An object that must not be at the target is removed: of this delivery, and in no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, ObjectStore
from app.delivery.ports import DeliveryStore
from app.delivery.states import State
from app.delivery.targets import Target
from app.telemetry import metrics
from app.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Takes back what a completion made and no client is answered with."""

    store: DeliveryStore
    objects: ObjectStore[Any]

    async def remove(self, delivery: Delivery, target: Target, key: str) -> bool:
        """Remove the object with a key, if it is this delivery's; return whether it was there.

        It stays when its marks name another delivery, when a client was told it (the same key and
        ETag), when another delivery is just completing one of that name there, and when a successor
        works on this delivery, or is done: it may have made the object, and tell it. Completions of
        it there wait meanwhile (`Leases.record_completion`). Raises what the store raises.
        """
        url = target.url_of(key)
        # Looked for once without the lock: one that is silent keeps no connection to the database.
        if not _is_of(delivery, await self.objects.find(target, key)):
            return False
        async with self.store.transaction() as tx:
            await tx.lock_object(url, target.namespace)
            found = await self.objects.find(target, key)
            if found is None or not _is_of(delivery, found):
                return False
            if await tx.relied_on(delivery, url, found.etag, namespace=target.namespace):
                return False
            await self.objects.delete(target, key, etag=found.etag)
        metrics.OBJECTS_REMOVED.labels(delivery.tenant).inc()
        log.warning(
            "object_removed",
            **delivery.log_context,
            url=url,
            etag=found.etag,
            cause="it is not the archive that was sent"
            if not delivery.state.ended
            else "it appeared although its delivery had ended",
        )
        return True

    async def remove_late(self, delivery: Delivery, target: Target) -> bool:
        """Remove what appeared of a delivery that ended while one of its attempts completed it."""
        if delivery.state is not State.ERROR or delivery.completing is None:
            return False
        upload = delivery.upload
        return upload is not None and await self.remove(delivery, target, upload.key)


def _is_of(delivery: Delivery, found: FoundObject | None) -> bool:
    return found is not None and found.has(marks_of(delivery))
