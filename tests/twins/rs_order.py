"""rs-order's REST side in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.errors import SourceNotReadyError, SourceRefusedError, SourceUnavailableError
from compose.rs_order.faults import Faults
from tests.builders import make_listed, plan_files

CHUNK = 300_000  # bytes: no whole block, as a network cuts


@dataclass(frozen=True, kw_only=True)
class HeldOrder:
    """An order that is done."""

    tenant: str
    user: str
    files: Mapping[int, tuple[str, bytes]]  # name and content, by file id


class MemoryOrders:
    """See `app.delivery.ports.OrderSource`. It misbehaves as the stand-in does, by its `faults`.

    A connection that breaks is not resumed. `sleep` is called before each chunk, with the seconds
    that it takes at the rate that is set.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.faults = Faults()
        self.read = 0  # bytes of files that were given
        self.open = 0  # downloads
        self.most_open = 0
        self._sleep = sleep
        self._orders: dict[int, HeldOrder] = {}
        self._file_ids = itertools.count()
        self._asked_for: set[int] = set()  # files that are listed no more

    def hold(self, delivery: Delivery, files: Mapping[str, bytes]) -> None:
        """Let a delivery's order be done: it has these files, in their order."""
        assert delivery.order_id is not None
        self._orders[delivery.order_id] = HeldOrder(
            tenant=delivery.tenant,
            user=delivery.user,
            files={next(self._file_ids): file for file in files.items()},
        )

    def order_of(self, delivery: Delivery) -> HeldOrder:
        """Return the order of a delivery. Raises SourceRefusedError, SourceUnavailableError."""
        order = self._orders.get(delivery.order_id or 0)
        if order is None:
            raise SourceRefusedError(f"there is no order {delivery.order_id}")
        if (order.tenant, order.user) != (delivery.tenant, delivery.user):
            raise SourceRefusedError(f"order {delivery.order_id} is another user's")
        if self.faults.use("answers_500"):
            raise SourceUnavailableError("told to fail")
        return order

    async def listing(self, delivery: Delivery) -> AsyncIterator[ListedFile]:
        """Iterate over the files of the delivery's order."""
        order, faults = self.order_of(delivery), self.faults
        if faults.use("listing_not_ready"):
            raise SourceNotReadyError(f"order {delivery.order_id} is not finished")
        left = {i: file for i, file in order.files.items() if i not in self._asked_for}
        for file_id, (name, content) in left.items():
            listed = make_listed(name, content, file_id=file_id, listed=len(left))
            yield replace(
                listed,
                size=None if faults.no_size else len(content) + faults.wrong_sizes,
                md5=None if faults.no_checksum else listed.md5,
            )

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes; what is refused is told when they are read."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            async with contextlib.aclosing(self.chunks(delivery, file)) as chunks:
                yield chunks
        finally:
            self.open -= 1

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        """Iterate over a file's bytes: what a download gives. The file is listed no more."""
        self._asked_for.add(file.file_id)
        content, faults = self._content(delivery, file), self.faults
        if faults.use("wrong_checksums") and content:
            content = bytes([content[0] ^ 0xFF]) + content[1:]
        end = faults.drop_after if faults.use("drops") else None
        for start in range(0, len(content), CHUNK):
            chunk = content[start : start + CHUNK]
            rate = faults.bytes_per_second
            await self._sleep(len(chunk) / rate if rate else 0)
            if end is not None and start + len(chunk) > end:
                chunk = chunk[: end - start]
            self.read += len(chunk)
            if chunk:
                yield chunk
            if end is not None and start + len(chunk) >= end:
                raise SourceUnavailableError(f"file {file.file_id} broke off after {end} bytes")

    def _content(self, delivery: Delivery, file: ManifestFile) -> bytes:
        found = self.order_of(delivery).files.get(file.file_id)
        if found is None:
            raise SourceRefusedError(f"there is no file {file.file_id}")
        if self.faults.refuse:
            raise SourceRefusedError(f"told to refuse file {file.file_id}")
        if self.faults.use("not_ready"):
            raise SourceNotReadyError(f"file {file.file_id} is not made available yet")
        return found[1]


class Source(MemoryOrders):
    """One order, whosever delivery it is asked for; one of its files can fail half-way."""

    def __init__(self, files: Mapping[str, bytes], *, fail: str | None = None) -> None:
        super().__init__()
        self.files = files
        self.fail = fail
        self.pause: asyncio.Event | None = None  # no byte comes before it is set

    def manifest(self) -> list[ManifestFile]:
        """Return what is laid out of it."""
        return plan_files(self.files)

    def order_of(self, delivery: Delivery) -> HeldOrder:
        """Return the one order, with its files as they are now."""
        return HeldOrder(
            tenant=delivery.tenant, user=delivery.user, files=dict(enumerate(self.files.items()))
        )

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        """Iterate over a file's bytes, once they may come, until they fail."""
        if self.pause is not None:
            await self.pause.wait()
        given = 0
        async for chunk in super().chunks(delivery, file):
            if file.member == self.fail and given > len(self.files[file.member]) // 2:
                raise SourceUnavailableError("broke off")
            given += len(chunk)
            yield chunk
