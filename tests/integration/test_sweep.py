"""Uploads that ended deliveries left open are aborted, and no delivery waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from app.delivery.model import Delivery
from app.delivery.object_store import Upload
from app.delivery.states import Work
from app.errors import ErrorType
from app.usecases.fail import fail
from app.usecases.sweep import Sweep
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import make_upload
from tests.client import Client
from tests.integration.conftest import Deliveries, abort_all
from tests.integration.gate import gate
from tests.loop_clock import LoopClock


@pytest.fixture
async def failed(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target
) -> AsyncIterator[Delivery]:
    """A delivery that was ended by a process which then died: its upload is open."""
    correlation_id = f"c-{uuid4().hex}"
    await deliveries.ready(correlation_id)
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    upload = await sink.create_upload(target, key_of(claimed, target))
    assert await leases.record_upload(claimed, deliveries.uploads(sink).located(upload, target))
    async with deliveries.store.transaction() as tx:
        await fail(tx, claimed, ErrorType.EXPIRED, "for the test")
    yield claimed
    await abort_all(sink, target, key_of(claimed, target))


def key_of(delivery: Delivery, target: S3Target) -> str:
    """Return where the archive goes."""
    return target.prefix + delivery.key


def sweep_of(
    deliveries: Deliveries, sink: S3ObjectStore, *, after: float = 0, limit: int = 9
) -> Sweep:
    """Return what sweeps."""
    return Sweep(
        store=deliveries.store,
        tenants=deliveries.tenants,
        uploads=deliveries.uploads(sink),
        checkpoints=deliveries.checkpoints("sweep"),
        after=timedelta(seconds=after),
        limit=limit,
    )


async def swept(deliveries: Deliveries, sink: S3ObjectStore, *, after: float = 0) -> int:
    """Sweep once."""
    return await sweep_of(deliveries, sink, after=after).look()


async def test_an_upload_that_was_left_open_is_aborted_once(
    deliveries: Deliveries, sink: S3ObjectStore, failed: Delivery, client: Client
) -> None:
    assert len(await client.open_uploads(failed.correlation_id)) == 1
    assert await swept(deliveries, sink, after=3600) == 0  # its worker may still do so itself
    assert await swept(deliveries, sink) == 1
    assert await client.open_uploads(failed.correlation_id) == []
    assert await swept(deliveries, sink) == 0
    assert await deliveries.pool.fetchval("SELECT upload_target FROM delivery") is None


async def test_an_upload_that_was_not_recorded_is_aborted(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, failed: Delivery, client: Client
) -> None:
    await sink.create_upload(target, key_of(failed, target))
    assert len(await client.open_uploads(failed.correlation_id)) == 2
    assert await swept(deliveries, sink) == 1
    assert await client.open_uploads(failed.correlation_id) == []


async def test_the_upload_of_a_new_delivery_with_the_same_key_is_left_alone(
    deliveries: Deliveries, sink: S3ObjectStore, failed: Delivery, client: Client
) -> None:
    await deliveries.granted(failed.correlation_id)
    assert await swept(deliveries, sink) == 0
    assert len(await client.open_uploads(failed.correlation_id)) == 1


async def test_an_upload_is_looked_at_later_while_its_store_is_away(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, failed: Delivery
) -> None:
    gone = replace(target, endpoint="http://127.0.0.1:9")
    upload = deliveries.uploads(sink).located(
        replace(await sink.create_upload(target, key_of(failed, target))), gone
    )
    await deliveries.pool.execute("UPDATE delivery SET upload_target = $1", upload.target)
    before = await deliveries.pool.fetchval("SELECT not_before FROM delivery")
    assert await swept(deliveries, sink) == 0
    row = await deliveries.pool.fetchrow("SELECT not_before, swept FROM delivery")
    assert row is not None
    assert row["not_before"] > before
    assert not row["swept"]


async def test_an_upload_of_another_tenants_delivery_under_the_same_key_is_left_alone(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, failed: Delivery, client: Client
) -> None:
    """Tenants may share a bucket, and clients choose the correlation ids."""
    await deliveries.ready("elsewhere", tenant="swot")
    leases = deliveries.leases("w")
    running = await leases.claim(Work.TRANSFER)
    assert running is not None
    upload = await sink.create_upload(target, key_of(failed, target))
    assert await leases.record_upload(running, deliveries.uploads(sink).located(upload, target))
    assert len(await client.open_uploads(failed.correlation_id)) == 2
    assert await swept(deliveries, sink) == 1
    (left,) = await sink.open_uploads(target, key_of(failed, target))
    assert left.upload_id == upload.upload_id


async def test_an_attempt_aborts_nothing_while_another_tenants_delivery_is_transferred_to_its_key(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target
) -> None:
    """What that one has opened may not be recorded yet; the sweep looks again when it has ended."""
    name = f"c-{uuid4().hex}"
    await deliveries.ready(name, tenant="swot")
    await deliveries.ready(name)
    leases = deliveries.leases("w")
    first, second = await leases.claim(Work.TRANSFER), await leases.claim(Work.TRANSFER)
    assert first is not None
    assert second is not None
    key = key_of(first, target)
    recorded, _ = await sink.create_upload(target, key), await sink.create_upload(target, key)
    uploads = deliveries.uploads(sink)
    assert await leases.record_upload(first, uploads.located(recorded, target))
    assert not await uploads.abort_orphans(second, target, key)
    assert len(await sink.open_uploads(target, key)) == 2
    await deliveries.fail(first, "for the test")
    assert await uploads.abort_orphans(second, target, key)
    assert await sink.open_uploads(target, key) == []


async def test_a_delivery_that_begins_while_the_sweep_is_on_its_way_keeps_its_upload(
    deliveries: Deliveries, sink: S3ObjectStore, target: S3Target, failed: Delivery, client: Client
) -> None:
    """The client asks again for a correlation id that is further down the list."""

    class Meanwhile:
        """The store, as it is when the sweep comes there."""

        abort = sink.abort

        async def open_uploads(self, target: S3Target, key: str) -> list[Upload]:
            await deliveries.ready(failed.correlation_id)
            assert await deliveries.leases("w").claim(Work.TRANSFER)
            await sink.create_upload(target, key)  # and it is not recorded yet
            return await sink.open_uploads(target, key)

    assert await sweep_of(deliveries, Meanwhile()).look() == 0  # type: ignore[arg-type]
    assert len(await client.open_uploads(failed.correlation_id)) == 1
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery WHERE swept") == 0


async def test_a_silent_place_is_asked_once_and_holds_up_no_other(
    deliveries: Deliveries,
    sink: S3ObjectStore,
    target: S3Target,
    failed: Delivery,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LoopClock(monkeypatch)
    async with gate(target.endpoint) as silent:
        await silent.hush()
        quiet = deliveries.uploads(sink).located(
            make_upload(container=target.bucket), replace(target, endpoint=silent.url)
        )
        for number in range(20):
            await deliveries.ready(f"quiet{number}")
            claimed = await deliveries.leases("w").claim(Work.TRANSFER)
            assert claimed is not None
            assert await deliveries.leases("w").record_upload(claimed, quiet)
            await deliveries.fail(claimed, "for the test")
        await deliveries.pool.execute(  # they come first
            "UPDATE delivery SET not_before = now() - interval '1 hour' "
            "WHERE correlation_id LIKE 'quiet%'"
        )
        sweep = sweep_of(deliveries, sink, limit=3)
        looking = asyncio.create_task(sweep.look())
        while not silent.unheard:
            await asyncio.sleep(0.01)
        clock.passed = sweep.patience
        assert await looking == 1
        assert await client.open_uploads(failed.correlation_id) == []
        assert await sweep.look() == 0
        assert silent.unheard == 1
        waiting = "SELECT count(*) FROM delivery WHERE NOT swept AND not_before > now()"
        assert await deliveries.pool.fetchval(waiting) == 20

        # It speaks again when its pause is over.
        await silent.speak()
        await deliveries.pool.execute("UPDATE delivery SET not_before = now()")
        assert await sweep_of(deliveries, sink, limit=3).look() == 20
