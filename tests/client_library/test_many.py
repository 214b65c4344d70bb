"""What is done to all that a filter finds: what is shown of it, and what is not done."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.delivery.states import State
from app.views.deliveries import Activity
from rs_delivery_client.cli.filters import ACTIVITIES, STATES
from tests.client_library.fake import TOKEN
from tests.client_library.program import called

FOUND = [
    {"id": "0-1", "correlationId": "a", "state": "ERROR", "code": "TARGET_AWAY"},
    {"id": "0-2", "correlationId": "b", "state": "READY", "activity": "retrying"},
]
LEFT = [{"id": "0-3", "correlationId": "c", "state": "DONE", "why": "it is\x1b done"}]
TABLE = [
    "ID  STATE            CODE",
    "a   ERROR            TARGET_AWAY",
    "b   READY, retrying  -",
    "ID  STATE  WHY LEFT",
    "c   DONE   it is? done",
]


class Service:
    """Finds two deliveries, and leaves a third."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.looked: dict[str, Any] = {"content": FOUND, "left": LEFT}
        self.done: dict[str, Any] = {"content": FOUND, "left": []}
        self.ends_after: int | None = None  # so many calls; what comes later is refused

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Give its address."""
        site = web.Application()
        site.router.add_post("/deliveries/{act}", self._many)
        async with TestServer(site) as server:
            yield str(server.make_url("")).rstrip("/")

    async def _many(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((request.match_info["act"], body))
        if self.ends_after is not None and len(self.asked) > self.ends_after:
            return web.json_response({"message": "the database is away"}, status=503)
        return web.json_response(self.looked if body.get("dryRun") else self.done)

    async def call(self, *arguments: str, typed: str | None = None) -> tuple[int, str, str]:
        """Call the command on it."""
        async with self.running() as url:
            environment = {"DELIVERY_URL": url, "DELIVERY_TOKEN": TOKEN}
            return await called("rs-delivery", *arguments, typed=typed, environment=environment)


@pytest.fixture
def service() -> Service:
    """The service."""
    return Service()


async def test_a_dry_run_shows_which_and_which_not_and_why(service: Service) -> None:
    arguments = ("--state", "ERROR", "--target", "X", "--since", "2026-11-01", "--label", "l")
    code, out, err = await service.call("retry", *arguments, "--force", "--dry-run")
    assert (code, err) == (0, "would retry 2 deliveries, and leave 1\n")
    assert out.splitlines() == TABLE
    wanted = {
        "state": ["ERROR"],
        "target": "X",
        "since": "2026-11-01T00:00:00+00:00",
        "label": ["l"],
    }
    assert service.asked == [("retry", {"filter": wanted, "dryRun": True, "force": True})]


async def test_what_was_shown_is_done_when_it_is_wanted(service: Service) -> None:
    code, out, err = await service.call("retry", "--user", "u@x.org", typed="y\n")
    assert (code, out.splitlines()[: len(TABLE)]) == (0, TABLE)
    assert "retry these 2? [y/N]:" in err
    assert err.endswith("2 of 2 deliveries tried again\n")
    assert service.asked[1:] == [("retry", {"filter": {"user": "u@x.org"}, "ids": ["0-1", "0-2"]})]


async def test_nothing_is_done_that_is_not_wanted(service: Service) -> None:
    code, _, err = await service.call("cancel", "--user", "u@x.org", typed="\n")
    assert (code, err.splitlines()[-1].strip()) == (130, "cancel these 2? [y/N]:")
    code, out, err = await service.call("cancel", "--user", "u@x.org")
    assert (code, out.splitlines()) == (2, TABLE)
    assert "there is no terminal to ask at (cancel these 2?): add --yes" in err
    assert all(body["dryRun"] for _, body in service.asked)


async def test_a_script_is_not_asked_and_told_what_was_left_meanwhile(service: Service) -> None:
    service.done = {"content": FOUND[1:], "left": [{**FOUND[0], "why": "it has ended"}]}
    arguments = ("cancel", "--all", "--reason", "wrong month", "--yes")
    code, _, err = await service.call(*arguments)
    last = "1 of them just being completed: done if their archives appear"
    assert code == 1
    assert err.splitlines() == [
        "would cancel 2 deliveries, and leave 1",
        "a is left as it is: it has ended",
        f"rs-delivery: 1 of 2 deliveries cancelled, {last}",
    ]
    wish = {"filter": {}, "ids": ["0-1", "0-2"], "reason": "wrong month"}
    assert service.asked[1:] == [("cancel", wish)]


async def test_many_are_done_by_lots_and_what_was_done_before_one_failed_is_told(
    service: Service,
) -> None:
    found = [{**FOUND[0], "id": f"0-{number}"} for number in range(250)]
    service.looked = {"content": found, "left": []}
    service.done = {"content": found[:99], "left": LEFT}
    code, _, err = await service.call("retry", "--all", "--yes")
    names = [str(each["id"]) for each in found]
    oldest_first = [names[150:], names[50:150], names[:50]]
    assert [body["ids"] for _, body in service.asked[1:]] == oldest_first
    assert (code, err.count("c is left as it is")) == (1, 3)
    service.asked.clear()
    service.ends_after = 2  # a look, and a lot
    code, _, err = await service.call("retry", "--all", "--yes")
    assert (code, len(service.asked)) == (69, 3)
    assert err.splitlines()[-1] == (
        "rs-delivery: 99 of 250 deliveries tried again; what became of the others is not known: "
        "the database is away"
    )


async def test_older_ones_that_were_not_looked_at_are_told(service: Service) -> None:
    service.looked = {"content": FOUND, "left": [], "more": True}
    assert (await service.call("retry", "--active", "--dry-run"))[0] == 0
    code, _, err = await service.call("retry", "--active", "--yes")
    assert code == 1
    assert err.splitlines()[-1].startswith(
        "rs-delivery: 2 of 2 deliveries tried again; there are older ones, which were not looked at"
    )


async def test_where_none_is_done_and_older_ones_are_left_it_is_no_success(
    service: Service,
) -> None:
    service.looked = {"content": [], "left": LEFT, "more": True}
    code, _, err = await service.call("retry", "--active", "--yes")
    assert code == 1
    assert err.splitlines()[-1].startswith("rs-delivery: nothing was done; there are older ones")


async def test_where_all_are_left_or_none_is_found_nothing_is_asked(service: Service) -> None:
    service.looked = {"content": [], "left": LEFT}
    code, out, err = await service.call("retry", "--state", "DONE")
    assert (code, out.splitlines()) == (0, TABLE[3:])
    assert err == "would retry 0 deliveries, and leave 1\n"
    service.looked = {"content": [], "left": []}
    assert await service.call("retry", "--state", "DONE") == (0, "", "no deliveries\n")


@pytest.mark.parametrize("act", ["retry", "cancel"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give IDs (`list` shows them), a filter as of `list`, or --all"),
        (("a", "--user", "u"), "give IDs"),
        (("a", "--all"), "give IDs"),
        (("--all", "--target", "X"), "give IDs"),
        (("--target", ""), "an option is empty"),
        (("--state", "ERROR", "--label", " "), "an option is empty"),
        (("--all", "--text", ""), "an option is empty"),
        (("--user", "u", "--code", ""), "an option is empty"),
        (("--since", ""), "is no time"),
        (("--state", ""), "is not one of"),
        (("--state", "ERROR", "--active"), "give --active or --state"),
        (("--hours", "1", "--since", "2026-11-01"), "give --hours or --since"),
    ],
)
async def test_a_choice_that_is_none_is_a_mistake_and_asks_nothing(
    service: Service, act: str, arguments: tuple[str, ...], says: str
) -> None:
    code, out, err = await service.call(act, *arguments, "--yes")
    assert (code, out, service.asked) == (2, "", [])
    assert says in err


def test_the_states_and_activities_are_those_of_the_service() -> None:
    assert list(STATES) == list(State)
    assert {*ACTIVITIES, "stalled"} == set(Activity)  # of many, the service finds none by that
