"""What was delivered is removed when its time is over, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.audit import Actor
from app.delivery.content import GIVEN_UP_AFTER, ContentState, content_gone
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import marks_of
from app.delivery.model import Delivery, Ended
from app.delivery.object_store import Upload
from app.delivery.outgoing import told_again
from app.delivery.states import State, Work
from app.errors import (
    NotPossibleError,
    TargetRefusedError,
    TargetUnavailableError,
    UnknownDeliveryError,
)
from app.usecases.folders import Folders
from app.usecases.intervene import Interventions
from app.usecases.retention import Retention
from app.usecases.transfer import COMPLETION
from app.views.deliveries import Tracked
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import Part
from sinks.stores.memory import MemoryTarget
from streams.regards.users import AnyUser
from tests.builders import at_any_time, list_files
from tests.deliveries import Deliveries, DeliveriesInMemory, DeliveriesInPostgres
from tests.store.conftest import OTHER
from tests.store.delivering import TARGET
from tests.store.test_folders import ELSEWHERE, Folder

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SMALL = {"a.bin": b"a" * 100, "b.bin": b"b" * 200}
MANY = {f"f{number:03}.bin": b"x" * (number + 1) for number in range(70)}
REPLACED = "a later delivery has put its own in this place"
GONE = "it was not there any more: another hand has removed it, or has emptied its place"
ACTOR = Actor(name="an operator", role="EXPLOIT", tenant=TENANT)


class Shelf(Folder):
    """Deliveries that stay for a while."""

    def __init__(self, deliveries: Deliveries) -> None:
        super().__init__(deliveries)
        for tenant in (TENANT, OTHER):
            deliveries.tenants.give(tenant, delivered_ttl=2 * DAY)
        self.kept = Retention(
            store=deliveries.store,
            contents=deliveries.contents,
            tenants=deliveries.tenants,
            folders=Folders(
                store=deliveries.store,
                checkpoints=deliveries.checkpoints("retention"),
                uploads=self.uploads,
            ),
            within=COMPLETION,
            patience=5,
        )

    async def archive(
        self,
        files: Mapping[str, bytes] = SMALL,
        *,
        correlation_id: str = "c",
        tenant: str = TENANT,
        target: str | None = None,
    ) -> Delivery:
        """Deliver an archive."""
        self.source = type(self.source)(files)
        chosen: dict[str, Any] = {} if target is None else {"target": target}
        delivery = await self.deliveries.available(correlation_id, tenant=tenant, **chosen)
        await self.deliveries.plan(delivery, list_files(files))
        return await self.attempt(tenant=tenant)

    async def folder(self, files: Mapping[str, bytes] = MANY) -> Delivery:
        """Deliver files as they are."""
        await self.plan(files)
        return await self.attempt()

    async def pass_(self, time: timedelta) -> int:
        await self.deliveries.elapse(time)
        return await self.kept.look()

    def there_are(self, target: MemoryTarget = TARGET) -> list[str]:
        return sorted(self.shelf.objects(target))

    async def tracked(self, delivery: Delivery) -> Tracked:
        found = await self.deliveries.tracking.one(delivery.tenant, delivery.id)
        assert found is not None
        return found

    async def seen(self, delivery: Delivery) -> tuple[ContentState, str | None]:
        content = (await self.tracked(delivery)).content
        assert content is not None
        return content.state, content.cause

    async def news(self, delivery: Delivery) -> list[str]:
        steps = await self.deliveries.tracking.steps(delivery.id)
        return [step.news for step in steps if step.news is not None]

    def interventions(self) -> Interventions:
        return Interventions(
            store=self.deliveries.store,
            tracking=self.deliveries.tracking,
            tenants=self.deliveries.tenants,
            users=AnyUser(),
        )

    def mark(self, key: str, of: Delivery) -> None:
        """Let an object be as a completion of another delivery would have made it."""
        objects: Any = self.shelf.objects(TARGET)
        found = replace(objects[key].found, marks=marks_of(of))
        objects[key] = replace(objects[key], found=found)

    async def put(self, key: str, of: Delivery | None, *, target: MemoryTarget = TARGET) -> None:
        """Let an object be there, with the marks of a delivery."""
        body = Part.of(b"{}")
        marks = {} if of is None else marks_of(of)
        await self.shelf.drop_aside(target, key)
        await self.shelf.put_object(
            target, key, body, marks, media_type="application/json", may=at_any_time
        )


def counted() -> tuple[float, float]:
    """Return how many contents were removed, and how many were gone already."""
    names = ("delivery_contents_removed_total", "delivery_contents_gone_total")
    removed, gone = (REGISTRY.get_sample_value(name, {"tenant": TENANT}) or 0.0 for name in names)
    return removed, gone


@pytest.fixture
def shelf(deliveries: Deliveries) -> Shelf:
    return Shelf(deliveries)


async def test_a_client_is_told_until_when_its_archive_stays_and_then_it_goes(
    shelf: Shelf,
) -> None:
    before = shelf.deliveries.now()
    delivery = await shelf.archive()
    told = (await shelf.deliveries.outgoing())[-1].body
    expires = datetime.fromisoformat(told["expires"])
    assert timedelta() <= expires - before - 2 * DAY < timedelta(minutes=1)
    assert expires.microsecond == 0
    assert told["expires"].endswith("Z")
    (key,) = shelf.there_are()
    assert await shelf.seen(delivery) == (ContentState.PRESENT, None)
    assert await shelf.pass_(2 * DAY - HOUR) == 0
    assert shelf.there_are() == [key]
    assert await shelf.pass_(HOUR + timedelta(seconds=2)) == 1
    assert shelf.there_are() == []
    found = await shelf.tracked(delivery)
    assert found.delivery.state is State.DONE
    assert await shelf.seen(delivery) == (ContentState.REMOVED, None)
    assert found.content is not None
    assert found.content.removed_at is not None
    assert [m.body["status"] for m in await shelf.deliveries.outgoing() if "status" in m.body] == [
        "GRANTED",
        "DONE",
    ], "its end is told once, and nothing after it"
    assert await shelf.pass_(DAY) == 0


async def test_it_is_told_a_day_before_and_once_that_it_goes_and_once_that_it_is_gone(
    shelf: Shelf,
) -> None:
    delivery = await shelf.archive()
    await shelf.pass_(HOUR)
    assert await shelf.news(delivery) == []
    await shelf.pass_(DAY)
    await shelf.pass_(HOUR)
    assert await shelf.news(delivery) == ["content.expires-soon"]
    last = await shelf.deliveries.changes.last()
    await shelf.pass_(DAY)
    await shelf.pass_(HOUR)
    assert await shelf.news(delivery) == ["content.expires-soon", "content.removed"]
    changes = await shelf.deliveries.changes.since(last, missing=(), limit=9)
    assert [change.step.news for change in changes] == ["content.removed"]
    assert changes[0].step.state is State.DONE
    row = await shelf.deliveries.row(delivery)
    assert row.state_since == row.finished_at, "it is no other state"


async def test_what_stays_for_a_day_or_less_is_not_warned_of(shelf: Shelf) -> None:
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=DAY)
    delivery = await shelf.archive()
    await shelf.pass_(HOUR)
    assert await shelf.news(delivery) == []
    await shelf.pass_(DAY)
    assert await shelf.news(delivery) == ["content.removed"]


async def test_without_a_time_it_stays_and_no_end_is_told(shelf: Shelf) -> None:
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=timedelta())
    delivery = await shelf.archive()
    assert "expires" not in (await shelf.deliveries.outgoing())[-1].body
    assert await shelf.pass_(1000 * DAY) == 0
    assert len(shelf.there_are()) == 1
    assert (await shelf.tracked(delivery)).content is None


async def test_a_later_change_of_the_setting_does_not_move_what_was_told(shelf: Shelf) -> None:
    await shelf.archive()
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=HOUR)
    assert await shelf.pass_(DAY) == 0
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=timedelta())
    assert await shelf.pass_(DAY + HOUR) == 1
    assert shelf.there_are() == []


async def test_what_is_told_again_has_the_same_end(shelf: Shelf) -> None:
    await shelf.archive()
    told = (await shelf.deliveries.outgoing())[-1]
    await shelf.pass_(3 * DAY)
    (found,) = await shelf.deliveries.tracking.of(TENANT, "c")
    again = told_again(
        Ended(delivery=found.delivery, result=found.result, error=None, told=found.told)
    )
    assert again is not None
    assert again.body == told.body


async def test_the_manifest_and_the_report_beside_an_archive_go_with_it(shelf: Shelf) -> None:
    delivery = await shelf.archive()
    await shelf.put(f"c/{MANIFEST_NAME}", delivery)
    await shelf.put("c/report.json", delivery)
    await shelf.put("c/notes.txt", None)
    await shelf.pass_(3 * DAY)
    assert shelf.there_are() == ["c/notes.txt"]


async def test_what_lies_beside_an_archive_with_other_marks_stays(shelf: Shelf) -> None:
    delivery = await shelf.archive()
    another = replace(delivery, id=uuid4())
    await shelf.put(f"c/{MANIFEST_NAME}", another)
    await shelf.put("c/report.json", None)
    await shelf.pass_(3 * DAY)
    assert shelf.there_are() == [f"c/{MANIFEST_NAME}", "c/report.json"]


async def test_the_archive_of_a_later_delivery_of_the_same_id_stays(shelf: Shelf) -> None:
    first = await shelf.archive()
    await shelf.deliveries.elapse(DAY)
    second = await shelf.archive()  # the same files: the same bytes, and the same ETag
    (key,) = shelf.there_are()
    assert await shelf.pass_(DAY + HOUR) == 1
    assert shelf.there_are() == [key]
    assert await shelf.seen(first) == (ContentState.REMOVED, REPLACED)
    assert await shelf.seen(second) == (ContentState.PRESENT, None)
    assert await shelf.pass_(DAY) == 1
    assert shelf.there_are() == []


async def test_nothing_is_told_of_what_a_later_delivery_has_replaced(shelf: Shelf) -> None:
    """It has the same correlation id and URL: a client would take it for the later one's."""
    first = await shelf.archive()
    await shelf.deliveries.elapse(HOUR)
    second = await shelf.archive({"other.bin": b"other bytes"})
    with capture_logs() as lines:
        for _ in range(3):
            await shelf.pass_(DAY - 4 * HOUR)  # none is at the second when something is due
    assert shelf.there_are() == []
    assert await shelf.news(first) == []
    assert await shelf.seen(first) == (ContentState.REMOVED, REPLACED)
    assert await shelf.news(second) == ["content.expires-soon", "content.removed"]
    assert sorted(line["event"] for line in lines) == [
        "content_expires_soon",
        "content_removed",
        "content_replaced",
    ]


