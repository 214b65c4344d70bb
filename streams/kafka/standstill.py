"""Which partitions stand still although there is something to read in them, and whose they are.

The supervisor replaces a consumer of its own that is stuck. It leaves alone what another worker
reads, or what is being handled for long: so that is told, and before any consumer is replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from app.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass
class Standstills:
    """Looks where the group is, again and again, and logs which partitions do not move."""

    after: float  # seconds without progress
    whose: Callable[[TopicPartition], str]  # who has a partition, in words
    clock: Callable[[], float] = time.monotonic
    # What was committed of a partition, and since when.
    _seen: dict[TopicPartition, tuple[int, float]] = field(default_factory=dict)
    _told: set[TopicPartition] = field(default_factory=set)

    def look(self, lags: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Take where the group is in each partition, and its end; log what is new of that."""
        now = self.clock()
        standing: dict[TopicPartition, float] = {}
        for partition, (committed, end) in lags.items():
            before, since = self._seen.get(partition, (committed, now))
            if committed == end or committed != before:
                since = now
            self._seen[partition] = committed, since
            if now - since >= self.after:
                standing[partition] = now - since
        self._tell(standing, lags)

    def forget(self) -> None:
        """Look afresh: it is not known where the group was meanwhile."""
        self._seen.clear()

    def _tell(
        self,
        standing: Mapping[TopicPartition, float],
        lags: Mapping[TopicPartition, tuple[int, int]],
    ) -> None:
        moving = sorted(_name(partition) for partition in self._told - standing.keys())
        if moving:
            log.info("events_move_again", partitions=moving)
        if standing.keys() - self._told:
            log.warning(
                "events_stand_still",
                partitions=sorted(
                    f"{_name(partition)} at {lags[partition][0]} of {lags[partition][1]}: "
                    f"{self.whose(partition)}"
                    for partition in standing
                ),
                events=sum(abs(lags[partition][1] - lags[partition][0]) for partition in standing),
                seconds=round(max(standing.values())),
                consequence="what they tell is appended again after a while, and waits until then; "
                "a consumer of this worker that reads nothing is replaced",
            )
        self._told = set(standing)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"
