"""Workers in every order: the lease protocol, against an object store that keeps score.

Real use-cases and real leases; each step to the leases or the object store waits until it is let
through, in an order that is drawn. A worker believes in its lease for ever (as one that stood
still does), and may die at any step. What may not happen: two that deliver, an object that changes
or appears after the delivery has ended, an upload that stays open.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.delivery.checkpoint import (
    Boundary,
    Checkpoint,
    FinishedMember,
    SavedStep,
    Step,
    Tail,
    TailObject,
)
from app.delivery.contents import NOTHING, Wanted
from app.delivery.kept_files import FileStep
from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.marks import Whose, marks_of, whose
from app.delivery.model import Delivery
from app.delivery.object_store import (
    FoundObject,
    May,
    PartBody,
    StoredObject,
    StoredPart,
    Upload,
)
from app.delivery.outgoing import Kind
from app.delivery.ports import Allowed, Checkpoints, Folder, Leases, LeavesOut
from app.delivery.states import State, Work
from app.delivery.targets import Target
from app.errors import (
    CheckpointUnusableError,
    DeliveryError,
    ErrorType,
    ForeignObjectError,
    LeaseLostError,
    UploadLostError,
)
from app.run.wiring.kinds import KINDS
from app.usecases.fail import fail
from app.usecases.settle import Settlement
from app.usecases.sweep import Sweep
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import Part
from sinks.stores.s3.target import S3Target
from tests.builders import make_found, make_lease, make_stored, make_upload
from tests.deliveries import Deliveries
from tests.seams import Seamed, planned_ahead
from tests.store.conftest import OTHER
from tests.twins.rs_order import MemoryOrders

WORKERS = 3


class KilledError(BaseException):
    """The worker is gone: nothing more of it happens, not even its clean-up."""


@dataclass
class Bucket:
    """A store with S3's rules: what is aborted can't be completed; one object a key.

    It completes as `S3ObjectStore` does at a store that keeps conditions: nothing takes the place
    of another tenant's or user's.
    """

    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    open: dict[str, str] = field(default_factory=dict)  # keys of uploads by their id
    marks: dict[str, Mapping[str, str]] = field(default_factory=dict)  # of each upload
    completed: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # completed when the delivery had ended
    objects: dict[str, str] = field(default_factory=dict)  # the upload of each key's object
    parts: dict[str, dict[int, str]] = field(default_factory=dict)  # ETags, of each upload
    etags: dict[str, str] = field(default_factory=dict)  # of what uploads became
    asides: dict[str, bytes] = field(default_factory=dict)  # tails, by key
    missed: list[str] = field(default_factory=list)  # tails that who had the lease did not find

    def put(self, upload: Upload, number: int, etag: str) -> None:
        """Store a part."""
        if upload.upload_id not in self.open:
            raise UploadLostError("NoSuchUpload")
        self.parts[upload.upload_id][number] = etag

    def complete(self, upload: Upload, marks: Mapping[str, str], parts: dict[int, str]) -> None:
        """Let an object appear, unless it is there already, or what is there is another's."""
        if upload.upload_id not in self.open:
            there = self.objects.get(upload.key)
            if there is not None and self.etags[there] == etag_of(parts):
                return  # an earlier request has made it
            raise UploadLostError("NoSuchUpload; the object is not there")
        if self.parts[upload.upload_id] != parts:
            raise UploadLostError("InvalidPart")
        there = self.objects.get(upload.key)
        owner = None if there is None else whose(self.marks[there], marks)
        if owner in (Whose.ANOTHER_TENANTS, Whose.ANOTHER_USERS):
            raise ForeignObjectError("another's object is there")
        del self.open[upload.upload_id]
        if owner is not Whose.ITS_OWN:
            self.objects[upload.key] = upload.upload_id
            self.etags[upload.upload_id] = etag_of(parts)
        self.completed.append(upload.upload_id)


def etag_of(parts: Mapping[int, str]) -> str:
    """Return the ETag of what these parts become."""
    return "+".join(etag for _, etag in sorted(parts.items()))


