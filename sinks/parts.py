"""How an archive is cut into S3 parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.errors import ArchiveTooLargeError

MIB = 1024 * 1024
MAX_PARTS = 10_000
_MEMBER_OVERHEAD = 1024  # bytes; headers and directory entry of a member, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class PartPlan:
    """Sizes of one upload, in bytes."""

    part_size: int
    in_flight: int  # parts being sent at the same time
    prefetch: int


def plan_parts(
    *, total_bytes: int, file_count: int, part_size: int, memory: int, max_object_size: int
) -> PartPlan:
    """Choose the part size so that the largest possible archive fits into 10,000 equal parts.

    Raises ArchiveTooLargeError, before anything is sent, when target or memory can't take it.
    """
    largest = total_bytes + total_bytes // 1000 + file_count * _MEMBER_OVERHEAD + MIB
    if total_bytes > max_object_size:
        raise ArchiveTooLargeError(
            f"the files have {total_bytes} bytes, but the target takes {max_object_size} in one "
            "object: order less at once, or raise DELIVERY_MAX_OBJECT_SIZE if it takes more"
        )
    needed = -(-largest // MAX_PARTS)
    size = max(part_size, -(-needed // MIB) * MIB)
    prefetch = memory // 4
    in_flight = (memory - prefetch) // size - 1
    if in_flight < 1:
        raise ArchiveTooLargeError(
            f"{total_bytes} bytes need parts of {size} bytes, which {memory} bytes a transfer "
            f"can't hold: raise DELIVERY_TRANSFER_MEMORY to {-(-size * 8 // 3)} or more"
        )
    # More than a few at once gains nothing on one host, and costs memory.
    return PartPlan(part_size=size, in_flight=min(in_flight, 4), prefetch=prefetch)


def into_parts(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join blocks into parts, all of exactly `size` bytes but the last."""
    part: list[bytes] = []
    have = 0
    for whole in blocks:
        block = whole
        while have + len(block) >= size:
            part.append(block[: size - have])
            block = block[size - have :]
            yield b"".join(part)
            part, have = [], 0
        if block:
            part.append(block)
            have += len(block)
    if part:
        yield b"".join(part)
