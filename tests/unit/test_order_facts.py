"""What rs-order tells of orders as a whole, or does not tell. Over HTTP on the loopback.

What it tells when all goes well is in tests/contract/order_source.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from app.delivery.order_facts import (
    DatasetFacts,
    FileState,
    OrderFacts,
    OrderFile,
    OrderState,
)
from app.delivery.states import State
from app.errors import (
    OrderNotToldError,
    SourceGoneError,
    SourceNotReadyError,
    SourceRefusedError,
    SourceUnavailableError,
)
from streams.regards.orders import RsOrder, open_session
from tests.builders import make_delivery, make_file, make_listed
from tests.servers import rs_order_at, serving

ORDERED = make_delivery(state=State.AVAILABLE, order_id=7)
STAYS = [400, 403, 404, 405, 410, 422]
PASSES = [302, 401, 407, 408, 423, 425, 429, 500, 503]
FACTS = "/user/orders/7"
LIST = "/orders/7/files/available"

Answer = int | str | Mapping[str, Any]


class Script:
    """An rs-order that answers by path; it is asked for pages of two files."""

    def __init__(self, answers: Mapping[str, Answer | Callable[[int], Answer]]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.sizes: list[int] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        answer = self.answers.get(request.path, 404)
        if callable(answer):
            self.sizes.append(int(request.query["size"]))
            answer = answer(int(request.query["page"]))
        if isinstance(answer, int):
            return web.Response(status=answer, text="told to", headers={"Location": "/login"})
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="text/html")
        return web.json_response(answer)


@asynccontextmanager
async def rs_order(script: Script) -> AsyncIterator[RsOrder]:
    async with serving(script.handle) as port, open_session(stall_timeout=60) as session:
        yield rs_order_at(port, session, dataset_page_size=2)


async def told(answers: Mapping[str, Answer]) -> OrderFacts | None:
    async with rs_order(Script(answers)) as source:
        return await source.order(ORDERED)


# An order as a whole


@pytest.mark.parametrize("nested", [True, False])
async def test_an_order_is_read_nested_or_flat(nested: bool) -> None:
    data = {
        "id": 7,
        "status": "RUNNING",
        "expirationDate": "2026-01-02T03:04:05.678Z",
        "percentCompleted": 40,
        "waitingForUser": True,
        "availableFilesCount": 2,
        "filesInErrorCount": 1,
        "datasetTasks": [{"id": 3, "filesCount": 5, "filesSize": 2**40}, {"id": 4}],
    }
    assert await told({FACTS: {"content": data, "links": []} if nested else data}) == OrderFacts(
        status="RUNNING",
        expires_at=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
        percent=40,
        waiting_for_user=True,
        available=2,
        in_error=1,
        datasets=(
            DatasetFacts(dataset_id=3, files=5, size=2**40),
            DatasetFacts(dataset_id=4, files=None, size=None),
        ),
    )


async def test_what_is_not_told_of_an_order_is_none() -> None:
    facts = await told({FACTS: {"status": "A_LATER_WORD", "expirationDate": "soon"}})
    assert facts == OrderFacts(status="A_LATER_WORD")
    assert facts is not None
    assert (facts.files, facts.size, facts.gone, facts.complete) == (None, None, False, False)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
    ],
)
async def test_the_end_of_an_order_is_a_point_in_time(written: str, read: datetime) -> None:
    facts = await told({FACTS: {"status": "DONE", "expirationDate": written}})
    assert facts is not None
    assert facts.expires_at == read


@pytest.mark.parametrize(
    "answer",
    [
        "<html>an application of one page</html>",
        {},
        {"content": {}},
        {"status": "DONE", "datasetTasks": [{}]},
        {"status": "DONE", "datasetTasks": 5},
        {"status": "DONE", "percentCompleted": "half"},
    ],
)
async def test_an_answer_that_is_no_order_is_asked_for_again(answer: Answer) -> None:
    """A gateway's page does not say that this rs-order tells nothing of its orders."""
    with pytest.raises(SourceUnavailableError, match=r"for order 7 is no order .*; it is 200"):
        await told({FACTS: answer, LIST: {"content": []}})


