"""How an archive is divided into the parts of an upload."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from app.delivery.manifest import ManifestFile
from app.delivery.naming import MAX_MEMBER_BYTES
from app.errors import ArchiveTooLargeError, CheckpointUnusableError
from sinks.formats import least_of
from sinks.formats.archive_format import BLOCK, Form

MIB = 1024 * 1024
MAX_PARTS = 10_000
_MANIFEST_PART = 5 * MIB  # the least that stores take
_MIN_PREFETCH = 16 * MIB
# More parts at once gain nothing on one host, and cost memory.
_MAX_IN_FLIGHT = 4
# Bytes that a member of a checkpoint takes: two objects, its number, a place in two lists.
_SAVED = 208


@dataclass(frozen=True, kw_only=True, slots=True)
class PartPlan:
    """Sizes of one upload, in bytes."""

    part_size: int  # of each part but the last
    in_flight: int  # parts being sent at the same time
    prefetch: int  # of files read ahead
    lag: int  # that the digests of source and archive may each be behind
    directory: int  # what the format keeps of its members, and holds of those under way

    @property
    def memory(self) -> int:
        """Bytes held at most; of the parts, one is being filled and the others are being sent."""
        parts = (self.in_flight + 1) * self.part_size
        return self.prefetch + 2 * self.lag + self.directory + parts


def plan_parts(
    archive_format: Form,
    *,
    total_bytes: int,
    file_count: int,
    name_bytes: int,
    at_most: int,
    part_size: int,
    memory: int,
    worker_memory: int,
    max_object_size: int,
    sent_in: int | None = None,
    sent_members: int = 0,
    kept: int = 0,
) -> PartPlan:
    """Choose the part size so that the largest possible archive fits into 10,000 equal parts.

    `kept` is what is kept of a member's contents, in bytes, beside what the format keeps of it.
    `at_most` is what the files may have, where the size of some is unknown: parts get larger for it
    as far as `memory` allows. `within` finds out about those that are larger still. `name_bytes` is
    what the members' names have together, in UTF-8.

    It gets along with `memory` bytes where it can, and else takes two parts and a small prefetch,
    up to `worker_memory`. Raises ArchiveTooLargeError, before anything is sent, when target or
    worker can't take it. Where a part was sent already, the others are of its size, `sent_in`, and
    what was saved of `sent_members` is in memory at a time, too: CheckpointUnusableError when this
    worker has not so much, or there are more files by now than fit, and it could make the archive
    from the start.
    """
    least = least_of(archive_format, total_bytes=total_bytes, file_count=file_count)
    if least > max_object_size:
        raise ArchiveTooLargeError(
            f"the files have {total_bytes} bytes, and are {least} or more in one object, but the "
            f"target takes {max_object_size} in one: order less at once, or raise "
            "DELIVERY_MAX_OBJECT_SIZE if it takes more"
        )

    def part_size_for(total_bytes: int) -> int:
        largest = archive_format.largest(total_bytes=total_bytes, file_count=file_count)
        return _part_size_for(largest)

    # Whole blocks of MD5, as `sinks.pipeline.digest` needs them.
    size = max(-(-part_size // 64) * 64, part_size_for(total_bytes))
    if at_most > total_bytes:
        wanted = part_size_for(min(at_most, max_object_size))
        size = max(size, min(wanted, memory * 3 // 8 // MIB * MIB))
    directory = archive_format.memory(file_count=file_count, name_bytes=name_bytes)
    directory += kept * file_count
    limits = memory, worker_memory
    plan = _plan_with(size, limits, directory=directory)
    if sent_in is not None:
        saved = sent_members * _SAVED
        rest = _plan_with(sent_in, limits, directory=directory + saved)
        is_enough = sent_in >= part_size_for(total_bytes)
        if is_enough and rest.memory <= worker_memory:
            return rest
        if not is_enough and plan.memory <= worker_memory:
            raise CheckpointUnusableError(
                f"what was sent is in parts of {sent_in} bytes, and the files have become "
                f"{total_bytes} bytes, which take {size} in each of {MAX_PARTS} parts"
            )
        if plan.memory <= worker_memory:
            raise CheckpointUnusableError(
                f"what was sent is in parts of {sent_in} bytes, and was saved {sent_members} files "
                f"at a time: for that this worker would need {rest.memory} bytes of memory, and "
                f"it has {worker_memory}"
            )
    if plan.memory > worker_memory:
        raise ArchiveTooLargeError(
            f"the archive needs {plan.memory} bytes of memory ({plan.in_flight + 1} parts of "
            f"{size}, {directory} for its members), and a worker has {worker_memory}: "
            f"order less at once, or raise DELIVERY_WORKER_MEMORY to {plan.memory} or more"
        )
    return plan


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderPlan:
    """Sizes of a delivery whose files are objects of their own, in bytes."""

    manifest: PartPlan  # of the list of them
    files: int  # that are on their way to the store, with the one that is being read
    part_size: int  # of a part of a file, and of the largest file that is put at once

    @property
    def memory(self) -> int:
        """Bytes held at most."""
        return self.manifest.memory + self.files

    @property
    def largest_part(self) -> int:
        """Bytes of a part, two of which are in memory."""
        return (self.files - BLOCK) // 2 // 64 * 64

    def part_size_of(self, file: ManifestFile) -> int:
        """Return the bytes of each part of a file but the last."""
        if file.size is None:
            return self.largest_part
        return min(self.largest_part, max(self.part_size, _part_size_for(file.size)))


def plan_folder(
    form: Form,
    *,
    total_bytes: int,
    file_count: int,
    name_bytes: int,
    part_size: int,
    memory: int,
    worker_memory: int,
    max_object_size: int,
    sent_in: int | None = None,
    sent_members: int = 0,
) -> FolderPlan:
    """Choose part sizes so that the largest file that there may be fits into 10,000 parts.

    Two parts of it are in memory, one that is read and one that is sent; or more small ones. The
    rest is as `plan_parts` has it, for the manifest. Raises what that raises.
    """
    manifest = replace(
        plan_parts(
            form,
            total_bytes=0,
            at_most=0,
            file_count=file_count,
            name_bytes=name_bytes,
            part_size=min(part_size, _MANIFEST_PART),
            memory=memory,
            worker_memory=worker_memory,
            max_object_size=max_object_size,
            sent_in=sent_in,
            sent_members=sent_members,
        ),
        in_flight=1,
    )
    largest = _part_size_for(min(total_bytes, max_object_size))
    room = memory * 3 // 4 - 2 * manifest.part_size
    size = max(largest, min(part_size, (room - BLOCK) // 2), 64) // 64 * 64
    files = max(room, 2 * size + BLOCK)
    plan = FolderPlan(manifest=manifest, files=files, part_size=size)
    if plan.memory > worker_memory:
        raise ArchiveTooLargeError(
            f"the files need {plan.memory} bytes of memory (two parts of {size} of the largest, "
            f"and {manifest.memory} for reading them and for the manifest), and a worker has "
            f"{worker_memory}: order less at once, or raise DELIVERY_WORKER_MEMORY to "
            f"{plan.memory} or more"
        )
    return plan


def _part_size_for(size: int) -> int:
    """Return the least that each part has of so many bytes, in whole mebibytes."""
    return -(-size // (MAX_PARTS * MIB)) * MIB


def _plan_with(size: int, limits: tuple[int, int], *, directory: int) -> PartPlan:
    """Plan with as many parts at once as gain something, and fit into a limit that takes one.

    The limits are what a transfer is to get along with, and what a worker has; where neither takes
    one, it is planned with one all the same.
    """
    memory, _ = limits
    lag = memory // 32
    ahead = memory // 4 - 2 * lag
    in_flight = memory * 3 // 4 // size - 1
    if in_flight < 1:
        ahead = min(ahead, _MIN_PREFETCH)
    least = PartPlan(
        part_size=size,
        in_flight=1,
        prefetch=ahead - min(directory, ahead // 2),
        lag=lag,
        directory=directory,
    )
    most = max(1, min(in_flight, _MAX_IN_FLIGHT))
    for limit in limits:
        if least.memory <= limit:
            return replace(least, in_flight=min(most, 1 + (limit - least.memory) // size))
    return least


def memory_lack(
    forms: Iterable[Form], *, part_size: int, memory: int, worker_memory: int
) -> str | None:
    """Return why a worker could make no archive at all in some form, however small; None: it could.

    Told of the one that takes most, with the figure that works.
    """
    least = {
        form.suffix: _plan_with(
            -(-part_size // 64) * 64,
            (memory, worker_memory),
            directory=form.memory(file_count=1, name_bytes=MAX_MEMBER_BYTES),
        ).memory
        for form in forms
    }
    suffix = max(least, key=least.__getitem__)
    if least[suffix] <= worker_memory:
        return None
    return (
        f"a {suffix} of whatever size takes {least[suffix]} bytes of memory, and "
        f"DELIVERY_WORKER_MEMORY is {worker_memory}: raise it to {least[suffix]} or more; or lower "
        "DELIVERY_PART_SIZE, DELIVERY_TRANSFER_MEMORY or, for .zip, DELIVERY_DEFLATE_THREADS, for "
        ".tar.zst, DELIVERY_ZSTD_LEVEL"
    )


def within(plan: PartPlan, *, number: int, size: int, max_object_size: int) -> None:
    """Raise ArchiveTooLargeError unless an archive may have this part.

    Files of unknown size can make it too large.
    """
    if number > MAX_PARTS:
        raise ArchiveTooLargeError(
            "files whose size rs-order does not tell made the archive larger than "
            f"{MAX_PARTS * plan.part_size} bytes ({MAX_PARTS} parts of {plan.part_size}): order "
            "less at once, or raise the tenant's order_size_limit_bytes or DELIVERY_PART_SIZE"
        )
    if (number - 1) * plan.part_size + size > max_object_size:
        raise ArchiveTooLargeError(
            f"the archive is larger than the {max_object_size} bytes that the target takes in one "
            "object: order less at once, or raise DELIVERY_MAX_OBJECT_SIZE if it takes more"
        )


class Part:
    """The bytes of a part as they came, in pieces: joining them would cost a copy and its memory.

    What S3's client library asks of a body, no more: a length, rewinding, and an asynchronous
    iterator. A retry of the library iterates again. `md5` is that of all bytes, 16 bytes.
    """

    def __init__(self, pieces: Sequence[bytes | memoryview], size: int, md5: bytes) -> None:
        self._pieces = pieces
        self._size = size
        self.md5 = md5
        self.moved: Callable[[], object] = int  # called whenever some bytes were taken

    @classmethod
    def of(cls, data: bytes) -> Part:
        """Make a part of bytes that are at hand."""
        return cls([data], len(data), hashlib.md5(data, usedforsecurity=False).digest())

    def __len__(self) -> int:
        return self._size

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        for piece in self._pieces:
            yield piece
            self.moved()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Rewind: each iteration begins at the first byte."""
        assert (offset, whence) == (0, 0)  # noqa: S101 - nothing else is asked for
        return 0

    def read(self) -> bytes:
        """Return all bytes."""
        return b"".join(self._pieces)
