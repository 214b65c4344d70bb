"""An object store or PostgreSQL is away in the middle: what was done is kept, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.delivery.model import Delivery
from app.errors import TargetUnavailableError
from app.network.hosts import server_of
from app.settings import Settings
from app.store import open_pool
from app.store.rows import delivery_of
from app.usecases.remove import Removal
from compose.embedded import s3
from sinks.pipeline.budget import Budget
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.conditions import Conditions
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client, contents
from tests.conftest import noise
from tests.integration.gate import Gate, gate
from tests.integration.s3_proxy import Proxied, S3Proxy
from tests.integration.transfers import MIB, QUICK, Bench
from tests.integration.worker import CountingSource, TransferWorker
from tests.twins.rs_order import Source

FILES = {"a": noise(7 * MIB, "a"), "b": noise(8 * MIB, "b"), "c": b"c"}  # four parts
PARTS = [1, 2, 3, 4]


@pytest.fixture
def proxied(proxied: Proxied, sink: S3ObjectStore) -> Proxied:
    """It is known to keep conditions, as after its first completion."""
    sink.conditions.learn(proxied[1], Conditions.KEPT)
    return proxied


@pytest.fixture
def source() -> CountingSource:
    return CountingSource(FILES)


@pytest.fixture
async def worker(
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    proxied: Proxied,
    target: S3Target,
    source: CountingSource,
) -> TransferWorker:
    """A worker whose target is behind the proxy; `other` is not."""
    return TransferWorker(pool, settings, sink, proxied[1], source, other=target)


def done_at_once(proxy: S3Proxy, source: CountingSource, row: asyncpg.Record) -> bool:
    """Whether one upload and one attempt were enough, and nothing was fetched or sent twice."""
    return (
        row["state"] == "DONE"
        and row["attempt"] == 1
        and proxy.seen.count("begin") == 1
        and sorted(proxy.stored) == PARTS
        and source.each_once()
    )


async def test_a_target_that_is_away_in_the_middle_costs_nothing_twice(
    worker: TransferWorker,
    proxied: Proxied,
    source: CountingSource,
    name: str,
    client: Client,
) -> None:
    proxy, _ = proxied

    async def leave(what: str) -> None:
        if what == "part" and proxy.seen.count("part") == 2:
            proxy.away = True

    proxy.before = leave
    await worker.plan(name)
    async with worker.running():
        await proxy.until("away", 4)
        proxy.away = False
        row = await worker.ended(name)
    assert done_at_once(proxy, source, row)
    assert contents(await client.fetch(row["url"])) == FILES


@pytest.mark.parametrize(
    ("faults", "completions"),
    [
        ({"refused_completions": 3}, 4),
        ({"doubtful_completions": 1}, 1),
        ({"lost_completions": 1}, 1),
        ({"errors_in_200": 2}, 3),
        ({"refused_completions": 1, "doubtful_completions": 1}, 2),
    ],
    ids=str,
)
async def test_a_completion_that_fails_is_asked_for_again_and_nothing_else(
    worker: TransferWorker,
    proxied: Proxied,
    source: CountingSource,
    name: str,
    client: Client,
    faults: dict[str, int],
    completions: int,
) -> None:
    proxy, _ = proxied
    for fault, count in faults.items():
        setattr(proxy, fault, count)
    await worker.plan(name)
    async with worker.running():
        row = await worker.ended(name)
    assert done_at_once(proxy, source, row)
    assert proxy.seen.count("completion") == completions
    assert contents(await client.fetch(row["url"])) == FILES


@pytest.mark.parametrize("made", [False, True])
async def test_a_target_that_is_away_at_the_completion_is_waited_for(
    worker: TransferWorker,
    proxied: Proxied,
    source: CountingSource,
    name: str,
    made: bool,
) -> None:
    """Also when it had made the object before it went."""
    proxy, _ = proxied

    async def leave(what: str) -> None:
        proxy.away = proxy.away or what == ("HEAD" if made else "completion")

    proxy.before = leave
    await worker.plan(name)
    async with worker.running():
        await proxy.until("away", 3)
        proxy.before, proxy.away = None, False
        row = await worker.ended(name)
    assert done_at_once(proxy, source, row)


@pytest.mark.parametrize("where", ["part", "completion", "HEAD"])
async def test_a_gateways_page_in_place_of_an_answer_costs_nothing_twice(
    worker: TransferWorker,
    proxied: Proxied,
    source: CountingSource,
    name: str,
    where: str,
) -> None:
    """It says 200."""
    proxy, _ = proxied

    async def page(what: str) -> None:
        if what == where:
            proxy.before, proxy.pages = None, 1

    proxy.before = page
    await worker.plan(name)
    async with worker.running():
        row = await worker.ended(name)
    assert row["state"] == "DONE"
    assert (row["attempt"], source.each_once(), sorted(proxy.stored)) == (1, True, PARTS)


async def test_an_opening_is_asked_for_once_an_attempt(
    worker: TransferWorker,
    proxied: Proxied,
    source: CountingSource,
    name: str,
) -> None:
    """Who waited in place would open another one beside the first, if that was only late."""
    proxy, _ = proxied
    proxy.away = True
    await worker.plan(name)
    async with worker.running():
        await worker.until(name, lambda row: row["tries"] == 1)
        assert proxy.seen == ["away"]
        proxy.away = False
        await worker.try_now(name)
        row = await worker.ended(name)
    assert (row["state"], row["attempt"], proxy.seen.count("begin")) == ("DONE", 2, 1)
    assert sorted(proxy.stored) == PARTS
    assert source.each_once()


@pytest.mark.parametrize("late", [False, True])
async def test_an_upload_whose_opening_was_not_answered_does_not_stay_open(
    worker: TransferWorker, proxied: Proxied, name: str, client: Client, late: bool
) -> None:
    """Also where it is opened when the next attempt has looked, and has ended the delivery."""
    proxy, _ = proxied
    proxy.lost_begins = 1
    if late:
        proxy.let_begin = asyncio.Event()
    await worker.plan(name)
    async with worker.running():
        await worker.until(name, lambda row: row["tries"] == 1)
        await worker.try_now(name)
        row = await worker.ended(name)
    assert (row["state"], row["attempt"], proxy.seen.count("begin")) == ("DONE", 2, 2)
    if late:
        await proxy.carry_out()
        assert len(await client.open_uploads(name)) == 1
        assert await worker.sweep() == 1
    assert await client.open_uploads(name) == []


async def test_a_transfer_that_waits_for_its_target_holds_no_slot(
    worker: TransferWorker,
    proxied: Proxied,
    source: CountingSource,
    name: str,
) -> None:
    """The only slot there is goes to a delivery to another target; then it is taken again."""
    proxy, _ = proxied

    async def leave(what: str) -> None:
        proxy.away = proxy.away or what == "part"

    proxy.before = leave
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.until("away", 3)
        first = dict(source.gets)
        await worker.plan(f"{name}-2", target="other")
        assert (await worker.ended(f"{name}-2"))["state"] == "DONE"
        assert (await worker.row(name))["lease_owner"] == "w"
        proxy.before, proxy.away = None, False
        row = await worker.ended(name)
    assert (row["state"], row["attempt"]) == ("DONE", 1)
    assert sorted(proxy.stored) == PARTS
    assert first.keys() == FILES.keys()
    assert set(source.gets.values()) == {2}  # once for each of the two


async def test_a_target_that_is_silent_at_the_opening_keeps_no_slot(
    worker: TransferWorker, proxied: Proxied, name: str
) -> None:
    """Long before the call's deadline."""
    proxy, _ = proxied
    proxy.silent = True
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.until("begin")
        await worker.plan(f"{name}-2", target="other")
        assert (await worker.ended(f"{name}-2"))["state"] == "DONE"
        proxy.silent = False
        row = await worker.ended(name)
    assert (row["state"], row["attempt"]) == ("DONE", 1)


