"""What an attempt does with what one before it has sent: it goes on with it, or leaves nothing."""

from __future__ import annotations

import asyncio
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.delivery.model import Delivery
from app.delivery.object_store import Upload
from app.delivery.progress import Phase
from app.delivery.states import Work
from app.delivery.targets import DEFAULT_TARGET
from app.errors import (
    DeliveryError,
    LeaseLostError,
    RetryableError,
    SourceGoneError,
    SourceRefusedError,
    SourceUnavailableError,
    StoreUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WorkerStoppedError,
    WrongCrc32Error,
    WrongFileError,
)
from app.usecases.sweep import Sweep, after_end
from app.views.progress import rate
from compose.embedded.stack import TENANT
from sinks import formats
from sinks.pipeline.budget import Budget
from sinks.stores.deadlines import CALL_TIMEOUT
from tests.builders import make_lease
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.integration.transfers import MIB
from tests.store.half_made import ATTEMPTS, FILES, TARGET, ClassedTarget, HalfMade
from tests.unit.test_assembler import goes_on
from tests.unit.test_formats import made

pytestmark = goes_on


@pytest.fixture
def half(deliveries: Deliveries) -> HalfMade:
    """A delivery that is to be left half-made."""
    return HalfMade(deliveries)


async def test_what_was_sent_is_kept_and_gone_on_with(half: HalfMade) -> None:
    await half.begin()
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert {half.store.sent[number] for number in range(1, 13)} == {1}
    assert half.source.reads["first.bin"] == half.source.reads["second.bin"] == 1
    assert half.store.aborted == []


async def test_a_worker_that_stops_leaves_nothing_to_be_sent_or_read_again(
    half: HalfMade,
) -> None:
    """Another one claims it at once; what was put aside for it is gone in the end."""
    await half.plan()
    for stops_at in ("first.bin", "second.bin"):
        lease = make_lease()
        half.source.begun = {stops_at: lease.stopping.set}
        error = await half.attempt(stops_at, lease=lease, connections=1)
        assert isinstance(error, WorkerStoppedError)
        row = await half.deliveries.row(await half.deliveries.active())
        assert (row.lease_owner, row.tries, row.failures) == (None, 0, 0)
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert half.source.reads == Counter(list(FILES))
    assert half.store.sent == Counter(range(1, max(half.store.sent) + 1))
    assert half.object().content == made(formats.FORMATS[0], FILES, compression="store")
    assert half.store.open() == []


async def test_a_worker_that_stops_aborts_nothing_for_what_it_could_not_go_on_with(
    half: HalfMade,
) -> None:
    """Another one looks at it with time: nothing of it is lost meanwhile."""
    await half.begin_twice()
    for _ in range(2):
        lease = make_lease()
        half.source.begun = {"second.bin": lease.stopping.set, "third.bin": lease.stopping.set}
        error = await half.attempt("other", compression="deflate", lease=lease, connections=1)
        assert isinstance(error, WorkerStoppedError)
        assert half.store.aborted == []
    half.source.begun = {}
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert half.store.aborted == []
    assert half.source.reads["first.bin"] == 1


async def test_parts_that_are_too_large_for_this_worker_are_not_gone_on_with(
    half: HalfMade,
) -> None:
    """It could make the archive in smaller ones: only what was sent is in the way."""
    await half.plan()
    half.source.until = 4  # mebibytes, one part
    assert await half.attempt("large", breaks="third.bin", part_size=4 * MIB) is not None
    assert await half.attempt("small", worker_memory=Budget(16 * MIB), memory=16 * MIB) is None
    assert await half.deliveries.states() == ["DONE"]
    assert len(half.object().parts) > 9
    assert half.store.open() == []


async def test_what_passes_leaves_the_upload_to_the_next_attempt(half: HalfMade) -> None:
    """Whatever it is called: errors that pass may come from parts that a later version knows."""
    await half.plan()
    half.source.error = RetryableError("a format of another version")
    assert isinstance(await half.attempt(breaks="third.bin"), RetryableError)
    assert half.store.aborted == []
    assert await half.attempt() is None
    assert {half.store.sent[number] for number in range(1, 13)} == {1}


async def test_what_ends_it_leaves_no_upload(half: HalfMade) -> None:
    await half.plan()
    half.source.error = SourceRefusedError("403")
    await half.attempt(breaks="third.bin")
    assert await half.deliveries.states() == ["ERROR"]
    assert half.store.open() == []


