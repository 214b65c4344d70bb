"""Whose it is: no archive takes the place of another tenant's or user's, whatever the store."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject
from app.delivery.ports import Allowed
from app.delivery.states import State, Work
from app.errors import ForeignObjectError, ObjectBusyError, TargetUnavailableError
from app.network.hosts import server_of
from app.settings import Settings
from app.usecases.remove import Removal
from compose.embedded import s3
from compose.embedded.stack import TENANT, USER
from sinks.pipeline.parts import Part
from sinks.stores.s3.conditions import Conditions, KnownConditions
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import make_found, make_stored, make_transfer
from tests.client import Client, contents
from tests.conftest import noise
from tests.integration.conftest import Deliveries
from tests.integration.s3_proxy import Completes, Proxied, S3Proxy
from tests.integration.test_sweep import key_of, swept
from tests.integration.transfers import MIB, QUICK
from tests.integration.worker import CountingSource, TransferWorker
from tests.statements import STATEMENTS

OTHER = "swot"
MALLORY = "mallory@example.org"
FILES = {"a": noise(6 * MIB, "a"), "b": b"b"}
UNTIL = timedelta(seconds=30)  # what is about to appear does so until then
LOCKS_WAITED_FOR = """SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE locktype = 'advisory' AND NOT granted AND d.datname = current_database()"""


class Place:
    """One key of a store, and the workers that complete an upload there."""

    def __init__(self, sink: S3ObjectStore, proxied: Proxied, name: str) -> None:
        self.sink = sink
        self.proxy, self.target = proxied
        self.key = f"{name}/a.zip"

    async def put(self, delivery: Delivery, content: bytes, *, again: bool = False) -> str:
        """Complete an upload of one part; abort it when that fails."""
        marks = marks_of(delivery)
        upload = await self.sink.create_upload(self.target, self.key, marks)
        stored = await self.sink.put_part(self.target, upload, 1, Part.of(content))
        try:
            return await self.sink.complete(
                self.target, upload, [stored], len(content), marks=marks, again=again
            )
        except BaseException:
            await self.sink.abort(self.target, upload)
            raise

    async def holds(self, client: Client) -> bytes:
        return await client.fetch(f"s3://{self.target.bucket}/{self.key}")

    async def write(self, content: bytes, metadata: Mapping[str, str]) -> None:
        """Put an object there by other means than this service."""
        async with s3.client(self.proxy.target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
            await store.put_object(
                Bucket=self.target.bucket, Key=self.key, Body=content, Metadata=metadata
            )

    async def marks(self) -> Mapping[str, str]:
        async with s3.client(self.proxy.target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
            head = await store.head_object(Bucket=self.target.bucket, Key=self.key)
            marks: Mapping[str, str] = head["Metadata"]
            return marks

    def asked(self) -> list[str]:
        """Return what was asked since the last time."""
        seen, self.proxy.seen = self.proxy.seen, []
        return seen


@pytest.fixture
def place(sink: S3ObjectStore, proxied: Proxied, name: str) -> Place:
    return Place(sink, proxied, name)


STORES = pytest.mark.parametrize("store", Completes, ids=lambda store: store.value)
KNOWN = pytest.mark.parametrize("known", [False, True], ids=["met first", "met before"])


async def meet(place: Place, store: Completes, *, known: bool) -> None:
    """Let the sink find out what the store is like, or not."""
    place.proxy.completes = store
    if known:
        elsewhere = Place(place.sink, (place.proxy, place.target), f"c-{uuid4().hex[:12]}")
        await elsewhere.put(make_transfer(), b"to meet it")


@STORES
@KNOWN
@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            make_transfer(tenant=OTHER),
            "another tenant's delivery.*container or a prefix of its own",
        ),
        (make_transfer(user=MALLORY), "another user's delivery.*another correlationId"),
    ],
    ids=["tenant", "user"],
)
@pytest.mark.parametrize("content", [b"other bytes", b"archive"], ids=["others", "the same bytes"])
async def test_an_object_of_another_tenant_or_user_is_not_replaced(
    place: Place,
    client: Client,
    store: Completes,
    known: bool,
    other: Delivery,
    words: str,
    content: bytes,
) -> None:
    place.proxy.completes = store
    ours = make_transfer()
    await place.put(ours, b"archive")
    if not known:  # another process put it there
        place.sink.conditions = KnownConditions()
    for again in (False, True):
        with pytest.raises(ForeignObjectError, match=words):
            await place.put(other, content, again=again)
    assert await place.holds(client) == b"archive"
    assert (await place.marks())["rs-delivery-id"] == str(ours.id)
    assert await place.sink.open_uploads(place.target, place.key) == []


@STORES
@KNOWN
async def test_an_object_of_the_same_tenant_and_user_is_replaced(
    place: Place, client: Client, store: Completes, known: bool
) -> None:
    await meet(place, store, known=known)
    await place.put(make_transfer(), b"first")
    second = make_transfer()
    etag = await place.put(second, b"second")
    assert await place.holds(client) == b"second"
    assert (await place.marks())["rs-delivery-id"] == str(second.id)
    found = await place.sink.find(place.target, place.key)
    assert found is not None
    assert found.etag == etag


@STORES
@KNOWN
async def test_an_object_without_marks_is_replaced_and_that_is_logged(
    place: Place, client: Client, store: Completes, known: bool
) -> None:
    """Upstream wrote it, or an operator by hand."""
    await meet(place, store, known=known)
    await place.write(b"by hand", {"author": "somebody"})
    with capture_logs() as logs:
        await place.put(make_transfer(), b"ours")
    assert await place.holds(client) == b"ours"
    (told,) = [line for line in logs if line["event"] == "object_replaced"]
    assert (told["log_level"], told["owner"], told["bytes"]) == ("warning", "unknown", 7)
    assert told["url"].endswith(place.key)


async def test_a_store_that_keeps_conditions_is_not_looked_at_before(place: Place) -> None:
    """From its second completion on: the first one finds out."""
    await place.put(make_transfer(), b"1")
    assert place.asked() == ["begin", "part", "HEAD", "completion", "HEAD", "completion"]
    assert place.sink.conditions.of(place.target) is Conditions.KEPT
    place.key = f"{uuid4().hex}/a.zip"
    await place.put(make_transfer(), b"2")
    assert place.asked() == ["begin", "part", "completion", "HEAD"]
    assert set(place.proxy.conditions) == {"If-None-Match: *"}


async def test_only_the_object_that_was_seen_is_replaced(place: Place) -> None:
    """Nothing may come in between the look and the completion."""
    await meet(place, Completes.ON_CONDITION, known=True)
    first = await place.put(make_transfer(), b"1")
    place.asked()
    await place.put(make_transfer(), b"2")
    assert place.asked() == ["begin", "part", "completion", "HEAD", "completion", "HEAD"]
    assert place.proxy.conditions[-2:] == ["If-None-Match: *", f'If-Match: "{first}"']


@pytest.mark.parametrize("store", [Completes.ANYHOW, Completes.OF_UPLOADS, Completes.ON_NONE])
async def test_a_store_that_does_not_show_that_it_keeps_conditions_is_looked_at_first(
    place: Place, store: Completes
) -> None:
    place.proxy.completes = store
    await place.put(make_transfer(), b"1")
    assert place.sink.conditions.of(place.target) in (Conditions.IN_DOUBT, Conditions.REFUSED)
    place.asked()
    place.key = f"{uuid4().hex}/a.zip"
    await place.put(make_transfer(), b"2")
    assert place.asked() == ["begin", "part", "HEAD", "completion", "HEAD"]
    expected = "none" if store is Completes.ON_NONE else "If-None-Match: *"
    assert place.proxy.conditions[-1] == expected


@STORES
async def test_learning_of_conditions_leaves_nothing_behind(
    place: Place, client: Client, store: Completes
) -> None:
    place.proxy.completes = store
    await place.put(make_transfer(), b"archive")
    assert await place.sink.open_uploads(place.target, place.key) == []
    assert await place.holds(client) == b"archive"
    async with s3.client(place.proxy.target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as there:
        found = await there.list_objects_v2(Bucket=place.target.bucket, Prefix=place.key[:14])
        assert [entry["Key"] for entry in found["Contents"]] == [place.key]


async def test_a_worker_that_learns_nothing_of_conditions_completes_all_the_same(
    place: Place,
) -> None:
    """The probe is not answered; the next completion finds out."""

    async def leave(what: str) -> None:
        if what == "completion" and place.proxy.seen.count("completion") == 2:
            place.proxy.away = True

    place.proxy.before = leave
    await place.put(make_transfer(), b"1")
    assert place.sink.conditions.of(place.target) is None
    place.proxy.before, place.proxy.away = None, False
    await place.put(make_transfer(), b"2")
    assert place.sink.conditions.of(place.target) is Conditions.KEPT


@STORES
@pytest.mark.parametrize("fault", ["doubtful_completions", "lost_completions"])
async def test_a_completion_that_is_answered_with_an_error_although_it_was_made_is_done(
    place: Place, client: Client, store: Completes, fault: str
) -> None:
    await meet(place, store, known=True)
    setattr(place.proxy, fault, 1)
    await place.put(make_transfer(), b"archive")
    assert await place.holds(client) == b"archive"


async def test_an_object_that_an_earlier_attempt_made_is_done(place: Place, client: Client) -> None:
    """Its own upload is left over, then."""
    await meet(place, Completes.ON_CONDITION, known=True)
    delivery = make_transfer()
    first = await place.put(delivery, b"archive")
    place.asked()
    assert await place.put(delivery, b"archive") == first
    assert place.asked() == ["begin", "part", "completion", "HEAD", "DELETE"]
    assert await place.sink.open_uploads(place.target, place.key) == []


async def test_a_conflict_is_transient(place: Place) -> None:
    """Another request for the key came in between: who asks again is told what there is."""
    place.proxy.conflicts = 1
    with pytest.raises(TargetUnavailableError, match="ConditionalRequestConflict"):
        await place.put(make_transfer(), b"archive")


async def test_a_gateways_404_teaches_nothing_of_conditions(place: Place, client: Client) -> None:
    """On `If-Match`, a store without the object says the same; a store that ignores it, nothing."""
    await meet(place, Completes.ANYHOW, known=True)
    await place.put(make_transfer(), b"1")
    place.proxy.not_found = 1
    await place.put(make_transfer(), b"2")
    assert place.sink.conditions.of(place.target) is Conditions.IN_DOUBT
    with pytest.raises(ForeignObjectError):
        await place.put(make_transfer(tenant=OTHER), b"another's")
    assert await place.holds(client) == b"2"


async def test_marks_are_read_whatever_the_case_of_their_names(place: Place) -> None:
    """Stores that are written in Go send `X-Amz-Meta-Rs-Delivery-Id`."""
    place.proxy.in_gos_case = True
    await place.put(make_transfer(), b"archive")
    with pytest.raises(ForeignObjectError):
        await place.put(make_transfer(tenant=OTHER), b"archive")


class Workers:
    """A worker of two tenants with one bucket, behind a proxy."""

    def __init__(self, worker: TransferWorker, proxy: S3Proxy, client: Client) -> None:
        self.worker = worker
        self.proxy = proxy
        self.client = client

    async def deliver(self, name: str, *, tenant: str = TENANT, user: str = USER) -> asyncpg.Record:
        await self.worker.plan(name, tenant=tenant, user=user)
        return await self.worker.ended(name, tenant=tenant)

    async def still(self, row: asyncpg.Record) -> bool:
        """Whether the object that was told is there, with its bytes and marks."""
        key = row["url"].partition(f"{s3.BUCKET}/")[2]
        async with s3.client(self.proxy.target.endpoint, s3.KEY, s3.SECRET, s3.REGION) as store:
            head = await store.head_object(Bucket=s3.BUCKET, Key=key)
        return (
            head["ETag"].strip('"') == row["etag"]
            and head["Metadata"]["rs-delivery-id"] == str(row["id"])
            and contents(await self.client.fetch(row["url"])) == FILES
        )


@pytest.fixture
async def workers(
    pool: asyncpg.Pool, settings: Settings, sink: S3ObjectStore, proxied: Proxied, client: Client
) -> AsyncIterator[Workers]:
    proxy, through = proxied
    worker = TransferWorker(pool, settings, sink, through, CountingSource(FILES), sharing=[OTHER])
    async with worker.running(count=2):
        yield Workers(worker, proxy, client)


@STORES
async def test_the_second_of_two_tenants_with_one_bucket_and_one_id_ends_in_words(
    workers: Workers, client: Client, name: str, store: Completes
) -> None:
    workers.proxy.completes = store
    first = await workers.deliver(name)
    assert first["state"] == "DONE"
    second = await workers.deliver(name, tenant=OTHER)
    assert (second["state"], second["error_type"]) == ("ERROR", "INTERNAL_ERROR")
    assert second["attempt"] == 1
    for words in (first["url"], "another tenant's delivery", "another correlationId", "bucket"):
        assert words in second["error_message"]
    assert TENANT not in second["error_message"]
    assert await workers.still(first)
    assert await client.open_uploads(name) == []
    assert (second["completing"], second["completing_until"]) == (None, None)
    await workers.worker.sweep()
    assert await workers.still(first)
    responses = [
        body["status"]
        for kind, body in await workers.worker.deliveries.owed()
        if kind == "response" and body["status"] != "GRANTED"
    ]
    assert responses == ["DONE", "ERROR"]


async def test_a_user_can_not_replace_what_another_user_was_told(
    workers: Workers, client: Client, name: str
) -> None:
    alices = await workers.deliver(name, user="alice@example.org")
    mallorys = await workers.deliver(name, user=MALLORY)
    assert (alices["state"], mallorys["state"]) == ("DONE", "ERROR")
    assert "another user's delivery" in mallorys["error_message"]
    assert await workers.still(alices)
    again = await workers.deliver(name, user="alice@example.org")
    assert again["state"] == "DONE"
    assert again["id"] != alices["id"]
    assert await workers.still(again)
    assert await client.open_uploads(name) == []


@STORES
async def test_one_of_two_completions_at_once_is_done_and_the_other_ends_in_words(
    workers: Workers, client: Client, name: str, store: Completes
) -> None:
    workers.proxy.completes = store
    await workers.deliver(f"{name}-before")  # what the store is like is known
    workers.proxy.let_complete = asyncio.Event()
    seen = workers.proxy.seen
    completions = seen.count("completion")
    with capture_logs() as logs:
        for tenant in (TENANT, OTHER):
            await workers.worker.plan(name, tenant=tenant)
        async with asyncio.timeout(30):
            while not any("just completing" in str(line.get("cause")) for line in logs):
                await asyncio.sleep(0.02)
    await workers.proxy.until("completion", completions + 1)
    assert seen.count("completion") == completions + 1  # the other one waits, and asks nothing
    workers.proxy.let_complete.set()
    rows = [await workers.worker.ended(name, tenant=tenant) for tenant in (TENANT, OTHER)]
    done, error = sorted(rows, key=lambda row: str(row["state"]))
    assert (done["state"], error["state"]) == ("DONE", "ERROR")
    assert "another tenant's delivery" in error["error_message"]
    assert await workers.still(done)
    assert await client.open_uploads(name) == []


async def test_a_completion_at_another_server_keeps_no_transfer_waiting(
    pool: asyncpg.Pool,
    settings: Settings,
    sink: S3ObjectStore,
    target: S3Target,
    proxied: Proxied,
    client: Client,
    name: str,
) -> None:
    """A transfer notes the server of its own target: not its tenant's default, nor the bucket."""
    proxy, through = proxied
    worker = TransferWorker(
        pool, settings, sink, target, CountingSource(FILES), other=through, sharing=[OTHER]
    )
    proxy.let_complete = asyncio.Event()
    async with worker.running(count=2):
        await worker.plan(name, tenant=OTHER, target="other")
        await proxy.until("completion")  # it is noted, and not answered
        held = await worker.row(name, OTHER)
        assert held["completing"]["server"] == through.endpoint.partition("//")[2]
        await worker.plan(name)
        ours = await worker.ended(name)
        assert ours["state"] == "DONE"
        assert ours["url"] == held["completing"]["url"]
        assert (await worker.row(name, OTHER))["state"] == "TRANSFERRING"
        proxy.let_complete.set()
        theirs = await worker.ended(name, tenant=OTHER)
    # It is one store by two addresses, after all: there, its condition decides.
    assert theirs["state"] == "ERROR"
    assert "another tenant's delivery" in theirs["error_message"]
    assert await Workers(worker, proxy, client).still(ours)
    assert await client.open_uploads(name) == []