async def test_a_target_that_is_silent_in_the_middle_keeps_no_slot(
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    proxied: Proxied,
    target: S3Target,
    source: CountingSource,
    name: str,
) -> None:
    """Long before the deadline of its parts; all of which wait for one slot then."""
    proxy, through = proxied
    patience = replace(QUICK, silence=0.1)
    worker = TransferWorker(pool, settings, sink, through, source, other=target, patience=patience)

    async def hush(what: str) -> None:
        proxy.silent = proxy.silent or what == "part"

    proxy.before = hush
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.until("part", 2)
        await worker.plan(f"{name}-2", target="other")
        assert (await worker.ended(f"{name}-2"))["state"] == "DONE"
        proxy.before, proxy.silent = None, False
        row = await worker.ended(name)
        assert (row["state"], row["attempt"], sorted(proxy.stored)) == ("DONE", 1, PARTS)
        await worker.plan(f"{name}-3", target="other")  # no slot was lost
        assert (await worker.ended(f"{name}-3"))["state"] == "DONE"


async def test_a_target_that_is_silent_at_the_completion_keeps_no_slot_and_waits_for_none(
    worker: TransferWorker, proxied: Proxied, name: str
) -> None:
    """Long before the call's deadline; then it ends beside another that runs in its place."""
    proxy, _ = proxied
    proxy.let_complete = asyncio.Event()
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.completion.wait()
        worker.source.pause = asyncio.Event()
        await worker.plan(f"{name}-2", target="other")
        await worker.until(f"{name}-2", lambda row: row["lease_owner"] is not None)
        proxy.let_complete.set()
        row = await worker.ended(name)
        worker.source.pause.set()
        assert (await worker.ended(f"{name}-2"))["state"] == "DONE"
    assert (row["state"], row["attempt"]) == ("DONE", 1)


