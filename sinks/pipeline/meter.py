"""How far a transfer is, reported while it runs."""

from __future__ import annotations

import asyncio
import time

from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress, Report
from app.telemetry.metrics import SOURCE_BYTES

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
        self.bytes = 0
        self.files = 0

    def count(self, size: int) -> None:
        """Count bytes of the source that went through."""
        self.bytes += size
        self._counted.inc(size)

    def skip(self, size: int) -> None:
        """Count a file that an earlier attempt has archived."""
        self.bytes += size
        self.files += 1

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
                bytes_done=self.bytes,
                bytes_total=self._delivery.total_bytes,
                files_done=self.files,
                files_total=self._delivery.file_count,
                elapsed=time.monotonic() - self._began if elapsed is None else elapsed,
            )
        )

    async def tick(self) -> None:
        """Report again and again, until cancelled."""
        while True:
            self._report()
            await asyncio.sleep(_INTERVAL)
