"""How far a transfer is, reported while it runs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress, Report
from app.telemetry.metrics import SOURCE_BYTES, SOURCE_BYTES_AGAIN, SOURCE_FILES_AGAIN

_INTERVAL = 0.5  # seconds between looks at the counters
_RECENT = 15.0  # seconds that the rate is told of


class Meter:
    """Counts what went through; the archiving thread counts, the loop reads."""

    def __init__(
        self, delivery: Delivery, report: Report, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._delivery = delivery
        self._tell = report
        self._clock = clock
        self._began = self._last_byte_at = clock()
        self._looks = deque([(self._began, 0)])  # time, and bytes that had come by then
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
            self._elapsed = self._clock() - self._began
        self._phase = phase
        self.report()

    def _recent(self, now: float) -> float:
        """Return bytes a second of the last 15 seconds, or since it began."""
        looks, come = self._looks, self.bytes
        if come != looks[-1][1]:
            self._last_byte_at = now
        looks.append((now, come))
        while len(looks) > 2 and looks[1][0] <= now - _RECENT:
            looks.popleft()
        at, before = looks[0]
        return (come - before) / (now - at) if now > at else 0.0

    def report(self) -> None:
        """Tell how far it is."""
        elapsed, now = self._elapsed, self._clock()
        recent = self._recent(now)
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
                elapsed=now - self._began if elapsed is None else elapsed,
                recent=recent if elapsed is None else None,
                silent=round(now - self._last_byte_at, 1) if elapsed is None else 0.0,
            )
        )

    async def tick(self) -> None:
        """Report again and again, until cancelled."""
        while True:
            self.report()
            await asyncio.sleep(_INTERVAL)
