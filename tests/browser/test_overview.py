"""The start page of operators: trouble first, then counts, workers' slots, what became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import sign_in
from tests.browser.test_console import accessible
from tests.browser.test_focus import answered, holding
from tests.browser.test_suborders import fits
from tests.client import Client, request_for

pytestmark = pytest.mark.timeout(300)

REFUSAL = {"status": 503, "json": {"message": "the database is away"}}


def trouble(code: str = "STATE_STUCK", **changes: Any) -> dict[str, Any]:
    """What `GET /attention` says of something that is wrong."""
    return {
        "code": code,
        "severity": "problem",
        "sentence": "Deliveries are READY for longer than they should be: 4",
        "advice": "`delivery list --state READY` has their causes.",
        "since": "2026-01-31T12:00:00.000Z",
        "tenant": TENANT,
        "subject": "READY",
        "count": 4,
    } | changes


PROGRESS: dict[str, Any] = {
    "phase": "transferring",
    "attempt": 1,
    "bytesDone": 5,
    "bytesTotal": 10,
    "filesDone": 0,
    "filesTotal": 1,
}


def stalled(name: str) -> dict[str, Any]:
    """What `GET /deliveries` says of a transfer to which no byte comes."""
    then = "2026-01-31T12:00:00.000Z"
    return {
        "id": name,
        "correlationId": name,
        "tenant": TENANT,
        "user": "u@x.org",
        "state": "TRANSFERRING",
        "activity": "stalled",
        "worker": "w",
        "attempt": 1,
        "requestedAt": then,
        "updatedAt": then,
        "stateSince": then,
        "bytes": 10,
        "files": 1,
        "progress": PROGRESS | {"stalledFor": 72.0},
    }


def worker(number: int, *, alive: bool = True) -> dict[str, Any]:
    """What `GET /workers` says of one."""
    return {
        "id": f"worker-{number}",
        "version": "1.0.0",
        "startedAt": "2026-01-31T12:00:00Z",
        "seenAt": "2026-01-31T12:00:00Z",
        "alive": alive,
        "silentFor": 1.5,
        "slots": 4,
        "running": number % 5,
    }


async def test_trouble_comes_first_on_the_page_and_in_the_title_of_each_page(
    page: Page, stack: Stack
) -> None:
    wanted = trouble("PAUSED", severity="notice", sentence="Paused: all")
    found = [trouble(), trouble("DEAD_LETTER", subject=None), wanted]
    await page.route("**/attention", lambda route: route.fulfill(json={"content": found}))
    await sign_in(page, stack, to="Overview")
    needed = page.get_by_role("region", name="What needs you")
    await expect(needed.get_by_text("for longer than they should be")).to_have_count(2)
    await expect(page).to_have_title("(2) Overview \N{EN DASH} rs-delivery console")
    await accessible(page)
    await page.get_by_role("link", name="Settings").click()
    line = page.get_by_role("link", name="2 things need attention")
    await expect(page).to_have_title("(2) Settings \N{EN DASH} rs-delivery console")
    await line.click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_focused()
    await needed.get_by_role("link", name="Show").first.click()
    await expect(page.get_by_label("State", exact=True)).to_have_value("READY")
    await page.get_by_role("button", name="Sign out").click()
    await expect(line).to_have_count(0)
    await expect(page).to_have_title("Sign in \N{EN DASH} rs-delivery console")


async def test_deliveries_are_counted_by_state_and_each_count_leads_to_its_list(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    await client.answer(request_for(make_product({"a.txt": b"a"})))
    await sign_in(page, stack, to="Overview")
    counts = page.get_by_role("region", name="Deliveries by state")
    await expect(counts.get_by_role("link")).to_have_count(13)
    retrying = counts.get_by_role("link", name="retrying")
    await expect(retrying).to_have_attribute("href", "#/deliveries?activity=retrying")
    done = counts.get_by_role("link", name="DONE")
    await expect(done).to_contain_text("within a day")
    await done.focus()
    await client.answer(request_for(make_product({"a.txt": b"a"})))
    async with page.expect_response("**/stats"):
        pass
    await expect(done).to_be_focused()  # though its figure changed
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_focused()
    await expect(page.get_by_label("State", exact=True)).to_have_value("DONE")


async def test_transfers_that_stall_are_counted_and_lead_to_the_list_of_them(
    page: Page, stack: Stack
) -> None:
    """The answers are made here: a source that is silent for so long is dropped before."""
    active = {
        "state": "TRANSFERRING",
        "deliveries": 3,
        "oldestSeconds": 600.0,
        "moving": 3,
        "retrying": 0,
        "paused": 0,
        "waiting": 0,
        "stalled": 2,
        "longestStalledSeconds": 190.0,
    }
    figures = {"tenant": TENANT, "hours": 24, "active": [active], "ended": []}
    await page.route("**/stats", lambda route: route.fulfill(json={"content": figures}))
    asked: list[str] = []

    async def listed(route: Route) -> None:
        asked.append(route.request.url.partition("?")[2])
        name = "d-1" if len(asked) == 1 else "d-2"
        await route.fulfill(json={"content": [stalled(name)], "links": []})

    await page.route("**/deliveries?*", listed)
    goes_on = asyncio.Event()

    async def events(route: Route) -> None:
        if goes_on.is_set():
            await route.fulfill(status=204)
            return
        await goes_on.wait()
        frames: list[dict[str, Any]] = [
            {"id": "d-1", "correlationId": "d-1"},
            {"id": "d-2", "correlationId": "d-2", "stalledFor": 46.0},
        ]
        body = "".join(
            f"event: progress\r\ndata: {json.dumps(PROGRESS | frame)}\r\n\r\n" for frame in frames
        )
        await route.fulfill(body=body, content_type="text/event-stream")

    await page.route("**/deliveries/events", events)
    await sign_in(page, stack, to="Overview")
    counts = page.get_by_role("region", name="Deliveries by state")
    tile = counts.get_by_role("link", name="stalled")
    await expect(tile).to_contain_text("2")
    await expect(tile).to_contain_text("the longest for 3 min 10 s")
    await expect(counts.get_by_role("link", name="moving")).to_contain_text("3")
    await accessible(page)
    await fits(page)
    await tile.click()
    await expect(page.get_by_label("What goes on")).to_have_value("stalled")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("stalled: no byte for 1 min 12 s")
    assert asked == ["activity=stalled"]
    await expect(page.get_by_role("button", name="Cancel these\u2026")).to_have_count(0)
    goes_on.set()  # it has a byte again, and another stalls
    await expect(page.get_by_role("link", name="d-2")).to_be_visible()
    await expect(rows).to_have_count(1)
    assert asked == ["activity=stalled"] * 2


async def test_slots_of_workers_are_bars_and_those_that_are_silent_are_named(
    page: Page, stack: Stack
) -> None:
    crew = [*(worker(number) for number in range(40)), worker(40, alive=False)]
    await page.route("**/workers", lambda route: route.fulfill(json={"content": crew}))
    await sign_in(page, stack, to="Overview")
    workers = page.get_by_role("region", name="Workers")
    await expect(workers).to_contain_text("80 of 160 slots are taken, at 40 workers")
    bar = workers.get_by_role("progressbar", name="Slots of worker-7 that are taken")
    await expect(bar).to_have_attribute("value", "2")
    await expect(workers.get_by_role("progressbar")).to_have_count(40)
    await expect(workers.get_by_role("link", name="1 is silent")).to_be_visible()
    await accessible(page)
    await fits(page)


async def test_without_a_worker_it_says_so(page: Page, stack: Stack) -> None:
    await page.route("**/workers", lambda route: route.fulfill(json={"content": []}))
    await sign_in(page, stack, to="Overview")
    workers = page.get_by_role("region", name="Workers")
    await expect(workers).to_contain_text("No worker is there")
    await accessible(page)


async def test_each_part_is_there_while_the_others_have_no_answer(page: Page, stack: Stack) -> None:
    async with holding(page, "/stats") as held:
        await sign_in(page, stack, to="Overview")
        await expect(page.get_by_role("region", name="Workers")).to_contain_text("worker-1")
        await expect(page.get_by_role("region", name="Deliveries by state")).to_have_text(
            "DeliveriesAsking\u2026"
        )
        await accessible(page)
        await answered(page, await held.first(), status=503, body=json.dumps(REFUSAL["json"]))
        # Before the next look, which is held no more.
        counts = page.get_by_role("region", name="Deliveries by state")
        await expect(counts.get_by_role("alert")).to_have_text("the database is away")


async def test_what_was_shown_stays_with_its_time_when_an_answer_fails(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, to="Overview")
    workers = page.get_by_role("region", name="Workers")
    await expect(workers).to_contain_text("worker-1")
    for path in ("attention", "workers", "stats", "stats/history"):
        await page.route(f"**/{path}", lambda route: route.fulfill(**REFUSAL))
    await expect(workers.get_by_role("alert")).to_have_text("the database is away")
    await expect(workers).to_contain_text("What follows is of")
    await expect(workers).to_contain_text("worker-1")
    unknown = "What needs attention is not known"
    await expect(page.get_by_role("link", name=unknown)).to_be_visible()
    needed = page.get_by_role("region", name="What needs you")
    await expect(needed).to_contain_text("not known: the database is away")
    await accessible(page)
    await fits(page)
    await page.unroute_all()
    await expect(workers.get_by_role("alert")).to_have_count(0)


async def test_a_connection_that_hangs_is_not_taken_for_all_being_well(
    page: Page, stack: Stack
) -> None:
    # Its patience ends sooner than it would.
    await page.evaluate(
        "() => { const ends = AbortSignal.timeout.bind(AbortSignal);"
        " AbortSignal.timeout = (given) => ends(given / 20); }"
    )
    async with holding(page, "/attention") as held:
        await sign_in(page, stack, to="Overview")
        await held.first()
        unknown = page.get_by_role("link", name="What needs attention is not known")
        await expect(unknown).to_be_visible()
        needed = page.get_by_role("region", name="What needs you")
        await expect(needed).to_contain_text("not known: The service does not answer.")


async def test_a_renewal_that_hangs_keeps_no_trouble_from_being_told(
    page: Page, stack: Stack
) -> None:
    found: list[dict[str, Any]] = []
    await page.route("**/attention", lambda route: route.fulfill(json={"content": found}))
    await sign_in(page, stack, to="Overview")
    await expect(page.get_by_role("link", name="All is well")).to_be_visible()
    found.append(trouble())
    async with holding(page, "/console/sign-in/refresh", "POST") as held:
        # Its token is about to end; its patience with the provider ends sooner than it would.
        await page.evaluate(
            """async () => {
                 const ends = AbortSignal.timeout.bind(AbortSignal);
                 AbortSignal.timeout = (given) => ends(given / 20);
                 const { session } = await import("/console/api.js");
                 session.take({ token: session.token, refreshToken: "of the provider" });
                 Object.defineProperty(session, "end", { value: Date.now() / 1000 + 20 });
               }"""
        )
        await page.get_by_role("link", name="Deliveries", exact=True).click()
        await held.first()
        await expect(page.get_by_role("link", name="1 thing needs attention")).to_be_visible()


async def test_of_another_tenants_trouble_no_list_of_ones_own_deliveries_is_shown(
    page: Page, stack: Stack
) -> None:
    found = [trouble(tenant="other"), trouble(sentence="Of one's own")]
    await page.route("**/attention", lambda route: route.fulfill(json={"content": found}))
    await sign_in(page, stack, "INSTANCE_ADMIN", to="Overview")
    needed = page.get_by_role("region", name="What needs you")
    await expect(needed).to_contain_text("Tenant other: Deliveries are READY")
    await expect(needed.get_by_role("link", name="Show")).to_have_count(1)


async def test_it_is_read_and_left_with_the_keyboard(page: Page, stack: Stack) -> None:
    # What other tests left has links, too, as has a worker that is silent.
    await page.route("**/attention", lambda route: route.fulfill(json={"content": []}))
    await page.route("**/workers", lambda route: route.fulfill(json={"content": [worker(1)]}))
    await sign_in(page, stack, to="Overview")
    await expect(page.get_by_role("heading", name="Overview")).to_be_focused()
    links = page.get_by_role("region", name="Deliveries by state").get_by_role("link")
    await expect(links).to_have_count(13)
    await page.keyboard.press("Tab")
    await expect(links.first).to_be_focused()
    for _ in range(13):
        await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="two days, by the hour")).to_be_focused()


async def test_a_user_of_their_own_deliveries_is_told_of_no_trouble_of_the_service(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, "REGISTERED_USER")
    await expect(page.locator("#standing")).to_be_empty()
    await expect(page.get_by_role("link", name="Overview")).to_have_count(0)


async def test_a_page_whose_file_does_not_come_says_so(page: Page, stack: Stack) -> None:
    await sign_in(page, stack)
    await page.route("**/targets.js", lambda route: route.abort())
    await page.get_by_role("link", name="Targets").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("This page could not be loaded")
    await expect(page.get_by_role("alert")).to_contain_text("Load the console again")
