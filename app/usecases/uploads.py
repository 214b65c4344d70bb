"""Where multipart uploads are open: remembered with them, since tenants may change their target."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from app.delivery.model import Delivery
from app.delivery.ports import ArchiveSink, Store
from app.delivery.targets import S3Target, Upload
from app.errors import PermanentError, SecretUnreadableError
from app.telemetry.logs import get_logger
from app.tenants.vault import Vault

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """Notes places, and goes back to them."""

    sink: ArchiveSink
    seal: Vault
    store: Store

    def located(self, upload: Upload, target: S3Target) -> Upload:
        """Return the upload with the place where it is open, sealed: it holds a secret."""
        return replace(upload, target=self.seal.seal(json.dumps(asdict(target))))

    def place(self, delivery: Delivery) -> S3Target | None:
        """Return where the upload of the delivery's last attempt is, or was, open; None if nowhere.

        Raises SecretUnreadableError.
        """
        if delivery.upload is None or delivery.upload.target is None:
            return None
        return S3Target.read(json.loads(self.seal.open(delivery.upload.target)))

    async def abort_last(self, delivery: Delivery) -> None:
        """Abort the upload of the delivery's last attempt, wherever it is open.

        Raises RetryableError while that place does not answer. One that refuses for good (its
        credentials were changed, its bucket is gone) can't hold up the delivery: it is told.
        """
        upload = delivery.upload
        if upload is None:
            return
        try:
            target = self.place(delivery)
            if target is not None:
                await self.sink.abort(target, upload)
        except (PermanentError, SecretUnreadableError) as error:
            log.warning(
                "upload_left_open",
                tenant=delivery.tenant,
                correlation_id=delivery.correlation_id,
                bucket=upload.bucket,
                key=upload.key,
                upload_id=upload.upload_id,
                cause=str(error),
            )

    async def abort_orphans(self, delivery: Delivery, target: S3Target, key: str) -> bool:
        """Abort the open uploads of the delivery's key that no other delivery has recorded.

        False, and nothing was aborted, when another delivery, of any tenant, may have opened one of
        them and not recorded it yet. Looked at after the store has listed what is open, so an
        upload of a delivery that began in between is not among it.
        """
        found = await self.sink.open_uploads(target, key)
        if not found:
            return True
        others = await self.store.uploads_of_others(delivery, bucket=target.bucket, key=key)
        if others is None:
            return False
        for upload in found:
            if upload.upload_id not in others:
                await self.sink.abort(target, upload)
        return True
