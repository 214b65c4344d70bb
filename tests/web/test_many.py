"""Many deliveries over HTTP: shown by a dry run, then acted on; by whom, and by whom not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from app.run.wiring.tenants import ConfigurationParts
from app.usecases.many import MAX_AT_ONCE, Acted, Left, Looked
from app.waiting.slices import SLICE
from tests.builders import make_delivery
from tests.integration.conftest import Deliveries
from tests.unit.test_explain import FAILED
from tests.web.conftest import Api, MakeClient, parts_for, serve
from web.api.many import ManyApi


async def many(api: Api, act: str, status: int = 200, **body: Any) -> Any:
    """Return the answer."""
    answer = await api.call("POST", f"/deliveries/{act}", json={"filter": {}} | body)
    told = await answer.json()
    assert answer.status == status, told
    return told


async def test_a_dry_run_shows_what_the_act_then_does(api: Api, deliveries: Deliveries) -> None:
    one = await deliveries.granted("one")
    over = await deliveries.granted("over")
    await deliveries.fail(over, "for the test")
    shown = await many(api, "cancel", dryRun=True)
    assert shown["content"] == [
        {"id": str(one.id), "correlationId": "one", "state": "GRANTED", "activity": "waiting"}
    ]
    assert [(left["correlationId"], left["state"]) for left in shown["left"]] == [("over", "ERROR")]
    assert "there is nothing to cancel" in shown["left"][0]["why"]
    assert await deliveries.states("one") == ["GRANTED"]
    ids = [each["id"] for each in shown["content"]]
    done = await many(api, "cancel", ids=ids, reason="of no use")
    assert done == {
        "content": [{"id": str(one.id), "correlationId": "one", "state": "ERROR"}],
        "left": [],
    }
    again = await many(api, "retry", ids=ids)
    assert again["content"][0]["id"] == str(one.id)
    assert again["content"][0]["again"] != str(one.id)
    assert again["content"][0]["state"] == "GRANTED"


async def test_the_filter_is_that_of_the_list(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("one")
    await deliveries.ready("other")
    wanted = {"state": ["READY"], "activity": ["waiting"], "text": "oth"}
    shown = await many(api, "cancel", dryRun=True, filter=wanted)
    assert [each["correlationId"] for each in shown["content"]] == ["other"]
    query = "state=READY&activity=waiting&text=oth"
    listed = (await (await api.call("GET", f"/deliveries?{query}")).json())["content"]
    assert [each["correlationId"] for each in listed] == ["other"]
    answer = await api.call("GET", "/deliveries?activity=asleep")
    assert answer.status == 422


async def test_nothing_is_acted_on_that_no_dry_run_showed(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("one")
    told = await many(api, "cancel", 422)
    assert "name those that a dry run showed" in told["message"]
    assert await deliveries.states("one") == ["GRANTED"]


@pytest.mark.parametrize(
    "body",
    [
        {"filter": {"sate": ["ERROR"]}, "dryRun": True},
        {"filter": {"state": ["GONE"]}, "dryRun": True},
        {"filter": {"text": [None]}, "dryRun": True},
        {"filter": {"text": 7}, "dryRun": True},
        {"filter": {"label": "a"}, "dryRun": True},
        {"filter": {"label": [7]}, "dryRun": True},
        {"filter": {"code": {}}, "dryRun": True},
        {"filter": {"code": []}, "dryRun": True},
        {"filter": {"code": [""]}, "dryRun": True},
        {"filter": {"target": ""}, "dryRun": True},
        {"filter": {"since": " "}, "dryRun": True},
        {"filter": {"codes": ["TARGET_AWAY"]}, "dryRun": True},
        {"filter": None, "dryRun": True},
        {"dryrun": True},
        {"ids": []},
        {"ids": ["no id"]},
        {"ids": [str(uuid4())] * 1001},
        {"ids": [str(uuid4())], "reason": "r" * 301},
        {"ids": [str(uuid4())], "reason": "r\nDONE"},
        {"ids": [str(uuid4())], "reason": [None, None]},
        {"ids": [str(uuid4())], "reason": 7},
    ],
)
async def test_what_is_misspelt_is_refused(api: Api, body: dict[str, Any]) -> None:
    """A filter that lacks what was meant would find all."""
    await many(api, "cancel", 422, **body)


async def test_what_would_fail_again_is_left_unless_it_is_forced(
    api: Api, deliveries: Deliveries
) -> None:
    over = await deliveries.granted("over")
    await many(api, "cancel", ids=[str(over.id)])
    refused = await many(api, "retry", ids=[str(uuid4())])
    assert refused["content"] == []
    assert refused["left"][0]["why"].endswith("keeps it no longer")
    forced = await many(api, "retry", ids=[str(over.id)], force=True)
    assert len(forced["content"]) == 1


@pytest.mark.parametrize(("role", "status"), [("EXPLOIT", 200), ("REGISTERED_USER", 403)])
async def test_who_sees_their_own_alone_does_it_one_by_one(
    api: Api, role: str, status: int
) -> None:
    body = {"filter": {}, "dryRun": True}
    answer = await api.call("POST", "/deliveries/cancel", role=role, json=body)
    assert answer.status == status
    answer = await api.call("POST", "/deliveries/retry", role="READ_ONLY", json=body)
    assert answer.status == 403


@pytest.mark.parametrize("name", ["cancel", "retry"])
async def test_a_delivery_of_that_name_can_still_be_looked_at(
    api: Api, deliveries: Deliveries, name: str
) -> None:
    await deliveries.granted(name)
    answer = await api.call("GET", f"/deliveries/{name}")
    assert (await answer.json())["content"]["correlationId"] == name


class Turns:
    """Counts the turns that the loop gives to others, and what is looked at in each."""

    def __init__(self) -> None:
        self.looked_at: defaultdict[int, set[int]] = defaultdict(set)
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self._number += 1
        self._then = self._loop.call_soon(self._next)

    def note(self, what: object) -> None:
        """Note that it is looked at now."""
        self.looked_at[self._number].add(id(what))

    def end(self) -> None:
        """Count no further."""
        self._then.cancel()


class Noted:
    """Stands for something, and notes when it is looked at."""

    def __init__(self, turns: Turns, what: object) -> None:
        self._turns = turns
        self._what = what

    def __getattr__(self, name: str) -> Any:
        self._turns.note(self)
        return getattr(self._what, name)


class Plenty:
    """In the place of `Many`: finds, and does, as many as there may be; half of them are left."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def look(self, *_: Any, **__: Any) -> Looked:
        tracked = [replace(FAILED, delivery=make_delivery()) for _ in range(MAX_AT_ONCE // 2)]
        would: list[Any] = [Noted(self._turns, each) for each in tracked]
        return Looked(would=would, left=self._left(), more=False)

    async def act(self, *_: Any, **__: Any) -> Acted:
        done: list[Any] = [
            (each.id, Noted(self._turns, each))
            for each in (make_delivery() for _ in range(MAX_AT_ONCE // 2))
        ]
        return Acted(done=done, left=self._left())

    def _left(self) -> list[Any]:
        left = (Left(id=uuid4(), tracked=None, why="why") for _ in range(MAX_AT_ONCE // 2))
        return [Noted(self._turns, each) for each in left]


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    """Turns of the loop, from now on."""
    counted = Turns()
    yield counted
    counted.end()


@pytest.mark.parametrize("act", ["cancel", "retry"])
@pytest.mark.parametrize("wish", [{"dryRun": True}, {"ids": [str(uuid4())]}], ids=["look", "act"])
async def test_an_answer_about_a_thousand_gives_others_their_turns(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    turns: Turns,
    act: str,
    wish: dict[str, Any],
) -> None:
    """Made in one go it would hold all streams and calls of the process for as long."""
    plenty: Any = Plenty(turns)
    api = await serve(aiohttp_client, parts_for(configuration, many=ManyApi(plenty)))
    told = await many(api, act, **wish)
    assert len(told["content"]) == len(told["left"]) == MAX_AT_ONCE // 2
    in_each = [len(looked_at) for looked_at in turns.looked_at.values()]
    assert sum(in_each) == MAX_AT_ONCE
    assert max(in_each) <= 2 * SLICE  # where one list ends, the next one begins in the same turn