async def test_a_silent_target_keeps_no_slot_of_one_that_was_cancelled(
    worker: TransferWorker, proxied: Proxied, name: str
) -> None:
    """Long before it has answered that the upload is aborted."""
    proxy, _ = proxied

    async def hush(what: str) -> None:
        proxy.silent = proxy.silent or what == "part"

    proxy.before = hush
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.until("part")
        await worker.deliveries.fail(await worker.deliveries.active(name), "cancelled")
        await proxy.until("DELETE")
        await worker.plan(f"{name}-2", target="other")
        assert (await worker.ended(f"{name}-2"))["state"] == "DONE"
        proxy.before, proxy.silent = None, False


async def test_a_transfer_that_lost_its_upload_while_it_waited_starts_again_in_a_slot(
    worker: TransferWorker,
    proxied: Proxied,
    sink: S3ObjectStore,
    target: S3Target,
    name: str,
    client: Client,
) -> None:
    proxy, _ = proxied

    async def leave(what: str) -> None:
        proxy.away = proxy.away or what == "part"

    proxy.before = leave
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.until("away", 3)
        worker.source.pause = asyncio.Event()
        await worker.plan(f"{name}-2", target="other")
        await worker.until(f"{name}-2", lambda row: row["upload_id"] is not None)
        (key,) = await client.open_uploads(name)
        (upload,) = await sink.open_uploads(target, key)
        await sink.abort(target, upload)
        beside: list[int] = []

        async def begin(what: str) -> None:
            if what == "begin":
                beside.append(worker.source.open)

        proxy.before, proxy.away = begin, False
        await proxy.until("DELETE")  # it aborts, to be sure, and waits for a slot
        worker.source.pause.set()
        assert (await worker.ended(f"{name}-2"))["state"] == "DONE"
        row = await worker.ended(name)
    assert (row["state"], row["attempt"]) == ("DONE", 1)
    assert beside == [0]  # files that the other was still reading


async def test_a_transfer_that_waits_for_memory_keeps_no_slot_from_one_that_has_it(
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    proxied: Proxied,
    target: S3Target,
    source: CountingSource,
    name: str,
) -> None:
    """One slot, memory for one: the first waits for its target, the second for the first."""
    proxy, through = proxied
    worker = TransferWorker(pool, settings, sink, through, source, other=target, budget=44 * MIB)

    async def leave(what: str) -> None:
        proxy.away = proxy.away or what == "part"

    proxy.before = leave
    await worker.plan(name)
    async with worker.running(count=1):
        await proxy.until("away", 3)
        for number in (2, 3):
            await worker.plan(f"{name}-{number}", target="other")
        await worker.until(f"{name}-2", lambda row: row["lease_owner"] is not None)
        proxy.before, proxy.away = None, False
        rows = [await worker.ended(name)]
        rows += [await worker.ended(f"{name}-{number}") for number in (2, 3)]
    assert [(row["state"], row["attempt"]) for row in rows] == [("DONE", 1)] * 3


async def test_a_transfer_that_waits_keeps_to_its_memory(
    worker: TransferWorker, proxied: Proxied, name: str
) -> None:
    proxy, _ = proxied
    worker.source.files = {f"f{n}": noise(8 * MIB, str(n)) for n in range(12)}
    proxy.slow_down = 10**9
    await worker.plan(name)
    async with worker.running():
        await proxy.until("part", 8)
        before = -1
        while before != worker.source.read:  # until nothing moves any more
            before = worker.source.read
            await proxy.until("part", proxy.seen.count("part") + 4)
        assert worker.source.read <= 32 * MIB + 8 * 300_000
        proxy.slow_down = 0
        assert (await worker.ended(name))["attempt"] == 1
    assert worker.source.read == 96 * MIB


