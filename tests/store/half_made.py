"""A delivery whose attempts end half-way, or go on: real use-cases, pipeline and steps.

The store of archives is the one in memory, with parts of a mebibyte.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from prometheus_client import REGISTRY

from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, StoredObject, StoredPart, Upload
from app.delivery.progress import Progress
from app.delivery.states import Work
from app.delivery.targets import DEFAULT_TARGET, TargetKinds
from app.errors import DeliveryError, SourceUnavailableError
from app.usecases.reports import Reports
from app.usecases.settle import Settlement
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from sinks.formats import formats_with
from sinks.formats.tar_zst import DEFAULT_LEVEL
from sinks.pipeline.budget import Budget
from sinks.pipeline.parts import Part
from sinks.stores.memory import MemoryObject, MemoryObjectStore, MemoryTarget
from sinks.transfer import StreamingArchiver
from tests.builders import list_files, make_body, make_lease
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.integration.transfers import MIB, QUICK
from tests.twins.rs_order import MemoryOrders, Source

ATTEMPTS = 3
TARGET = MemoryTarget(container="archives")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassedTarget(MemoryTarget):
    """One that keeps objects in the storage class that is asked for."""

    kind: ClassVar[str] = "classed"

    storage_class: str

    @property
    def opened_with(self) -> Mapping[str, str]:
        return {"storage class": self.storage_class}


# As little memory as there can be, on each machine.
FORMATS = formats_with(zstd_level=DEFAULT_LEVEL, deflate_threads=1)

# Who reads half of the second file has sent four parts, the last of which ends in it; half of the
# third: twelve.
FILES = {
    "first.bin": noise(3 * MIB),
    "second.bin": noise(8 * MIB, "second"),
    "third.bin": noise(8 * MIB, "third"),
}


async def _nothing() -> None:
    """Do it."""


class Store(MemoryObjectStore):
    """Counts the parts that it is sent, and what it is asked to abort."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = Counter[int]()
        self.aborted: list[str] = []
        self.refuses: DeliveryError | None = None  # to abort
        self.before_etags: Callable[[], Awaitable[None]] = _nothing

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        stored = await super().put_part(target, upload, number, part)
        self.sent[number] += 1
        return stored

    async def part_etags(self, target: MemoryTarget, upload: Upload) -> dict[int, str]:
        await self.before_etags()
        return await super().part_etags(target, upload)

    def forget_part(self, number: int) -> None:
        """Have a part of the open upload no more."""
        for opened in self._open.values():
            for upload in opened.values():
                del upload.parts[number]

    async def abort(self, target: MemoryTarget, upload: Upload) -> None:
        self.aborted.append(upload.upload_id)
        if self.refuses is not None:
            raise self.refuses
        await super().abort(target, upload)


class BreakingSource(Source):
    """Breaks off in a file, once the worker knows that `until` mebibytes are stored.

    It breaks with `error`, if that is given. Or it goes on then, where it `pauses`.
    """

    def __init__(self, files: Mapping[str, bytes], *, until: int) -> None:
        super().__init__(files)
        self.until = until
        self.error: BaseException | None = None
        self.before_it_breaks: Callable[[], Awaitable[None]] = _nothing
        self.pauses: str | None = None
        self.begun: dict[str, Callable[[], object]] = {}  # what comes as a file is begun
        self.reads = Counter[str]()
        self.begin()

    def begin(self) -> None:
        """Count parts from now on."""
        self._before = _bytes_sent()

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        self.reads[file.member] += 1
        self.begun.get(file.member, int)()
        try:
            given = 0
            async for chunk in super().chunks(delivery, file):
                if file.member == self.pauses and given > len(self.files[file.member]) // 2:
                    await self._sent()
                given += len(chunk)
                yield chunk
        except SourceUnavailableError:
            await self._sent()
            await self.before_it_breaks()
            raise (self.error or SourceUnavailableError("broke off")) from None

    async def _sent(self) -> None:
        while _bytes_sent() - self._before < self.until * MIB:
            await asyncio.sleep(0.01)


def _bytes_sent() -> float:
    labels = {"tenant": TENANT, "target": DEFAULT_TARGET}
    return REGISTRY.get_sample_value("delivery_target_bytes_total", labels) or 0


