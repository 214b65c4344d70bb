"""rs-order's REST side in memory."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.order_facts import DatasetFacts, OrderFacts, OrderFile
from app.errors import (
    DeliveryError,
    OrderNotToldError,
    SourceGoneError,
    SourceNotReadyError,
    SourceRefusedError,
    SourceUnavailableError,
)
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import File
from compose.rs_order.clock import Clock
from compose.rs_order.downloads import Downloads, RefusedError
from compose.rs_order.faults import Faults
from compose.rs_order.order import Order, OrderedFile
from compose.rs_order.orders import Orders, RetryRefusedError
from compose.rs_order.states import FileState, OrderStatus, SuborderState
from compose.rs_order.switches import UNLIMITED
from streams.regards.refusals import stays
from tests.builders import list_files, make_listed, plan_files

CHUNK = 300_000  # bytes: no whole block, as a network cuts


@dataclass(frozen=True, kw_only=True)
class HeldFile(File):
    """A file that is nowhere but here."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A file that is read."""

    content: bytes
    end: Callable[[], None]  # called with its last byte in hand


class _Bytes:
    """Gives the bytes of files, and misbehaves as the stand-in does, by its `faults`.

    A connection that breaks is not resumed. `sleep` is called before each chunk, with the seconds
    that it takes at the rate that is set.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.read = 0  # bytes of files that were given
        self.open = 0  # downloads
        self.most_open = 0
        self.behaviour = Behaviour(switches=UNLIMITED)
        self._sleep = sleep
        self.tells_sizes = True  # with the first bytes of a file
        self._streams: dict[int, FileBytes] = {}

    @property
    def faults(self) -> Faults:
        """What goes wrong from now on."""
        return self.behaviour.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.behaviour.faults = faults

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes; what is refused is told when they are read."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            async with contextlib.aclosing(self.chunks(delivery, file)) as chunks:
                stream = self._streams[file.file_id] = FileBytes(chunks)
                yield stream
        finally:
            self.open -= 1

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        """Iterate over a file's bytes: what a download gives."""
        with self.opened(delivery, file) as opened:
            content, faults = opened.content, self.faults
            if faults.spoils(file.member.rpartition("/")[2]) and content:
                content = bytes([content[0] ^ 0xFF]) + content[1:]
            if self.tells_sizes and file.file_id in self._streams:
                self._streams[file.file_id].size = len(content)
            breaks_at = faults.drop_after if faults.use("drops") else None
            if not content:
                opened.end()
            for start in range(0, len(content), CHUNK):
                chunk = content[start : start + CHUNK]
                rate = faults.bytes_per_second
                await self._sleep(len(chunk) / rate if rate else 0)
                if breaks_at is not None and start + len(chunk) > breaks_at:
                    chunk = chunk[: breaks_at - start]
                elif start + len(chunk) == len(content):
                    opened.end()
                self.read += len(chunk)
                if chunk:
                    yield chunk
                if breaks_at is not None and start + len(chunk) >= breaks_at:
                    raise SourceUnavailableError(
                        f"file {file.file_id} broke off after {breaks_at} bytes"
                    )

    @contextlib.contextmanager
    def opened(self, delivery: Delivery, file: ManifestFile) -> Iterator[Opened]:
        """Open a file, or refuse to."""
        raise NotImplementedError