class Gate:
    """Where one worker waits for its turn."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[None] | None = None
        self.reached = asyncio.Event()
        self.dead = False

    async def turn(self) -> None:
        """Wait until let through. Raises KilledError."""
        if self.dead:
            raise KilledError
        self.waiting = asyncio.get_running_loop().create_future()
        self.reached.set()
        await self.waiting

    def let(self) -> None:
        """Let the worker take one step."""
        assert self.waiting is not None
        self.reached.clear()
        waiting, self.waiting = self.waiting, None
        if self.dead:
            waiting.set_exception(KilledError())
        else:
            waiting.set_result(None)


class OpenGate(Gate):
    """Lets everything through."""

    async def turn(self) -> None:
        """Go on."""


@dataclass
class Sink:
    """One worker's way to the store."""

    gate: Gate
    bucket: Bucket

    async def create_upload(
        self, target: S3Target, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        await self.gate.turn()
        upload_id = str(next(self.bucket.numbers))
        self.bucket.open[upload_id] = key
        self.bucket.marks[upload_id] = marks
        self.bucket.parts[upload_id] = {}
        return make_upload(container=target.bucket, key=key, upload_id=upload_id)

    async def abort(self, target: S3Target, upload: Upload) -> None:
        await self.gate.turn()
        self.bucket.open.pop(upload.upload_id, None)

    async def part_etags(self, target: S3Target, upload: Upload) -> dict[int, str]:
        await self.gate.turn()
        if upload.upload_id not in self.bucket.open:
            raise UploadLostError("NoSuchUpload")
        return dict(self.bucket.parts[upload.upload_id])

    async def open_uploads(self, target: S3Target, key: str) -> list[Upload]:
        await self.gate.turn()
        return [
            make_upload(container=target.bucket, key=key, upload_id=upload_id)
            for upload_id, open_key in self.bucket.open.items()
            if open_key == key
        ]

    async def find(self, target: S3Target, key: str) -> FoundObject | None:
        await self.gate.turn()
        there = self.bucket.objects.get(key)
        if there is None:
            return None
        return make_found(etag=self.bucket.etags[there], marks=self.bucket.marks[there])

    async def put_object(
        self,
        target: S3Target,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        raise AssertionError("an archive is no file by itself")

    async def put_aside(
        self, target: S3Target, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        await self.gate.turn()
        self.bucket.asides[key] = body.read()

    async def drop_aside(self, target: S3Target, key: str) -> None:
        await self.gate.turn()
        self.bucket.asides.pop(key, None)

    async def delete(self, target: S3Target, key: str, *, etag: str) -> None:
        raise AssertionError("nothing that was delivered is removed")


@dataclass
class GatedArchiver:
    """Sends two parts, saves a checkpoint in between, and completes.

    The second one has other bytes at each worker, as those of several kinds of processors have.
    """

    gate: Gate
    bucket: Bucket
    deliveries: Deliveries
    name: str

    def media_type(self, delivery: Delivery) -> str:
        return "application/zip"

    def memory_of(self, *_args: Any, **_kwargs: Any) -> int:
        return 0

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile | Seam],
        target: Target,
        upload: Upload,
        *,
        at_most: int,
        name_bytes: int,
        most_files: int | None = None,
        lease: Lease,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        save: Callable[[Step], Awaitable[bool]],
        put_aside: Callable[[PartBody], Awaitable[Tail]],
        folder: Folder,
        keep: Callable[[StoredObject, int, bytes], Awaitable[bool]] | None = None,
        wanted: Wanted = NOTHING,
        leaving_out: LeavesOut | None = None,
        after: Checkpoint | None = None,
    ) -> StoredObject | None:
        parts = {1: "first", 2: self.name}
        if after is None:
            await self.gate.turn()
            self.bucket.put(upload, 1, parts[1])
            await save(STEP)
        await self.gate.turn()
        self.bucket.put(upload, 2, parts[2])
        result = make_stored(upload, etag=etag_of(parts))
        if not await may_complete(result):
            raise LeaseLostError("the lease is gone")
        await self.gate.turn()
        self.bucket.complete(upload, marks_of(delivery), parts)
        if (await self.deliveries.row(delivery)).finished_at is not None:
            self.bucket.late.append(upload.upload_id)
        await self.gate.turn()
        return result


@dataclass
class PausingArchiver(GatedArchiver):
    """Pauses before its second part, and once more: each time with more in its tail."""

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile | Seam],
        target: Target,
        upload: Upload,
        *,
        save: Callable[[Step], Awaitable[bool]],
        put_aside: Callable[[PartBody], Awaitable[Tail]],
        after: Checkpoint | None = None,
        **others: Any,
    ) -> StoredObject | None:
        made = 0 if after is None else after.boundary.members
        if after is None:
            await self.gate.turn()
            self.bucket.put(upload, 1, "first")
        else:
            await self._read(delivery, after)
        if made == PAUSES:
            return await super().run(
                delivery,
                files,
                target,
                upload,
                save=save,
                put_aside=put_aside,
                after=after,
                **others,
            )
        tail = await put_aside(Part.of(bytes(made + 1)))
        if not await save(paused(made + 1, tail)):
            raise LeaseLostError("another worker has the archive that pauses")
        return None

    async def _read(self, delivery: Delivery, after: Checkpoint) -> None:
        await self.gate.turn()
        assert after.tail is not None
        if self.bucket.asides.get(after.tail.key) != bytes(after.tail.size):
            if await self.deliveries.leases(self.name).holds(delivery):
                self.bucket.missed.append(after.tail.key)
            raise CheckpointUnusableError("the tail is gone")