@pytest.fixture
def deliveries(pool: asyncpg.Pool, settings: Settings) -> Deliveries:
    """Deliveries of two tenants with one bucket."""
    return Deliveries(pool, settings.model_copy(update={"tenants": (TENANT, OTHER)}))


async def transferring(
    deliveries: Deliveries, name: str, tenant: str, *, owner: str = "w", user: str = USER
) -> Delivery:
    """Return a delivery that a worker has just claimed."""
    ready = await deliveries.ready(name, tenant=tenant)
    await deliveries.pool.execute(
        "UPDATE delivery SET user_email = $2 WHERE id = $1", ready.id, user
    )
    claimed = await deliveries.leases(owner).claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.id == ready.id
    return claimed


async def test_completions_of_one_object_by_two_tenants_happen_one_after_the_other(
    deliveries: Deliveries, name: str
) -> None:
    """Whether or not the store keeps conditions."""
    leases = deliveries.leases("w")
    ours = await transferring(deliveries, name, TENANT)
    theirs = await transferring(deliveries, name, OTHER)
    result = make_stored(url=f"s3://b/{name}/a.zip")
    noted = await asyncio.gather(
        leases.record_completion(ours, result, namespace="s3.example:443", until=UNTIL),
        leases.record_completion(theirs, result, namespace="s3.example:443", until=UNTIL),
        return_exceptions=True,
    )
    (_,) = [outcome for outcome in noted if isinstance(outcome, Allowed)]
    (refused,) = [outcome for outcome in noted if not isinstance(outcome, Allowed)]
    assert isinstance(refused, ObjectBusyError)
    first, second = (ours, theirs) if isinstance(noted[0], Allowed) else (theirs, ours)
    # Its own again, and another name.
    assert await leases.record_completion(first, result, namespace="s3.example:443", until=UNTIL)
    elsewhere = replace(result, url=f"s3://b/{name}/b.zip")
    assert await leases.record_completion(
        second, elsewhere, namespace="s3.example:443", until=UNTIL
    )
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(first, State.DONE, result=result)
    assert await leases.record_completion(second, result, namespace="s3.example:443", until=UNTIL)


