"""What transfers deliveries to a store in memory: real use-cases and pipeline, and what sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from app.delivery.targets import TargetKinds
from app.usecases.sweep import Sweep
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from app.waiting.patience import Patience
from sinks.pipeline.budget import Budget
from sinks.pipeline.parts import MIB
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.transfer import StreamingArchiver
from tests.deliveries import Deliveries
from tests.integration.transfers import QUICK
from tests.twins.rs_order import CountedSource

TARGET = MemoryTarget(container="archives")


class Delivering:
    """A client's deliveries of some files; tests add what they let happen to them."""

    patience: Patience = QUICK
    compression = "store"
    part_size = 5 * MIB
    memory = 32 * MIB

    def __init__(
        self, deliveries: Deliveries, shelf: MemoryObjectStore, files: Mapping[str, bytes]
    ) -> None:
        self.deliveries = deliveries
        self.shelf = shelf
        self.source = CountedSource(files)
        self.uploads = Uploads(
            objects=shelf,
            seal=deliveries.vault,
            store=deliveries.store,
            kinds=TargetKinds(MemoryTarget),
        )

    def transfers(self, owner: str = "w", **changes: Any) -> Transfers:
        """Return what a worker transfers with."""
        return Transfers(
            store=self.deliveries.store,
            leases=self.deliveries.leases(owner),
            tenants=self.deliveries.tenants,
            objects=self.shelf,
            uploads=self.uploads,
            checkpoints=self.deliveries.checkpoints(owner),
            archiver=StreamingArchiver(
                self.source,
                self.shelf,
                lambda _progress: None,
                compression=self.compression,
                part_size=self.part_size,
                memory=self.memory,
                worker_memory=Budget(2 * self.memory),
                max_object_size=1024**4,
                connections=4,
                patience=self.patience,
            ),
            segments=self.deliveries.segments(),
            patience=self.patience,
            **changes,
        )

    def sweeper(self) -> Sweep:
        """Return what sweeps deliveries as soon as they have ended."""
        return Sweep(
            store=self.deliveries.store,
            tenants=self.deliveries.tenants,
            uploads=self.uploads,
            checkpoints=self.deliveries.checkpoints("sweep"),
            after=timedelta(),
            limit=9,
        )