class MemoryOrders(_Bytes):
    """See `app.delivery.ports.OrderSource`: the stand-in's orders, without HTTP and products.

    Its clock stands still: `clock.advance` restores what takes its time, and lets it expire.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        super().__init__(sleep=sleep)
        self.said: list[dict[str, Any]] = []  # of orders, over AMQP: what is None is left out
        self.clock = Clock(lambda: 0.0)
        self.orders = Orders(clock=self.clock, behaviour=self.behaviour, tell=self._tell)
        self._downloads = Downloads(self.orders, self.behaviour)

    def _tell(self, _order: Order, event: dict[str, Any]) -> None:
        self.said.append({name: value for name, value in event.items() if value is not None})

    def hold(self, delivery: Delivery, files: Mapping[str, bytes], **switches: Any) -> None:
        """Accept a delivery's order of these files; what is restored at once, is.

        A name may begin with its product, `P/a.bin`. Without switches (see
        `compose.rs_order.switches`) it is one suborder, and done.
        """
        self.behaviour.switches = UNLIMITED.changed(switches)
        held = []
        for name, content in files.items():
            product, _, filename = name.rpartition("/")
            held.append(
                HeldFile(
                    product_id=product or "P",
                    path=Path(filename),
                    data_type="RAWDATA",
                    content=content,
                )
            )
        self.orders.grant(
            order_id=delivery.order_id,
            tenant=delivery.tenant,
            user=delivery.user,
            correlation_id=delivery.correlation_id,
            files=held,
        )
        self.clock.run_due()

    # Orders

    def _order(self, delivery: Delivery) -> Order:
        order = self.orders.by_id.get(delivery.order_id or 0)
        if order is None:
            raise SourceRefusedError(f"there is no order {delivery.order_id}")
        _refuse_stranger(order, delivery)
        if self.faults.use("answers_500"):
            raise SourceUnavailableError("told to fail")
        return order

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        """Tell about the delivery's order as a whole."""
        order, switches = self._order(delivery), self.behaviour.switches
        if not switches.order_facts:
            return None
        in_error = [FileState.ERROR]
        if switches.broken_downloads_count:
            in_error.append(FileState.DOWNLOAD_ERROR)
        return OrderFacts(
            status=order.status,
            expires_at=datetime.fromtimestamp(order.expires_at, UTC),
            percent=order.percent_completed,
            waiting_for_user=order.waiting_for_user,
            available=order.count(FileState.AVAILABLE),
            in_error=order.count(*in_error),
            datasets=tuple(
                DatasetFacts(
                    dataset_id=dataset.task_id, files=len(dataset.files), size=dataset.size
                )
                for dataset in order.datasets
            ),
        )

    async def retry(self, delivery: Delivery) -> bool:
        """Put files that are in error into new suborders."""
        try:
            self.orders.retry(self._order(delivery))
        except RetryRefusedError:
            return False
        self.clock.run_due()
        return True

    # Lists of files

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        """Iterate over the files that can be downloaded."""
        order = self._order(delivery)
        if self.faults.use("listing_not_ready"):
            raise SourceNotReadyError(f"order {delivery.order_id} is not finished")
        found, finished = order.available(), order.status is not OrderStatus.RUNNING
        if suborder is not None:
            named = next((s for s in order.suborders if s.suborder_id == suborder), None)
            if named is None:
                raise SourceRefusedError(f"order {order.order_id} has no suborder {suborder}")
            found = list(named.available.values())
            finished = named.state in (SuborderState.WAITING, SuborderState.ENDED)
        takes_some = bool(found) and (so_far or suborder is not None)
        if self.behaviour.switches.partial_content and not finished and not takes_some:
            raise SourceNotReadyError(
                f"suborder {suborder} of order {delivery.order_id} is not finished"
            )
        for file in found:
            yield self._listed(file, len(found))

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        """Iterate over all files of the delivery's order."""
        order = self._order(delivery)
        if not self.behaviour.switches.dataset_files or facts.files is None:
            raise OrderNotToldError(f"the files of order {delivery.order_id} are not told")
        for file in [file for dataset in order.datasets for file in dataset.files]:
            told = self._listed(file, facts.files)
            if self.behaviour.switches.crc32:
                told = replace(told, crc32=zlib.crc32(_content(file)))
            yield OrderFile(
                file=told,
                state=file.state,
                suborder_id=file.suborder.suborder_id,
            )

    def _listed(self, file: OrderedFile, listed: int | None) -> ListedFile:
        faults = self.faults
        made = make_listed(
            file.file.path.name,
            _content(file),
            product_id=file.file.product_id,
            file_id=file.file_id,
            listed=listed,
        )
        return replace(
            made,
            size=None if faults.no_size else file.size + faults.wrong_sizes,
            md5=None if faults.no_checksum else made.md5,
        )

    # Bytes

    @contextlib.contextmanager
    def opened(self, delivery: Delivery, file: ManifestFile) -> Iterator[Opened]:
        """Open a file, as rs-order counts it: it is listed no more."""
        found = self.orders.file(file.file_id)
        if found is None:
            raise SourceRefusedError(f"there is no file {file.file_id}")
        order, ordered = found
        _refuse_stranger(order, delivery)
        try:
            with self._downloads.reading(order, ordered) as reading:
                yield Opened(content=_content(ordered), end=reading.end)
        except RefusedError as error:
            told = _refusal(error.status, f"file {file.file_id}: {error}")
            if isinstance(told, SourceGoneError):
                told.position = file.position
            raise told from None
        finally:
            self.clock.run_due()


def _refuse_stranger(order: Order, delivery: Delivery) -> None:
    if order.owner != (delivery.tenant, delivery.user):
        raise SourceRefusedError(f"order {order.order_id} is another user's")


def _content(file: OrderedFile) -> bytes:
    assert isinstance(file.file, HeldFile)
    return file.file.content


def _refusal(status: int, sentence: str) -> DeliveryError:
    if status == 202:
        return SourceNotReadyError(sentence)
    if status == 410:
        return SourceGoneError(sentence)
    return SourceRefusedError(sentence) if stays(status) else SourceUnavailableError(sentence)


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

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        """Iterate over its files as they are now."""
        for file in list_files(self.files):
            yield file

    @contextlib.contextmanager
    def opened(self, delivery: Delivery, file: ManifestFile) -> Iterator[Opened]:
        """Open a file as it is now."""
        yield Opened(content=list(self.files.values())[file.file_id], end=lambda: None)

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


class CountedSource(Source):
    """Counts how often each file is fetched."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.gets = Counter[str]()

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        """Iterate over a file's bytes."""
        self.gets[file.member] += 1
        async for chunk in super().chunks(delivery, file):
            yield chunk
