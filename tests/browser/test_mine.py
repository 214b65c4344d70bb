"""A user's own deliveries on their page: cards in their words, on a phone, and of no other user."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from playwright.async_api import Locator, Page, Route, expect

from compose.embedded.stack import TENANT, USER, Stack
from tests.browser.conftest import has_said, setting
from tests.browser.test_console import accessible
from tests.browser.test_live import LIVE, STREAM, refusing
from tests.client import Client, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)

LISTED = re.compile(r"/deliveries\?")
NOW = datetime.now(UTC).replace(microsecond=0)
CARDS = "cards@example.org"  # no delivery of theirs is real: none comes beside those that are told


async def enter(page: Page, stack: Stack, user: str = USER, role: str = "REGISTERED_USER") -> None:
    """Sign in as a user of the tenant; come to their page."""
    made = delivery("token", "--role", role, "--user", user, **stack.environment)
    await page.get_by_label("Token").fill(made.stdout.strip())
    await page.get_by_role("button", name="Sign in").click()
    if role != "REGISTERED_USER":
        await page.get_by_role("link", name="Mine").click()
    await expect(page.get_by_role("heading", name="My deliveries")).to_be_focused()


def card(page: Page, name: str) -> Locator:
    """Return the card of a delivery."""
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=name, exact=True))


async def test_a_user_watches_their_delivery_come_and_has_it(
    page: Page,
    stack: Stack,
    client: Client,
    standin: StandIn,
    service: str,
    make_product: Callable[..., str],
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await standin.misbehave(bytes_per_second=100_000)  # for minutes, until it was looked at
    await enter(page, stack)
    await expect(page.get_by_text(LIVE)).to_be_visible()
    body = request_for(
        make_product({"a.bin": noise(12_000_000)}), delivery={"labels": ["Tiles of Toulouse"]}
    )
    await client.send(body)
    mine = card(page, "Tiles of Toulouse")
    bar = mine.get_by_role("progressbar", name="Progress of Tiles of Toulouse")
    moves = re.compile(r"([5-9]|[1-9][0-9])\.[0-9]")
    await expect(bar).to_have_attribute("value", moves, timeout=60_000)
    await expect(mine).to_contain_text(re.compile(r"On its way.*[kM]B/s"))
    await mine.get_by_role("link").first.focus()
    await standin.behave()  # what is left comes at once
    await expect(mine).to_contain_text("Ready", timeout=60_000)
    await expect(mine.get_by_role("link").first).to_be_focused()  # though the card changed
    answer = await client.wait_for(body["correlationId"], "DONE")
    await expect(mine).to_contain_text(answer["md5"])
    await mine.get_by_role("button", name="Copy the MD5").click()
    await has_said(page, "Copied: the MD5 of Tiles of Toulouse")
    assert await page.evaluate("navigator.clipboard.readText()") == answer["md5"]
    async with setting(service, stack, "link_ttl", value=1):
        await mine.get_by_role("button", name="Link").click()
        dialog = page.get_by_role("dialog")
        address = await dialog.get_by_label("Link").input_value()
        await dialog.get_by_text("In a shell").click()
        await expect(dialog.locator("pre")).to_contain_text(f"{answer['md5']}  ")
        await accessible(page)
        async with aiohttp.ClientSession() as session, session.get(address) as had:
            assert had.status == 200
        await dialog.get_by_role("button", name="Go back").click()
        async with page.expect_download() as linked:
            await mine.get_by_role("button", name="Download").click()
        assert (await (await linked.value).path()).stat().st_size > 12_000_000


async def test_where_there_are_no_links_it_is_downloaded_through_the_service(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}), delivery={"labels": ["Without links"]})
    answer = await client.answer(body)
    await enter(page, stack)
    mine = card(page, "Without links")
    async with page.expect_download() as begun:
        await mine.get_by_role("button", name="Download").click()
        await has_said(page, "Downloaded.", whole=True)
    had = await begun.value
    assert answer["url"].endswith(f"/{had.suggested_filename}")
    assert md5((await had.path()).read_bytes()).hexdigest() == answer["md5"]


async def test_no_other_users_delivery_is_on_it_and_none_comes(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    theirs, later = (request_for(make_product({"a.txt": b"a"})) for _ in range(2))
    await client.answer(theirs)
    await enter(page, stack, "newcomer@example.org")
    await expect(page.get_by_text("You have asked for nothing yet")).to_be_visible()
    await expect(page.get_by_text(LIVE)).to_be_visible()
    await client.answer(later)
    # Nor by a page that asks for it by its name.
    await page.goto(f"/console#/delivery/{theirs['correlationId']}")
    await expect(page.get_by_role("alert")).to_contain_text("has no delivery")
    await page.get_by_role("link", name="Mine").click()
    await expect(page.get_by_text("You have asked for nothing yet")).to_be_visible()
    await expect(page.get_by_role("listitem").get_by_role("heading")).to_have_count(0)


async def test_an_operators_own_page_has_none_of_the_others(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    """Though their stream tells of all."""
    await enter(page, stack, "busy-operator@example.org", "EXPLOIT")
    await expect(page.get_by_text(LIVE)).to_be_visible()
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await page.get_by_role("link", name="Deliveries").click()
    await expect(page.get_by_role("row").filter(has_text=body["correlationId"])).to_be_visible()
    await page.get_by_role("link", name="Mine").click()
    await expect(page.get_by_text("You have asked for nothing yet")).to_be_visible()
    await expect(card(page, body["correlationId"])).to_have_count(0)


async def test_what_failed_is_told_in_words_with_what_to_do_and_asked_for_again(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}), delivery={"labels": ["Refused tiles"]})
    await standin.misbehave(refuse=403)
    await enter(page, stack)
    await client.answer(body)
    await standin.behave()
    mine = card(page, "Refused tiles")
    await expect(mine).to_contain_text("Did not work")
    await expect(mine).to_contain_text("The data archive does not give out a file")
    await expect(mine).to_contain_text("ask your data centre for the right to read it")
    await mine.get_by_text("What the service says").click()
    await expect(mine).to_contain_text("403")
    await expect(mine.get_by_role("link", name="SOURCE_REFUSED")).to_be_visible()
    await accessible(page)
    await page.get_by_role("link", name="Did not work").click()
    await expect(page.get_by_text(LIVE)).to_be_visible()
    await mine.get_by_role("button", name="Ask again").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("would end the same way as it is")
    await dialog.get_by_role("button", name="Ask again").click()
    # The card of the first says so, leads to the second, and offers nothing.
    first = mine.filter(has_text="You have asked for it again since.")
    await expect(first).to_have_count(1)
    await expect(first.get_by_role("button")).to_have_count(0)
    await accessible(page)
    await client.wait_for(body["correlationId"], "DONE")
    await first.get_by_role("link", name="What becomes of it").click()
    await expect(page.get_by_role("main")).to_contain_text("DONE")
    await page.get_by_role("link", name="Mine", exact=True).click()
    await expect(mine.filter(has_text="Ready")).to_have_count(1)
    await expect(first).to_have_count(1)


async def test_a_delivery_is_cancelled_and_asked_for_with_a_change(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    product = make_product({"a.txt": b"a"})
    body = request_for(product, delivery={"labels": ["To be changed"], "format": "tar"})
    await standin.misbehave(order="silent")
    await enter(page, stack)
    await client.send(body)
    mine = card(page, "To be changed")
    await expect(mine).to_contain_text("Being prepared")
    await mine.get_by_role("button", name="Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(mine).to_contain_text("Cancelled")
    await standin.behave()
    await mine.get_by_role("link", name="Change it and ask again").click()
    await expect(page.get_by_label("Queries")).to_have_value(f'productId:"{product}"')
    await expect(page.get_by_label("Labels")).to_have_value("To be changed")
    await expect(page.get_by_label("Format")).to_have_value("tar")
    await page.get_by_label("Labels").fill("Changed")
    await page.get_by_role("button", name="Deliver", exact=True).click()
    await expect(page.get_by_role("heading", name="My deliveries")).to_be_focused()
    await expect(card(page, "Changed")).to_contain_text("Ready", timeout=60_000)


def listed(number: int, **told: Any) -> dict[str, Any]:
    """Return a delivery as lists have it; the first is the newest."""
    asked = (NOW - timedelta(minutes=number)).isoformat(timespec="milliseconds")
    return {
        "id": str(UUID(int=number)),
        "tenant": TENANT,
        "correlationId": f"web-0123456789abcdef-{number:012}",
        "state": "READY",
        "activity": "waiting",
        "user": CARDS,
        "target": "default",
        "requestedAt": asked,
        "updatedAt": asked,
        "stateSince": asked,
    } | told


PROGRESS = {
    "phase": "transferring",
    "attempt": 1,
    "bytesDone": 21_000_000_000,
    "bytesTotal": 48_000_000_000,
    "filesDone": 412,
    "filesTotal": 960,
    "bytesPerSecond": 61_000_000,
    "secondsLeft": 442.0,
}
ENDED = {"activity": None, "finishedAt": NOW.isoformat()}
DONE = ENDED | {"state": "DONE", "md5": "9" * 32, "archiveBytes": 48_123_456_789, "files": 960}
MOVING = {"state": "TRANSFERRING", "activity": "moving", "worker": "w", "attempt": 1}
EVERY_STATE = [
    listed(1, state="RECEIVED", labels=["A long name: clouds over the Alps from 2019 to 2025"]),
    listed(2, state="ORDERED"),
    listed(3),
    listed(4, **MOVING, progress=PROGRESS),
    listed(5, **MOVING, progress=PROGRESS | {"stalledFor": 72.0}),
    listed(6, **MOVING | {"activity": "retrying", "worker": None}, tries=3, code="TARGET_AWAY"),
    listed(7, state="READY", activity="paused", code="PAUSED", lastCause="by o.night"),
    listed(8, state="ORDERED", announcedSubOrders=2, listedSubOrders=1, totalSubOrders=3),
    listed(9, **DONE, sha256="8" * 64, expires=(NOW + timedelta(days=9)).isoformat()),
    listed(10, **DONE, missing=3, archiveName=f"{'long' * 20}.zip"),
    listed(11, **DONE, content="removed", removedAt=NOW.isoformat()),
    listed(12, **ENDED, state="ERROR", code="SOURCE_REFUSED", errorMessage="403", failsAgain=True),
    listed(13, **ENDED, state="ERROR", code="CANCELLED", errorMessage="cancelled by o.night"),
    listed(14, **ENDED, state="ERROR", errorMessage="of a version before"),
]
WORDS = [
    *("Asked for", "Being prepared", "Waiting its turn"),
    *("On its way", "On its way, slow", "Delayed", "Paused", "Being prepared"),
    *("Ready", "Ready, without 3 files", "No longer kept"),
    *("Did not work", "Cancelled", "Did not work"),
]


def answering(found: list[dict[str, Any]], *links: dict[str, str]) -> Callable[[Route], object]:
    told = [{name: said for name, said in each.items() if said is not None} for each in found]

    async def answer(route: Route) -> None:
        await route.fulfill(json={"content": told, "links": list(links)})

    return answer


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_state_is_told_in_words_accessible_and_fits_a_phone_enlarged_four_times(
    page: Page, stack: Stack, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.route(LISTED, answering(EVERY_STATE))
    await enter(page, stack, CARDS)
    await expect(page.locator(".standing b")).to_have_text(WORDS)
    await expect(card(page, EVERY_STATE[3]["correlationId"])).to_contain_text(
        "44 % · 21.0 GB of 48.0 GB · 61.0 MB/s · 7 min 22 s left"
    )
    await expect(card(page, EVERY_STATE[5]["correlationId"])).to_contain_text(
        "The place that it goes to does not answer at the moment."
    )
    for width in (320, 360, 768, 1440):
        await page.set_viewport_size({"width": width, "height": 740})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        await accessible(page)
        if width == 360:
            await expect(page.locator(".card").first).to_be_in_viewport()  # without scrolling


async def test_two_hundred_are_shown_a_page_at_a_time(page: Page, stack: Stack) -> None:
    rows = [listed(number, **DONE) for number in range(1, 201)]

    async def answer(route: Route) -> None:
        _, _, given = route.request.url.partition("after=")
        start = int(given or 0)
        links = [{"rel": "next", "href": f"/deliveries?after={start + 50}"}]
        await answering(rows[start : start + 50], *links if start < 150 else [])(route)  # type: ignore[misc]

    await page.route(LISTED, answer)
    await enter(page, stack, CARDS)
    older = page.get_by_role("button", name="Older deliveries")
    for count in (50, 100, 150):
        await expect(page.locator(".card")).to_have_count(count)
        await older.click()
    await expect(page.locator(".card")).to_have_count(200)
    await expect(older).to_be_hidden()
    await expect(page.locator(".card h2").last).to_have_text(rows[-1]["correlationId"])
    await accessible(page)


async def test_before_there_is_an_answer_it_says_so_and_afterwards_what_is_wrong(
    page: Page, stack: Stack
) -> None:
    asked, let_go = asyncio.Event(), asyncio.Event()

    async def fail_late(route: Route) -> None:
        asked.set()
        await let_go.wait()
        await refusing(503, "something that this needs is away for now")(route)  # type: ignore[misc]

    await page.route(LISTED, fail_late)
    await enter(page, stack, "newcomer@example.org")
    await asked.wait()
    await expect(page.get_by_text("Looking for your deliveries")).to_be_visible()
    await accessible(page)
    let_go.set()
    await expect(page.get_by_role("alert")).to_contain_text("is away for now")
    await accessible(page)
    await page.unroute(LISTED)
    await page.get_by_role("button", name="Look again").click()
    await expect(page.get_by_text("You have asked for nothing yet")).to_be_visible()
    await accessible(page)


async def test_what_happened_while_the_stream_was_broken_is_looked_up(
    page: Page, stack: Stack
) -> None:
    await page.route(STREAM, refusing(503, "too many streams are open here"))
    await page.route(LISTED, answering([listed(5, labels=["Before"])]))
    await enter(page, stack, CARDS)
    await expect(card(page, "Before")).to_contain_text("Waiting its turn")
    await expect(page.get_by_text("Not live: too many streams")).to_be_visible()
    now = (NOW + timedelta(hours=1)).isoformat(timespec="milliseconds")
    ended = listed(5, **DONE, labels=["Before"]) | {"updatedAt": now}
    await page.unroute(LISTED)
    await page.route(LISTED, answering([listed(1, labels=["Newer"]), ended]))
    await page.unroute(STREAM)
    await expect(page.get_by_text(LIVE)).to_be_visible()
    await expect(card(page, "Before")).to_contain_text("Ready")
    await expect(page.locator(".card h2")).to_have_text(["Newer", "Before"])


async def test_only_those_that_were_chosen_are_shown_and_the_keyboard_reaches_all(
    page: Page, stack: Stack
) -> None:
    await enter(page, stack, "newcomer@example.org")
    async with page.expect_request(re.compile("state=ERROR")) as asked:
        await page.get_by_role("link", name="Did not work").focus()
        await page.keyboard.press("Enter")
    assert "user=newcomer" in (await asked.value).url
    await expect(page.get_by_text("None of yours is like that.")).to_be_visible()
    chosen = page.get_by_role("link", name="Did not work")
    await expect(chosen).to_have_attribute("aria-current", "true")
    await page.route(LISTED, answering(EVERY_STATE[8:9]))
    await page.get_by_role("link", name="All", exact=True).click()
    await page.locator(".card h2 a").focus()
    for name in ("Download", "Link"):
        for _ in range(4):
            await page.keyboard.press("Tab")
            if await page.get_by_role("button", name=f"{name}: ").evaluate(
                "(button) => button === document.activeElement"
            ):
                break
        await expect(page.get_by_role("button", name=f"{name}: ")).to_be_focused()