PAUSES = 2


def paused(members: int, tail: Tail) -> Step:
    """Return what is saved at a pause: of the members, each but the first is a byte."""
    first = members == 1
    part = StoredPart(etag="first", md5=None)
    return Step(
        follows=0 if first else 1,
        part_size=64,
        boundary=Boundary(parts=1, md5_state=bytes(16), members=members, crc=0),
        parts=[part] if first else [],
        members=[FinishedMember(65 if first else 1, b"")],
        tail=tail,
    )


STEP = Step(
    follows=0,
    part_size=64,
    boundary=Boundary(parts=1, md5_state=bytes(16), members=0, crc=0),
    parts=[StoredPart(etag="first", md5=None)],
    members=[],
)


@dataclass
class GatedCheckpoints:
    """Checkpoints that are saved each in its turn."""

    gate: Gate
    checkpoints: Checkpoints

    async def save(self, delivery: Delivery, upload: Upload, step: Step) -> bool:
        await self.gate.turn()
        return await self.checkpoints.save(delivery, upload, step)

    async def steps(self, delivery: Delivery, upload: Upload) -> list[SavedStep]:
        return await self.checkpoints.steps(delivery, upload)

    async def members(
        self, delivery: Delivery, upload: Upload, step: SavedStep
    ) -> list[FinishedMember]:
        return await self.checkpoints.members(delivery, upload, step)

    async def record_tail(
        self, delivery: Delivery, upload: Upload, key: str, *, until: timedelta
    ) -> bool:
        await self.gate.turn()
        return await self.checkpoints.record_tail(delivery, upload, key, until=until)

    async def keep_contents(
        self, delivery: Delivery, upload: Upload, *, md5: str, first: int, contents: bytes
    ) -> bool:
        await self.gate.turn()
        return await self.checkpoints.keep_contents(
            delivery, upload, md5=md5, first=first, contents=contents
        )

    def contents(self, delivery: Delivery, *, md5: str) -> AsyncIterator[bytes]:
        return self.checkpoints.contents(delivery, md5=md5)

    async def record_files(self, *_: Any, **__: Any) -> bool:
        raise AssertionError("an archive has no files beside it")

    async def save_file(self, *_: Any) -> bool:
        raise AssertionError("an archive has no files beside it")

    async def kept_uploads(self, delivery: Delivery) -> dict[int, str]:
        return await self.checkpoints.kept_uploads(delivery)

    async def file_steps(self, *_: Any) -> list[FileStep]:
        raise AssertionError("an archive has no files beside it")

    async def forget_file(self, *_: Any) -> bool:
        raise AssertionError("an archive has no files beside it")

    async def tails(self, delivery: Delivery) -> list[TailObject]:
        return await self.checkpoints.tails(delivery)

    async def forget_tails(
        self, delivery: Delivery, keys: Sequence[str], *, took: timedelta
    ) -> None:
        await self.gate.turn()
        await self.checkpoints.forget_tails(delivery, keys, took=took)

    async def is_kept(
        self, delivery: Delivery, upload: Upload, *, for_another: bool = False
    ) -> bool:
        return await self.checkpoints.is_kept(delivery, upload, for_another=for_another)


