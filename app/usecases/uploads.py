"""Where multipart uploads are open: remembered with them, since tenants may change their target."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from app.errors import PermanentError, SecretUnreadableError
from app.logs import get_logger
from app.model import Delivery, S3Target, Upload
from app.ports import ArchiveSink, Seal

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """Notes places, and goes back to them."""

    sink: ArchiveSink
    seal: Seal

    def located(self, upload: Upload, target: S3Target) -> Upload:
        """Return the upload with the place where it is open, sealed: it holds a secret."""
        return replace(upload, target=self.seal.seal(json.dumps(asdict(target))))

    async def abort_last(self, delivery: Delivery) -> None:
        """Abort the upload of the delivery's last attempt, wherever it is open.

        Raises RetryableError while that place does not answer. One that refuses for good (its
        credentials were changed, its bucket is gone) can't hold up the delivery: it is told.
        """
        upload = delivery.upload
        if upload is None or upload.target is None:
            return
        try:
            target = S3Target(**json.loads(self.seal.open(upload.target)))
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