async def test_nothing_is_told_of_what_is_replaced_while_it_was_to_be_removed(
    shelf: Shelf,
) -> None:
    """The later delivery is being completed when the time of the first one is over."""
    first = await shelf.archive()
    await shelf.deliveries.elapse(3 * DAY)
    await shelf.deliveries.ready("c")
    found = await shelf.tracked(first)
    assert found.result is not None
    leases = shelf.deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    assert await leases.record_completion(
        claimed, found.result, namespace=TARGET.namespace, until=timedelta(minutes=16)
    )
    assert await shelf.kept.look() == 0
    _, cause = await shelf.seen(first)
    assert cause is not None
    assert "another delivery is completing" in cause
    (key,) = shelf.there_are()
    shelf.mark(key, claimed)
    async with shelf.deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=found.result)
    await shelf.pass_(HOUR)
    assert shelf.there_are() == [key]
    assert await shelf.seen(first) == (ContentState.REMOVED, REPLACED)
    assert await shelf.news(first) == []


async def test_what_another_delivery_has_put_elsewhere_replaces_nothing(shelf: Shelf) -> None:
    first = await shelf.archive()
    await shelf.deliveries.elapse(HOUR)
    await shelf.archive(correlation_id="other")
    shelf.deliveries.tenants.give(TENANT, targets={"far": replace(TARGET, server="far")})
    await shelf.archive(target="far")
    for _ in range(3):
        await shelf.pass_(DAY)
    assert await shelf.news(first) == ["content.expires-soon", "content.removed"]