@pytest.mark.parametrize("status", [202, 204, 206])
async def test_an_answer_without_an_order_is_asked_for_again(status: int) -> None:
    with pytest.raises(SourceUnavailableError, match=f"answered {status} for order 7"):
        await told({FACTS: status, LIST: {"content": []}})


@pytest.mark.parametrize("status", [*STAYS, 501])
async def test_a_question_that_is_not_answered_here_is_told_from_an_order_that_is_refused(
    status: int,
) -> None:
    """A path that there is not, or that is not for the user's role, has the same statuses."""
    assert await told({FACTS: status, LIST: {"content": []}}) is None
    assert await told({FACTS: status, LIST: 204}) is None
    for refusal in (403, 404):
        with pytest.raises(SourceRefusedError, match=f"answered {refusal} for .* order 7"):
            await told({FACTS: status, LIST: refusal})
    with pytest.raises(SourceUnavailableError):
        await told({FACTS: status, LIST: 503})


@pytest.mark.parametrize("status", PASSES)
async def test_an_order_that_can_not_be_asked_about_now_is_told(status: int) -> None:
    with pytest.raises(SourceUnavailableError, match=f"answered {status} for order 7"):
        await told({FACTS: status})


# Every file


def page(ids: Sequence[int], *, total: int | None, pages: int) -> dict[str, Any]:
    content = [{"content": {"id": n, "state": "PENDING", "filesTaskId": 9}} for n in ids]
    return {"metadata": {"totalElements": total, "totalPages": pages}, "content": content}


def dataset(number: int = 3) -> str:
    return f"/orders/7/dataset/{number}/files"


def facts_of(*files: int | None) -> OrderFacts:
    parts = [DatasetFacts(dataset_id=3 + n, files=count, size=0) for n, count in enumerate(files)]
    return OrderFacts(status="RUNNING", datasets=tuple(parts))


async def every(
    script: Script, facts: OrderFacts, given: list[OrderFile] | None = None
) -> list[int]:
    found = [] if given is None else given
    async with rs_order(script) as source:
        async for file in source.every_file(ORDERED, facts):
            found.append(file)
    return [file.file.file_id for file in found]


class Shifting:
    """Pages of a set: each reading has them in another order."""

    def __init__(self, *readings: Sequence[Sequence[int]], total: int) -> None:
        self._readings = readings
        self._total = total
        self.reading = -1

    def __call__(self, number: int) -> Answer:
        if number == 0:
            self.reading += 1
        pages = self._readings[min(self.reading, len(self._readings) - 1)]
        return page(pages[number], total=self._total, pages=len(pages))


async def test_pages_of_sets_are_read_until_their_union_is_whole() -> None:
    shifting = Shifting([[1, 2], [2, 1], [5, 3]], [[1, 5], [4, 2], [3, 1]], total=5)
    script = Script({dataset(): shifting})
    assert await every(script, facts_of(5)) == [1, 2, 5, 3, 4]
    assert len(script.asked) == 5  # with the fourth's page all are there
    assert set(script.sizes) == {2}


async def test_files_of_all_datasets_are_told() -> None:
    script = Script(
        {
            dataset(3): lambda _page: page([1, 2], total=2, pages=1),
            dataset(4): lambda _page: page([], total=0, pages=0),
            dataset(5): lambda _page: page([7, 8], total=2, pages=1),
        }
    )
    given: list[OrderFile] = []
    assert await every(script, facts_of(2, 0, 2), given) == [1, 2, 7, 8]
    assert {(file.file.listed, file.state, file.suborder_id) for file in given} == {
        (4, "PENDING", 9)
    }


async def test_pages_that_stay_short_are_not_read_for_ever() -> None:
    script = Script({dataset(): Shifting([[1, 2], [2, 1]], total=4)})
    given: list[OrderFile] = []
    with pytest.raises(OrderNotToldError, match=r"order 7: of the 4 in dataset 3, 4 .* gave 2"):
        await every(script, facts_of(4), given)
    assert len(given) == 2
    assert len(script.asked) == 8


@pytest.mark.parametrize("total", [1, None])
async def test_pages_that_announce_too_little_or_nothing_do_not_count(total: int | None) -> None:
    script = Script({dataset(): lambda _page: page([1, 2], total=total, pages=1)})
    with pytest.raises(OrderNotToldError, match="order 7: of"):
        await every(script, facts_of(2))


