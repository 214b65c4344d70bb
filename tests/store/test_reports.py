"""The report of a delivery that failed, on either store: what it tells, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from structlog.testing import capture_logs

from app.audit import Actor
from app.delivery.content import ContentState
from app.delivery.manifest import ManifestFile
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, StoredPart, Upload
from app.delivery.orders import OrderStatus
from app.delivery.report_document import Failure
from app.delivery.reports import StoredReport, report_marks
from app.delivery.states import State, Work
from app.delivery.targets import TargetKinds
from app.errors import (
    DeliveryError,
    ErrorType,
    OrderFailedError,
    SourceGoneError,
    SourceRefusedError,
    StoreUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongFileError,
)
from app.usecases.expire import expire
from app.usecases.folders import Folders
from app.usecases.intervene import Interventions
from app.usecases.order_progress import order_progressed
from app.usecases.reports import Reports
from app.usecases.retention import Retention
from app.usecases.transfer import COMPLETION
from app.usecases.uploads import Uploads
from app.views.deliveries import Tracked
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import MIB, Part
from streams.regards.users import AnyUser
from tests.builders import at_any_time, make_order_event
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.loop_clock import LoopClock
from tests.store.conftest import OTHER
from tests.store.half_made import FILES, TARGET, HalfMade, Store
from tests.store.test_partial import SMALL, FlawedSource, terminal

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/report.json").read_text())
KEY = "c/report.json"
REFUSED = SourceRefusedError("rs-order answered 404 for 4.bin")
ACTOR = Actor(name="an operator", role="EXPLOIT", tenant=TENANT)
TTL = timedelta(hours=48)
KEPT = timedelta(days=7)
BOUND = 6.0  # seconds that a report may take where the loop's clock is put forward


class CrashError(BaseException):
    """The worker is gone."""


class Shelf(Store):
    """A store that may take no report."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.silent = False
        self.asked = 0  # for reports

    async def put_object(self, *args: Any, **named: Any) -> str:
        if args[1].endswith("/report.json"):
            self.asked += 1
            if self.silent:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
        return await super().put_object(*args, **named)


class Failing(HalfMade):
    """A delivery that fails, of a tenant that wants reports."""

    def __init__(self, deliveries: Deliveries, files: Mapping[str, bytes] = SMALL) -> None:
        super().__init__(deliveries, files)
        self.store: Shelf = Shelf()
        self.source: FlawedSource = FlawedSource(files)
        self.ask(report=True)
        self.written = self.writes()

    def ask(self, **settings: Any) -> None:
        self.deliveries.tenants.give(TENANT, **{"target": TARGET, **settings})

    @property
    def uploads(self) -> Uploads:
        return Uploads(
            objects=self.store,
            seal=self.deliveries.vault,
            store=self.deliveries.store,
            kinds=TargetKinds(type(TARGET)),
        )

    def writes(self, **changes: Any) -> Reports:
        made: dict[str, Any] = {
            "store": self.deliveries.store,
            "tenants": self.deliveries.tenants,
            "objects": self.store,
            "uploads": self.uploads,
            "source": self.orders,
            "within": COMPLETION,
            "kept": KEPT,
        }
        return Reports(**made | changes)

    async def fail(self, name: str = "4.bin", error: DeliveryError = REFUSED) -> None:
        """Let it fail, as a file can't be had."""
        await self.plan()
        self.source.refuses[name] = error
        assert await self.attempt() is not None

    def there(self) -> dict[str, bytes]:
        return {key: there.content for key, there in self.store.objects(TARGET).items()}

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.there()[KEY])
        jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
        return document

    def states(self) -> dict[str, str]:
        return {file["path"]: file["state"] for file in self.document()["files"]}

    async def tracked(self) -> Tracked:
        return (await self.deliveries.tracking.of(TENANT, "c"))[0]

    async def put(self, of: Delivery | None, *, is_report: bool = False) -> None:
        """Let something be where the report comes, of a delivery or of none."""
        marks = {} if of is None else report_marks(of) if is_report else marks_of(of)
        await super(Shelf, self.store).put_object(
            TARGET, KEY, Part.of(b"{}"), marks, media_type="", may=at_any_time
        )

    def retention(self) -> Retention:
        return Retention(
            store=self.deliveries.store,
            contents=self.deliveries.contents,
            tenants=self.deliveries.tenants,
            folders=Folders(
                store=self.deliveries.store,
                checkpoints=self.deliveries.checkpoints("retention"),
                uploads=self.uploads,
            ),
            within=COMPLETION,
        )

    def interventions(self) -> Interventions:
        return Interventions(
            store=self.deliveries.store,
            tracking=self.deliveries.tracking,
            tenants=self.deliveries.tenants,
            users=AnyUser(),
        )