async def test_an_object_at_another_server_keeps_no_completion_waiting(
    deliveries: Deliveries, name: str
) -> None:
    """A tenant could call a bucket of its own like another's, and never complete there."""
    leases = deliveries.leases("w")
    ours = await transferring(deliveries, name, TENANT)
    theirs = await transferring(deliveries, name, OTHER)
    result = make_stored(url=f"s3://b/{name}/a.zip")
    assert await leases.record_completion(theirs, result, namespace="10.0.0.1:9000", until=UNTIL)
    assert await leases.record_completion(ours, result, namespace="s3.example:443", until=UNTIL)


async def test_a_removal_keeps_only_completions_at_its_own_server_waiting(
    deliveries: Deliveries, target: S3Target, name: str
) -> None:
    """A tenant's server may be silent while an object is removed there."""
    leases = deliveries.leases("w")
    removed = await transferring(deliveries, name, OTHER)
    completed = await transferring(deliveries, name, TENANT)
    key = f"{name}/a.zip"
    result = make_stored(url=target.url_of(key))
    under_lock, answers = asyncio.Event(), asyncio.Event()
    looks = 0

    class Silent:
        async def find(self, *_: object) -> FoundObject | None:
            nonlocal looks
            looks += 1
            if looks > 1:
                under_lock.set()
                await answers.wait()
            return make_found(marks=marks_of(removed)) if looks == 1 else None

    sink: Any = Silent()
    removal = Removal(store=deliveries.store, objects=sink)
    removing = asyncio.create_task(removal.remove(removed, target, key))
    note = partial(leases.record_completion, completed, result, until=UNTIL)
    async with asyncio.timeout(30):
        await under_lock.wait()
        assert await note(namespace="s3.example:443")
        waiting = asyncio.create_task(note(namespace=server_of(target.endpoint)))
        while not await deliveries.pool.fetchval(LOCKS_WAITED_FOR):
            await asyncio.sleep(0.02)
        answers.set()
        assert not await removing
        assert await waiting


