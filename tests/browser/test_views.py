"""Names for filters of the page Deliveries: some are built in, others are kept by the browser."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Page, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import OPERATOR, sign_in
from tests.browser.test_suborders import fits

pytestmark = pytest.mark.timeout(300)


async def test_what_is_built_in_is_a_filter_in_the_address(page: Page, stack: Stack) -> None:
    await sign_in(page, stack)
    views = page.get_by_role("list", name="Views")
    await expect(views.get_by_role("link", name="All")).to_have_attribute("aria-current", "true")
    await expect(page.get_by_role("button", name="Save this view\u2026")).to_be_hidden()
    await views.get_by_role("link", name="Failed", exact=True).click()
    await expect(page.get_by_label("State", exact=True)).to_have_value("ERROR")
    await expect(page.get_by_label("Requested")).to_have_value("168h")
    assert page.url.endswith("#/deliveries?state=ERROR&since=168h")
    await views.get_by_role("link", name="Stuck").click()
    await expect(page.get_by_label("What goes on")).to_have_value("retrying")
    await views.get_by_role("link", name="My own").click()
    await expect(page.get_by_label("User")).to_have_value("operator@example.org")
    await expect(views.get_by_role("link", name="My own")).to_have_attribute("aria-current", "true")


async def test_a_view_is_saved_found_after_a_reload_and_forgotten(page: Page, stack: Stack) -> None:
    await sign_in(page, stack)
    views = page.get_by_role("list", name="Views")
    await page.goto("/console#/deliveries?target=archive&state=active&text=night")
    await expect(page.get_by_label("Target")).to_have_value("archive")
    await expect(page.get_by_text("No delivery is like that.")).to_be_visible()
    await page.get_by_role("button", name="Save this view\u2026").click()
    await page.get_by_role("dialog").get_by_role("button", name="Go back").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_role("button", name="Save this view\u2026").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("archive, tonight")
    await page.keyboard.press("Enter")
    saved = views.get_by_role("link", name="archive, tonight")
    await expect(saved).to_have_attribute("aria-current", "true")
    forget = page.get_by_role("button", name="Forget archive, tonight")
    await expect(forget).to_be_focused()
    await fits(page)
    await page.goto("/console#/deliveries")
    await page.reload()
    await saved.click()
    await expect(page.get_by_label("Target")).to_have_value("archive")
    await expect(page.get_by_label("Id, archive or cause")).to_have_value("night")
    await forget.click()
    await expect(saved).to_have_count(0)


@pytest.mark.parametrize("kept", ["no json", "7", '[{"name": "x", "hash": "javascript:1"}, {}]'])
async def test_what_is_kept_and_is_no_view_is_passed_over(
    page: Page, stack: Stack, kept: str
) -> None:
    key = f"rs-delivery-views {json.dumps([TENANT, OPERATOR], separators=(',', ':'))}"
    await page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [key, kept])
    await sign_in(page, stack)
    await expect(page.get_by_role("list", name="Views").get_by_role("link")).to_have_count(4)