async def test_a_completion_that_waits_for_its_target_asks_for_no_memory_again(
    sink: S3ObjectStore, proxied: Proxied
) -> None:
    """Another transfer has all of it by then."""
    proxy, seen = proxied
    budget = Budget(44 * MIB)
    bench = Bench(sink, seen, Source(FILES), budget=budget)

    async def leave(what: str) -> None:
        proxy.away = proxy.away or what == "completion"

    proxy.before = leave
    running = asyncio.create_task(bench.run())
    await proxy.until("away", 2)
    async with asyncio.timeout(60), budget.reserve(budget.size):
        proxy.before, proxy.away = None, False
        await running
        assert not budget.is_wanted()


async def test_a_transfer_steps_back_when_its_patience_is_over(
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    proxied: Proxied,
    source: CountingSource,
    name: str,
    client: Client,
) -> None:
    proxy, through = proxied
    proxy.slow_down = 10**9
    patience = replace(QUICK, limit=0.5)
    worker = TransferWorker(pool, settings, sink, through, source, patience=patience)
    await worker.plan(name)
    async with worker.running():
        row = await worker.until(name, lambda row: row["tries"] == 1)
        assert (row["state"], row["lease_owner"], row["failures"]) == ("TRANSFERRING", None, 0)
        assert "SlowDown" in row["last_cause"]
        assert "it was waited for" in row["last_cause"]
        assert await client.open_uploads(name) == []


async def test_a_cancel_ends_the_waiting(
    worker: TransferWorker, proxied: Proxied, name: str, client: Client
) -> None:
    proxy, _ = proxied
    proxy.slow_down = 10**9
    await worker.plan(name)
    async with worker.running():
        await proxy.until("part", 6)
        await worker.deliveries.fail(await worker.deliveries.active(name), "cancelled")
        await proxy.until("DELETE")
    assert await client.open_uploads(name) == []


async def test_a_transfer_whose_upload_the_store_lost_starts_again_at_once(
    worker: TransferWorker,
    proxied: Proxied,
    sink: S3ObjectStore,
    target: S3Target,
    name: str,
    client: Client,
) -> None:
    proxy, _ = proxied
    losing = asyncio.Lock()

    async def lose(what: str) -> None:
        # No other part gets to the server meanwhile: its abort fails on one that is being stored.
        async with losing:
            if what == "part" and proxy.before is not None:
                (key,) = await client.open_uploads(name)
                (upload,) = await sink.open_uploads(target, key)
                await sink.abort(target, upload)
                proxy.before = None

    proxy.before = lose
    await worker.plan(name)
    async with worker.running():
        row = await worker.ended(name)
    assert (row["state"], row["attempt"], row["tries"]) == ("DONE", 1, 0)
    assert proxy.seen.count("begin") == 2
    assert contents(await client.fetch(row["url"])) == FILES


async def test_a_silent_target_has_a_deadline_which_is_named(
    proxied: Proxied,
) -> None:
    proxy, through = proxied
    clients = S3Clients()
    sink = S3ObjectStore(clients, short=0.2, completion=0.3)
    upload = await S3ObjectStore(clients).create_upload(through, "silent/a.zip")
    proxy.silent = True
    try:
        for call, seconds in (
            (sink.create_upload(through, "silent/b.zip"), 0.2),
            (sink.abort(through, upload), 0.2),
            (sink.open_uploads(through, upload.key), 0.2),
            (sink.find(through, upload.key), 0.2),
            (sink.delete(through, upload.key, etag="e"), 0.2),
            (sink.find_bucket(through), 0.2),
            (sink.ask_to_complete(through, upload, [], {}), 0.3),
        ):
            with pytest.raises(TargetUnavailableError, match=f"within {seconds:g} s"):
                await call
    finally:
        proxy.silent = False
        await sink.breakers.close()
        await S3ObjectStore(clients).abort(through, upload)
        await clients.aclose()


@pytest.fixture
async def guarded(
    database: str,
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    proxied: Proxied,
    source: CountingSource,
) -> AsyncIterator[tuple[Gate, TransferWorker]]:
    """A worker that knows PostgreSQL through a gate; `pool` is not behind it."""
    async with (
        gate(database) as between,
        open_pool(between.url, size=5, start_timeout=30) as behind,
    ):
        # It keeps its slot, and so does not take over from itself.
        patience = replace(QUICK, in_slot=60)
        yield (
            between,
            TransferWorker(
                behind, settings, sink, proxied[1], source, patience=patience, files_at_once=1
            ),
        )