async def test_a_completion_noted_by_an_older_worker_counts_at_every_server(
    deliveries: Deliveries, name: str
) -> None:
    leases = deliveries.leases("w")
    ours = await transferring(deliveries, name, TENANT)
    theirs = await transferring(deliveries, name, OTHER)
    result = make_stored(url=f"s3://b/{name}/a.zip")
    assert await leases.record_completion(theirs, result, namespace="s3.example:443", until=UNTIL)
    await deliveries.pool.execute(
        "UPDATE delivery SET completing = (completing::jsonb - 'server')::json WHERE id = $1",
        theirs.id,
    )
    with pytest.raises(ObjectBusyError):
        await leases.record_completion(ours, result, namespace="s3.example:443", until=UNTIL)


async def test_a_completion_that_was_refused_keeps_no_other_waiting(
    deliveries: Deliveries, name: str
) -> None:
    leases = deliveries.leases("w")
    ours = await transferring(deliveries, name, TENANT)
    theirs = await transferring(deliveries, name, OTHER)
    result = make_stored(url=f"s3://b/{name}/a.zip")
    assert await leases.record_completion(theirs, result, namespace="s3.example:443", until=UNTIL)
    await deliveries.leases("another").discard_completion(theirs)  # it is not its to forget
    with pytest.raises(ObjectBusyError):
        await leases.record_completion(ours, result, namespace="s3.example:443", until=UNTIL)
    await leases.discard_completion(theirs)
    assert await leases.record_completion(ours, result, namespace="s3.example:443", until=UNTIL)


