"""What became of deliveries is drawn, and can be read as a table, on a phone, too."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import sign_in
from tests.browser.test_console import accessible
from tests.browser.test_suborders import fits


def history(*, known: bool = True) -> dict[str, Any]:
    """Two days: in the last hour three went well and one failed, the first hour is not known."""
    nothing: list[int | None] = [0] * 47
    if not known:
        nothing[0] = None
    return {
        "tenant": TENANT,
        "begins": "2026-01-30T12:00:00+00:00",
        "step": 3600,
        "done": [*nothing, 3],
        "failed": [*nothing, 1],
        "cancelled": [*nothing, 0],
        "bytes": [*nothing, 12_300_000],
        "active": [*nothing, 2],
    }


async def test_what_ended_is_drawn_and_can_be_read_as_a_table(page: Page, stack: Stack) -> None:
    found = {"content": [history(known=False)]}
    await page.route("**/stats/history", lambda route: route.fulfill(json=found))
    await sign_in(page, stack)
    await page.get_by_role("link", name="Health").click()
    ended = page.get_by_role("region", name="What ended")
    said = "3 ended well (12.3 MB), 1 failed, 0 were cancelled"
    await expect(ended.get_by_role("img", name=said)).to_be_visible()
    await expect(ended.locator("rect")).to_have_count(2)
    await ended.get_by_text("By the hour").click()
    rows = ended.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first.get_by_role("cell").nth(1)).to_have_text("3")
    await expect(rows.last).to_contain_text("not known")
    await accessible(page)
    await fits(page)
    await accessible(page)


async def test_the_real_figures_are_drawn_for_an_operator(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, "EXPLOIT")
    await page.get_by_role("link", name="Health").click()
    ended = page.get_by_role("region", name="What ended")
    await expect(ended.get_by_role("img")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)
