"""How transfers work."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from app.settings.names import MIB, Section


class TransferSection(Section):
    """What a worker's transfers may take, and when they are given up."""

    max_transfers: int = Field(2, ge=1, description="Transfers that a worker runs at once.")
    max_transfers_per_tenant: int = Field(
        0, ge=0, description="Transfers of one tenant that all workers run at once; 0: no limit."
    )
    lease_ttl: float = Field(
        30, ge=3, description="Seconds until a silent worker's transfer goes to another."
    )
    claim_poll_interval: float = Field(
        5, gt=0, description="Seconds between looks for work when no event wakes a worker."
    )
    transfer_attempts: int = Field(
        3, ge=1, description="Attempts at a transfer before a wrong file or object fails it."
    )
    retry_backoff: float = Field(
        2, gt=0, description="Seconds before the first new attempt; doubles each time."
    )
    retry_backoff_max: float = Field(60, gt=0, description="Seconds between attempts at most.")
    target_patience: float = Field(
        1800,
        ge=0,
        description="Seconds that a running transfer waits in place for an object store that is "
        "away, with what it has sent; then its next attempt goes on with that, later.",
    )
    cancel_delivered_orders: bool = Field(
        True,
        description="Whether an order that is delivered is cancelled at rs-order where that still "
        "waits for its download (several suborders, a file of 2 GiB or more, or another order of "
        "its user that gets no further): else it keeps one of its user's places until it expires.",
    )
    compression: Literal["auto", "store", "deflate"] = Field(
        "auto",
        description="Of a ZIP: `auto` decides for each file by a sample; `store`; `deflate`.",
    )
    deflate_threads: int = Field(
        0,
        ge=0,
        le=32,
        description="Threads that deflate files of ZIPs, shared by a worker's transfers; "
        "0: one for each processor, 8 at most. Set it where a container is given less of them. "
        "The bytes are the same with any number. A transfer holds 3 MiB of memory for each "
        "thread, and 6 more.",
    )
    zstd_level: int = Field(
        3,
        ge=1,
        le=19,
        description="How hard a `tar.zst` is compressed, 1 to 19: 1 is several times as fast as 3, "
        "and 6 three times as slow. A `tar.zst` takes 60 MiB of memory or more at 3, 147 at 10, "
        "198 at 19. A transfer goes on at the level that it was begun at.",
    )
    transfer_memory: int = Field(
        128 * MIB,
        ge=32 * MIB,
        description="Bytes that one transfer may hold: prefetch, parts being filled and sent. "
        "An archive of more than about 480 GB needs larger parts, and takes more; so does a "
        "`tar.zst` of a level above 9, and the names of many files.",
    )
    worker_memory: int = Field(
        1280 * MIB,
        ge=32 * MIB,
        description="Bytes that all transfers and plans of a worker may hold; each waits until "
        "what it needs is free. An archive of 5 TiB needs 1,096 MiB. A worker in which no archive "
        "of some format fits does not start.",
    )
    max_order_files: int = Field(
        1_000_000,
        ge=1,
        description="Files that a delivery may have; an order of more ends in "
        "`ORDER_LIMIT_REACHED`. A plan takes 400 bytes of `worker_memory` a file.",
    )
    part_size: int = Field(
        8 * MIB, ge=5 * MIB, description="Bytes of an S3 part; larger when the archive needs it."
    )
    max_object_size: int = Field(
        5 * 1024**4, ge=5 * MIB, description="Largest object of the target, in bytes."
    )

    @field_validator("worker_memory")
    @classmethod
    def _holds_a_transfer(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("transfer_memory", 0):
            raise ValueError("less than DELIVERY_TRANSFER_MEMORY, so that no transfer could begin")
        return value

    @property
    def lease_duration(self) -> timedelta:
        """How long a lease holds from its last renewal."""
        return timedelta(seconds=self.lease_ttl)