async def failed(deliveries: Deliveries, name: str, tenant: str, user: str = USER) -> Delivery:
    """Return a delivery that failed in its second attempt."""
    claimed = await transferring(deliveries, name, tenant, user=user)
    await deliveries.pool.execute(
        "UPDATE delivery SET attempt = 2, not_before = now() WHERE id = $1", claimed.id
    )
    claimed = replace(claimed, attempt=2)
    await deliveries.fail(claimed, "for the test")
    return claimed


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_failed_delivery_does_not_abort_what_another_tenant_is_uploading(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, name: str, recorded: bool
) -> None:
    """Neither what is recorded, nor what was opened just now."""
    ended = await failed(deliveries, name, OTHER)
    running = await transferring(deliveries, name, TENANT, owner="v")
    key = key_of(running, target)
    upload = await sink.create_upload(target, key, marks_of(running))
    leases = deliveries.leases("v")
    uploads = deliveries.uploads(sink)
    if recorded:
        assert await leases.record_upload(running, uploads.located(upload, target))
    assert await swept(deliveries, sink) == 0  # it is looked at again
    assert not await uploads.abort_orphans(ended, target, key)
    assert [opened.upload_id for opened in await sink.open_uploads(target, key)] == [
        upload.upload_id
    ]
    # When that one has ended, what is left open is aborted.
    await deliveries.fail(running, "for the test")
    await deliveries.pool.execute("UPDATE delivery SET not_before = now()")
    assert await swept(deliveries, sink) == 2
    assert await sink.open_uploads(target, key) == []