async def test_more_files_than_were_ordered_are_not_kept() -> None:
    """Who keeps them has made room for so many."""
    script = Script({dataset(): lambda _page: page([1, 2], total=2, pages=1)})
    given: list[OrderFile] = []
    with pytest.raises(OrderNotToldError, match="more than the 1 ordered"):
        await every(script, facts_of(1), given)
    assert len(given) == 1


@pytest.mark.parametrize("facts", [facts_of(), facts_of(None), facts_of(1, None)])
async def test_of_an_order_whose_number_of_files_is_not_told_none_is_asked_for(
    facts: OrderFacts,
) -> None:
    script = Script({})
    with pytest.raises(OrderNotToldError, match="order 7"):
        await every(script, facts)
    assert script.asked == []


@pytest.mark.parametrize("status", [*STAYS, 501])
async def test_an_rs_order_without_files_of_datasets_says_so(status: int) -> None:
    with pytest.raises(OrderNotToldError, match=r"all files of order 7: .*dataset 3"):
        await every(Script({dataset(): status}), facts_of(1))


@pytest.mark.parametrize("answer", [204, 206, "<html>", {}, {"content": [{}]}, {"content": 5}])
async def test_an_answer_that_is_no_page_of_a_dataset_is_asked_for_again(answer: Answer) -> None:
    with pytest.raises(SourceUnavailableError, match=r"page 0 of dataset 3 of order 7"):
        await every(Script({dataset(): answer}), facts_of(1))


@pytest.mark.parametrize("status", PASSES)
async def test_files_that_can_not_be_asked_for_now_are_told(status: int) -> None:
    with pytest.raises(
        SourceUnavailableError, match=f"{status} for page 0 of dataset 3 of order 7"
    ):
        await every(Script({dataset(): status}), facts_of(1))


# A suborder


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (206, SourceNotReadyError),
        (404, SourceRefusedError),
        (503, SourceUnavailableError),
        ("<html>", SourceUnavailableError),
        ({}, SourceUnavailableError),
        ({"status": "UP"}, SourceUnavailableError),
        ({"content": None}, SourceUnavailableError),
        (page([], total=2, pages=1), SourceUnavailableError),
    ],
)
async def test_what_goes_wrong_with_a_suborder_names_it(
    answer: Answer, error: type[Exception]
) -> None:
    script = Script({"/orders/7/filesTask/12/files/available": answer})
    async with rs_order(script) as source:
        with pytest.raises(error, match="suborder 12 of order 7"):
            _ = [file async for file in source.listing(ORDERED, 12)]


class Unfinished(Script):
    """Answers 206, with a page."""

    async def handle(self, request: web.Request) -> web.Response:
        answer = await super().handle(request)
        answer.set_status(206)
        return answer


AVAILABLE = "/orders/7/files/available"
OF_SUBORDER = "/orders/7/filesTask/12/files/available"


@pytest.mark.parametrize(
    ("path", "suborder", "so_far"), [(OF_SUBORDER, 12, False), (AVAILABLE, None, True)]
)
async def test_a_206_with_files_is_read_page_by_page_where_some_are_of_use(
    path: str, suborder: int | None, so_far: bool
) -> None:
    pages = [page([1, 2], total=3, pages=2), page([3], total=3, pages=2)]
    async with rs_order(Unfinished({path: lambda number: pages[number]})) as source:
        listed = [file async for file in source.listing(ORDERED, suborder, so_far=so_far)]
    assert [file.file_id for file in listed] == [1, 2, 3]


@pytest.mark.parametrize("answer", [206, "<html>", {}, page([], total=0, pages=0)])
async def test_a_206_without_files_says_that_more_come(answer: Answer) -> None:
    async with rs_order(Unfinished({OF_SUBORDER: answer})) as source:
        with pytest.raises(SourceNotReadyError, match="not finished suborder 12 of order 7"):
            _ = [file async for file in source.listing(ORDERED, 12)]