@pytest.fixture
def failing(deliveries: Deliveries) -> Failing:
    return Failing(deliveries)


async def test_a_delivery_that_fails_tells_each_file_and_where_that_is_told(
    failing: Failing,
) -> None:
    await failing.fail()
    told = await terminal(failing.deliveries)
    assert (told["status"], told["errorType"]) == ("ERROR", "INTERNAL_ERROR")
    assert told["reportUrl"] == TARGET.url_of(KEY)
    document = failing.document()
    assert document["error"]["type"] == told["errorType"]
    assert document["error"]["message"] == told["message"]
    assert document["correlationId"] == "c"
    assert document["deliveryId"] == str((await failing.tracked()).delivery.id)
    assert document["complete"]
    assert failing.states() == {
        name: "verified" if name < "4.bin" else "refused" if name == "4.bin" else "available"
        for name in SMALL
    }
    (refused,) = [file for file in document["files"] if file["state"] == "refused"]
    assert refused["cause"] == str(REFUSED)
    assert "operator of rs-order" in refused["next"]
    assert refused["size"] == len(SMALL["4.bin"])


async def test_who_wants_no_report_gets_none_and_no_store_is_asked(failing: Failing) -> None:
    failing.ask(report=False)
    await failing.fail()
    told = await terminal(failing.deliveries)
    assert told["status"] == "ERROR"
    assert "reportUrl" not in told
    assert failing.there() == {}


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (WrongFileError("4.bin has another MD5", position=4), "wrong"),
        (SourceGoneError("4.bin has expired", position=4), "expired"),
    ],
)
async def test_what_happened_to_the_file_is_told(
    failing: Failing, error: DeliveryError, fate: str
) -> None:
    await failing.plan()
    claimed = await failing.deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    failure = Failure.of(ErrorType.INTERNAL_ERROR, str(error), error)
    assert failing.written is not None
    async with failing.written.of(claimed, failure) as report:
        assert report is not None
        async with failing.deliveries.store.transaction() as tx:
            assert await report.appear(tx, failure.error_type, failure.message)
    assert failing.states()["4.bin"] == fate


async def test_what_was_left_out_before_is_told_with_its_cause(failing: Failing) -> None:
    for name in SMALL:
        failing.source.refuses[name] = SourceRefusedError(f"404 for {name}")
    await failing.plan(options={"partial": True})
    assert await failing.attempt() is not None
    document = failing.document()
    assert {file["state"] for file in document["files"]} == {"missing"}
    assert [file["cause"] for file in document["files"]] == [f"404 for {name}" for name in SMALL]


@pytest.mark.parametrize(
    "error",
    [TargetRefusedError("403 from the store"), TargetUnavailableError("503"), OSError("a fault")],
)
async def test_a_store_that_does_not_take_it_changes_no_error(
    failing: Failing, error: Exception
) -> None:
    failing.store.error = error
    with capture_logs() as logs:
        await failing.fail()
    told = await terminal(failing.deliveries)
    assert told["message"] == str(REFUSED)
    assert "reportUrl" not in told
    (warned,) = [each for each in logs if each["event"] == "report_not_written"]
    assert str(error) in warned["cause"]
    assert warned["url"] == TARGET.url_of(KEY)


async def test_a_silent_store_is_left_alone_after_the_first_one(failing: Failing) -> None:
    failing.store.silent = True
    failing.written = failing.writes(bound=3.0)  # the first one takes all of it
    await failing.fail()
    assert "reportUrl" not in await terminal(failing.deliveries)
    assert failing.store.asked == 1
    claimed = await failing.deliveries.claimed("another")
    await failing.settlement("w").settle(claimed, SourceRefusedError("404"))
    assert failing.store.asked == 1
    assert (await failing.deliveries.row(claimed)).state is State.ERROR