async def test_ids_that_meet_in_one_key_do_not_abort_each_others_uploads(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, name: str
) -> None:
    """A separator in an id is no folder of the key."""
    ended = await failed(deliveries, f"{name}/1", OTHER)
    running = await transferring(deliveries, f"{name}_1", TENANT, owner="v")
    key = key_of(running, target)
    assert key == key_of(ended, target)
    upload = await sink.create_upload(target, key, marks_of(running))
    assert await swept(deliveries, sink) == 0
    assert len(await sink.open_uploads(target, key)) == 1
    await sink.abort(target, upload)


async def test_a_delivery_to_another_key_keeps_no_sweep_waiting(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, name: str
) -> None:
    """Archives of one product are called the same."""
    ended = await failed(deliveries, name, OTHER)
    await transferring(deliveries, f"{name}-2", TENANT, owner="v")
    await sink.create_upload(target, key_of(ended, target))
    assert await swept(deliveries, sink) == 1
    assert await sink.open_uploads(target, key_of(ended, target)) == []


async def test_an_opening_that_was_not_answered_aborts_nothing_that_may_be_anothers(
    pool: asyncpg.Pool, settings: Settings, sink: S3ObjectStore, proxied: Proxied, name: str
) -> None:
    """It steps back: the attempt after it is swept."""
    proxy, through = proxied
    worker = TransferWorker(
        pool,
        settings,
        sink,
        through,
        CountingSource(FILES),
        sharing=[OTHER],
        patience=replace(QUICK, limit=0.3),
    )
    await worker.plan(name, tenant=OTHER)
    running = await worker.deliveries.leases("v").claim(Work.TRANSFER)
    assert running is not None
    key = key_of(running, through)
    upload = await sink.create_upload(through, key, marks_of(running))
    proxy.lost_begins = 1
    await worker.plan(name)
    async with worker.running(count=1):
        await worker.until(name, lambda row: row["tries"] == 1)
        assert upload.upload_id in [
            opened.upload_id for opened in await sink.open_uploads(through, key)
        ]
        await worker.deliveries.fail(running, "for the test")
        await pool.execute("UPDATE delivery SET not_before = now()")
        row = await worker.ended(name)
    assert (row["state"], row["attempt"]) == ("DONE", 2)
    assert await sink.open_uploads(through, key) == []