@pytest.mark.parametrize("error", [SourceRefusedError("403"), UploadLostError("InvalidPart")])
async def test_a_worker_that_was_taken_over_does_not_abort_what_its_successor_sends_to(
    half: HalfMade, error: DeliveryError
) -> None:
    await half.begin()
    half.source.before_it_breaks = half.take_over
    half.source.error, half.source.until = error, 0
    assert await half.attempt("slow", breaks="third.bin") is not None
    assert half.store.aborted == []
    await half.end_as_heir()
    assert await half.deliveries.states() == ["DONE"]
    assert half.store.sent[1] == 1


async def test_nor_one_that_could_not_go_on_itself(half: HalfMade) -> None:
    await half.plan()
    half.source.until = 4
    await half.attempt("first", breaks="third.bin", part_size=4 * MIB)
    half.store.before_etags = half.take_over
    error = await half.attempt("slow", worker_memory=Budget(16 * MIB), memory=16 * MIB)
    assert isinstance(error, LeaseLostError)
    assert half.store.aborted == []


async def test_nor_one_that_was_taken_over_before_it_looked(half: HalfMade) -> None:
    """What it finds is not for it to go on with; its successor does."""
    half.aim(ClassedTarget(container="archives", storage_class="hot"))
    await half.begin()
    slow = await half.deliveries.leases("slow").claim(Work.TRANSFER)
    assert slow is not None
    await half.take_over()
    half.aim(ClassedTarget(container="archives", storage_class="cold"))
    with pytest.raises(LeaseLostError):
        await half.transfers("slow").deliver(slow, make_lease())
    assert half.store.aborted == []
    half.aim(ClassedTarget(container="archives", storage_class="hot"))
    await half.end_as_heir()
    assert await half.deliveries.states() == ["DONE"]
    assert half.store.sent[1] == 1


async def test_nor_what_its_successor_has_opened(half: HalfMade) -> None:
    """It looks like what a predecessor opened, and did not live to record."""
    await half.plan()
    claims = []
    for owner in ("dead", "slow", "heir"):
        claims.append(await half.deliveries.leases(owner).claim(Work.TRANSFER))
        await half.deliveries.let_leases_run_out()
    _, slow, heir = claims
    assert slow is not None
    assert heir is not None
    half.source.fail = "third.bin"
    with pytest.raises(SourceUnavailableError):
        await half.transfers("heir").deliver(heir, make_lease())
    opened = half.store.open()
    with pytest.raises(LeaseLostError):
        await half.transfers("slow").deliver(slow, make_lease())
    assert half.store.open() == opened
    assert await half.attempt() is None
    assert half.store.sent[1] == 1


class LateOpening:
    """Opens an upload, and answers once it may."""

    def __init__(self, create: Callable[..., Awaitable[Upload]]) -> None:
        self._create = create
        self.is_open, self.is_answered = asyncio.Event(), asyncio.Event()

    async def create(self, *args: Any, **named: Any) -> Upload:
        upload = await self._create(*args, **named)
        self.is_open.set()
        await self.is_answered.wait()
        return upload


def sweep_of(half: HalfMade, after: timedelta) -> Sweep:
    """Return what looks for uploads that are open, so long after their delivery has ended."""
    return Sweep(
        store=half.deliveries.store,
        tenants=half.deliveries.tenants,
        uploads=half.transfers("sweep").uploads,
        checkpoints=half.deliveries.checkpoints("sweep"),
        after=after,
        limit=9,
    )


