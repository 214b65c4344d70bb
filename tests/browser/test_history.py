"""What became of deliveries is drawn, and can be read as tables, on a phone, too."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import sign_in
from tests.browser.test_console import accessible
from tests.browser.test_suborders import fits


def history(tenant: str = TENANT, *, known: bool = True) -> dict[str, Any]:
    """Two days: in the last hour three went well and one failed, the first hour is not known."""
    nothing: list[int | None] = [0] * 47
    if not known:
        nothing[0] = None
    return {
        "tenant": tenant,
        "begins": "2026-01-30T12:00:00+00:00",
        "step": 3600,
        "done": [*nothing, 3],
        "failed": [*nothing, 1],
        "cancelled": [*nothing, 0],
        "bytes": [*nothing, 12_300_000],
        "active": [*nothing, 2],
    }


async def test_what_ended_is_drawn_and_each_chart_can_be_read_as_a_table(
    page: Page, stack: Stack
) -> None:
    found = {"content": [history(known=False)]}
    await page.route("**/stats/history", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, to="Overview")
    became = page.get_by_role("region", name="What became of deliveries")
    said = "Ended: 3 ended well, 1 failed, 0 were cancelled"
    await expect(became.get_by_role("img", name=said)).to_be_visible()
    await expect(became.get_by_role("img", name=said).locator("rect")).to_have_count(2)
    await expect(became.get_by_role("img", name="Delivered: 12.3 MB, most")).to_be_visible()
    await expect(became.get_by_role("img", name="Not ended: 2 now, most: 2")).to_be_visible()
    for title, last in (("Ended", "3"), ("Delivered", "12.3 MB"), ("Not ended", "2")):
        await became.get_by_text(f"{title}, as a table", exact=True).click()
        table = became.get_by_role("table", name=f"{title}: what is not zero")
        rows = table.locator("tbody tr")
        await expect(rows).to_have_count(2)
        await expect(rows.first.get_by_role("cell").nth(1)).to_have_text(last)
        await expect(rows.last).to_contain_text("not known")
    await accessible(page)
    await fits(page)


async def test_days_are_shown_by_an_address_of_their_own(page: Page, stack: Stack) -> None:
    days = history() | {"step": 86_400}
    await page.route(
        "**/stats/history?step=day", lambda route: route.fulfill(json={"content": [days]})
    )
    await sign_in(page, stack, to="Overview")
    await page.get_by_role("link", name="90 days, by the day").click()
    became = page.get_by_role("region", name="What became of deliveries")
    await expect(became.get_by_role("img", name="Ended: 3 ended well")).to_be_visible()
    await expect(page.get_by_role("link", name="90 days")).to_have_attribute("aria-current", "true")
    assert page.url.endswith("#/?step=day")


async def test_of_many_tenants_those_are_drawn_that_are_opened(page: Page, stack: Stack) -> None:
    found = {"content": [history(f"tenant-{number:02}") for number in range(30)]}
    await page.route("**/stats/history", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, "INSTANCE_ADMIN", to="Overview")
    became = page.get_by_role("region", name="What became of deliveries")
    await expect(became.locator("details.tenant")).to_have_count(30)
    await expect(became.get_by_role("img")).to_have_count(0)
    await became.get_by_text("Tenant tenant-07: 3 ended well").click()
    await expect(became.get_by_role("img")).to_have_count(3)
    await accessible(page)
    await fits(page)


async def test_the_real_figures_are_drawn_for_an_operator(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, "EXPLOIT", to="Overview")
    became = page.get_by_role("region", name="What became of deliveries")
    await expect(became.get_by_role("img")).to_have_count(3)
    await expect(page.get_by_role("alert")).to_have_count(0)