async def test_what_stays_for_a_later_delivery_is_left_to_it_after_a_month(shelf: Shelf) -> None:
    """Of the same bytes, put there by a completion of the first that came late."""
    first = await shelf.archive()
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=timedelta())
    await shelf.archive()
    (key,) = shelf.there_are()
    shelf.mark(key, first)
    assert await shelf.pass_(3 * DAY) == 0
    _, cause = await shelf.seen(first)
    assert cause is not None
    assert "a later delivery was told" in cause
    await shelf.pass_(GIVEN_UP_AFTER)
    assert await shelf.seen(first) == (ContentState.REMOVED, REPLACED)
    assert shelf.there_are() == [key]
    assert await shelf.news(first) == []


async def test_nothing_is_removed_while_another_delivery_completes_there(shelf: Shelf) -> None:
    first = await shelf.archive()
    (key,) = shelf.there_are()
    await shelf.deliveries.elapse(3 * DAY)
    await shelf.deliveries.ready("c")
    leases = shelf.deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    found = await shelf.tracked(first)
    assert found.result is not None
    assert await leases.record_completion(
        claimed, found.result, namespace=TARGET.namespace, until=timedelta(minutes=16)
    )
    assert await shelf.kept.look() == 0
    assert shelf.there_are() == [key]
    state, cause = await shelf.seen(first)
    assert state is ContentState.REMOVING
    assert cause is not None
    assert "another delivery is completing" in cause
    assert await shelf.pass_(HOUR) == 1
    assert shelf.there_are() == []