@pytest.mark.parametrize("lease_holds", [False, True])
async def test_a_worker_that_stood_still_as_it_opened_an_upload_aborts_it_if_none_looks_for_it(
    half: HalfMade, lease_holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its delivery may have ended, and be swept. While its lease holds, the next attempt looks."""
    now = 0.0
    late = LateOpening(half.store.create_upload)
    monkeypatch.setattr(half.store, "create_upload", late.create)
    await half.plan()
    attempt = asyncio.create_task(half.attempt(lease=make_lease(30.0, clock=lambda: now)))
    await late.is_open.wait()
    if not lease_holds:
        now = 45.0
    attempt.cancel()
    late.is_answered.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert len(half.store.open()) == lease_holds


async def leave_behind(half: HalfMade, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker open an upload when its delivery is swept, and fail to abort it."""
    now = 0.0
    late = LateOpening(half.store.create_upload)

    async def lost(*_: Any) -> None:
        raise TargetUnavailableError("the answer was lost")

    await half.plan()
    with monkeypatch.context() as patched:
        patched.setattr(half.store, "create_upload", late.create)
        patched.setattr(half.store, "abort", lost)
        attempt = asyncio.create_task(half.attempt(lease=make_lease(30.0, clock=lambda: now)))
        await late.is_open.wait()
        delivery = await half.deliveries.active()
        await half.deliveries.fail(delivery, "for the test")
        assert await half.deliveries.store.swept(delivery, took=timedelta())
        now = 45.0
        attempt.cancel()
        late.is_answered.set()
        with pytest.raises(asyncio.CancelledError):
            await attempt


async def test_what_it_does_not_abort_is_swept_though_its_delivery_was_swept_before(
    half: HalfMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_behind(half, monkeypatch)
    await half.deliveries.elapse(timedelta(minutes=2))
    sweep = sweep_of(half, timedelta(minutes=1))
    assert await sweep.look() == 1
    assert half.store.open() == []


async def test_what_it_can_neither_abort_nor_have_swept_is_told(
    half: HalfMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Delivery) -> None:
        raise StoreUnavailableError("PostgreSQL is away")

    monkeypatch.setattr(half.deliveries.store, "sweep_again", away)
    with capture_logs() as logs:
        await leave_behind(half, monkeypatch)
    (told,) = [each for each in logs if each["event"] == "uploads_not_swept"]
    assert told["cause"] == "the answer was lost"
    assert told["consequence"].endswith(f"stay open at the target; {TARGET.leftovers}")
    assert len(half.store.open()) == 1


async def test_an_upload_that_a_target_opens_after_its_delivery_has_ended_is_swept(
    half: HalfMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker knew at once that it had ended; the target took as long as it may."""
    create, asked = half.store.create_upload, asyncio.get_running_loop().create_future()

    async def never_answer(*args: Any, **named: Any) -> Upload:
        asked.set_result(partial(create, *args, **named))
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(half.store, "create_upload", never_answer)
    await half.plan()
    attempt = asyncio.create_task(half.attempt())
    open_late = await asked
    await half.deliveries.fail(await half.deliveries.active(), "cancelled")
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    lease = timedelta(seconds=3)
    sweep = sweep_of(half, after_end(lease))
    await half.deliveries.elapse(timedelta(seconds=7))
    assert await sweep.look() == 0
    await open_late()
    await half.deliveries.elapse(lease + timedelta(seconds=CALL_TIMEOUT))
    assert await sweep.look() == 1
    assert half.store.open() == []


@pytest.mark.parametrize("seconds", [3, 30, 300])
def test_a_sweep_waits_for_what_was_asked_for_in_the_last_moment_of_a_lease(seconds: int) -> None:
    lease = timedelta(seconds=seconds)
    assert after_end(lease) >= lease + timedelta(seconds=CALL_TIMEOUT)


async def test_an_upload_that_was_opened_to_be_kept_otherwise_is_not_gone_on_with(
    half: HalfMade,
) -> None:
    """The tenant has set another storage class since, or encryption: the object must have it."""
    half.aim(ClassedTarget(container="archives", storage_class="hot"))
    await half.begin()
    half.aim(ClassedTarget(container="archives", storage_class="cold"))
    assert await half.attempt() is None
    assert half.store.sent[1] == 2
    assert half.store.open() == []


async def test_an_archive_that_is_found_leaves_no_upload_open(half: HalfMade) -> None:
    """An earlier attempt completed it, before one sent to the upload that is kept now."""
    await half.begin()
    claimed = await half.deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.upload is not None
    made = await half.put_object(claimed)
    assert await half.deliveries.leases("w").record_completion(
        claimed, made, namespace=TARGET.namespace, until=timedelta(minutes=1)
    )
    await half.deliveries.let_leases_run_out()
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert half.store.open() == []


async def test_a_store_that_does_not_let_it_abort_does_not_end_the_delivery(
    half: HalfMade,
) -> None:
    await half.plan()
    half.source.until = 4
    await half.attempt("large", breaks="third.bin", part_size=4 * MIB)
    half.store.refuses = TargetRefusedError("AccessDenied")
    assert await half.attempt("small", worker_memory=Budget(16 * MIB), memory=16 * MIB) is None
    assert await half.deliveries.states() == ["DONE"]


async def test_a_wrong_file_costs_what_was_sent_of_it_and_no_more(half: HalfMade) -> None:
    """A part of it was sent and saved before its checksum was known."""
    await half.plan()
    half.source.until = 4
    await half.attempt(breaks="second.bin")
    half.source.until, half.source.pauses = 8, "third.bin"
    half.source.files = FILES | {"third.bin": noise(8 * MIB, "another")}
    assert isinstance(await half.attempt(), WrongFileError)
    half.source.files, half.source.pauses = FILES, None
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert half.source.reads["first.bin"] == 1
    assert {half.store.sent[number] for number in range(1, 5)} == {1}
    assert half.store.aborted == []


async def test_a_file_that_is_wrong_when_it_is_read_again_costs_nothing(half: HalfMade) -> None:
    """What was sent of it is good."""
    await half.begin()
    half.source.files = FILES | {"third.bin": noise(8 * MIB, "another")}
    assert isinstance(await half.attempt(), WrongFileError)
    half.source.files = FILES
    assert await half.attempt() is None
    assert half.source.reads["second.bin"] == 1
    assert {half.store.sent[number] for number in range(1, 13)} == {1}
    assert half.store.aborted == []


@pytest.mark.parametrize(
    ("right", "framed", "begins_again"),
    [
        ([], [True, True, True], False),
        (["first.bin"], [False, True, True], False),
        (["first.bin", "second.bin"], [True, True, True], True),
    ],
)
async def test_a_wrong_crc32_of_a_right_file_costs_one_attempt(
    half: HalfMade, right: list[str], framed: list[bool], begins_again: bool
) -> None:
    """What was sent is gone on with, where that lies in a member that is made as it was.

    Those before it are stored behind CRC-32s that were right; those behind it are framed.
    """
    told = {name: zlib.crc32(FILES[name]) for name in right}
    await half.plan(told | {"third.bin": 1})
    half.source.until = 4
    await half.attempt(breaks="second.bin")
    half.source.until, half.source.pauses = 8, "third.bin"
    with capture_logs() as logs:
        error = await half.attempt()
    assert isinstance(error, WrongCrc32Error)
    [line] = [line for line in logs if line["event"] == "told_crc32s_forgotten"]
    assert "third.bin" in line["cause"]
    assert line["consequence"] == "the next attempt goes by size and MD5"
    half.source.pauses = None
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert (await half.deliveries.rows())[0].failures == 0
    with zipfile.ZipFile(io.BytesIO(half.object().content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert [bool(member.flag_bits & 0x08) for member in archive.infolist()] == framed
    assert half.source.reads["first.bin"] == 1 + begins_again
    assert len(half.store.aborted) == begins_again
    assert half.store.open() == []


async def test_a_wrong_crc32_fails_no_delivery_that_has_failed_before(half: HalfMade) -> None:
    """Nor does a right one save a file whose MD5 is wrong."""
    await half.plan({"third.bin": 1})
    wrong = FILES | {"second.bin": noise(8 * MIB, "another")}
    half.source.files = wrong
    for _ in range(ATTEMPTS - 1):
        assert type(await half.attempt()) is WrongFileError
    half.source.files = FILES
    assert isinstance(await half.attempt(), WrongCrc32Error)
    assert await half.deliveries.states() == ["TRANSFERRING"]
    half.source.files = wrong
    assert type(await half.attempt()) is WrongFileError
    assert await half.deliveries.states() == ["ERROR"]
    assert half.store.open() == []


async def test_a_part_that_is_gone_costs_what_was_sent_behind_the_boundary_before_it(
    half: HalfMade,
) -> None:
    await half.begin_twice()
    half.store.forget_part(11)
    assert await half.attempt() is None
    assert half.source.reads["first.bin"] == 1
    assert (half.store.sent[4], half.store.sent[8]) == (1, 2)
    assert half.store.aborted == []


async def test_what_is_other_bytes_everywhere_begins_again(half: HalfMade) -> None:
    """As of another kind of processor: one step back is tried, and no more."""
    await half.begin_twice()
    assert await half.attempt("other", compression="deflate") is None
    assert await half.deliveries.states() == ["DONE"]
    assert len(half.store.aborted) == 1
    assert half.source.reads["first.bin"] == 2
    assert half.store.open() == []


@pytest.mark.parametrize(("threshold", "is_stored"), [(0.0, True), (0.9, False)])
async def test_a_tenant_says_what_is_worth_compressing(
    half: HalfMade, threshold: float, is_stored: bool
) -> None:
    half.deliveries.tenants.give(TENANT, compression_threshold=threshold)
    half.files |= {"second.bin": b"0,1,2,3\n" * MIB}
    half.source.files = half.files
    await half.plan()
    assert await half.attempt(compression="auto") is None
    size = sum(map(len, half.files.values()))
    assert (len(half.object().content) > size) is is_stored


class Retried:
    """An rs-order whose orders can be retried; where that is away, it is not known."""

    def __init__(self) -> None:
        self.retries = 0

    async def retry(self, _delivery: Delivery) -> bool:
        self.retries += 1
        return True


async def test_a_file_that_left_the_cache_costs_nothing_that_was_sent(half: HalfMade) -> None:
    """Nor an attempt: it comes back, however many are gone, one after the other."""
    half.orders = Retried()
    await half.plan()
    for number in range(ATTEMPTS + 2):
        half.source.until = 12 if number == 0 else 0
        half.source.error = SourceGoneError("410", position=number)
        assert isinstance(await half.attempt(breaks="third.bin"), SourceGoneError)
        await half.deliveries.elapse(timedelta(minutes=1))
        assert (half.store.aborted, len(half.store.open())) == ([], 1)
    assert half.orders.retries == ATTEMPTS + 2
    assert await half.attempt() is None
    assert await half.deliveries.states() == ["DONE"]
    assert {half.store.sent[number] for number in range(1, 13)} == {1}
    assert half.source.reads["first.bin"] == half.source.reads["second.bin"] == 1
    assert (await half.deliveries.rows())[0].failures == 0


async def test_a_file_that_is_gone_for_good_leaves_no_upload(half: HalfMade) -> None:
    half.orders = Retried()
    await half.plan()
    half.source.until = 1
    half.source.error = SourceGoneError("410", position=2)
    while await half.deliveries.states() == ["TRANSFERRING"] or not half.orders.retries:
        await half.attempt(breaks="third.bin")
        half.source.until = 0
        await half.deliveries.elapse(timedelta(minutes=1))
    assert half.orders.retries == 5
    assert await half.deliveries.states() == ["ERROR"]
    assert half.store.open() == []


async def test_the_last_of_the_attempts_that_may_fail_leaves_no_upload(half: HalfMade) -> None:
    await half.begin()
    half.source.files = FILES | {"third.bin": noise(8 * MIB, "another")}
    for _ in range(ATTEMPTS):
        assert half.store.open() != []
        assert isinstance(await half.attempt(), WrongFileError)
    assert await half.deliveries.states() == ["ERROR"]
    assert half.store.open() == []


async def test_an_attempt_that_could_not_go_on_is_not_counted_as_one_that_did(
    half: HalfMade,
) -> None:
    await half.plan()
    half.source.until = 4
    await half.attempt("large", breaks="third.bin", part_size=4 * MIB)
    before = resumed()
    with capture_logs() as logs:
        assert await half.attempt("small", worker_memory=Budget(16 * MIB), memory=16 * MIB) is None
    events = [line["event"] for line in logs]
    assert "checkpoint_unusable" in events
    assert not {"transfer_resumed", "upload_lost"} & set(events)
    assert resumed() == before


async def test_one_that_did_is_counted_once(half: HalfMade) -> None:
    await half.begin()
    before = resumed()
    with capture_logs() as logs:
        assert await half.attempt() is None
    assert [line["event"] for line in logs].count("transfer_resumed") == 1
    assert resumed() == before + 1


async def test_what_is_kept_counts_as_done_and_not_as_fast(half: HalfMade) -> None:
    await half.begin()
    half.reports.clear()
    observed = rates()
    assert await half.attempt() is None
    last = half.reports[-1]
    kept = len(FILES["first.bin"]) + len(FILES["second.bin"])
    assert (last.phase, last.bytes_kept) == (Phase.DONE, kept)
    assert last.bytes_done == last.bytes_total
    assert rate(last) == len(FILES["third.bin"]) / last.elapsed
    assert rates() == observed


def rates() -> float:
    """Return of how many transfers the rate was measured, by the metric."""
    name = "delivery_transfer_bytes_per_second_count"
    return REGISTRY.get_sample_value(name, {"tenant": TENANT, "target": DEFAULT_TARGET}) or 0


def resumed() -> float:
    """Return how many attempts went on, by the metric."""
    name = "delivery_transfers_resumed_total"
    return REGISTRY.get_sample_value(name, {"tenant": TENANT}) or 0