@dataclass
class GatedLeases:
    """Leases that are claimed, noted and recorded each in its turn."""

    gate: Gate
    leases: Leases

    async def claim(self, work: Work) -> Delivery | None:
        await self.gate.turn()
        return await self.leases.claim(work)

    def sees_more(self, work: Work) -> bool:
        return self.leases.sees_more(work)

    async def record_completion(
        self,
        delivery: Delivery,
        result: StoredObject,
        *,
        namespace: str,
        until: timedelta,
        beside: str | None = None,
    ) -> Allowed | None:
        await self.gate.turn()
        return await self.leases.record_completion(
            delivery, result, namespace=namespace, until=until, beside=beside
        )

    async def record_upload(self, delivery: Delivery, upload: Upload) -> bool:
        await self.gate.turn()
        return await self.leases.record_upload(delivery, upload)

    async def leave_out(self, delivery: Delivery, position: int, cause: str) -> bool:
        await self.gate.turn()
        return await self.leases.leave_out(delivery, position, cause)

    async def failures_of(self, delivery: Delivery, position: int) -> int | None:
        await self.gate.turn()
        return await self.leases.failures_of(delivery, position)

    async def record_failures(self, delivery: Delivery, position: int, times: int) -> bool:
        await self.gate.turn()
        return await self.leases.record_failures(delivery, position, times)

    async def renew(self, delivery: Delivery) -> bool:
        return await self.leases.renew(delivery)

    async def holds(self, delivery: Delivery) -> bool:
        return await self.leases.holds(delivery)

    async def park(self, delivery: Delivery, *, cause: str) -> None:
        await self.gate.turn()
        await self.leases.park(delivery, cause=cause)

    async def discard_completion(self, delivery: Delivery) -> None:
        await self.leases.discard_completion(delivery)

    async def release(
        self,
        delivery: Delivery,
        *,
        after: timedelta,
        failed: bool,
        cause: str,
        code: str | None = None,
        tried: bool = True,
        retried: tuple[int, int] | None = None,
    ) -> None:
        await self.leases.release(
            delivery, after=after, failed=failed, cause=cause, tried=tried, retried=retried
        )


def uploads_of(deliveries: Deliveries, sink: Sink) -> Uploads:
    """Return what remembers where uploads are open."""
    store: Any = sink  # all of one that a use-case asks for
    return Uploads(objects=store, seal=deliveries.vault, store=deliveries.store, kinds=KINDS)