async def test_a_place_that_is_busy_is_looked_at_less_and_less_and_not_for_ever(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.retention._BUSY", Backoff(first=120, longest=3600))
    delivery = await shelf.archive()
    (key,) = shelf.there_are()
    await shelf.deliveries.elapse(3 * DAY)
    await shelf.deliveries.ready("c")
    leases = shelf.deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    found = await shelf.tracked(delivery)
    assert found.result is not None
    assert await leases.record_completion(
        claimed, found.result, namespace=TARGET.namespace, until=60 * DAY
    )
    for pause in (120, 240, 480):
        assert await shelf.kept.look() == 0
        await shelf.deliveries.elapse(timedelta(seconds=pause / 2))
        assert await shelf.deliveries.contents.due(limit=9) == []
        await shelf.deliveries.elapse(timedelta(seconds=pause / 2))
        assert len(await shelf.deliveries.contents.due(limit=9)) == 1
    with capture_logs() as lines:
        await shelf.pass_(GIVEN_UP_AFTER)
    assert [line["event"] for line in lines] == ["content_left"]
    _, cause = await shelf.seen(delivery)
    assert cause is not None
    assert "another delivery is completing" in cause
    assert cause.endswith("; given up")
    assert shelf.there_are() == [key]


async def test_what_another_hand_has_removed_is_gone_which_is_told_and_not_counted(
    shelf: Shelf,
) -> None:
    """Or it has emptied the bucket, or renamed it and made another one."""
    before = counted()
    delivery = await shelf.archive()
    (key,) = shelf.there_are()
    await shelf.put(f"c/{MANIFEST_NAME}", delivery)
    await shelf.shelf.drop_aside(TARGET, key)
    with capture_logs() as lines:
        assert await shelf.pass_(3 * DAY) == 1
    assert shelf.there_are() == []
    assert await shelf.seen(delivery) == (ContentState.REMOVED, GONE)
    (warned,) = (line for line in lines if line["event"] == "content_gone")
    assert (warned["log_level"], warned["correlation_id"]) == ("warning", "c")
    assert await shelf.news(delivery) == ["content.removed"]
    assert counted() == (before[0], before[1] + 1)


async def test_a_place_that_is_gone_is_no_hand_that_has_removed_something(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is missing for a while answers as one that is empty does."""
    delivery = await shelf.archive()

    async def find(*_: object) -> None:
        return None

    async def open_uploads(*_: object) -> list[Upload]:
        raise TargetRefusedError("the bucket does not exist")

    with monkeypatch.context() as gone:
        gone.setattr(shelf.shelf, "find", find)
        gone.setattr(shelf.shelf, "open_uploads", open_uploads)
        assert await shelf.pass_(3 * DAY) == 0
    _, cause = await shelf.seen(delivery)
    assert cause == "the bucket does not exist"
    assert await shelf.pass_(DAY) == 1
    assert shelf.there_are() == []


async def test_what_a_person_removes_is_not_looked_for_on_another_server(shelf: Shelf) -> None:
    """Its URL names none, so that its target may lead to one where nothing is."""
    far = replace(TARGET, server="far")
    assert far.url_of("c") == TARGET.url_of("c")
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=timedelta(), targets={"far": far})
    delivery = await shelf.archive(target="far")
    shelf.deliveries.tenants.give(TENANT, targets={"far": TARGET})
    await shelf.interventions().remove(ACTOR, "c")
    assert await shelf.kept.look() == 0
    state, cause = await shelf.seen(delivery)
    assert state is ContentState.REMOVING
    assert cause is not None
    assert "leads to another place now" in cause
    assert len(shelf.there_are(far)) == 1


@pytest.mark.parametrize("marked", [True, False])
async def test_another_object_than_was_told_stays(shelf: Shelf, marked: bool) -> None:
    delivery = await shelf.archive()
    (key,) = shelf.there_are()
    await shelf.put(key, delivery if marked else None)
    with capture_logs() as lines:
        await shelf.pass_(3 * DAY)
    assert shelf.there_are() == [key]
    state, cause = await shelf.seen(delivery)
    if not marked:  # by another hand: the content is not there any more
        assert (state, cause) == (ContentState.REMOVED, GONE)
        return
    assert state is ContentState.REMOVING
    assert cause is not None
    assert "another object than its client was told of" in cause
    assert [line["event"] for line in lines] == ["content_not_removed"]
    assert await shelf.pass_(timedelta(minutes=30)) == 0


async def test_files_go_with_their_manifest_first_and_in_batches(shelf: Shelf) -> None:
    delivery = await shelf.folder()
    assert len(shelf.there_are()) == len(MANY) + 1
    await shelf.put("c/notes.txt", None)
    await shelf.pass_(DAY)
    shelf.shelf.refused = "c/f050.bin"
    assert await shelf.pass_(2 * DAY) == 0
    assert shelf.there_are() == ["c/f050.bin", "c/notes.txt"]
    state, cause = await shelf.seen(delivery)
    assert (state, cause) == (ContentState.REMOVING, "403")
    shelf.shelf.refused = None
    assert await shelf.pass_(HOUR / 2) == 0, "it is not due yet"
    assert await shelf.pass_(HOUR) == 1
    assert shelf.there_are() == ["c/notes.txt"]
    assert await shelf.seen(delivery) == (ContentState.REMOVED, None)


async def test_files_whose_turn_is_over_go_on_where_they_were(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.retention._FILES_TURN", -1.0)
    delivery = await shelf.folder()
    assert await shelf.pass_(3 * DAY) == 0
    assert len(shelf.there_are()) == len(MANY) - 32
    (due,) = [item async for item in _later(shelf)]
    assert due.position == 31
    await shelf.pass_(timedelta(seconds=2))
    await shelf.pass_(timedelta(seconds=2))
    assert shelf.there_are() == []
    await shelf.pass_(timedelta(seconds=2))
    assert await shelf.seen(delivery) == (ContentState.REMOVED, None)


async def test_a_file_that_was_refused_in_an_earlier_turn_is_not_forgotten(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.retention._FILES_TURN", -1.0)
    delivery = await shelf.folder()
    shelf.shelf.refused = "c/f003.bin"
    await shelf.pass_(3 * DAY)
    for _ in range(3):
        assert await shelf.pass_(timedelta(seconds=2)) == 0
    assert shelf.there_are() == ["c/f003.bin"]
    assert await shelf.seen(delivery) == (ContentState.REMOVING, "403")
    shelf.shelf.refused = None
    await shelf.pass_(DAY)
    for _ in range(3):
        await shelf.pass_(timedelta(seconds=2))
    assert shelf.there_are() == []
    assert await shelf.seen(delivery) == (ContentState.REMOVED, None)


async def _later(shelf: Shelf) -> Any:
    await shelf.deliveries.elapse(timedelta(seconds=2))
    for item in await shelf.deliveries.contents.due(limit=9):
        yield item


async def test_files_of_a_later_delivery_of_the_same_id_stay(shelf: Shelf) -> None:
    first = await shelf.folder(SMALL)
    await shelf.deliveries.elapse(DAY)
    await shelf.folder(SMALL | {"c.bin": b"c"})
    await shelf.pass_(DAY + HOUR)
    assert shelf.there_are() == ["c/a.bin", "c/b.bin", "c/c.bin", f"c/{MANIFEST_NAME}"]
    assert await shelf.seen(first) == (ContentState.REMOVED, REPLACED)
    assert await shelf.news(first) == []


async def test_files_whose_rows_are_gone_are_left_with_a_word_for_the_operator(
    deliveries: Deliveries, shelf: Shelf
) -> None:
    delivery = await shelf.folder(SMALL)
    if isinstance(deliveries, DeliveriesInMemory):
        for key, _ in list(deliveries.database.files.of(delivery.id)):
            deliveries.database.files.remove(key)
    else:
        assert isinstance(deliveries, DeliveriesInPostgres)
        await deliveries.pool.execute("DELETE FROM delivery_file")
    await shelf.pass_(3 * DAY)
    assert len(shelf.there_are()) == 3, "the manifest, too: it is all that tells them"
    _, cause = await shelf.seen(delivery)
    assert cause is not None
    assert "rows that tell the files" in cause


async def test_a_silent_target_delays_no_other_and_is_asked_less_and_less(shelf: Shelf) -> None:
    places = {"far": ELSEWHERE}
    shelf.deliveries.tenants.give(TENANT, targets=places)
    await shelf.archive(correlation_id="near")
    far = [await shelf.archive(correlation_id=f"far{n}", target="far") for n in range(3)]
    shelf.shelf.silent_at = ELSEWHERE
    with capture_logs() as lines:
        assert await shelf.pass_(3 * DAY) == 1
    assert shelf.there_are() == []
    warned = [line for line in lines if line["event"] == "content_not_removed"]
    assert [line["retry_in_seconds"] for line in warned] == [30]
    for delivery in far:
        assert await shelf.seen(delivery) == (ContentState.REMOVING, "it says nothing")
    await shelf.pass_(timedelta(seconds=20))
    assert len(shelf.there_are(ELSEWHERE)) == 3
    with capture_logs() as lines:
        await shelf.pass_(timedelta(seconds=20))
    warned = [line for line in lines if line["event"] == "content_not_removed"]
    assert [line["retry_in_seconds"] for line in warned] == [60]
    shelf.shelf.silent_at = None
    assert await shelf.pass_(HOUR) == 3
    assert shelf.there_are(ELSEWHERE) == []


async def test_a_target_that_leads_elsewhere_or_is_gone_is_waited_for(shelf: Shelf) -> None:
    shelf.deliveries.tenants.give(TENANT, targets={"far": ELSEWHERE})
    delivery = await shelf.archive(target="far")
    shelf.deliveries.tenants.give(TENANT, targets={"far": TARGET})
    await shelf.pass_(3 * DAY)
    _, cause = await shelf.seen(delivery)
    assert cause is not None
    assert "leads to another place now" in cause
    shelf.deliveries.tenants.give(TENANT, targets={"other": TARGET})
    await shelf.pass_(DAY)
    _, cause = await shelf.seen(delivery)
    assert cause is not None
    assert "not among the delivery_targets" in cause
    assert len(shelf.there_are(ELSEWHERE)) == 1
    shelf.deliveries.tenants.give(TENANT, targets={"far": replace(ELSEWHERE, prefix="new/")})
    assert await shelf.pass_(DAY) == 1, "the same place, whatever new keys begin with"
    assert shelf.there_are(ELSEWHERE) == []


async def test_it_is_given_up_after_a_month_and_can_be_asked_for_again(shelf: Shelf) -> None:
    delivery = await shelf.archive()
    shelf.shelf.refuses = True
    await shelf.pass_(3 * DAY)
    (overdue,) = await shelf.deliveries.overview.contents_overdue()
    assert (overdue.tenant, overdue.contents, overdue.cause) == (TENANT, 1, "403")
    assert overdue.oldest == pytest.approx(86400, abs=60)
    with capture_logs() as lines:
        await shelf.pass_(GIVEN_UP_AFTER)
    assert [line["event"] for line in lines] == ["content_left"]
    assert await shelf.deliveries.overview.contents_overdue() == []
    assert await shelf.pass_(DAY) == 0
    assert await shelf.pass_(DAY) == 0
    await shelf.interventions().remove(ACTOR, "c")
    with capture_logs() as lines:
        assert await shelf.kept.look() == 0
    assert [line["event"] for line in lines] == ["content_not_removed"], "it has as long again"
    shelf.shelf.refuses = False
    assert await shelf.pass_(DAY) == 1
    assert await shelf.seen(delivery) == (ContentState.REMOVED, None)


async def test_a_person_removes_what_is_done_now_and_it_is_audited_once(shelf: Shelf) -> None:
    shelf.deliveries.tenants.give(TENANT, delivered_ttl=timedelta())
    delivery = await shelf.archive()
    steered = shelf.interventions()
    found = await steered.remove(ACTOR, "c")
    assert found.content is not None
    assert found.content.state is ContentState.REMOVING
    assert len(shelf.there_are()) == 1, "a worker does it"
    assert await shelf.kept.look() == 1
    assert shelf.there_are() == []
    again = await steered.remove(ACTOR, "c")
    assert again.content is not None
    assert again.content.state is ContentState.REMOVED
    entries = await shelf.deliveries.audit.entries(TENANT, before=2**62, limit=9)
    assert [(e.action, e.before, e.after) for e in entries] == [("remove", "present", "removing")]
    assert await shelf.news(delivery) == ["content.removed"]


async def test_only_what_is_done_can_be_removed_and_only_by_its_user(shelf: Shelf) -> None:
    steered = shelf.interventions()
    with pytest.raises(UnknownDeliveryError):
        await steered.remove(ACTOR, "c")
    delivery = await shelf.deliveries.ready("c")
    with pytest.raises(NotPossibleError, match=r"not done \(READY\).*cancel it"):
        await steered.remove(ACTOR, "c")
    await shelf.deliveries.fail(delivery, "for the test")
    with pytest.raises(NotPossibleError, match=r"not done \(ERROR\)"):
        await steered.remove(ACTOR, "c")
    done = await shelf.archive()
    with pytest.raises(UnknownDeliveryError):
        await steered.remove(ACTOR, "c", user="someone@else")
    assert await steered.remove(ACTOR, "c", user=done.user)


async def test_what_was_removed_can_be_asked_for_again(shelf: Shelf) -> None:
    await shelf.archive()
    steered = shelf.interventions()
    with pytest.raises(NotPossibleError, match="is done"):
        await steered.retry(ACTOR, "c")
    await steered.remove(ACTOR, "c")
    with pytest.raises(NotPossibleError, match="is being removed; ask for it again when"):
        await steered.retry(ACTOR, "c")
    await shelf.kept.look()
    assert (await steered.retry(ACTOR, "c")).state is State.GRANTED


async def test_it_is_told_in_words_that_content_is_not_to_be_had_any_more(shelf: Shelf) -> None:
    delivery = await shelf.archive()
    assert content_gone(delivery, None) is None
    assert content_gone(delivery, (await shelf.tracked(delivery)).content) is None
    await shelf.deliveries.elapse(3 * DAY)
    going = content_gone(delivery, (await shelf.tracked(delivery)).content)
    assert going == "the content of delivery c of tenant sentinel is being removed"
    await shelf.kept.look()
    gone = content_gone(delivery, (await shelf.tracked(delivery)).content)
    assert gone is not None
    assert "was removed (2" in gone
    assert "ask for it again" in gone


async def test_a_purge_removes_what_is_old_of_one_tenant(shelf: Shelf) -> None:
    for tenant in (TENANT, OTHER):
        shelf.deliveries.tenants.give(tenant, delivered_ttl=timedelta())
    old = await shelf.archive(correlation_id="old")
    await shelf.archive(correlation_id="of another", tenant=OTHER)
    await shelf.deliveries.elapse(31 * DAY)
    new = await shelf.archive(correlation_id="new")
    size = (await shelf.tracked(old)).result
    assert size is not None
    steered = shelf.interventions()
    assert await steered.count_old(ACTOR, 30 * DAY) == (1, size.size)
    assert len(shelf.there_are()) == 3
    assert await steered.purge(ACTOR, 30 * DAY) == (1, size.size)
    assert await steered.purge(ACTOR, 30 * DAY) == (0, 0)
    assert await shelf.kept.look() == 1
    assert [key.partition("/")[0] for key in shelf.there_are()] == ["new", "of another"]
    assert (await shelf.tracked(new)).content is None
    entries = await shelf.deliveries.audit.entries(TENANT, before=2**62, limit=9)
    assert [(e.action, e.after) for e in entries] == [
        ("purge", {"deliveries": 1, "bytes": size.size})
    ]


async def test_two_that_look_at_once_tell_of_it_once(shelf: Shelf) -> None:
    delivery = await shelf.archive()
    await shelf.deliveries.elapse(3 * DAY)
    both = await asyncio.gather(shelf.kept.look(), shelf.kept.look())
    assert sum(both) == 1
    assert shelf.there_are() == []
    assert await shelf.news(delivery) == ["content.removed"]


async def test_a_lost_answer_of_the_target_costs_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = await shelf.archive()
    delete = shelf.shelf.delete

    async def lost(target: MemoryTarget, key: str, *, etag: str) -> None:
        await delete(target, key, etag=etag)
        raise TargetUnavailableError("the answer was lost")

    monkeypatch.setattr(shelf.shelf, "delete", lost)
    assert await shelf.pass_(3 * DAY) == 0
    assert shelf.there_are() == []
    monkeypatch.undo()
    assert await shelf.pass_(HOUR) == 1
    assert await shelf.seen(delivery) == (ContentState.REMOVED, None)
