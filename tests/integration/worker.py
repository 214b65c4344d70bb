"""The part of a worker that transfers, with its parts at hand: real slots, leases and targets."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from functools import partial

import asyncpg

from app.delivery.formats import AS_FILES, DEFAULT_FORMAT
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.model import Delivery
from app.delivery.states import Work
from app.settings import Settings
from app.store import PostgresStore
from app.usecases.settle import Settlement
from app.usecases.sweep import Sweep
from app.usecases.transfer import Transfers
from app.waiting.backoff import Backoff
from app.waiting.grace import Grace
from app.waiting.patience import Patience
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT, USER
from sinks.pipeline.budget import Budget
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from streams.work.slots import Slots
from tests.builders import list_files, make_body
from tests.integration.conftest import Deliveries
from tests.integration.transfers import MIB, QUICK, Bench
from tests.twins.rs_order import Source


class CountingSource(Source):
    """Counts how often each file is fetched."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.gets: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.gets[file.member] += 1
        async with super().download(delivery, file) as chunks:
            yield chunks

    def each_once(self) -> bool:
        """Whether every file was fetched, and none twice."""
        return self.gets == Counter(list(self.files))


class TransferWorker:
    """Slots that transfer; targets are `target` and, by the name `other`, another one.

    Of the stack's tenant, and of those that are `sharing` them. Of a manifest it reads
    `files_at_once`.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        settings: Settings,
        sink: S3ObjectStore,
        target: S3Target,
        source: Source,
        *,
        other: S3Target | None = None,
        patience: Patience = QUICK,
        budget: int = 256 * MIB,
        lease: float = 30,
        attempts: int = 3,
        sharing: Sequence[str] = (),
        owner: str = "w",
        files_at_once: int = 1000,
    ) -> None:
        self.deliveries = Deliveries(pool, settings)
        self.sink = sink
        self.target = target
        self.source = source
        tenants = self.deliveries.tenants
        for tenant in (TENANT, *sharing):
            more = {} if other is None else {"other": other}
            tenants.give(tenant, target=target, targets=more)
        leases = self.deliveries.leases(owner, seconds=lease)
        bench = Bench(sink, target, source, budget=Budget(budget), patience=patience)
        self.transfers = Transfers(
            store=PostgresStore(pool, self.deliveries.owed_signal, batch=files_at_once),
            leases=leases,
            tenants=tenants,
            objects=sink,
            uploads=self.deliveries.uploads(sink),
            checkpoints=self.deliveries.checkpoints(owner),
            archiver=bench.archiver(),
            segments=self.deliveries.segments(source),
            patience=patience,
        )
        settlement = Settlement(
            store=self.deliveries.store,
            leases=leases,
            backoff=Backoff(first=3600, longest=3600),
            attempts=attempts,
            source=source,
        )
        self.wake = Wakeup()
        self._make = partial(
            Slots,
            kind=Work.TRANSFER,
            work=self.transfers.deliver,
            settle=settlement.settle,
            leases=leases,
            wake=self.wake,
            interval=0.05,
            lease_ttl=lease,
            grace=Grace(0),
        )

    @contextlib.asynccontextmanager
    async def running(self, count: int = 1) -> AsyncIterator[None]:
        """Transfer what is due, `count` at a time."""
        slots = self._make(count=count)
        await slots.start()
        try:
            yield
        finally:
            await slots.stop()

    async def plan(
        self,
        name: str,
        *,
        target: str | None = None,
        tenant: str = TENANT,
        user: str = USER,
        format_name: str = DEFAULT_FORMAT,
    ) -> None:
        """Make a delivery of all files ready."""
        body = make_body(name) | {"delivery": {"format": format_name}}
        delivery = await self.deliveries.available(name, tenant=tenant, body=body)
        await self.deliveries.pool.execute(
            "UPDATE delivery SET user_email = $2 WHERE id = $1", delivery.id, user
        )
        if target is not None:
            await self.deliveries.pool.execute(
                "UPDATE delivery SET target = $2 WHERE id = $1", delivery.id, target
            )
        # From now on it may be claimed.
        named = {"archive_name": MANIFEST_NAME} if format_name == AS_FILES else {}
        await self.deliveries.plan(delivery, list_files(self.source.files), **named)

    async def row(self, name: str, tenant: str = TENANT) -> asyncpg.Record:
        """Return the newest delivery of a correlation id."""
        row = await self.deliveries.pool.fetchrow(
            "SELECT * FROM delivery WHERE correlation_id = $1 AND tenant = $2 "
            "ORDER BY requested_at DESC",
            name,
            tenant,
        )
        assert row is not None
        return row

    async def until(
        self, name: str, is_so: Callable[[asyncpg.Record], bool], *, tenant: str = TENANT
    ) -> asyncpg.Record:
        """Return the delivery once something is so."""
        async with asyncio.timeout(30):
            while not is_so(row := await self.row(name, tenant)):
                await asyncio.sleep(0.02)
        return row

    async def try_now(self, name: str) -> None:
        """Let a delivery that was put off be claimed at once."""
        await self.deliveries.pool.execute(
            "UPDATE delivery SET not_before = now() WHERE correlation_id = $1", name
        )

    async def ended(self, name: str, *, tenant: str = TENANT) -> asyncpg.Record:
        """Return the delivery once it has ended."""
        return await self.until(name, lambda row: row["state"] in ("DONE", "ERROR"), tenant=tenant)

    async def sweep(self) -> int:
        """Sweep once, what ended just now, too."""
        return await Sweep(
            store=self.deliveries.store,
            tenants=self.deliveries.tenants,
            uploads=self.deliveries.uploads(self.sink),
            checkpoints=self.deliveries.checkpoints("sweep"),
            after=timedelta(),
            limit=9,
        ).look()
