"""How far a transfer is, reported while it runs."""

from __future__ import annotations

import asyncio
import time

from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress, Report
from app.telemetry.metrics import SOURCE_BYTES, SOURCE_BYTES_AGAIN, SOURCE_FILES_AGAIN

_INTERVAL = 0.5  # seconds between looks at the counters


class Meter:
    """Counts what went through; the archiving thread counts, the loop reads."""

    def __init__(self, delivery: Delivery, report: Report) -> None:
        self._delivery = delivery
        self._tell = report
        self._began = time.monotonic()
        self._phase = Phase.TRANSFERRING
        self._elapsed: float | None = None  # set when no more bytes come
        self._counted = SOURCE_BYTES.labels(delivery.tenant)
        self.bytes = 0  # that this attempt has read
        self.kept = 0  # that one before has archived
        self.files = 0
        self._skipped = (0, 0)  # bytes and files that an earlier attempt has archived

    def count(self, size: int) -> None:
        """Count bytes of the source that went through."""
        self.bytes += size
        self._counted.inc(size)

    def skip(self, size: int) -> None:
        """Count a file that an earlier attempt has archived."""
        self.kept += size
        self.files += 1
        self._skipped = self.bytes, self.files

    def found(self, size: int) -> None:
        """Count the bytes of a file that an earlier attempt has put; the file is counted later."""
        self.kept += size

    def repeated(self) -> None:
        """Count all that was read so far as read by an earlier attempt, too."""
        skipped_bytes, skipped_files = self._skipped
        if self.bytes == skipped_bytes:
            return
        begun = min(self.files + 1, self._files_total)  # one of them is being read
        SOURCE_BYTES_AGAIN.labels(self._delivery.tenant).inc(self.bytes - skipped_bytes)
        SOURCE_FILES_AGAIN.labels(self._delivery.tenant).inc(begun - skipped_files)

    @property
    def _files_total(self) -> int:
        """Files of the delivery, as far as it is known by now."""
        return max(self._delivery.file_count, self.files)

    def enter(self, phase: Phase) -> None:
        """Change the phase, and report it. The rate is of the bytes: its clock stops with them."""
        if self._elapsed is None:
            self._elapsed = time.monotonic() - self._began
        self._phase = phase
        self._report()

    def _report(self) -> None:
        elapsed = self._elapsed
        self._tell(
            Progress(
                tenant=self._delivery.tenant,
                correlation_id=self._delivery.correlation_id,
                delivery=self._delivery.id,
                attempt=self._delivery.attempt,
                phase=self._phase,
                bytes_done=self.kept + self.bytes,
                bytes_kept=self.kept,
                bytes_total=self._delivery.total_bytes,
                files_done=self.files,
                files_total=self._files_total,
                elapsed=time.monotonic() - self._began if elapsed is None else elapsed,
            )
        )

    async def tick(self) -> None:
        """Report again and again, until cancelled."""
        while True:
            self._report()
            await asyncio.sleep(_INTERVAL)