async def test_a_206_of_a_whole_order_says_that_more_come() -> None:
    async with rs_order(Unfinished({AVAILABLE: page([1], total=1, pages=1)})) as source:
        with pytest.raises(SourceNotReadyError, match="not finished order 7"):
            _ = [file async for file in source.listing(ORDERED)]


# A retry


async def retried(handler: Callable[[web.Request], web.Response]) -> bool:
    async def answer(request: web.Request) -> web.Response:
        assert (request.method, request.path) == ("PUT", "/user/orders/7/retry")
        assert request.headers["Authorization"].startswith("Bearer ")
        return handler(request)

    async with serving(answer) as port, open_session(stall_timeout=60) as session:
        return await rs_order_at(port, session).retry(ORDERED)


def saying(status: int, *messages: str) -> Callable[[web.Request], web.Response]:
    text = json.dumps({"messages": messages}) if messages else ""
    return lambda _request: web.Response(status=status, text=text, headers={"Location": "/login"})


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_retry_that_is_accepted_is_true(status: int) -> None:
    assert await retried(saying(status))


@pytest.mark.parametrize(
    ("status", "messages"),
    [
        (401, ["ORDER_MUST_BE_DONE_WITH_WARNING_OR_FAILED"]),
        (401, ["ORDER_HAS_PROCESSING"]),
        (401, ["USER_NOT_ALLOWED_TO_MANAGE_ORDER"]),
        (405, []),
        (501, []),
    ],
)
async def test_a_retry_that_the_order_or_rs_order_does_not_allow_is_false(
    status: int, messages: list[str]
) -> None:
    assert not await retried(saying(status, *messages))


@pytest.mark.parametrize("status", PASSES)
async def test_a_retry_that_can_not_be_asked_for_now_is_told(status: int) -> None:
    """A 401 without rs-order's word is that of a key that is being changed."""
    with pytest.raises(SourceUnavailableError, match=f"{status} for a retry of order 7"):
        await retried(saying(status, "no such key"))


@pytest.mark.parametrize("status", [403, 404])
async def test_a_retry_of_an_order_that_there_is_not_stays(status: int) -> None:
    with pytest.raises(SourceRefusedError, match=f"{status} for a retry of order 7"):
        await retried(saying(status))


# A file that is gone


async def test_a_file_that_has_left_the_cache_is_told_from_one_that_is_refused() -> None:
    file = make_file("a.bin", file_id=5)
    for status, gone in ((410, True), (404, False), (422, False)):
        async with rs_order(Script({"/orders/files/5": status})) as source:
            with pytest.raises(SourceRefusedError, match=rf"{status} for file 5 \(a.bin\)") as told:
                async with source.download(ORDERED, file) as chunks:
                    _ = [chunk async for chunk in chunks]
        assert isinstance(told.value, SourceGoneError) is gone
        assert ("expired from the cache" in str(told.value)) is gone


def test_numbers_of_an_order_are_known_when_those_of_each_dataset_are() -> None:
    assert (facts_of(2, 3).files, facts_of(2, 3).size) == (5, 0)
    assert facts_of(2, None).files is None


@pytest.mark.parametrize(
    ("status", "complete", "gone", "may_be_retried"),
    [
        (OrderState.PENDING, False, False, False),
        (OrderState.RUNNING, False, False, False),
        (OrderState.PAUSED, False, False, False),
        (OrderState.DONE, True, False, False),
        (OrderState.DONE_WITH_WARNING, True, False, True),
        (OrderState.FAILED, True, False, True),
        (OrderState.EXPIRED, True, True, False),
        (OrderState.DELETED, True, True, False),
        (OrderState.ERROR, True, True, False),
        ("A_LATER_WORD", False, False, False),
    ],
)
def test_what_a_status_means(status: str, complete: bool, gone: bool, may_be_retried: bool) -> None:
    facts = OrderFacts(status=status)
    assert (facts.complete, facts.gone, facts.may_be_retried) == (complete, gone, may_be_retried)


def test_a_file_whose_download_broke_off_is_not_in_error() -> None:
    made = OrderFile(file=make_listed(), state=FileState.DOWNLOAD_ERROR, suborder_id=1)
    assert not made.in_error
    assert replace(made, state=FileState.ERROR).in_error
    assert replace(made, state=FileState.PROCESSING_ERROR).in_error
