"""A user of the console is not moved by an answer that comes late: each is held until told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import USER, Stack
from tests.browser.conftest import has_said, sign_in, token
from tests.client import Client, request_for
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)


class Held:
    """Requests of the page that have no answer yet."""

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._seen = asyncio.Event()

    def __len__(self) -> int:
        return len(self._routes)

    def add(self, route: Route) -> None:
        """Keep one."""
        self._routes.append(route)
        self._seen.set()

    async def first(self) -> Route:
        """Return the first one, once it is there."""
        async with asyncio.timeout(20):
            await self._seen.wait()
        return self._routes[0]


@asynccontextmanager
async def holding(page: Page, path: str, method: str = "GET") -> AsyncIterator[Held]:
    """Hold what the page asks a path of the API for."""
    held = Held()

    async def hold(route: Route) -> None:
        if route.request.method == method:
            held.add(route)
        else:
            await route.fallback()

    where = re.compile(rf"{re.escape(path)}(\?|$)")
    await page.route(where, hold)
    yield held
    await page.unroute(where, hold)


async def answered(page: Page, route: Route, **answer: Any) -> None:
    """Answer a request, and return once the page has made something of it."""
    async with page.expect_event("requestfinished", lambda request: request == route.request):
        if answer:
            await route.fulfill(**answer)
        else:
            await route.continue_()
    # Two frames: by then, what awaited the answer has gone on.
    await page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


async def test_a_token_is_typed_before_the_service_has_said_how_else_to_sign_in(
    page: Page, stack: Stack
) -> None:
    await page.goto("about:blank")  # else what the page before it asks for late is held, too
    async with holding(page, "/console/options") as held:
        await page.goto("/console")
        await expect(page.get_by_label("Token")).to_be_visible()  # its file is loaded by then
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Token")).to_be_focused()
        await page.keyboard.insert_text(token(stack))
        options = json.dumps({"passwords": True})
        await answered(
            page, await held.first(), body=options, headers={"Content-Type": "application/json"}
        )
        await expect(page.get_by_label("Password")).to_be_visible()
        await expect(page.get_by_label("Token")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Overview")).to_be_focused()


async def test_a_second_enter_does_not_sign_in_a_second_time(page: Page, stack: Stack) -> None:
    await page.get_by_label("Token").fill(token(stack))
    async with holding(page, "/me") as held:
        await page.keyboard.press("Enter")
        await page.keyboard.press("Enter")
        trial = await held.first()
        await page.evaluate("0")  # by then, a second one would be here
        assert len(held) == 1
        await answered(page, trial)
    await expect(page.get_by_role("heading", name="Overview")).to_be_focused()


async def test_a_token_that_is_being_tried_signs_nobody_in(page: Page, stack: Stack) -> None:
    await page.get_by_label("Token").fill(token(stack))
    async with holding(page, "/me") as held:
        await page.keyboard.press("Enter")
        await held.first()
        await page.evaluate("location.hash = '#/settings'")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_focused()


async def test_a_late_answer_does_not_bring_a_user_back_to_the_page_that_asked(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack)
    await page.get_by_role("link", name="New").click()
    await page.get_by_label("Ordering user").fill(USER)
    await page.get_by_label("Queries").fill('productId:"URN:nothing"')
    async with holding(page, "/deliveries", "POST") as held:
        await page.get_by_role("button", name="Deliver").click()
        request = await held.first()
        await page.get_by_role("link", name="System").click()
        await expect(page.get_by_role("heading", name="System")).to_be_focused()
        await answered(page, request)
    await has_said(page, "It was taken in")
    await expect(page.get_by_role("heading", name="System")).to_be_focused()


async def test_a_late_401_of_what_was_asked_before_signing_in_again_signs_nobody_out(
    page: Page, stack: Stack
) -> None:
    refusal = {"status": 401, "body": "{}", "headers": {"Content-Type": "application/json"}}
    await sign_in(page, stack)
    await page.get_by_role("link", name="New").click()
    await page.get_by_label("Ordering user").fill(USER)
    await page.get_by_label("Queries").fill('productId:"URN:nothing"')
    async with holding(page, "/deliveries", "POST") as held:
        await page.get_by_role("button", name="Deliver").click()
        request = await held.first()
        await page.get_by_role("button", name="Sign out").click()
        await page.evaluate("location.hash = '#/deliveries'")
        await sign_in(page, stack, "INSTANCE_ADMIN")  # by another token
        await answered(page, request, **refusal)
    await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_visible()
    await page.get_by_role("link", name="Settings").click()
    await expect(page.get_by_role("heading", name="Settings")).to_be_focused()
    async with holding(page, "/workers") as held:  # the token of now is another matter
        await page.get_by_role("link", name="Workers").click()
        await answered(page, await held.first(), **refusal)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_setting_that_was_saved_takes_the_focus_from_no_other(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack)
    await page.get_by_role("link", name="Settings").click()
    form = page.locator("form[data-setting=request_ttl]")
    value = form.get_by_role("spinbutton")
    other = page.locator("form[data-setting=order_size_limit_bytes]").get_by_role("spinbutton")
    await value.fill("23")
    async with holding(page, "/settings/request_ttl", "PUT") as held:
        await value.press("Enter")
        request = await held.first()
        await other.focus()
        await answered(page, request)
    await expect(form).to_contain_text("(set)")
    await expect(other).to_be_focused()
    await form.get_by_role("button", name="Put back to default").click()
    await page.get_by_role("dialog").get_by_role("button", name="Put back").click()
    await expect(form).to_contain_text("(default)")
    await expect(value).to_be_focused()


async def test_the_focus_stays_on_the_button_for_older_deliveries(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    await client.answer(request_for(make_product({"a.txt": b"a"})))

    async def with_older(route: Route) -> None:
        answer = await route.fetch()
        body = await answer.json()
        body["links"] = [{"rel": "next", "href": "/deliveries?after=older"}]
        await route.fulfill(response=answer, json=body)

    await page.route(re.compile(r"/deliveries\?$|/deliveries\?state"), with_older)
    await sign_in(page, stack)
    older = page.get_by_role("button", name="Older deliveries")
    async with holding(page, "/deliveries") as held:
        await older.press("Enter")
        request = await held.first()
        await older.press("Enter")
        await expect(older).to_be_focused()
        nothing = json.dumps({"content": [], "links": [{"rel": "next", "href": "/deliveries?z=1"}]})
        await answered(page, request, body=nothing, headers={"Content-Type": "application/json"})
        await expect(older).to_be_focused()
        assert len(held) == 1


async def test_a_cancelled_delivery_stays_so_whatever_is_told_of_it_late(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await standin.misbehave(order="silent")
    await client.send(body)
    await client.wait_for(body["correlationId"], "GRANTED")
    await sign_in(page, stack)
    path = f"/deliveries/{body['correlationId']}"
    async with page.expect_response(re.compile(rf"{path}$")) as told:
        await page.get_by_role("link", name=body["correlationId"]).click()
    before = await (await told.value).text()
    await page.get_by_role("button", name="Cancel").click()
    late: list[Route] = []

    async def hold_first(route: Route) -> None:
        if late:
            await route.continue_()
        else:
            late.append(route)

    await page.route(re.compile(rf"{path}$"), hold_first)
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.locator("h1 + div")).to_contain_text("ERROR")
    # The button that was pressed is gone; its page is not begun again.
    await expect(page.get_by_role("heading", name=body["correlationId"])).to_be_focused()
    await answered(page, late[0], body=before, headers={"Content-Type": "application/json"})
    await expect(page.locator("h1 + div")).to_contain_text("ERROR")