async def until_logged(logs: Sequence[Mapping[str, object]], event: str) -> None:
    async with asyncio.timeout(30):
        while not any(line["event"] == event for line in logs):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("when", ["manifest", "completion", "end"])
async def test_a_database_that_is_away_for_a_moment_costs_nothing_twice(
    guarded: tuple[Gate, TransferWorker],
    proxied: Proxied,
    source: CountingSource,
    name: str,
    when: str,
) -> None:
    """While the manifest is read, before the completion is asked for, and after it."""
    between, worker = guarded
    proxy, _ = proxied
    if when == "manifest":
        source.files = {f"f{n}": noise(5 * MIB, str(n)) for n in range(4)}
    await worker.plan(name)

    async def leave(what: str) -> None:
        if what == ("completion" if when == "end" else "part"):
            proxy.before = None
            await between.shut()

    proxy.before = leave
    with capture_logs() as logs:
        async with worker.running():
            await until_logged(logs, "store_waits")
            await between.let()
            row = await worker.ended(name)
    assert (row["state"], row["attempt"]) == ("DONE", 1)
    assert source.each_once()
    assert proxy.seen.count("begin") == 1
    assert len(proxy.stored) == len(set(proxy.stored))


async def test_an_archive_is_told_of_although_the_lease_ran_out_meanwhile(
    guarded: tuple[Gate, TransferWorker],
    proxied: Proxied,
    pool: asyncpg.Pool,
    source: CountingSource,
    name: str,
) -> None:
    """No worker has taken over: compare-and-set decides, not the clock."""
    between, worker = guarded
    proxy, _ = proxied
    await worker.plan(name)

    async def leave(what: str) -> None:
        if what == "completion":
            await between.shut()

    proxy.before = leave
    with capture_logs() as logs:
        async with worker.running():
            await until_logged(logs, "store_waits")
            await pool.execute("UPDATE delivery SET lease_until = now() - interval '1 minute'")
            await between.let()
            row = await worker.ended(name)
    assert done_at_once(proxy, source, row)


async def test_a_successor_finds_the_archive_that_could_not_be_told_of(
    guarded: tuple[Gate, TransferWorker],
    proxied: Proxied,
    pool: asyncpg.Pool,
    source: CountingSource,
    name: str,
    client: Client,
) -> None:
    between, worker = guarded
    proxy, _ = proxied
    await worker.plan(name)

    async def leave(what: str) -> None:
        if what == "completion":
            await between.shut()

    proxy.before = leave
    with capture_logs() as logs:
        async with worker.running():
            await until_logged(logs, "store_waits")
    await between.let()
    await pool.execute("UPDATE delivery SET lease_until = now() - interval '1 minute'")
    proxy.before = None
    async with worker.running():
        row = await worker.ended(name)
    assert (row["state"], row["attempt"]) == ("DONE", 2)
    assert source.each_once()
    assert sorted(proxy.stored) == PARTS
    assert contents(await client.fetch(row["url"])) == FILES


