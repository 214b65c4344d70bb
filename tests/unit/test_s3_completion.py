"""When the completion of an upload may be asked for: tests of S3 itself are in `integration`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from app.delivery.marks import marks_of
from app.delivery.object_store import FoundObject, Upload
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.usecases.transfer import COMPLETION
from sinks.stores.deadlines import COMPLETION_WINDOW
from sinks.stores.expected import Expected
from sinks.stores.s3.completion import S3Completion
from sinks.stores.s3.conditions import Conditions, KnownConditions
from sinks.stores.s3.requests import COMPLETION_TIMEOUT
from sinks.stores.s3.store import S3ObjectStore
from tests.builders import make_delivery, make_target

TARGET = make_target(endpoint="http://s3.example")
UPLOAD = Upload(container="b", key="k", upload_id="u")
EXPECTED = Expected(size=1, etag="e-1", marks={})
MARKS, THEIRS = marks_of(make_delivery()), marks_of(make_delivery())  # of one user
ANSWERS = {412: "PreconditionFailed", 501: "NotImplemented"}


class SlowStore:
    """Takes its time to refuse: what is in the place is another object each time."""

    def __init__(self, seconds: float, status: int) -> None:
        self.now = 0.0
        self.asked: list[float] = []  # when
        self.conditions = KnownConditions(clock=lambda: 0)
        self.conditions.learn(TARGET, Conditions.KEPT)
        self._seconds = seconds
        self._status = status

    async def find(self, *_: object) -> FoundObject:
        return FoundObject(size=2, etag=f"{len(self.asked)}", marks={})

    async def ask_to_complete(self, *asked: Any) -> str:
        condition: Mapping[str, str] = asked[-1]
        self.asked.append(self.now)
        self.now += self._seconds
        assert condition, "an object that the store was not asked about may be replaced"
        answer = {
            "Error": {"Code": ANSWERS[self._status]},
            "ResponseMetadata": {"HTTPStatusCode": self._status},
        }
        raise TargetRefusedError("no") from ClientError(
            cast("Any", answer), "CompleteMultipartUpload"
        )


async def complete(store: SlowStore) -> str:
    completion = S3Completion(
        sink=cast("S3ObjectStore", store),
        target=TARGET,
        upload=UPLOAD,
        parts=[],
        expected=EXPECTED,
        ask_until=COMPLETION_WINDOW,
        clock=lambda: store.now,
    )
    return await completion.run(again=True)


@pytest.mark.parametrize("status", ANSWERS)
async def test_a_completion_is_asked_for_no_later_than_it_is_decided_by_the_note(
    status: int,
) -> None:
    """Each try may take a quarter of an hour; its note stands a little longer."""
    store = SlowStore(COMPLETION_WINDOW + 1, status)
    with pytest.raises(TargetUnavailableError, match="took too long"):
        await complete(store)
    assert store.asked == [0]


async def test_a_store_that_answers_at_once_is_asked_several_times() -> None:
    store = SlowStore(1, 412)
    with pytest.raises(TargetUnavailableError, match="again and again"):
        await complete(store)
    assert store.asked == [0, 1, 2, 3, 4]


class YesSayer:
    """Says that an upload is completed, whatever became of it; `there` is what it has after."""

    def __init__(
        self, before: FoundObject | None, there: FoundObject | None, *, known: Conditions
    ) -> None:
        self.conditions = KnownConditions(clock=lambda: 0)
        self.conditions.learn(TARGET, known)
        self.aborted: list[Upload] = []
        self._before = before
        self._there = there
        self._asked = False

    async def find(self, *_: object) -> FoundObject | None:
        return self._there if self._asked else self._before

    async def ask_to_complete(self, *_: object) -> str:
        self._asked = True
        return "e-1"


OTHER = FoundObject(size=2, etag="f-1", marks=THEIRS)


@pytest.mark.parametrize(
    ("before", "there", "known", "error"),
    [
        (None, None, Conditions.IN_DOUBT, TargetUnavailableError),  # it is still making it
        (OTHER, OTHER, Conditions.IN_DOUBT, UploadLostError),
        (OTHER, OTHER, Conditions.KEPT, UploadLostError),  # it was not looked at before
        (None, OTHER, Conditions.IN_DOUBT, UploadLostError),
        (OTHER, replace(OTHER, marks=MARKS), Conditions.IN_DOUBT, WrongObjectError),
        (OTHER, replace(OTHER, marks={}, etag="g"), Conditions.IN_DOUBT, WrongObjectError),
    ],
)
async def test_what_is_told_to_be_completed_and_is_not_there_is_not_taken_for_wrong_bytes(
    before: FoundObject | None,
    there: FoundObject | None,
    known: Conditions,
    error: type[DeliveryError],
) -> None:
    """Some stores say so of an upload that another request completes, or has aborted."""
    completion = S3Completion(
        sink=cast("S3ObjectStore", YesSayer(before, there, known=known)),
        target=TARGET,
        upload=UPLOAD,
        parts=[],
        expected=replace(EXPECTED, marks=MARKS),
        ask_until=COMPLETION_WINDOW,
        clock=lambda: 0,
    )
    with pytest.raises(error) as raised:
        await completion.run(again=False)
    assert type(raised.value) is error


def test_a_note_stands_until_what_was_asked_for_last_is_decided() -> None:
    assert COMPLETION.total_seconds() > COMPLETION_WINDOW + COMPLETION_TIMEOUT
