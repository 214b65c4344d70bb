"""Archives whose files come in segments, and that pause behind some of them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.delivery.formats import DEFAULT_FORMAT
from app.delivery.lease import Lease
from app.delivery.manifest import Extent, ManifestFile, Seam
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore
from app.delivery.segments import OrderPlan
from app.errors import RetryableError
from app.usecases.transfer import Transfers
from sinks.formats import suffix_of
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks, archive_format, make_lease, plan_files


@dataclass
class SeamedFiles:
    """See `app.usecases.segments.SegmentFiles`: of a manifest that is whole, and cut."""

    store: DeliveryStore
    delivery: Delivery
    ends: Sequence[int]  # files up to the end of each segment
    pause_after: int | None  # so many files; None: it goes on to its end
    extent: Extent = field(default_factory=lambda: Extent(sizes_known=True, name_bytes=1 << 16))
    segments: int = 0
    total_suborders: int | None = None
    full: bool = False
    failed: RetryableError | None = None

    @property
    def most_files(self) -> int:
        return self.delivery.file_count

    async def all(self) -> AsyncIterator[ManifestFile | Seam]:
        number = 0
        async for file in self.store.files(self.delivery):
            yield file
            number += 1
            if number == self.pause_after:
                yield Seam.PAUSE
                return
            if number in self.ends:
                yield Seam.SEGMENT


@dataclass(frozen=True)
class Seamed:
    """See `app.usecases.segments.Segments`."""

    store: DeliveryStore
    ends: Sequence[int]
    pause_after: int | None

    def of(self, delivery: Delivery, _lease: Lease) -> SeamedFiles:
        return SeamedFiles(self.store, delivery, self.ends, self.pause_after)


def planned_ahead(delivery: Delivery) -> Delivery:
    """Return one that is claimed while its order goes on."""
    plan = OrderPlan(told=True, folders=False, sizes_known=True, files=delivery.file_count)
    return replace(delivery, plan=plan)


async def deliver_to_a_pause(
    transfers: Transfers,
    claimed: Delivery,
    *,
    ends: Sequence[int],
    pause_after: int | None,
    lease: Lease | None = None,
) -> None:
    """Let a worker make as much of an archive as there is, as of an order that goes on."""
    segments: Any = Seamed(transfers.store, ends, pause_after)
    # Its place at rs-order is none: the order of these tests is done.
    seamed = replace(transfers, segments=segments, frees_places=False)
    await seamed.deliver(planned_ahead(claimed), lease or make_lease())


def archive_in_segments(
    files: Mapping[str, bytes],
    ends: Sequence[int],
    *,
    compression: str = "auto",
    format_name: str = DEFAULT_FORMAT,
) -> bytes:
    """Return the archive that never paused."""
    planned, edges = plan_files(files), [0, *ends, len(files)]
    segments = (
        ((file, rechunk([files[file.member]])) for file in planned[start:end])
        for start, end in itertools.pairwise(edges)
    )
    planned_format = archive_format(suffix_of(format_name))
    return b"".join(archive_blocks(planned_format, *segments, compression=compression))
