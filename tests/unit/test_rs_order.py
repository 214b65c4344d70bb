"""The stand-in rs-order does what rs-order does: sentences of the contract, section 2.

What is answered over HTTP, and said over AMQP, is in tests/integration/test_rs_order.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import File
from compose.rs_order.clock import Clock
from compose.rs_order.cutting import cut, dataset_of
from compose.rs_order.downloads import Downloads, RefusedError
from compose.rs_order.faults import Faults
from compose.rs_order.order import Order, OrderedFile, Suborder
from compose.rs_order.orders import Orders, RetryRefusedError
from compose.rs_order.states import FileState, OrderStatus, SuborderState
from compose.rs_order.switches import SHOWN, UNLIMITED, SwitchError, Switches

MIB = 1024 * 1024
HOUR = 3600
USER, OTHER = "someone@cnes.fr", "other@cnes.fr"


class World:
    """An rs-order without a socket, whose clock stands still."""

    def __init__(self, folder: Path, **switches: Any) -> None:
        self.behaviour = Behaviour(switches=Switches().changed(switches))
        self.said: list[dict[str, Any]] = []
        self.clock = Clock(lambda: 0.0)
        self.orders = Orders(clock=self.clock, behaviour=self.behaviour, tell=self._tell)
        self.downloads = Downloads(self.orders, self.behaviour)
        self._folder = folder
        self._numbers = itertools.count(1)

    def _tell(self, order: Order, event: dict[str, Any]) -> None:
        assert (event["orderId"], event["correlationId"]) == (
            order.order_id,
            order.correlation_id,
        )
        self.said.append({name: value for name, value in event.items() if value is not None})

    def order(self, sizes: Mapping[str, int], *, user: str = USER, look: bool = True) -> Order:
        """Order files of these sizes, by `product/name`; what is restored at once, is."""
        number = next(self._numbers)
        files = []
        for name, size in sizes.items():
            path = self._folder / f"order{number}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as made:
                made.truncate(size)  # sparse: nothing is written
            product, _, _ = name.rpartition("/")
            files.append(File(product_id=product or "P", path=path, data_type="RAWDATA"))
        order = self.orders.grant(
            tenant="sentinel", user=user, correlation_id=f"c{number}", files=files
        )
        if look:
            self.clock.run_due()
        return order

    def get(self, file: OrderedFile, *, whole: bool = True) -> None:
        """Download a file, or close its stream early. Raises RefusedError."""
        with self.downloads.reading(file.suborder.order, file) as reading:
            if whole:
                reading.end()
        self.clock.run_due()

    def status_of_get(self, file: OrderedFile) -> int:
        """Ask for a file; return the status of the answer."""
        try:
            self.get(file)
        except RefusedError as refused:
            return refused.status
        return 200

    def get_all(self, suborder: Suborder) -> None:
        """Download a suborder."""
        for file in list(suborder.available.values()):
            self.get(file)

    def heard(self, order: Order | None = None) -> list[str]:
        """Return what was said, of one order or of all."""
        return [
            event["status"]
            for event in self.said
            if order is None or event["orderId"] == order.order_id
        ]


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    return lambda **switches: World(tmp_path, **switches)


Make = Callable[..., World]


def names(*listed: str, size: int = 10) -> dict[str, int]:
    return dict.fromkeys(listed, size)


def states(order: Order) -> list[FileState]:
    return [file.state for file in order.files.values()]


def parts(order: Order) -> list[list[str]]:
    return [[f.file.path.name for f in s.files.values()] for s in order.suborders]


# Files


def test_only_files_in_state_available_are_listed(world: Make) -> None:
    here = world(unrestorable="lost")
    order = here.order(names("P/a", "P/b", "P/lost"))
    first, second, lost = order.files.values()
    assert order.available() == [first, second]
    assert lost.state is FileState.ERROR


def test_a_file_that_was_read_to_its_end_becomes_downloaded_and_leaves_the_list(
    world: Make,
) -> None:
    here = world()
    order = here.order(names("P/a", "P/b"))
    first, second = order.files.values()
    here.get(first)
    assert states(order) == [FileState.DOWNLOADED, FileState.AVAILABLE]
    assert order.available() == [second]


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ({"answers_500": 1}, 500),
        ({"not_ready": 1}, 202),
        ({"refuse": 403}, 403),
        ({"refuse": 404}, 404),
    ],
)
def test_any_answer_but_200_sets_the_file_to_download_error(
    world: Make, faults: dict[str, int], status: int
) -> None:
    here = world()
    order = here.order(names("P/a", "P/b"))
    here.behaviour.faults = Faults.model_validate(faults)
    file = order.files[1]
    assert here.status_of_get(file) == status
    assert states(order) == [FileState.DOWNLOAD_ERROR, FileState.AVAILABLE]
    assert file.refused == {status: 1}


def test_a_stream_that_the_reader_closes_early_sets_the_file_to_download_error(
    world: Make,
) -> None:
    here = world()
    order = here.order(names("P/a"))
    here.get(order.files[1], whole=False)
    assert states(order) == [FileState.DOWNLOAD_ERROR]
    assert order.available() == []


def test_download_error_is_final_but_the_file_can_still_be_fetched_by_its_id(world: Make) -> None:
    here = world()
    order = here.order(names("P/a"))
    here.get(order.files[1], whole=False)
    assert here.status_of_get(order.files[1]) == 200
    assert states(order) == [FileState.DOWNLOAD_ERROR]


def test_a_file_that_is_not_ready_yet_is_202(world: Make) -> None:
    here = world(restore_seconds=60)
    order = here.order(names("P/a", "P/b"))
    assert here.status_of_get(order.files[1]) == 202
    here.clock.advance(60)
    assert states(order) == [FileState.DOWNLOAD_ERROR, FileState.AVAILABLE]


def test_a_file_in_error_is_422_and_stays_so(world: Make) -> None:
    here = world(unrestorable="a")
    order = here.order(names("P/a", "P/b"))
    assert here.status_of_get(order.files[1]) == 422
    assert states(order) == [FileState.ERROR, FileState.AVAILABLE]


def test_the_quota_counts_downloads_also_of_a_retry(world: Make) -> None:
    here = world(quota=2)
    order = here.order(names("P/a", "P/b"))
    here.get(order.files[1], whole=False)
    here.get(order.files[1])
    with pytest.raises(RefusedError, match="quota of 2 downloads") as refused:
        here.get(order.files[2])
    assert refused.value.status == 429
    other = here.order(names("P/a"), user=OTHER)
    assert here.status_of_get(next(iter(other.files.values()))) == 200


def test_the_quota_has_a_limit_of_downloads_at_the_same_time_and_the_body_says_which(
    world: Make,
) -> None:
    here = world(simultaneous_downloads=1)
    order = here.order(names("P/a", "P/b", "P/c"))
    with here.downloads.reading(order, order.files[1]):
        with pytest.raises(RefusedError, match="1 downloads are under way") as refused:
            here.get(order.files[2])
        assert refused.value.status == 429
    assert here.status_of_get(order.files[3]) == 200


@pytest.mark.parametrize("second_get", [409, 429, 500])
def test_two_gets_of_one_file_at_once_are_refused(world: Make, second_get: int) -> None:
    here = world(second_get=second_get)
    order = here.order(names("P/a"))
    with here.downloads.reading(order, order.files[1]) as first:
        assert here.status_of_get(order.files[1]) == second_get
        first.end()
    assert states(order) == [FileState.DOWNLOAD_ERROR]  # the refusal is final
    assert here.status_of_get(order.files[1]) == 200


def test_two_gets_of_one_file_at_once_are_served_when_told_to(world: Make) -> None:
    here = world(second_get=0)
    order = here.order(names("P/a"))
    with here.downloads.reading(order, order.files[1]) as first:
        assert here.status_of_get(order.files[1]) == 200
        first.end()
    assert states(order) == [FileState.DOWNLOADED]


# Retry


def test_retry_makes_files_in_error_and_download_error_available_in_new_suborders(
    world: Make,
) -> None:
    here = world(unrestorable="lost")
    order = here.order(names("P/a", "P/b", "P/lost"))
    here.get(order.files[1])
    here.get(order.files[2], whole=False)
    (first,) = order.suborders
    here.behaviour.switches = Switches()
    here.said.clear()

    here.orders.retry(order)
    here.clock.run_due()

    assert parts(order) == [["a"], ["b", "lost"]]
    assert first.state is SuborderState.ENDED
    assert states(order) == [FileState.DOWNLOADED, FileState.AVAILABLE, FileState.AVAILABLE]
    done, end = here.said
    assert (done["status"], done["subOrderId"]) == ("SUBORDER_DONE", order.suborders[1].suborder_id)
    assert (end["status"], end["totalSubOrders"]) == ("DONE", 2)


def test_retry_is_allowed_for_an_order_that_failed_or_is_done_with_warning_alone(
    world: Make,
) -> None:
    here = world(unrestorable="lost")
    done = here.order(names("P/a"))
    with pytest.raises(RetryRefusedError, match="MUST_BE_DONE_WITH_WARNING_OR_FAILED"):
        here.orders.retry(done)
    for sizes in (names("P/lost"), names("P/a", "P/lost")):
        here.orders.retry(here.order(sizes))


def test_retry_is_the_way_back_for_files_that_expired_from_the_cache(world: Make) -> None:
    here = world(unrestorable="lost")
    order = here.order(names("P/a", "P/lost"))
    here.clock.advance(2 * HOUR)
    assert here.status_of_get(order.files[1]) == 410
    here.orders.retry(order)
    here.clock.run_due()
    assert here.status_of_get(order.files[1]) == 200


def test_a_retry_prolongs_the_life_of_an_order(world: Make) -> None:
    here = world(unrestorable="lost")
    order = here.order(names("P/lost"))
    here.clock.advance(5 * HOUR)
    here.orders.retry(order)
    here.clock.advance(5 * HOUR)
    assert not order.status.gone
    here.clock.advance(1 * HOUR)
    assert order.status is OrderStatus.EXPIRED


# Lifetimes


def test_the_files_of_a_suborder_stay_in_the_cache_for_two_hours(world: Make) -> None:
    here = world()
    order = here.order(names("P/a", "P/b"))
    here.clock.advance(2 * HOUR - 1)
    assert here.status_of_get(order.files[1]) == 200
    here.clock.advance(1)
    assert here.status_of_get(order.files[2]) == 410
    assert here.status_of_get(order.files[1]) == 410


@pytest.mark.parametrize(("suborders", "hours"), [(1, 6), (3, 10), (60, 124), (90, 168)])
def test_an_order_expires_after_its_suborders_and_two_times_two_hours_at_most_168_hours(
    world: Make, suborders: int, hours: int
) -> None:
    here = world(suborder_files=1)
    order = here.order({f"P/f{n}": 1 for n in range(suborders)})
    assert order.expires_at == hours * HOUR
    here.clock.advance(hours * HOUR - 1)
    assert not order.status.gone
    here.clock.advance(1)
    assert order.status is OrderStatus.EXPIRED


def test_expiry_says_nothing_and_frees_the_places(world: Make) -> None:
    here = world(user_places=1)
    expires = here.order(names("P/a"))
    here.clock.advance(1 * HOUR)
    waits = here.order(names("P/a"))
    here.clock.advance(5 * HOUR - 1)
    assert here.heard(waits) == ["GRANTED"]
    here.clock.advance(1)
    assert here.heard(expires) == ["GRANTED", "SUBORDER_DONE", "DONE"]
    assert here.heard(waits) == ["GRANTED", "SUBORDER_DONE", "DONE"]
    assert expires.available() == []
    assert here.orders.file(1) is None


def test_a_storage_job_that_ran_out_of_its_time_says_nothing(world: Make) -> None:
    here = world()
    here.behaviour.faults = Faults(order="stuck")
    order = here.order(names("P/a"))
    here.clock.advance(6 * HOUR)
    assert here.heard() == ["GRANTED"]
    assert order.status is OrderStatus.EXPIRED


# Suborders


def test_suborders_are_cut_at_100_megabytes(world: Make) -> None:
    """Behind the file that reaches them."""
    order = world().order({"P/a": 60 * MIB, "P/b": 60 * MIB, "P/c": 200 * MIB, "P/d": 1})
    assert parts(order) == [["a", "b"], ["c"], ["d"]]


def test_suborders_are_cut_at_5000_files() -> None:
    cutting = Switches()
    found = cut(
        range(10_001),
        size_of=lambda _: 0,
        max_bytes=cutting.suborder_bytes,
        max_files=cutting.suborder_files,
    )
    assert [len(part) for part in found] == [5000, 5000, 1]


def test_two_small_datasets_are_two_suborders(world: Make) -> None:
    here = world(datasets="prefix")
    order = here.order(names("S2B_1/a", "S2B_2/b", "SWOT_1/c"))
    assert parts(order) == [["a", "b"], ["c"]]
    assert [len(dataset.files) for dataset in order.datasets] == [2, 1]


@pytest.mark.parametrize(
    ("how", "dataset"), [("one", "all"), ("product", "S2B-A_1"), ("prefix", "S2B")]
)
def test_the_dataset_of_a_product_is_made_of_its_id(how: Any, dataset: str) -> None:
    assert dataset_of("S2B-A_1", how) == dataset


def test_two_suborders_of_a_user_are_restored_or_wait_for_download_at_a_time_over_all_orders(
    world: Make,
) -> None:
    here = world(suborder_files=1)
    first, second = here.order(names("P/a", "P/b")), here.order(names("P/c"))
    other = here.order(names("P/d"), user=OTHER)
    assert here.heard(first) == ["GRANTED", "SUBORDER_DONE", "SUBORDER_DONE", "DONE"]
    assert here.heard(second) == ["GRANTED"]
    assert here.heard(other) == ["GRANTED", "SUBORDER_DONE", "DONE"]


def test_a_place_is_free_again_when_no_file_of_the_suborder_is_available_any_more(
    world: Make,
) -> None:
    here = world(suborder_files=2, user_places=1)
    order = here.order(names("P/a", "P/b", "P/c"))
    here.get(order.files[1])
    assert here.heard() == ["GRANTED", "SUBORDER_DONE"]
    here.get(order.files[2], whole=False)
    assert here.heard() == ["GRANTED", "SUBORDER_DONE", "SUBORDER_DONE", "DONE"]


def test_a_client_that_waits_for_done_before_it_downloads_three_suborders_waits_for_ever(
    world: Make,
) -> None:
    here = world(suborder_files=1)
    order = here.order(names("P/a", "P/b", "P/c"))
    here.clock.advance(order.expires_at - 1)
    assert here.heard() == ["GRANTED", "SUBORDER_DONE", "SUBORDER_DONE"]
    assert order.waiting_for_user


@pytest.mark.parametrize("places", [1, 2, 3, 0])
def test_a_client_that_downloads_as_it_goes_gets_an_order_of_forty_suborders(
    world: Make, places: int
) -> None:
    here = world(suborder_files=1, user_places=places, restore_seconds=2)
    order = here.order({f"P/f{n}": 1 for n in range(40)})
    rounds = 0
    while order.status is OrderStatus.RUNNING:
        here.clock.advance(2)
        rounds += 1
        for suborder in order.suborders:
            here.get_all(suborder)
    assert rounds == -(-40 // (places or 40))
    assert set(states(order)) == {FileState.DOWNLOADED}
    assert here.heard().count("SUBORDER_DONE") == 40
    assert not order.waiting_for_user


def test_a_tape_restores_a_suborder_after_a_while_and_its_files_one_by_one(world: Make) -> None:
    here = world(restore_seconds=60, restore_file_seconds=10)
    order = here.order(names("P/a", "P/b"))
    here.clock.advance(69)
    assert order.available() == []
    here.clock.advance(1)
    assert len(order.available()) == 1
    assert here.heard() == ["GRANTED"]
    here.clock.advance(10)
    assert here.heard() == ["GRANTED", "SUBORDER_DONE", "DONE"]


# Events


def test_granted_has_no_total_of_suborders(world: Make) -> None:
    here = world()
    here.order(names("P/a"), look=False)
    assert here.said == [{"status": "GRANTED", "correlationId": "c1", "orderId": 1}]


def test_suborder_done_comes_once_it_has_nothing_pending_and_something_available(
    world: Make,
) -> None:
    here = world(restore_file_seconds=1, unrestorable="lost")
    order = here.order(names("P/a", "P/lost", "P/c"))
    here.clock.advance(2)
    assert here.heard() == ["GRANTED"]
    here.clock.advance(1)
    done = here.said[1]
    assert done == {
        "status": "SUBORDER_DONE",
        "correlationId": "c1",
        "orderId": order.order_id,
        "subOrderId": order.suborders[0].suborder_id,
        "totalSubOrders": 1,
        "errors": 1,
        "errorType": "INTERNAL_ERROR",
        "downloadLink": done["downloadLink"],
    }


def test_the_total_of_suborder_done_is_a_lower_bound_and_that_of_done_is_final(
    world: Make,
) -> None:
    here = world(suborder_files=1, user_places=1)
    order = here.order(names("P/a", "P/b", "P/c"))
    for suborder in order.suborders:
        here.get_all(suborder)
    told = [(event["status"], event.get("totalSubOrders")) for event in here.said]
    assert told == [
        ("GRANTED", None),
        ("SUBORDER_DONE", 1),
        ("SUBORDER_DONE", 2),
        ("SUBORDER_DONE", 3),
        ("DONE", 3),
    ]


def test_the_total_of_suborder_done_is_all_of_them_when_told_to(world: Make) -> None:
    here = world(suborder_files=1, user_places=1, total_suborders="all")
    here.order(names("P/a", "P/b", "P/c"))
    assert here.said[1]["totalSubOrders"] == 3


def test_suborder_done_comes_sometimes_before_granted(world: Make) -> None:
    here = world(granted_late=2)
    first, second = here.order(names("P/a")), here.order(names("P/a"))
    assert here.heard(first) == ["GRANTED", "SUBORDER_DONE", "DONE"]
    assert here.heard(second) == ["SUBORDER_DONE", "GRANTED", "DONE"]


def test_a_suborder_in_which_everything_failed_says_nothing_and_holds_no_place(
    world: Make,
) -> None:
    here = world(suborder_files=1, user_places=1, unrestorable="lost")
    order = here.order(names("P/lost", "P/b"))
    done = [event for event in here.said if event["status"] == "SUBORDER_DONE"]
    assert [event["subOrderId"] for event in done] == [order.suborders[1].suborder_id]


def test_failed_has_errors_and_a_link_when_some_files_failed_and_the_others_are_listed(
    world: Make,
) -> None:
    here = world(unrestorable="lost")
    order = here.order(names("P/a", "P/lost"))
    failed = here.said[-1]
    assert (failed["status"], failed["errors"], failed["totalSubOrders"]) == ("FAILED", 1, 1)
    assert failed["downloadLink"]
    assert order.status is OrderStatus.DONE_WITH_WARNING
    assert [file.file.path.name for file in order.available()] == ["a"]


def test_failed_has_no_link_when_all_files_failed(world: Make) -> None:
    here = world(unrestorable="lost")
    order = here.order(names("P/lost"))
    assert here.heard() == ["GRANTED", "FAILED"]
    assert "downloadLink" not in here.said[-1]
    assert order.status is OrderStatus.FAILED


def test_done_comes_last_after_all_are_restored_or_downloaded(world: Make) -> None:
    here = world(suborder_files=1, user_places=1)
    order = here.order(names("P/a", "P/b"))
    here.get(order.files[1])
    assert here.heard() == ["GRANTED", "SUBORDER_DONE", "SUBORDER_DONE", "DONE"]
    assert states(order) == [FileState.DOWNLOADED, FileState.AVAILABLE]


@pytest.mark.parametrize(("counts", "end"), [(False, "DONE"), (True, "FAILED")])
def test_errors_may_count_downloads_that_broke_off(world: Make, *, counts: bool, end: str) -> None:
    here = world(suborder_files=1, user_places=1, broken_downloads_count=counts)
    order = here.order(names("P/a", "P/b"))
    here.get(order.files[1], whole=False)
    assert here.heard()[-1] == end
    assert here.said[-1].get("errors", 0) == counts


# Large and referenced files


@pytest.mark.parametrize(
    ("sizes", "switches"),
    [({"P/large": 2**31}, {}), ({"P/link": 10}, {"external": "^link$"})],
    ids=["2 GiB", "referenced"],
)
def test_files_of_2_gib_and_referenced_ones_never_become_downloaded_by_a_get(
    world: Make, sizes: dict[str, int], switches: dict[str, Any]
) -> None:
    here = world(user_places=1, **switches)
    order, waits = here.order(sizes), here.order(names("P/a"))
    here.get(order.files[1])
    here.get(order.files[1], whole=False)
    assert states(order) == [FileState.AVAILABLE]
    assert order.waiting_for_user
    assert here.heard(waits) == ["GRANTED"]


def test_a_file_below_2_gib_becomes_downloaded(world: Make) -> None:
    here = world()
    order = here.order({"P/a": 2**31 - 1})
    here.get(order.files[1])
    assert states(order) == [FileState.DOWNLOADED]


def test_a_cancel_after_a_delivery_that_succeeded_frees_the_place(world: Make) -> None:
    here = world(user_places=1)
    order, waits = here.order({"P/large": 2**31}), here.order(names("P/a"))
    here.get(order.files[1])
    here.orders.cancel(order.order_id)
    here.orders.cancel(order.order_id)  # a message may come twice
    here.orders.cancel(99)
    here.clock.run_due()
    assert here.heard(waits) == ["GRANTED", "SUBORDER_DONE", "DONE"]
    assert order.status is OrderStatus.DELETED
    assert here.orders.file(1) is None


def test_a_download_that_outlasts_its_order_changes_nothing(world: Make) -> None:
    here = world()
    order = here.order(names("P/a"))
    with here.downloads.reading(order, order.files[1]) as reading:
        here.orders.cancel(order.order_id)
        reading.end()
    assert order.status is OrderStatus.DELETED


def test_an_order_that_is_cancelled_while_it_is_restored_says_no_more(world: Make) -> None:
    here = world(restore_seconds=60)
    order = here.order(names("P/a"))
    here.orders.cancel(order.order_id)
    here.clock.advance(60)
    assert here.heard() == ["GRANTED"]


# Switches


def test_the_preset_of_one_suborder_cuts_nothing(tmp_path: Path) -> None:
    here = World(tmp_path, **UNLIMITED.model_dump())
    order = here.order({"A/a": 200 * MIB, "B/b": 200 * MIB})
    assert len(order.suborders) == 1


def test_the_switches_are_given_as_options_but_for_the_defaults() -> None:
    assert Switches().options() == []
    assert SHOWN.options() == ["--datasets", "prefix"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"suborder_byte": 1}, "there is no switch 'suborder_byte': see docs/stand-in.md"),
        ({"user_places": -1}, "user_places: -1 can't be its value: .* greater than or equal to 0"),
        ({"quota": "many"}, "quota: 'many' can't be its value: .* valid integer"),
        ({"datasets": "each"}, "datasets: 'each' can't be its value: .*'one', 'product'"),
        ({"unrestorable": "("}, "unrestorable: '\\(' can't .*: '\\(' is not a regular expression"),
        ({"second_get": 200}, "second_get: 200 can't .*: give 0, or a status from 400 to 599"),
        ({"cache_seconds": 0, "quota": -1}, "cache_seconds: .*; quota: "),
    ],
)
def test_a_switch_that_is_wrong_is_refused_in_words(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SwitchError, match=sentence):
        Switches().changed(values)


# The clock


def test_time_that_passes_runs_each_timer_at_its_time() -> None:
    clock = Clock(lambda: 100.0)
    ran: list[float] = []

    def again() -> None:
        ran.append(clock.now())
        if len(ran) < 3:
            clock.after(10, again)

    clock.after(10, again)
    clock.advance(25)
    assert ran == [110.0, 120.0]
    clock.advance(5)
    assert ran == [110.0, 120.0, 130.0]
    assert clock.now() == 130.0