class Worker:
    """Claims and delivers, one step at a time; archives that pause, where the archiver does."""

    def __init__(
        self,
        deliveries: Deliveries,
        bucket: Bucket,
        name: str,
        archiver: type[GatedArchiver] = GatedArchiver,
    ) -> None:
        self.gate = Gate()
        self._pauses = archiver is PausingArchiver
        self.leases = GatedLeases(self.gate, deliveries.leases(name))
        sink: Any = Sink(self.gate, bucket)
        segments: Any = Seamed(deliveries.store, ends=[], pause_after=None)
        self.transfers = Transfers(
            store=deliveries.store,
            leases=self.leases,
            tenants=deliveries.tenants,
            objects=sink,
            uploads=uploads_of(deliveries, sink),
            checkpoints=GatedCheckpoints(self.gate, deliveries.checkpoints(name)),
            archiver=archiver(self.gate, bucket, deliveries, name),
            segments=segments,
            frees_places=False,
        )
        self.settlement = Settlement(
            store=deliveries.store,
            leases=self.leases,
            backoff=Backoff(first=0, longest=0),
            attempts=1000,
            source=MemoryOrders(),
        )
        self.task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            delivery = await self.leases.claim(Work.TRANSFER)
            if delivery is None:
                continue
            if self._pauses:
                delivery = planned_ahead(delivery)
            try:
                await self.transfers.deliver(delivery, make_lease())
            except DeliveryError as error:
                await self.settlement.settle(delivery, error)

    async def step(self) -> None:
        """Take one step, up to the next gate or the end."""
        await self._stands()
        if not self.task.done():
            self.gate.let()
            await self._stands()

    async def _stands(self) -> None:
        """Return when it waits at a gate, or has ended."""
        reached = asyncio.ensure_future(self.gate.reached.wait())
        await asyncio.wait({reached, self.task}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()

    async def stop(self) -> None:
        """End it as a kill would."""
        self.gate.dead = True
        while not self.task.done():
            await self.step()
        assert isinstance(self.task.exception(), KilledError)


steps = st.lists(
    st.one_of(
        st.integers(0, WORKERS - 1),  # a step of this worker
        st.integers(0, WORKERS - 1),
        st.integers(0, WORKERS - 1),
        st.just("lease runs out"),
        st.tuples(st.just("kill"), st.integers(0, WORKERS - 1)),
    ),
    max_size=60,
)
# Claim, begin, record, send, save, send, note: the next step completes.
TO_SAVED, TO_COMPLETION = [0] * 5, [0] * 7
# Claim, begin, record, send, note, put, that it was, save, park.
TO_PAUSED = [0] * 9
# Claim, look, look, read, note, put, that it was, save, drop, that it was, park.
TO_PAUSED_AGAIN = [0] * 11
REST = [1] * 14
REST_TURNS = 14  # of each worker; what it has begun before has ended by then


orders = examples(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def play(
    deliveries: Deliveries,
    steps: list[object],
    asked: list[Delivery],
    *,
    archiver: type[GatedArchiver] = GatedArchiver,
) -> Bucket:
    """Let workers deliver what was asked for, in that order, until all has ended and is swept."""
    bucket = Bucket()
    worker_of = partial(Worker, deliveries, bucket, archiver=archiver)
    workers = [worker_of(f"w{number}") for number in range(WORKERS)]
    rest = itertools.count()
    try:
        for step in steps:
            match step:
                case int(number):
                    await workers[number].step()
                case ("kill", int(number)):
                    await workers[number].stop()
                    workers[number] = worker_of(f"w{uuid4().hex[:6]}")
                case "cancel":
                    await cancel(deliveries, asked)
                case _:
                    await deliveries.let_leases_run_out()
        # From now on no worker dies: the delivery ends, and all come to rest.
        await deliveries.let_leases_run_out()
        turns = itertools.count()

        async def all_ended() -> bool:
            return all([(await deliveries.row(delivery)).state.ended for delivery in asked])

        while not await all_ended() or next(rest) < REST_TURNS:
            for worker in workers:
                await worker.step()
            assert bucket.missed == [], "who begins again and again never ends"
            if next(turns) % 15 == 14:
                await deliveries.let_leases_run_out()
    finally:
        for worker in workers:
            await worker.stop()
    open_sink = Sink(OpenGate(), bucket)
    await Sweep(
        store=deliveries.store,
        tenants=deliveries.tenants,
        uploads=uploads_of(deliveries, open_sink),
        checkpoints=deliveries.checkpoints("sweep"),
        after=timedelta(),
        limit=10,
    ).look()
    assert bucket.open == {}
    assert bucket.late == []
    assert bucket.asides == {}
    return bucket


async def cancel(deliveries: Deliveries, asked: list[Delivery]) -> None:
    """Let deliveries end, as an operator may."""
    for delivery in asked:
        async with deliveries.store.transaction() as tx:
            active = await tx.lock(delivery.tenant, delivery.correlation_id)
            if active is not None:
                await fail(tx, active, ErrorType.INTERNAL_ERROR, "cancelled")


async def said(deliveries: Deliveries, delivery: Delivery) -> list[str]:
    """Return what its client was told."""
    return [
        message.body["status"]
        for message in await deliveries.outgoing()
        if message.delivery_id == delivery.id and message.kind is Kind.RESPONSE
    ]


@given(steps=steps)
@example(steps=[*TO_COMPLETION, "lease runs out", *REST, 0, 0, 0])
@example(steps=[*TO_COMPLETION, "lease runs out", 1, 0, 0, *REST, 0])
@example(steps=[0, 0, ("kill", 0), "lease runs out", *REST])
@example(steps=[*TO_SAVED, ("kill", 0), "lease runs out", *REST])
@example(steps=[*TO_SAVED, "lease runs out", *[1] * 4, *[0] * 9, *REST])
@example(steps=[*TO_COMPLETION, "lease runs out", *[1] * 4, 0, 0, 0, *REST])
@orders
async def test_one_of_many_workers_delivers_whatever_their_order(
    deliveries: Deliveries, steps: list[object]
) -> None:
    asked = await deliveries.ready(f"c-{uuid4().hex}")
    bucket = await play(deliveries, steps, [asked])
    assert bucket.completed
    row = await deliveries.row(asked)
    assert (row.state, row.lease_owner) == (State.DONE, None)
    assert await said(deliveries, asked) == ["GRANTED", "DONE"]


@given(steps=steps)
@example(steps=[*TO_PAUSED, *TO_PAUSED_AGAIN, *REST])
@example(steps=[*TO_PAUSED, ("kill", 0), *REST])
@example(steps=[*TO_PAUSED[:-1], "lease runs out", *[1] * 5, 0, *REST])
@example(steps=[*TO_PAUSED, *[1] * 7, "lease runs out", *[2] * 12, *REST])
@example(steps=[*TO_PAUSED, *TO_PAUSED_AGAIN[:-2], "lease runs out", *[1] * 4, 0, 0, *REST])
@orders
async def test_an_archive_that_pauses_is_delivered_whatever_the_order(
    deliveries: Deliveries, steps: list[object]
) -> None:
    """Who has the lease finds what was put aside; and nothing is left of it."""
    asked = await deliveries.ready(f"c-{uuid4().hex}")
    bucket = await play(deliveries, steps, [asked], archiver=PausingArchiver)
    assert bucket.completed
    assert (await deliveries.row(asked)).state is State.DONE
    assert await said(deliveries, asked) == ["GRANTED", "DONE"]


@given(steps=st.tuples(steps, steps).map(lambda drawn: [*drawn[0], "cancel", *drawn[1]]))
@example(steps=[*TO_COMPLETION, "cancel"])
@example(steps=[*TO_COMPLETION, ("kill", 0), "cancel"])
@example(steps=[*TO_COMPLETION, "lease runs out", 1, "cancel", 0, *REST])
@example(steps=[*TO_COMPLETION, 0, ("kill", 0), "cancel"])
@orders
async def test_one_that_is_cancelled_has_its_archive_or_never_will(
    deliveries: Deliveries, steps: list[object]
) -> None:
    """Whatever the order: nothing appears of which its client was told that it failed."""
    asked = await deliveries.ready(f"c-{uuid4().hex}")
    bucket = await play(deliveries, steps, [asked])
    row = await deliveries.row(asked)
    assert await said(deliveries, asked) == ["GRANTED", row.state]
    assert bool(bucket.objects) is (row.state is State.DONE)


@given(steps=steps)
@example(steps=[*TO_COMPLETION, *REST, 0, 0, 0])
@example(steps=[*TO_COMPLETION, *[1] * 4, 0, 1, "lease runs out", 2, 2, 2, 2, 2])
@example(steps=[0, 0, ("kill", 0), 1, 1, "lease runs out", *[2] * 8, 1, 1, 1])
@orders
async def test_one_of_two_tenants_delivers_to_a_key_and_the_upload_of_the_other_is_aborted(
    deliveries: Deliveries, steps: list[object]
) -> None:
    """Whatever the order: who was told of the object finds its own there."""
    name = f"c-{uuid4().hex}"
    asked = [await deliveries.ready(name, tenant=tenant) for tenant in (TENANT, OTHER)]
    bucket = await play(deliveries, steps, asked)
    assert bucket.completed
    told = {(await said(deliveries, delivery))[-1]: delivery for delivery in asked}
    assert told.keys() == {"DONE", "ERROR"}
    ((_, there),) = bucket.objects.items()
    assert bucket.marks[there] == marks_of(told["DONE"])


class Forgetful(GatedArchiver):
    """Archives to a store that loses every upload."""

    async def run(self, *_: object, **__: object) -> StoredObject:
        raise UploadLostError("the store knows no such upload")


@pytest.mark.parametrize(
    ("ttl", "opened", "error"), [(30, 3, UploadLostError), (0, 0, LeaseLostError)]
)
async def test_an_upload_begins_and_one_that_was_lost_again_only_while_the_lease_surely_holds(
    deliveries: Deliveries, ttl: float, opened: int, error: type[DeliveryError]
) -> None:
    """Else its delivery may have ended long ago, and been swept: none would abort another one."""
    bucket = Bucket()
    worker = Worker(deliveries, bucket, "w")
    await worker.stop()
    delivery = await deliveries.claimed()
    sink: Any = Sink(OpenGate(), bucket)
    transfers = replace(
        worker.transfers,
        leases=deliveries.leases("w"),
        objects=sink,
        uploads=uploads_of(deliveries, sink),
        archiver=Forgetful(OpenGate(), bucket, deliveries, "w"),
    )
    with pytest.raises(error):
        await transfers.deliver(delivery, make_lease(ttl))
    assert len(bucket.marks) == opened
    assert bucket.open == {}