class HalfMade:
    """One delivery, whose attempts are made by hand."""

    def __init__(self, deliveries: Deliveries, files: Mapping[str, bytes] = FILES) -> None:
        self.deliveries = deliveries
        self.files = dict(files)
        self.store = Store()
        self.source = BreakingSource(self.files, until=12)
        self.reports: list[Progress] = []
        self.orders: Any = MemoryOrders()  # where orders are retried
        self.written: Reports | None = None  # what writes the reports of failures, if any
        self._heir: Delivery | None = None
        self.aim(TARGET)

    def aim(self, target: MemoryTarget) -> None:
        """Let the tenant's archives go there."""
        self.deliveries.tenants.give(TENANT, target=target)

    def archiver(self, **changes: Any) -> StreamingArchiver:
        """Return what makes the archive."""
        made = StreamingArchiver(
            self.source,
            self.store,
            self.reports.append,
            compression="store",
            part_size=MIB,
            memory=32 * MIB,
            worker_memory=Budget(64 * MIB),
            max_object_size=1024**4,
            connections=4,
            patience=QUICK,
            formats=FORMATS,
        )
        return replace(made, **changes)

    def transfers(self, owner: str, **changes: Any) -> Transfers:
        """Return what a worker transfers with; its archiver with these changes."""
        deliveries, store = self.deliveries, self.store
        return Transfers(
            store=deliveries.store,
            leases=deliveries.leases(owner),
            tenants=deliveries.tenants,
            objects=store,
            uploads=Uploads(
                objects=store,
                seal=deliveries.vault,
                store=deliveries.store,
                kinds=TargetKinds(MemoryTarget, ClassedTarget),
            ),
            checkpoints=deliveries.checkpoints(owner),
            archiver=self.archiver(**changes),
            segments=deliveries.segments(self.source),
            attempts=ATTEMPTS,
        )

    async def plan(
        self, crc32s: Mapping[str, int] | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        """Make the delivery ready; of some files these CRC-32s are told.

        Its client has chosen `options`.
        """
        body = make_body() | ({"delivery": options} if options else {})
        delivery = await self.deliveries.available(body=body)
        told = crc32s or {}
        listing = [replace(file, crc32=told.get(file.filename)) for file in list_files(self.files)]
        name = "manifest.json" if delivery.format == "files" else None
        await self.deliveries.plan(delivery, listing, archive_name=name)

    async def attempt(
        self,
        owner: str = "w",
        *,
        breaks: str | None = None,
        lease: Lease | None = None,
        **changes: Any,
    ) -> BaseException | None:
        """Make an attempt, which breaks off in a file, or not; return what it failed with."""
        claimed = await self.deliveries.leases(owner).claim(Work.TRANSFER)
        assert claimed is not None
        self.source.begin()
        self.source.fail = breaks
        try:
            await self.transfers(owner, **changes).deliver(claimed, lease or make_lease())
        except DeliveryError as error:
            await self.settlement(owner).settle(claimed, error)
            return error
        return None

    async def take_over(self) -> None:
        """Let another worker claim the delivery, as if the lease had run out."""
        await self.deliveries.let_leases_run_out()
        self._heir = await self.deliveries.leases("heir").claim(Work.TRANSFER)

    @property
    def heir(self) -> Delivery:
        """What the worker that took over has claimed."""
        assert self._heir is not None
        return self._heir

    async def end_as_heir(self) -> None:
        """Let the worker that took over transfer it."""
        assert self._heir is not None
        self.source.fail = None
        await self.transfers("heir").deliver(self._heir, make_lease())

    def settlement(self, owner: str) -> Settlement:
        return Settlement(
            store=self.deliveries.store,
            leases=self.deliveries.leases(owner),
            backoff=Backoff(first=0, longest=0),
            attempts=ATTEMPTS,
            source=self.orders,
            reports=self.written,
        )

    async def begin_twice(self) -> None:
        """Let one attempt break off behind part 4, in the second file, and one behind part 12."""
        await self.plan()
        self.source.until = 4
        assert await self.attempt("first", breaks="second.bin") is not None
        self.source.until = 8
        assert await self.attempt("second", breaks="third.bin") is not None

    async def begin(self, breaks: str = "third.bin") -> Delivery:
        """Plan it, and make a first attempt that breaks off once it has sent twelve parts."""
        await self.plan()
        error = await self.attempt("first", breaks=breaks)
        assert isinstance(error, SourceUnavailableError)
        return await self.deliveries.active()

    async def put_object(self, delivery: Delivery) -> StoredObject:
        """Let there be an object in the archive's place, of this delivery."""
        assert delivery.upload is not None
        key, marks = delivery.upload.key, marks_of(delivery)
        upload = await self.store.create_upload(TARGET, key, marks, media_type="")
        part = await MemoryObjectStore.put_part(self.store, TARGET, upload, 1, Part.of(b"archive"))
        etag = await self.store.complete(TARGET, upload, [part], 7, marks=marks)
        return StoredObject(url=TARGET.url_of(key), md5="0" * 32, size=7, etag=etag)

    def object(self) -> MemoryObject:
        """Return the archive."""
        (found,) = self.store.objects(TARGET).values()
        return found
