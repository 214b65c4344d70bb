"""An object that is put at once replaces no other client's, whatever the store's conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from app.delivery.marks import marks_of
from app.delivery.object_store import FoundObject
from app.errors import (
    ForeignObjectError,
    LeaseLostError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongObjectError,
)
from sinks.stores.expected import Expected
from sinks.stores.s3.conditions import Conditions, KnownConditions
from sinks.stores.s3.putting import S3Put
from sinks.stores.s3.store import S3ObjectStore
from tests.builders import make_delivery, make_target

TARGET = make_target(endpoint="http://s3.example")
OURS = marks_of(make_delivery())
THEIRS = marks_of(make_delivery(user="other@example.org"))


class Store:
    """One key of a store; `comes` is put there by another client between a look and a PUT."""

    def __init__(self, kind: str) -> None:
        self.kind = kind  # keeps, ignores or refuses conditions
        self.there: FoundObject | None = None
        self.comes: FoundObject | None = None
        self.puts: list[Mapping[str, str]] = []
        self.looks = 0
        self.allowed = 100  # PUTs
        self.asked = 0
        self.spoils = 0  # the PUT whose bytes are stored as others
        self.put_conditions = KnownConditions()

    async def find(self, *_: object) -> FoundObject | None:
        self.looks += 1
        return self.there

    async def may(self) -> None:
        if len(self.puts) >= self.allowed:
            raise LeaseLostError("it was taken over")
        self.asked += 1

    async def put(self, condition: Mapping[str, str]) -> str:
        self.puts.append(condition)
        assert self.asked == len(self.puts)
        if self.comes is not None:
            self.there, self.comes = self.comes, None
        if condition and self.kind == "refuses":
            raise refusal("NotImplemented")
        there = self.there and self.there.etag
        met = f'"{there}"' == condition["IfMatch"] if "IfMatch" in condition else there is None
        if condition and self.kind == "keeps" and not met:
            raise refusal("PreconditionFailed")
        self.there = FoundObject(size=1, etag="new", marks=OURS)
        if len(self.puts) == self.spoils:
            raise WrongObjectError("S3 stored k as other bytes")
        return "new"

    async def run(self) -> str:
        made = S3Put(
            sink=cast("S3ObjectStore", self),
            target=TARGET,
            key="k",
            put=self.put,
            expected=Expected(size=1, etag="new", marks=OURS),
            may=self.may,
        )
        return await made.run()


def refusal(code: str) -> TargetRefusedError:
    error = TargetRefusedError(code)
    answer = cast("Any", {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}})
    error.__cause__ = ClientError(answer, "PutObject")
    return error


def found(marks: Mapping[str, str], etag: str = "old") -> FoundObject:
    return FoundObject(size=1, etag=etag, marks=marks)


kinds = pytest.mark.parametrize(
    ("kind", "learnt"),
    [
        ("keeps", Conditions.KEPT),
        ("ignores", Conditions.IN_DOUBT),
        ("refuses", Conditions.REFUSED),
    ],
)


@kinds
async def test_it_learns_what_the_store_makes_of_conditions(kind: str, learnt: Conditions) -> None:
    store = Store(kind)
    assert await store.run() == "new"
    assert store.put_conditions.of(TARGET) is learnt


@kinds
async def test_the_object_of_another_user_stays(kind: str, learnt: Conditions) -> None:
    for knows in (False, True):
        store = Store(kind)
        if knows:
            store.put_conditions.learn(TARGET, learnt)
        store.there = found(THEIRS)
        with pytest.raises(ForeignObjectError):
            await store.run()
        assert store.there == found(THEIRS)


@kinds
async def test_what_is_of_the_same_user_is_replaced(kind: str, learnt: Conditions) -> None:
    for knows in (False, True):
        store = Store(kind)
        if knows:
            store.put_conditions.learn(TARGET, learnt)
        store.there = found(OURS)
        assert await store.run() == "new"
        assert store.there == found(OURS, "new")


async def test_one_request_is_enough_where_conditions_are_kept() -> None:
    store = Store("keeps")
    store.put_conditions.learn(TARGET, Conditions.KEPT)
    await store.run()
    assert (store.looks, store.puts) == (0, [{"IfNoneMatch": "*"}])


@pytest.mark.parametrize("before", [None, found(OURS)])
async def test_what_comes_between_look_and_put_is_not_replaced(
    before: FoundObject | None,
) -> None:
    store = Store("keeps")
    store.there, store.comes = before, found(THEIRS, "theirs")
    with pytest.raises(ForeignObjectError):
        await store.run()
    assert store.there == found(THEIRS, "theirs")


async def test_a_place_that_changes_again_and_again_is_left_for_later() -> None:
    class Busy(Store):
        async def put(self, condition: Mapping[str, str]) -> str:
            self.comes = found(OURS, f"{len(self.puts)}")
            return await super().put(condition)

    with pytest.raises(TargetUnavailableError, match="again and again"):
        await Busy("keeps").run()


async def test_another_refusal_is_told() -> None:
    class Full(Store):
        async def put(self, condition: Mapping[str, str]) -> str:
            raise refusal("AccessDenied")

    with pytest.raises(TargetRefusedError, match="AccessDenied"):
        await Full("keeps").run()


@pytest.mark.parametrize("kind", ["keeps", "refuses"])
async def test_each_round_asks_whether_it_may_put(kind: str) -> None:
    """What came meanwhile may be a later delivery's, which this one must not replace."""
    store = Store(kind)
    store.allowed = 1
    store.comes = found(OURS, "later")
    with pytest.raises(LeaseLostError):
        await store.run()
    assert store.there == found(OURS, "later")


async def test_a_store_that_ignores_conditions_gets_no_second_put_that_may_not_be() -> None:
    store = Store("ignores")
    store.allowed = 1
    assert await store.run() == "new"
    assert store.puts == [{"IfNoneMatch": "*"}]
    assert store.put_conditions.of(TARGET) is None


async def test_other_bytes_that_the_second_put_brought_are_told() -> None:
    """A store that ignores conditions has them in the object's place by then."""
    store = Store("ignores")
    store.spoils = 2
    with pytest.raises(WrongObjectError):
        await store.run()
    assert store.put_conditions.of(TARGET) is None
