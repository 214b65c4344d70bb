"""Links to what was delivered, made and copied by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import aiohttp
import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import has_said, setting, sign_in
from tests.browser.test_console import accessible
from tests.browser.test_suborders import fits
from tests.client import Client, contents, request_for

pytestmark = pytest.mark.timeout(300)


async def test_a_link_is_made_copied_and_leads_to_the_archive(
    page: Page, stack: Stack, client: Client, service: str, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    async with setting(service, stack, "link_ttl", value=1):
        await page.get_by_role("button", name="Link", exact=True).click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("It holds until")
        address = await dialog.get_by_label("Link").input_value()
        await accessible(page)
        await fits(page)
        assert await dialog.evaluate("(it) => it.scrollWidth <= it.clientWidth")
        await dialog.get_by_role("button", name="Copy").click()
        await has_said(page, "Copied.", whole=True)
        assert await page.evaluate("navigator.clipboard.readText()") == address
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            assert answer.status == 200
            archive = await answer.read()
    assert contents(archive) == {"a.txt": b"a"}


async def test_a_tenant_without_links_is_told_so(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    await page.get_by_role("button", name="Link", exact=True).click()
    await has_said(page, "link_ttl")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_link_stays_on_the_page_that_it_was_asked_for_on(
    page: Page, stack: Stack, client: Client, service: str, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await sign_in(page, stack)
    link = page.get_by_role("button", name="Link", exact=True)
    dialog = page.get_by_role("dialog")
    async with setting(service, stack, "link_ttl", value=1):
        await page.get_by_role("link", name=body["correlationId"]).click()
        await link.click()
        await expect(dialog).to_be_visible()
        await page.go_back()
        await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_visible()
        await expect(dialog).to_have_count(0)
        # Nor does one come there whose answer is late.
        await page.get_by_role("link", name=body["correlationId"]).click()
        asked, left = asyncio.Event(), asyncio.Event()

        async def answer_late(route: Route) -> None:
            asked.set()
            await left.wait()
            await route.continue_()

        await page.route("**/link?*", answer_late)
        await link.click()
        await asked.wait()
        await page.go_back()
        await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_visible()
        async with page.expect_response("**/link?*") as answered:
            left.set()
        assert (await answered.value).ok
        await (await answered.value).finished()
        await page.evaluate("new Promise((resolve) => setTimeout(resolve))")
        await expect(dialog).to_have_count(0)


async def test_a_link_can_be_had_over_plain_http_where_browsers_copy_nothing(
    page: Page, stack: Stack, client: Client, service: str, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    async with setting(service, stack, "link_ttl", value=1):
        await page.get_by_role("button", name="Link", exact=True).click()
        dialog = page.get_by_role("dialog")
        address = await dialog.get_by_label("Link").input_value()
        await expect(dialog.get_by_role("button", name="Copy")).to_have_count(0)
        await dialog.get_by_role("button", name="Done").click()
        await expect(dialog).to_have_count(0)
        await expect(page.locator("#said")).to_have_text("")
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            assert answer.status == 200


async def test_a_button_that_stays_is_of_the_delivery_that_is_shown(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    """The page of a correlation id shows the last delivery of it; each has its own links."""
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    link = page.get_by_role("button", name="Link", exact=True)
    await link.wait_for()
    later = str(uuid4())

    async def tell_a_later_one(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        told["content"]["id"] = later
        await route.fulfill(response=answer, json=told)

    async def refuse(route: Route) -> None:
        await route.fulfill(status=409, json={"message": "it is another's by now"})

    await page.route(f"**/deliveries/{body['correlationId']}", tell_a_later_one)
    await page.route("**/content?id=*", refuse)
    await page.get_by_role("button", name="Remove content").click()
    looked = f"**/files?id={later}"
    async with page.expect_request(looked):
        await page.get_by_role("dialog").get_by_role("button", name="Remove content").click()
    async with page.expect_request("**/link?*") as asked:
        await link.click()
    assert (await asked.value).url.endswith(f"/link?id={later}")
