"""Where uploads are open: remembered with them, since tenants may change their target."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, Upload
from app.delivery.ports import DeliveryStore
from app.delivery.targets import Target, TargetKinds
from app.errors import PermanentError, SecretUnreadableError
from app.telemetry.logs import get_logger
from app.tenants.vault import Vault

log = get_logger(__name__)

Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """Notes places, and goes back to them."""

    objects: ObjectStore[Any]
    seal: Vault
    store: DeliveryStore
    kinds: TargetKinds

    def located(self, upload: Upload, target: Target) -> Upload:
        """Return the upload with the place where it is open, sealed: it holds a secret."""
        return replace(upload, target=self.seal.seal(json.dumps(target.noted())))

    def place(self, delivery: Delivery) -> Target | None:
        """Return where the upload of the delivery's last attempt is, or was, open; None if nowhere.

        Raises SecretUnreadableError, and TargetUnavailableError where a newer version opened it at
        a store that this one does not know.
        """
        if delivery.upload is None or delivery.upload.target is None:
            return None
        return self.opened(delivery.upload.target)

    def opened(self, sealed: str) -> Target:
        """Return a place that was sealed. Raises as `place` does."""
        return self.kinds.read(json.loads(self.seal.open(sealed)))

    async def abort_last(self, delivery: Delivery, *, check: Check | None = None) -> None:
        """Abort the upload of the delivery's last attempt, wherever it is open.

        Unless `check` raises. Raises RetryableError while that place does not answer. One that
        refuses for good (its credentials were changed, its container is gone) can't hold up the
        delivery: it is logged.
        """
        upload = delivery.upload
        if upload is None:
            return
        if check is not None:
            await check()
        try:
            target = self.place(delivery)
            if target is not None:
                await self.objects.abort(target, upload)
        except (PermanentError, SecretUnreadableError) as error:
            log.warning(
                "upload_left_open",
                **delivery.log_context,
                bucket=upload.container,  # what the field is called in the log
                key=upload.key,
                upload_id=upload.upload_id,
                cause=str(error),
            )

    async def abort_orphans(
        self, delivery: Delivery, target: Target, key: str, *, but: Upload | None = None
    ) -> bool:
        """Abort the open uploads of the delivery's key, `but` one, that no other one has recorded.

        False, and nothing was aborted, when another delivery, of any tenant, may have opened one of
        them and not recorded it yet, or a later attempt has begun. Looked at after the store has
        listed what is open, so an upload of a delivery that began in between is not among it.
        """
        found = await self.objects.open_uploads(target, key)
        if not found:
            return True
        others = await self.store.uploads_of_others(delivery, container=target.container, key=key)
        if others is None:
            return False
        kept = others if but is None else others | {but.upload_id}
        for upload in found:
            if upload.upload_id not in kept:
                await self.objects.abort(target, upload)
        return True