async def test_a_silent_store_keeps_no_delivery_locked_for_as_long_as_many_files_may_take(
    failing: Failing,
) -> None:
    """What happens to the delivery, and all events behind that, wait for the lock."""
    failing.store.silent = True
    failing.written = failing.writes(bound=6.0)
    claimed = replace(await failing.deliveries.claimed("c"), file_count=1_000_000)
    assert failing.written.bound_of(claimed) > 50
    with capture_logs() as logs:
        async with asyncio.timeout(20):
            await failing.settlement("w").settle(claimed, REFUSED)
    assert "reportUrl" not in await terminal(failing.deliveries)
    (warned,) = [each for each in logs if each["event"] == "report_not_written"]
    assert warned["cause"] == "it took more than 3 seconds"
    assert failing.store.asked == 1


async def test_a_store_that_is_slow_to_take_it_keeps_no_turn_of_anothers(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries, reports = failing.deliveries, failing.writes(bound=3.0)
    elsewhere = replace(TARGET, server="elsewhere:0")
    deliveries.tenants.give(OTHER, target=elsewhere, report=True)
    failure = Failure(error_type=ErrorType.INTERNAL_ERROR, message="for the test")
    first = await deliveries.claimed("first")
    second = await deliveries.claimed("second")
    await deliveries.ready("other", tenant=OTHER)
    other = await deliveries.leases("w").claim(Work.TRANSFER)
    assert other is not None
    waits = asyncio.Event()
    find = failing.store.find

    async def found(target: Any, key: str) -> FoundObject | None:
        if key.startswith("second/"):
            waits.set()
        return await find(target, key)

    done = asyncio.Event()

    async def keeps_a_turn() -> None:
        async with reports.of(second, failure):
            await done.wait()

    async with reports.of(first, failure) as taken:
        assert taken is not None
        monkeypatch.setattr(failing.store, "find", found)
        behind = asyncio.create_task(keeps_a_turn())
        await waits.wait()
        async with reports.of(other, failure) as report:
            assert report is not None
    done.set()
    await behind


async def test_a_database_that_is_slow_silences_no_target(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = failing.writes()
    asked = asyncio.Event()

    failing.written = replace(patient, bound=BOUND)  # which shares what is known of targets
    with monkeypatch.context() as patched:
        clock = LoopClock(patched)

        async def silent(*_: Any, **__: Any) -> None:
            asked.set()
            clock.passed = BOUND
            await asyncio.Event().wait()

        patched.setattr(failing.deliveries.store, "note_report", silent)
        await failing.fail()
    assert asked.is_set()
    assert "reportUrl" not in await terminal(failing.deliveries)
    again = await failing.deliveries.claimed("another")
    failure = Failure(error_type=ErrorType.INTERNAL_ERROR, message="for the test")
    async with patient.of(again, failure) as report:
        assert report is not None


async def test_a_target_that_had_no_time_left_to_answer_in_is_not_silent(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = failing.writes()
    failing.written = replace(patient, bound=BOUND)  # which shares what is known of targets
    store = failing.deliveries.store
    note = store.note_report
    asked = asyncio.Event()
    with monkeypatch.context() as patched:
        clock = LoopClock(patched)

        async def late(*given: Any, **named: Any) -> StoredReport | None:
            noted = await note(*given, **named)
            clock.passed = BOUND - 1
            return noted

        async def silent(*_: Any) -> None:
            asked.set()
            clock.passed = BOUND
            await asyncio.Event().wait()

        patched.setattr(store, "note_report", late)
        patched.setattr(failing.store, "find", silent)
        await failing.fail()
    assert asked.is_set()
    assert "reportUrl" not in await terminal(failing.deliveries)
    again = await failing.deliveries.claimed("another")
    failure = Failure(error_type=ErrorType.INTERNAL_ERROR, message="for the test")
    async with patient.of(again, failure) as report:
        assert report is not None


async def test_a_target_that_had_no_time_left_for_a_part_is_not_silent(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had answered before, and then the rows of the files took nearly all there was."""
    reports = failing.writes(part_size=100)
    loop, store = asyncio.get_running_loop(), failing.deliveries.store
    time, files, put_part = loop.time, store.files, failing.store.put_part
    asked = asyncio.Event()
    passed = 0.0

    async def late(delivery: Delivery) -> AsyncIterator[ManifestFile]:
        nonlocal passed
        passed = reports.bound - 1
        async for file in files(delivery):
            yield file

    async def silent(*given: Any) -> StoredPart:
        if passed:
            asked.set()
            await asyncio.Event().wait()
        return await put_part(*given)

    failure = Failure(error_type=ErrorType.INTERNAL_ERROR, message="for the test")
    claimed = await failing.deliveries.claimed("c")
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", lambda: time() + passed)
        patched.setattr(store, "files", late)
        patched.setattr(failing.store, "put_part", silent)
        async with reports.of(claimed, failure) as report:
            assert report is None
    assert asked.is_set()
    async with reports.of(claimed, failure) as report:
        assert report is not None


async def test_one_whose_place_is_kept_by_another_holds_up_no_end(failing: Failing) -> None:
    """A removal at a slow store keeps it for as long as that takes."""
    failing.written = failing.writes(bound=2.0)
    async with failing.deliveries.store.transaction() as removing:
        await removing.lock_object(TARGET.url_of(KEY), TARGET.namespace)
        with capture_logs() as logs:
            await failing.fail()
    told = await terminal(failing.deliveries)
    assert told["message"] == str(REFUSED)
    assert "reportUrl" not in told
    assert [each["url"] for each in logs if each["event"] == "report_not_written"]
    assert failing.there() == {}


async def test_an_rs_order_that_is_slow_to_tell_the_files_silences_no_target(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = failing.deliveries.store
    await failing.deliveries.granted()
    event = make_order_event(
        OrderStatus.FAILED, order_id=7, errors=1, message="a tape is broken", suborder_id=None
    )
    await order_progressed(event, store=store, reports=True)
    claimed = await failing.deliveries.leases("w").claim(Work.PLAN)
    assert claimed is not None
    asked = asyncio.Event()

    patient = failing.writes()
    failing.written = replace(patient, bound=BOUND)  # which shares what is known of targets
    with monkeypatch.context() as patched:
        clock = LoopClock(patched)

        async def silent(*_: Any) -> None:
            asked.set()
            clock.passed = BOUND
            await asyncio.Event().wait()

        patched.setattr(failing.orders, "order", silent)
        await failing.settlement("w").settle(claimed, OrderFailedError("order 7 failed"))
    assert asked.is_set()
    assert "reportUrl" not in await terminal(failing.deliveries)
    failing.written = patient
    again = await failing.deliveries.claimed("another")
    failure = Failure(error_type=ErrorType.INTERNAL_ERROR, message="for the test")
    async with patient.of(again, failure) as report:
        assert report is not None


@pytest.mark.parametrize("of", ["none", "a file of this client", "another user"])
async def test_what_is_no_report_of_this_client_is_not_replaced(failing: Failing, of: str) -> None:
    await failing.plan()
    delivery = await failing.deliveries.active()
    if of == "another user":
        other = await failing.deliveries.available("d", body=_of_another_user())
        await failing.put(other, is_report=True)
    else:
        await failing.put(None if of == "none" else delivery)
    failing.source.refuses["4.bin"] = REFUSED
    assert await failing.attempt() is not None
    assert failing.there() == {KEY: b"{}"}
    assert "reportUrl" not in await terminal(failing.deliveries)


def _of_another_user() -> dict[str, Any]:
    return {
        "correlationId": "d",
        "order": {"user": "another@example.org", "queries": ["a:b"]},
    }


async def test_a_later_delivery_of_the_same_id_takes_it_away(failing: Failing) -> None:
    await failing.fail()
    assert KEY in failing.there()
    failing.source.refuses.clear()
    await failing.plan()
    assert await failing.attempt() is None
    assert KEY not in failing.there()
    assert len(failing.there()) == 1


async def test_a_later_failure_of_the_same_id_replaces_it(failing: Failing) -> None:
    await failing.fail()
    first = failing.document()
    failing.source.refuses.clear()
    await failing.fail("6.bin", SourceRefusedError("rs-order answered 403 for 6.bin"))
    assert failing.document()["deliveryId"] != first["deliveryId"]
    assert failing.states()["6.bin"] == "refused"


async def test_a_worker_that_dies_behind_it_leaves_none_once_it_is_done(
    failing: Failing,
) -> None:
    await _die_behind_the_report(failing)
    failing.source.refuses.clear()
    await failing.deliveries.let_leases_run_out()
    assert await failing.attempt() is None
    assert KEY not in failing.there()
    assert (await terminal(failing.deliveries))["status"] == "DONE"


async def test_a_worker_that_dies_behind_it_is_made_up_for_by_the_next(
    failing: Failing,
) -> None:
    await _die_behind_the_report(failing)
    await failing.deliveries.let_leases_run_out()
    assert await failing.attempt() is not None
    assert (await terminal(failing.deliveries))["reportUrl"] == TARGET.url_of(KEY)
    assert failing.states()["4.bin"] == "refused"


async def _die_behind_the_report(failing: Failing) -> None:
    """Let a worker put the report, and die before its transaction is committed."""
    put = failing.store.put_object

    async def dies(*args: Any, **named: Any) -> str:
        await put(*args, **named)
        raise CrashError

    failing.store.put_object = dies  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        await failing.fail()
    del failing.store.put_object
    assert KEY in failing.there()


async def test_what_no_client_was_told_of_is_removed_once_it_can_not_come_any_more(
    failing: Failing,
) -> None:
    await _die_behind_the_report(failing)
    delivery = await failing.deliveries.active()
    await failing.interventions().cancel(ACTOR, "c")
    assert failing.written is not None
    assert await failing.written.look() == 0
    assert KEY in failing.there()
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    assert await failing.written.look() == 1
    assert failing.there() == {}
    assert await failing.written.look() == 0
    assert (await failing.deliveries.row(delivery)).state is State.ERROR


async def test_a_target_that_is_away_when_an_untold_one_is_to_be_removed_is_asked_again_later(
    failing: Failing,
) -> None:
    await _die_behind_the_report(failing)
    await failing.interventions().cancel(ACTOR, "c")
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    find = failing.store.find

    async def away(*_: Any) -> FoundObject | None:
        raise TargetUnavailableError("503")

    failing.store.find = away  # type: ignore[assignment, method-assign]
    assert failing.written is not None
    assert await failing.written.look() == 0
    failing.store.find = find  # type: ignore[method-assign]
    assert await failing.written.look() == 0
    await failing.deliveries.elapse(timedelta(minutes=61))
    assert await failing.written.look() == 1
    assert failing.there() == {}


@pytest.mark.parametrize("others", [0, 1])
async def test_an_untold_one_at_a_target_that_is_away_for_good_is_left_as_its_time_is_over(
    failing: Failing, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its target did not answer for another one in the same look."""
    for _ in range(others):
        await _die_behind_the_report(failing)
        await failing.interventions().cancel(ACTOR, "c")
    await _die_behind_the_report(failing)
    delivery = await failing.deliveries.active()
    await failing.interventions().cancel(ACTOR, "c")
    await failing.deliveries.elapse(KEPT - timedelta(minutes=1))
    monkeypatch.setattr(failing.store, "find", _away)
    with capture_logs() as logs:
        assert await failing.writes().look() == 0
    assert "it is tried again" in _left(logs)[0]["consequence"]
    await failing.deliveries.elapse(timedelta(hours=2))
    with capture_logs() as logs:
        assert await failing.writes().look() == 0
    left = _left(logs)
    assert len(left) == 1 + others
    for each in left:
        assert (each["target"], each["url"]) == (delivery.target, TARGET.url_of(KEY))
        assert "remove it by hand" in each["consequence"]
    monkeypatch.undo()
    await failing.deliveries.elapse(timedelta(hours=2))
    assert await failing.writes().look() == 0
    assert KEY in failing.there()


async def test_of_one_that_was_removed_none_is_asked_to_remove_it_by_hand(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await failing.fail()
    await failing.deliveries.elapse(2 * KEPT)
    await failing.interventions().remove(ACTOR, "c")
    assert await failing.retention().look() == 1
    monkeypatch.setattr(failing.store, "find", _away)
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    with capture_logs() as logs:
        await failing.writes().look()
    assert "it is tried again" in _left(logs)[0]["consequence"]  # it was removed just now
    await failing.deliveries.elapse(KEPT)
    with capture_logs() as logs:
        await failing.writes().look()
    assert _left(logs) == []
    assert [each["event"] for each in logs] == ["report_not_sought"]
    await failing.deliveries.elapse(KEPT)
    with capture_logs() as logs:
        await failing.writes().look()
    assert logs == []


async def test_nor_where_the_target_of_one_that_was_removed_is_not_set_any_more(
    failing: Failing,
) -> None:
    await failing.fail()
    await failing.interventions().remove(ACTOR, "c")
    assert await failing.retention().look() == 1
    failing.ask(report=True, target=replace(TARGET, container="another"))
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    with capture_logs() as logs:
        await failing.writes().look()
    assert [each["event"] for each in logs] == ["report_not_sought"]


async def _away(*_: Any) -> FoundObject | None:
    raise TargetUnavailableError("503")


def _left(logs: list[Any]) -> list[Any]:
    return [each for each in logs if each["event"] == "report_left"]


async def test_what_was_told_is_not_looked_for(failing: Failing) -> None:
    await failing.fail()
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    assert failing.written is not None
    assert await failing.written.look() == 0
    assert KEY in failing.there()


async def test_one_whose_time_is_over_has_a_report(failing: Failing) -> None:
    await failing.plan()
    await failing.deliveries.elapse(timedelta(hours=13))
    reports = failing.written
    assert await expire(store=failing.deliveries.store, limit=9, reports=reports) == 1
    told = await terminal(failing.deliveries)
    assert (told["errorType"], told["reportUrl"]) == ("EXPIRED", TARGET.url_of(KEY))
    assert set(failing.states().values()) == {"available"}
    assert failing.document()["error"]["next"].startswith("ask again")


async def test_reports_that_take_long_hold_up_the_ends_of_others_for_half_a_minute(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.reports.REPORTED_FOR", -1.0)
    await failing.plan()
    await failing.deliveries.elapse(timedelta(hours=13))
    reports = failing.written
    assert await expire(store=failing.deliveries.store, limit=9, reports=reports) == 1
    told = await terminal(failing.deliveries)
    assert told["errorType"] == "EXPIRED"
    assert "reportUrl" not in told


async def test_an_order_that_failed_tells_which_files_rs_order_never_made_available(
    failing: Failing,
) -> None:
    delivery = await failing.deliveries.granted()
    event = make_order_event(
        OrderStatus.FAILED, order_id=7, errors=1, message="a tape is broken", suborder_id=None
    )
    store = failing.deliveries.store
    await order_progressed(event, store=store, reports=True)
    waiting = await failing.deliveries.active()
    assert waiting.state is State.AVAILABLE
    failing.orders.hold(waiting, SMALL, unrestorable=r"4\.bin")
    claimed = await failing.deliveries.leases("w").claim(Work.PLAN)
    assert claimed is not None
    assert claimed.id == delivery.id
    error = OrderFailedError(claimed.order_error.message if claimed.order_error else "")
    await failing.settlement("w").settle(claimed, error)
    told = await terminal(failing.deliveries)
    assert told["message"] == "order 7 failed: a tape is broken"
    assert told["reportUrl"] == TARGET.url_of(KEY)
    assert failing.document()["complete"]
    states = failing.states()
    assert set(states) == set(SMALL)
    assert [name for name in SMALL if states[name] == "neverListed"] == ["4.bin"]
    assert set(states.values()) == {"available", "neverListed"}


async def test_one_of_very_many_files_is_sent_in_parts_and_leaves_no_upload(
    deliveries: Deliveries,
) -> None:
    failing = Failing(deliveries, FILES | SMALL)
    failing.written = failing.writes(part_size=300)
    await failing.fail()
    assert set(failing.states()) == {*FILES, *SMALL}
    assert failing.store.open() == []
    assert (await terminal(deliveries))["reportUrl"] == TARGET.url_of(KEY)


async def test_workers_that_end_the_same_one_at_once_abort_nothing_of_what_is_told(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes upon it while the first sends parts; the first has ended it meanwhile."""
    await failing.plan()
    await failing.deliveries.elapse(timedelta(hours=13))
    uploads: list[Upload] = []
    opened = [asyncio.Event(), asyncio.Event()]
    create_upload, put_part = failing.store.create_upload, failing.store.put_part

    async def create(*args: Any, **named: Any) -> Upload:
        uploads.append(await create_upload(*args, **named))
        opened[len(uploads) - 1].set()
        return uploads[-1]

    async def put(target: Any, upload: Upload, number: int, part: Any) -> Any:
        if upload == uploads[0]:
            await opened[1].wait()
        else:
            await asyncio.wait([first])
        return await put_part(target, upload, number, part)

    monkeypatch.setattr(failing.store, "create_upload", create)
    monkeypatch.setattr(failing.store, "put_part", put)

    async def ends() -> int:
        reports = failing.writes(part_size=300)
        return await expire(store=failing.deliveries.store, limit=9, reports=reports)

    first = asyncio.create_task(ends())
    await opened[0].wait()
    assert await ends() == 0
    assert await first == 1
    assert (await terminal(failing.deliveries))["reportUrl"] == TARGET.url_of(KEY)
    assert set(failing.states()) == set(SMALL)
    assert failing.store.open() == []


async def test_what_a_worker_that_died_has_sent_of_one_is_aborted_behind_the_next(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing.written = failing.writes(part_size=300)

    async def dies(*_: Any, **__: Any) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(failing.store, "put_part", dies)
        patched.setattr(failing.store, "abort", dies)
        with pytest.raises(CrashError):
            await failing.fail()
    assert len(failing.store.open()) == 1
    await failing.deliveries.let_leases_run_out()
    assert await failing.attempt() is not None
    assert (await terminal(failing.deliveries))["reportUrl"] == TARGET.url_of(KEY)
    assert failing.store.open() == []


async def test_one_that_ends_otherwise_leaves_no_upload(failing: Failing) -> None:
    await failing.plan()
    claimed = await failing.deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    failure = Failure(error_type=ErrorType.EXPIRED, message="late")
    async with failing.writes(part_size=300).of(claimed, failure) as report:
        assert report is not None
        assert failing.store.open()
        async with failing.deliveries.store.transaction() as tx:
            assert await report.appear(tx, ErrorType.INTERNAL_ERROR, "cancelled") is None
    assert failing.store.open() == []
    assert failing.there() == {}


async def test_it_stays_as_long_as_what_is_delivered(failing: Failing) -> None:
    failing.ask(report=True, delivered_ttl=TTL)
    await failing.fail()
    assert await failing.retention().look() == 0
    assert list(failing.there()) == [KEY]
    tracked = await failing.tracked()
    assert tracked.content is not None
    assert tracked.content.state is ContentState.PRESENT
    await failing.deliveries.elapse(TTL + timedelta(minutes=1))
    assert await failing.retention().look() == 1
    assert failing.there() == {}


@pytest.mark.parametrize("fails", [True, False])
async def test_nothing_is_told_of_one_that_a_later_delivery_of_the_same_id_made_up_for(
    failing: Failing, fails: bool
) -> None:
    failing.ask(report=True, delivered_ttl=TTL)
    await failing.fail()
    first = (await failing.tracked()).delivery
    await failing.deliveries.elapse(TTL / 2)
    if fails:
        await failing.fail("6.bin", SourceRefusedError("rs-order answered 403 for 6.bin"))
    else:
        failing.source.refuses.clear()
        await failing.plan()
        assert await failing.attempt() is None
    there = list(failing.there())
    await failing.deliveries.elapse(TTL / 2 + timedelta(minutes=1))
    await failing.retention().look()
    assert list(failing.there()) == there
    tracked = await failing.deliveries.tracking.one(TENANT, first.id)
    assert tracked is not None
    assert tracked.content is not None
    assert tracked.content.state is ContentState.REMOVED
    steps = await failing.deliveries.tracking.steps(first.id)
    assert [step.news for step in steps if step.news is not None] == []


async def test_a_person_lets_it_be_removed_and_purges_it(failing: Failing) -> None:
    await failing.fail()
    size = len(failing.there()[KEY])
    await failing.deliveries.elapse(timedelta(days=2))
    interventions = failing.interventions()
    assert await interventions.count_old(ACTOR, timedelta(days=1)) == (1, size)
    assert await interventions.purge(ACTOR, timedelta(days=1)) == (1, size)
    assert await failing.retention().look() == 1
    assert failing.there() == {}
    assert await interventions.count_old(ACTOR, timedelta(days=1)) == (0, 0)


async def test_one_of_an_attempt_that_died_is_removed_that_comes_after_the_removal(
    failing: Failing,
) -> None:
    """Its store carries out what was asked for when its sender is gone."""
    await failing.fail()
    delivery = (await failing.tracked()).delivery
    await failing.interventions().remove(ACTOR, "c")
    assert await failing.retention().look() == 1
    await failing.put(delivery, is_report=True)
    assert failing.written is not None
    assert await failing.written.look() == 0
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    assert await failing.written.look() == 1
    assert failing.there() == {}
    assert await failing.written.look() == 0


@pytest.mark.parametrize("container", [TARGET.container, "another"])
async def test_one_comes_where_an_earlier_try_may_have_put_one_or_there_is_none(
    failing: Failing, container: str
) -> None:
    """It was to end before it was laid out: its folders are others now, or its target is."""
    await failing.plan()
    key, target = f"several/{KEY}", replace(TARGET, container=container)
    place = StoredReport(key=key, url=target.url_of(key), namespace=target.namespace)
    delivery = await failing.deliveries.active()
    assert await failing.deliveries.store.note_report(delivery, place, until=COMPLETION) == place
    failing.source.refuses["4.bin"] = REFUSED
    assert await failing.attempt() is not None
    told = await terminal(failing.deliveries)
    if target == TARGET:
        assert told["reportUrl"] == place.url
        assert list(failing.there()) == [key]
        return
    assert "reportUrl" not in told
    assert failing.there() == {}
    await failing.deliveries.elapse(COMPLETION + timedelta(minutes=1))
    ((ended, noted),) = await failing.deliveries.store.untold_reports(limit=9)
    assert (ended.id, noted) == (delivery.id, place)


async def test_what_another_hand_has_put_in_its_place_is_not_removed(failing: Failing) -> None:
    await failing.fail()
    await failing.store.drop_aside(TARGET, KEY)
    await failing.put(None)
    await failing.interventions().remove(ACTOR, "c")
    await failing.retention().look()
    assert failing.there() == {KEY: b"{}"}


async def test_a_database_that_is_away_leaves_the_delivery_to_the_next_attempt(
    failing: Failing,
) -> None:
    await failing.plan()
    claimed = await failing.deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("PostgreSQL is away")

    store = failing.deliveries.store
    store.note_report = away  # type: ignore[method-assign]
    try:
        await failing.settlement("w").settle(claimed, REFUSED)
    finally:
        del store.note_report
    assert "reportUrl" not in await terminal(failing.deliveries)


@pytest.mark.parametrize(
    ("files", "seconds"), [(0, 15), (100_000, 20), (1_000_000, 60), (9_000_000, 60)]
)
async def test_the_report_of_more_files_may_take_longer_but_no_longer_than_a_minute(
    failing: Failing, files: int, seconds: int
) -> None:
    await failing.plan()
    delivery = replace(await failing.deliveries.active(), file_count=files)
    assert failing.writes().bound_of(delivery) == pytest.approx(seconds)
    assert failing.writes(bound=0.5).bound_of(replace(delivery, file_count=0)) == 0.5


async def test_memory_is_bounded_by_a_part(deliveries: Deliveries) -> None:
    """What is held of a report is a part, however many files it tells of."""
    files = {f"{number:05}.bin": noise(10, str(number)) for number in range(3000)}
    failing = Failing(deliveries, files)
    sizes: list[int] = []
    put_part = failing.store.put_part

    async def watched(target: Any, upload: Any, number: int, part: Any) -> Any:
        sizes.append(len(part))
        return await put_part(target, upload, number, part)

    failing.store.put_part = watched  # type: ignore[method-assign]
    failing.written = failing.writes(part_size=MIB // 16)
    await failing.fail("00001.bin", SourceRefusedError("404"))
    report = [size for size in sizes if size <= MIB // 16]
    assert len(report) == 5
    assert len(failing.document()["files"]) == 3000
