"""What must not be at a target is removed, and only that; no connection waits for a silent one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import FoundObject
from app.delivery.states import State
from app.errors import TargetUnavailableError
from app.usecases.remove import Removal
from tests.builders import make_delivery, make_found, make_target

DELIVERY = make_delivery(state=State.ERROR)
TARGET = make_target(endpoint="http://s3.example")
KEY = "c/a.zip"


class Bench:
    """A store and a sink in one."""

    def __init__(self, *found: FoundObject | Exception | None, relied_on: bool = False) -> None:
        self._found = list(found)
        self._relied_on = relied_on
        self.transactions = 0
        self.deleted: list[str] = []

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Bench]:
        self.transactions += 1
        yield self

    async def lock_object(self, url: str, namespace: str) -> None:
        assert (url, namespace) == (TARGET.url_of(KEY), "s3.example:80")

    async def relied_on(self, *_: object, namespace: str) -> bool:
        assert namespace == "s3.example:80"
        return self._relied_on

    async def find(self, *_: object) -> FoundObject | None:
        found = self._found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def delete(self, *_: object, etag: str) -> None:
        self.deleted.append(etag)


def removal(bench: Any) -> Removal:
    return Removal(store=bench, objects=bench)


OURS = make_found(marks=marks_of(DELIVERY))


async def test_a_silent_target_is_not_waited_for_in_a_transaction() -> None:
    """It would keep a connection of the pool from leases and relays until the deadline."""
    bench = Bench(TargetUnavailableError("silent"))
    with pytest.raises(TargetUnavailableError):
        await removal(bench).remove(DELIVERY, TARGET, KEY)
    assert bench.transactions == 0


@pytest.mark.parametrize("found", [None, replace(OURS, marks={}), replace(OURS, marks={"x": "y"})])
async def test_an_object_that_is_not_of_the_delivery_stays(found: FoundObject | None) -> None:
    bench = Bench(found)
    assert not await removal(bench).remove(DELIVERY, TARGET, KEY)
    assert (bench.transactions, bench.deleted) == (0, [])


async def test_the_object_found_under_the_lock_decides() -> None:
    bench = Bench(OURS, replace(OURS, etag="newer"))
    assert await removal(bench).remove(DELIVERY, TARGET, KEY)
    assert bench.deleted == ["newer"]
    for second in (None, replace(OURS, marks={})):
        bench = Bench(OURS, second)
        assert not await removal(bench).remove(DELIVERY, TARGET, KEY)
        assert bench.deleted == []


async def test_an_object_that_a_client_was_told_of_stays() -> None:
    bench = Bench(OURS, OURS, relied_on=True)
    assert not await removal(bench).remove(DELIVERY, TARGET, KEY)
    assert bench.deleted == []
