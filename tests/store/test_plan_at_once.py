"""A delivery that is laid out, its files, and what wakes workers: all of it, or nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.delivery import outgoing
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.outgoing import Kind
from app.delivery.states import State, Work
from tests.builders import make_file, make_manifest
from tests.deliveries import Deliveries

FILES = [
    make_file("a/ä.bin", b"abc", position=0, file_id=7, crc32=2**32 - 1, product_id="P"),
    make_file("b.bin", position=1, file_id=2**40, product_version=3, media_type="image/tiff"),
]
MANIFEST = replace(make_manifest(FILES), prefix="x")


async def laid_out(deliveries: Deliveries, delivery: Delivery) -> bool:
    wake = outgoing.wake(delivery, Kind.TRANSFER)
    return await deliveries.store.plan(delivery, MANIFEST, FILES, wake)


async def files_of(deliveries: Deliveries, delivery: Delivery) -> list[ManifestFile]:
    return [file async for file in deliveries.store.files(delivery)]


async def planned(deliveries: Deliveries, *, at_once: bool) -> tuple[object, ...]:
    """Lay a delivery out, and return what came of it."""
    correlation_id = "once" if at_once else "in two"
    delivery = await deliveries.available(correlation_id)
    if at_once:
        assert await laid_out(deliveries, delivery)
    else:
        async with deliveries.store.transaction() as tx:
            await tx.add_files(delivery, FILES)
            assert await tx.advance(delivery, State.READY, manifest=MANIFEST)
    row = await deliveries.row(delivery)
    ready = await deliveries.active(correlation_id)
    steps = [step.state for step in await deliveries.moved(delivery.id)]
    manifest = ready.archive_name, ready.prefix, ready.file_count, ready.total_bytes
    return row.state, row.lease_owner, manifest, await files_of(deliveries, delivery), steps


async def test_it_is_ready_as_by_a_transaction(deliveries: Deliveries) -> None:
    at_once = await planned(deliveries, at_once=True)
    assert at_once == await planned(deliveries, at_once=False)
    assert at_once[0] is State.READY
    assert at_once[3] == FILES


async def test_workers_are_told_and_it_is_published(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    deliveries.hinted.clear()
    async with deliveries.work_news().listening() as due, asyncio.timeout(30):
        assert await laid_out(deliveries, delivery)
        assert await due() == {Work.TRANSFER}
    assert [hint.kind for hint in deliveries.hinted] == [Kind.TRANSFER]
    assert await deliveries.leases("w").claim(Work.TRANSFER) is not None


async def test_of_one_that_has_moved_on_nothing_is_written_or_told(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.ERROR)
    deliveries.hinted.clear()
    assert not await laid_out(deliveries, delivery)
    assert await files_of(deliveries, delivery) == []
    assert deliveries.hinted == []


async def test_of_two_at_once_one_lays_it_out(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    both = await asyncio.gather(*(laid_out(deliveries, delivery) for _ in range(2)))
    assert sorted(both) == [False, True]
    assert await files_of(deliveries, delivery) == FILES


async def test_what_is_under_way_is_not_laid_out(deliveries: Deliveries) -> None:
    delivery = await deliveries.claimed()
    with pytest.raises(ValueError, match="can't go"):
        await laid_out(deliveries, delivery)