async def test_indexes_find_what_others_do_however_many_wait(
    deliveries: Deliveries, name: str
) -> None:
    """Archives of one product are called the same, and thousands may wait for a target."""
    ours = await transferring(deliveries, name, TENANT)
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, attempt, archive_name, "
        "completing, completing_until) "
        "SELECT gen_random_uuid(), $1, 'd' || n, 'TRANSFERRING', 'u', 't', '{}', 1, "
        "now(), now(), now(), 1, 'P_v1.zip', '{}', now() - interval '1 day' "
        "FROM generate_series(1, 6000) AS n",
        TENANT,
    )
    await deliveries.pool.execute("ANALYZE delivery")
    key = f"{name}/P_v1.zip"
    others = STATEMENTS["uploads_of_others"](
        id=ours.id,
        attempt=ours.attempt,
        tenant=ours.tenant,
        correlation_id=name,
        bucket="b",
        key=key,
        archive_name="P_v1.zip",
    )
    url = f"s3://b/{key}"
    second = timedelta(seconds=1)
    note = STATEMENTS["record_completion"](
        id=ours.id,
        attempt=ours.attempt,
        owner="w",
        ttl=second,
        completing={"url": url},
        within=second,
        url=url,
        namespace="s3.example:443",
        appeared=False,
    )
    for text, *arguments in (others, note):
        rows = await deliveries.pool.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments
        )
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan on delivery" not in plan, plan
        read = re.findall(r"on delivery.*actual rows=(\d+)", plan)
        assert read, plan
        assert max(map(int, read)) < 10, plan  # versions of one row count