async def keys(client: Client, target: S3Target, name: str) -> list[str]:
    """Return the objects of a delivery."""
    async with s3.client(target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
        answer = await store.list_objects_v2(Bucket=target.bucket, Prefix=f"{name}/")
    return [found["Key"] for found in answer.get("Contents", [])]


async def test_an_object_tells_whose_it_is(
    worker: TransferWorker, target: S3Target, name: str
) -> None:
    await worker.plan(name)
    async with worker.running():
        row = await worker.ended(name)
    async with s3.client(target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
        head = await store.head_object(
            Bucket=target.bucket, Key=row["url"].partition(f"{target.bucket}/")[2]
        )
    marks = head["Metadata"]
    assert marks["rs-delivery-id"] == str(row["id"])
    assert marks.keys() == {"rs-delivery-tenant", "rs-delivery-id", "rs-delivery-user-sha256"}
    assert row["etag"] == head["ETag"].strip('"')


@pytest.mark.parametrize("no_conditions", [False, True])
async def test_a_wrong_object_does_not_stay(
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    proxied: Proxied,
    target: S3Target,
    source: CountingSource,
    name: str,
    client: Client,
    no_conditions: bool,
) -> None:
    """Whether or not the store deletes on a condition."""
    proxy, through = proxied
    proxy.short_objects = 1
    proxy.no_conditions = no_conditions
    worker = TransferWorker(pool, settings, sink, through, source, attempts=1)
    await worker.plan(name)
    async with worker.running():
        row = await worker.ended(name)
    assert row["state"] == "ERROR"
    assert "should have" in row["error_message"]
    assert "DELETE" in proxy.seen
    assert await keys(client, target, name) == []


async def overtaken(worker: TransferWorker, proxy: S3Proxy, name: str) -> None:
    """End a delivery whose completion seems to be over, and is made afterwards."""
    pool = worker.deliveries.pool
    proxy.let_complete = asyncio.Event()
    await worker.plan(name)
    async with worker.running():
        await proxy.completion.wait()
        await pool.execute("UPDATE delivery SET completing_until = now()")
        await worker.deliveries.fail(await worker.deliveries.active(name), "cancelled")
        await worker.until(name, lambda row: row["state"] == "ERROR")
        await pool.execute("UPDATE delivery SET completing_until = now() + interval '16 minutes'")
        await proxy.until("DELETE")  # the worker has noticed, and aborts
    proxy.let_complete.set()
    proxy.let_complete = None


async def test_an_object_that_appears_after_a_cancel_is_removed(
    worker: TransferWorker,
    proxied: Proxied,
    sink: S3ObjectStore,
    target: S3Target,
    name: str,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sweep looks until the completion's time is over."""
    proxy, _ = proxied
    real = sink.abort

    async def no_abort(*args: object) -> None:
        """The store has taken the completion: an abort comes too late."""
        await proxy.see("DELETE")

    monkeypatch.setattr(sink, "abort", no_abort)
    await overtaken(worker, proxy, name)
    async with asyncio.timeout(30):
        while not await keys(client, target, name):
            await asyncio.sleep(0.02)
    monkeypatch.setattr(sink, "abort", real)
    assert await worker.sweep() == 0  # removed, and looked at again
    assert await keys(client, target, name) == []
    assert not (await worker.row(name))["swept"]
    await worker.deliveries.pool.execute(
        "UPDATE delivery SET completing_until = now(), not_before = now()"
    )
    assert await worker.sweep() == 1
    assert (await worker.row(name))["swept"]


async def test_an_object_that_a_client_relies_on_stays(
    worker: TransferWorker, sink: S3ObjectStore, target: S3Target, name: str, client: Client
) -> None:
    """Told to a client, of another delivery, or just being made: all but the last case."""
    await worker.plan(name)
    async with worker.running():
        row = await worker.ended(name)
    done = delivery_of(row)
    assert done.upload is not None
    removal = Removal(store=worker.deliveries.store, objects=sink)

    async def stays(delivery: Delivery) -> bool:
        assert done.upload is not None
        removed = await removal.remove(delivery, target, done.upload.key)
        return not removed and await keys(client, target, name) == [done.upload.key]

    assert await stays(done)
    await worker.deliveries.pool.execute("UPDATE delivery SET etag = NULL")  # of an older version
    assert await stays(done)
    await worker.deliveries.pool.execute("UPDATE delivery SET etag = 'another'")
    assert await stays(replace(done, id=uuid4()))
    await worker.plan(f"{name}-2")
    making = """UPDATE delivery SET completing_until = now() + interval '1 hour',
        completing = $2 WHERE correlation_id = $1"""
    here = server_of(target.endpoint)
    # (An older worker notes no server: it may be any.)
    for note in ({"url": row["url"]}, {"url": row["url"], "server": here}):
        await worker.deliveries.pool.execute(making, f"{name}-2", note)
        assert await stays(done)
    await worker.deliveries.pool.execute("UPDATE delivery SET completing_until = NULL")
    # A successor has completed it, and not told it yet; the worker that lost the lease finds
    # it wrong.
    now = "UPDATE delivery SET state = $2, attempt = $3 WHERE correlation_id = $1"
    await worker.deliveries.pool.execute(now, name, "TRANSFERRING", done.attempt + 1)
    assert await stays(done)
    await worker.deliveries.pool.execute(now, name, "TRANSFERRING", done.attempt)
    # Of one that is being made at another server, none relies on this one.
    elsewhere = {"url": row["url"], "server": "s3.example:443"}
    await worker.deliveries.pool.execute(making, f"{name}-2", elsewhere)
    assert not await stays(done)
    assert await keys(client, target, name) == []
