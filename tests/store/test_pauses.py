"""Archives that pause and go on, attempt by attempt, with objects beside them meanwhile."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

import pytest

from app.delivery.checkpoint import TailObject
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, Upload
from app.delivery.states import State, Work
from app.errors import (
    ErrorType,
    SourceUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.usecases.fail import fail
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import Part
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import list_files
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.integration.transfers import MIB
from tests.seams import archive_in_segments, deliver_to_a_pause
from tests.store.delivering import TARGET, Delivering
from tests.unit.test_assembler import goes_on

pytestmark = goes_on

FILES = {f"f{number}.bin": noise(700 * 1024, str(number)) for number in range(8)}
ENDS = [2, 3, 6]  # files up to each pause; the parts have a mebibyte
# The same place, asked for otherwise: what credentials are elsewhere, a prefix is in memory.
TODAY = MemoryTarget(container="archives", prefix="today/")


class Shelf(MemoryObjectStore):
    """A store that can be silent when something is to be dropped, refuse it, and lose an answer."""

    silent = False
    refuses: MemoryTarget | None = None  # to drop something for who comes with that
    loses_answer = False

    async def put_aside(
        self, target: MemoryTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        await super().put_aside(target, key, body, marks)
        if self.loses_answer:
            self.loses_answer = False
            raise TargetUnavailableError("no answer came")

    async def drop_aside(self, target: MemoryTarget, key: str) -> None:
        if self.silent:
            raise TargetUnavailableError("it says nothing")
        if target == self.refuses:
            raise TargetRefusedError("403")
        await super().drop_aside(target, key)


class Pausing(Delivering):
    """A delivery whose files come some at a time."""

    part_size = MIB
    memory = 8 * MIB
    shelf: Shelf

    def __init__(self, deliveries: Deliveries) -> None:
        super().__init__(deliveries, Shelf(), FILES)
        deliveries.tenants.give(TENANT, target=TARGET)

    async def plan(self) -> None:
        delivery = await self.deliveries.available()
        await self.deliveries.plan(delivery, list_files(FILES))

    async def attempt(self, *, pause_after: int | None = None, owner: str = "w") -> Delivery:
        """Let a worker make as much of the archive as there is; its lease is over then."""
        await self.deliveries.let_leases_run_out()
        claimed = await self.deliveries.leases(owner).claim(Work.TRANSFER)
        assert claimed is not None
        transfers = self.transfers(owner)
        await deliver_to_a_pause(transfers, claimed, ends=ENDS, pause_after=pause_after)
        return claimed

    async def expire(self, delivery: Delivery) -> None:
        """End a delivery, and let what may still come at its end be over."""
        async with self.deliveries.store.transaction() as tx:
            await fail(tx, delivery, ErrorType.EXPIRED, "its time was over")
        await self.deliveries.elapse(timedelta(minutes=20))

    async def tails(self, delivery: Delivery) -> list[TailObject]:
        return await self.deliveries.checkpoints("any").tails(delivery)

    def beside(self) -> list[str]:
        """Return the objects that are no archive."""
        return [key for key in self.shelf.objects(TARGET) if ".unfinished-" in key]

    def open(self) -> list[Upload]:
        return list(self.shelf.open())

    async def sweep(self) -> int:
        return await self.sweeper().look()

    async def check_archive(self, delivery: Delivery) -> None:
        """The archive is the one that never paused."""
        archive = archive_in_segments(FILES, ENDS, compression="store")
        row = await self.deliveries.row(delivery)
        assert row.state is State.DONE
        told = (await self.deliveries.outgoing())[-1].body
        assert told["md5"] == hashlib.md5(archive).hexdigest()
        (made,) = [
            made.content
            for key, made in self.shelf.objects(TARGET).items()
            if ".unfinished-" not in key
        ]
        assert made == archive


@pytest.fixture
async def pausing(deliveries: Deliveries) -> Pausing:
    """A delivery that is planned."""
    made = Pausing(deliveries)
    await made.plan()
    return made


async def test_who_goes_on_behind_a_pause_fetches_no_file_again(pausing: Pausing) -> None:
    for number, end in enumerate(ENDS):
        delivery = await pausing.attempt(pause_after=end, owner=f"w{number}")
        assert len(pausing.open()) == 1
    delivery = await pausing.attempt()
    await pausing.check_archive(delivery)
    assert pausing.source.gets == Counter(list(FILES))
    assert pausing.beside() == []
    assert pausing.open() == []


async def test_no_tail_is_kept_longer_than_it_is_needed(pausing: Pausing) -> None:
    delivery = await pausing.attempt(pause_after=2)  # 1400 KiB: one part, and a tail
    (first,) = await pausing.tails(delivery)
    assert pausing.beside() == [first.key]
    await pausing.attempt(pause_after=3)
    second = (await pausing.tails(delivery))[-1]
    assert pausing.beside() == [second.key], "the tail before is part of it, or of a part"
    assert second.key != first.key


async def test_a_tail_is_there_until_a_step_behind_it_is_saved(pausing: Pausing) -> None:
    """One that goes on and dies before leaves it to the next one."""
    await pausing.attempt(pause_after=2)
    beside = pausing.beside()
    for _ in range(2):
        pausing.source.fail = "f2.bin"
        with pytest.raises(SourceUnavailableError):
            await pausing.attempt(owner="dies")
        assert pausing.beside() == beside
    pausing.source.fail = None
    delivery = await pausing.attempt()
    await pausing.check_archive(delivery)
    assert (pausing.source.gets["f0.bin"], pausing.source.gets["f1.bin"]) == (1, 1)
    assert pausing.beside() == []


async def test_a_pause_without_a_new_file_changes_nothing(pausing: Pausing) -> None:
    delivery = await pausing.attempt(pause_after=2)
    beside, tails = pausing.beside(), await pausing.tails(delivery)
    await pausing.attempt(pause_after=2)
    assert (pausing.beside(), await pausing.tails(delivery)) == (beside, tails)


async def test_a_tail_that_is_gone_begins_the_archive_again(pausing: Pausing) -> None:
    await pausing.attempt(pause_after=2)
    for key in pausing.beside():
        await MemoryObjectStore.drop_aside(pausing.shelf, TARGET, key)
    delivery = await pausing.attempt()
    await pausing.check_archive(delivery)
    assert pausing.source.gets["f0.bin"] == 2
    assert pausing.open() == []


async def test_what_a_silent_store_did_not_drop_is_swept(pausing: Pausing) -> None:
    await pausing.attempt(pause_after=2)
    pausing.shelf.silent = True
    delivery = await pausing.attempt()
    await pausing.check_archive(delivery)
    assert len(pausing.beside()) == 1
    assert await pausing.sweep() == 0
    pausing.shelf.silent = False
    await pausing.deliveries.elapse(timedelta(minutes=1))
    assert await pausing.sweep() == 1
    assert pausing.beside() == []
    assert await pausing.tails(delivery) == []


async def test_what_may_be_put_late_is_looked_for_until_it_can_not(pausing: Pausing) -> None:
    """An answer was lost: that request may still be carried out, so the delivery is not swept."""
    pausing.shelf.loses_answer = True
    await pausing.attempt(pause_after=2)
    delivery = await pausing.attempt()
    await pausing.check_archive(delivery)
    assert pausing.beside() == []
    await pausing.deliveries.elapse(timedelta(minutes=1))
    assert await pausing.sweep() == 0, "it may be put late"
    assert pausing.beside() == []
    # And so it is.
    (left,) = await pausing.tails(delivery)
    assert left.dropped
    await pausing.shelf.put_aside(TARGET, left.key, Part.of(b"late"), {})
    await pausing.deliveries.elapse(timedelta(minutes=20))
    assert await pausing.sweep() == 1
    assert pausing.beside() == []
    assert await pausing.tails(delivery) == []


async def test_what_ends_while_it_is_paused_leaves_nothing(pausing: Pausing) -> None:
    delivery = await pausing.attempt(pause_after=2)
    async with pausing.deliveries.store.transaction() as tx:
        await fail(tx, delivery, ErrorType.EXPIRED, "its time was over")
    assert len(pausing.beside()) == 1
    await pausing.deliveries.elapse(timedelta(minutes=20))
    assert await pausing.sweep() == 1
    assert pausing.beside() == []
    assert pausing.open() == []
    assert await pausing.tails(delivery) == []


async def test_what_a_place_refuses_to_drop_stays_noted_and_is_asked_for_again(
    pausing: Pausing,
) -> None:
    delivery = await pausing.attempt(pause_after=2)
    await pausing.expire(delivery)
    pausing.shelf.refuses = TARGET
    assert await pausing.sweep() == 0
    assert pausing.open() == [], "the upload can be aborted, and is"
    assert len(await pausing.tails(delivery)) == len(pausing.beside()) == 1
    pausing.shelf.refuses = None
    assert await pausing.sweep() == 0, "it has a pause"
    await pausing.deliveries.elapse(timedelta(hours=1))
    assert await pausing.sweep() == 1
    assert await pausing.tails(delivery) == []
    assert pausing.beside() == []


async def test_what_was_put_with_other_credentials_is_dropped_with_those_of_today(
    pausing: Pausing,
) -> None:
    delivery = await pausing.attempt(pause_after=2)
    await pausing.expire(delivery)
    pausing.deliveries.tenants.give(TENANT, target=TODAY)
    pausing.shelf.refuses = TARGET
    assert await pausing.sweep() == 1
    assert await pausing.tails(delivery) == []
    assert pausing.beside() == []


async def test_a_place_that_is_away_keeps_no_other_from_being_swept(pausing: Pausing) -> None:
    """The tenant has moved: what is beside its old archive waits, and nothing at its new place."""
    delivery = await pausing.attempt(pause_after=2)
    await pausing.expire(delivery)
    moved = MemoryTarget(server="elsewhere:1", container="archives")
    pausing.deliveries.tenants.give(TENANT, target=moved)
    (left,) = pausing.open()
    await pausing.shelf.create_upload(moved, left.key, {}, media_type="application/zip")
    pausing.shelf.silent = True
    sweep = pausing.sweeper()
    assert await sweep.look() == 0
    assert pausing.open() == []
    assert len(await pausing.tails(delivery)) == 1
    # Also while the old place is left alone.
    await pausing.shelf.create_upload(moved, left.key, {}, media_type="application/zip")
    await pausing.deliveries.elapse(timedelta(minutes=1))
    assert await sweep.look() == 0
    assert pausing.open() == []
