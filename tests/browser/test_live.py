"""Whether what the console shows is live: it says so, and says why when it is not."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import USER, Stack
from tests.browser.conftest import sign_in, token
from tests.browser.test_focus import answered, holding
from tests.client import Client, request_for

pytestmark = pytest.mark.timeout(300)

STREAM = re.compile(r"/deliveries/(.+/)?events(\?|$)")
LIVE = "Live: what happens is shown at once."


def refusing(status: int, message: str) -> Callable[[Route], object]:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=status, json={"message": message}, headers={"Retry-After": "1"})

    return refuse


def saying(event: str, message: str) -> Callable[[Route], object]:
    """Answer with a stream of one event."""

    async def say(route: Route) -> None:
        body = f'id: 1\r\nevent: {event}\r\ndata: {{"message": "{message}"}}\r\n\r\n'
        await route.fulfill(status=200, content_type="text/event-stream", body=body)

    return say


async def test_a_list_without_a_stream_says_so_until_there_is_one(page: Page, stack: Stack) -> None:
    await page.route(STREAM, refusing(503, "too many streams are open here; try again later"))
    await sign_in(page, stack)
    await expect(page.get_by_text("Not live: too many streams are open here")).to_be_visible()
    await expect(page.get_by_text(LIVE)).to_have_count(0)
    await page.unroute(STREAM)
    await expect(page.get_by_text(LIVE)).to_be_visible()
    await expect(page.get_by_text("Not live")).to_have_count(0)


async def test_a_stream_that_is_refused_for_good_is_said(page: Page, stack: Stack) -> None:
    await page.route(STREAM, refusing(403, "this needs another role"))
    await sign_in(page, stack)
    await expect(page.get_by_text("Not live: this needs another role")).to_be_visible()


@pytest.mark.parametrize("ended", ["expired", "refused"])
async def test_a_user_who_must_sign_in_again_is_told_why(
    page: Page, stack: Stack, ended: str
) -> None:
    words = "the token has expired; sign in again"
    await page.route(
        STREAM, saying("expired", words) if ended == "expired" else refusing(401, words)
    )
    await page.get_by_label("Token").wait_for()
    await sign_in_and_out(page, stack)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_role("alert")).to_contain_text(words)


async def sign_in_and_out(page: Page, stack: Stack) -> None:
    """Sign in; the page of deliveries may be gone before anybody sees it."""
    await page.evaluate("location.hash = '#/deliveries'")
    await page.get_by_label("Token").fill(token(stack))
    async with page.expect_request(STREAM):
        await page.get_by_role("button", name="Sign in").click()


async def test_a_list_that_missed_too_much_is_looked_up_again(page: Page, stack: Stack) -> None:
    await page.route(STREAM, saying("reload", "look it up again"), times=1)
    asked, answers = re.compile(r"/deliveries\?"), itertools.count(1)
    async with page.expect_response(
        lambda response: bool(asked.search(response.url)) and next(answers) == 2
    ):
        await sign_in(page, stack)
    await expect(page.get_by_text(LIVE)).to_be_visible()


async def test_a_list_that_begins_again_takes_nothing_that_was_asked_for_before(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    """Older ones are on their way when it is told to: the newest are shown after that, too."""
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)

    async def with_older(route: Route) -> None:
        answer = await route.fetch()
        found = await answer.json()
        found["links"] = [{"rel": "next", "href": "/deliveries?after=older"}]
        await route.fulfill(response=answer, json=found)

    await page.route(re.compile(r"/deliveries\?$"), with_older)
    async with holding(page, "/deliveries/events") as streams:
        await sign_in(page, stack)
        stream = await streams.first()
        async with holding(page, "/deliveries?after=older") as held:
            await page.get_by_role("button", name="Older deliveries").press("Enter")
            older = await held.first()
            told = 'id: 1\r\nevent: reload\r\ndata: {"message": "look it up again"}\r\n\r\n'
            await answered(page, stream, body=told, content_type="text/event-stream")
            await answered(page, older, json={"content": [], "links": []})
        row = page.get_by_role("row").filter(has_text=body["correlationId"])
        await expect(row).to_be_visible()


async def test_the_page_of_a_delivery_follows_the_one_that_is_asked_for_again(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    """A stream is of one delivery, and has ended with the first."""
    body = request_for(make_product({"a.txt": b"a"}), order={"user": USER, "queries": ["none:x"]})
    await client.answer(body)
    await sign_in(page, stack)
    # It hears all of it, and no more comes.
    async with page.expect_response(
        lambda response: bool(STREAM.search(response.url)) and response.status == 204
    ):
        await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.locator("h1 + div")).to_contain_text("ERROR")
    async with page.expect_request(STREAM):
        await page.get_by_role("button", name="Try again").click()
        await page.get_by_role("dialog").get_by_role("button", name="Try again").click()
    await expect(page.locator("h1 + div")).to_contain_text("ERROR")


async def test_the_page_of_a_delivery_that_has_ended_complains_of_nothing(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    """Its stream ends with its last step: nothing more is to come, and nothing is broken."""
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await sign_in(page, stack)
    await expect(page.get_by_text(LIVE)).to_be_visible()
    # Its patience with the next answer lasts longer than it would: a machine may be busy.
    await page.evaluate(
        """() => {
          const later = window.setTimeout;
          window.setTimeout = (act, time) => later(act, time === 2000 ? 60000 : time);
          window.complaints = [];
          const look = () => document.querySelectorAll('[role=status].alert').forEach(
            (one) => window.complaints.push(one.textContent));
          new MutationObserver(look).observe(
            document.body, { subtree: true, childList: true, attributes: true });
        }"""
    )
    async with page.expect_response(
        lambda response: bool(STREAM.search(response.url)) and response.status == 204
    ):
        await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.get_by_text(LIVE)).to_have_count(0)
    assert await page.evaluate("window.complaints") == []


BEAT = 'id: 1\r\nevent: progress\r\ndata: {"id": "of none that is shown"}\r\n\r\n'
ENDED = "Not live: the stream has ended"


async def test_a_stream_that_ends_again_and_again_is_not_live(page: Page, stack: Stack) -> None:
    """After each event: a server that is shut down, a proxy that holds nothing open."""

    async def end(route: Route) -> None:
        await route.fulfill(status=200, content_type="text/event-stream", body=BEAT)

    await page.route(STREAM, end)
    await sign_in(page, stack)
    await expect(page.get_by_text(ENDED)).to_be_visible()
    await page.unroute(STREAM)
    await expect(page.get_by_text(LIVE)).to_be_visible()


async def test_a_stream_that_is_not_opened_again_is_not_live(page: Page, stack: Stack) -> None:
    """The first one has ended, and the next request is never answered."""
    asked, again = asyncio.Event(), asyncio.Event()

    async def once(route: Route) -> None:
        if asked.is_set():
            again.set()
        else:
            asked.set()
            await route.fulfill(status=200, content_type="text/event-stream", body=BEAT)

    await page.route(STREAM, once)
    await sign_in(page, stack)
    await expect(page.get_by_text(ENDED)).to_be_visible()
    await again.wait()


async def test_a_stream_of_which_an_event_fails_is_closed(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    """Left open, it would count among the caller's streams."""
    await sign_in(page, stack)
    await expect(page.get_by_text(LIVE)).to_be_visible()
    async with page.expect_event("requestfailed", lambda request: "events?failing" in request.url):
        async with page.expect_response(lambda response: "events?failing" in response.url):
            await page.evaluate(
                """async () => {
                  const { follow } = await import("/console/api.js");
                  follow("/deliveries/events?failing", new AbortController().signal,
                         () => { throw new Error("for the test"); });
                }"""
            )
        await client.answer(request_for(make_product({"a.txt": b"a"})))


async def test_a_plain_user_is_shown_their_own_again_and_again(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, "REGISTERED_USER")
    await page.get_by_role("link", name="Deliveries").click()
    await expect(page.get_by_text("Looked at again every 5 seconds.")).to_be_visible()
    async with page.expect_response(re.compile(r"/deliveries\?")) as again:
        pass
    assert (await again.value).status == 200
