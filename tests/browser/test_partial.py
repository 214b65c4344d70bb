"""A delivery without some of its files: asked for, and looked at; and one of which none is left."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Locator, Page, expect

from compose.embedded.stack import USER, Stack
from tests.browser.conftest import WIDE, setting, sign_in
from tests.browser.test_suborders import fits
from tests.client import Client, request_for
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def broken(standin: StandIn) -> AsyncIterator[StandIn]:
    """rs-order can't restore files whose names begin so."""
    await standin.switch(unrestorable=r"lost")
    yield standin
    await standin.reset()


@pytest.mark.usefixtures("broken")
async def test_what_there_is_is_asked_for_and_what_is_missing_is_named(
    page: Page, stack: Stack, make_product: Callable[..., str]
) -> None:
    files = {"a.txt": b"a", "b.txt": b"b"} | {f"lost-{number:02}.tif": b"x" for number in range(12)}
    product = make_product(files)
    await sign_in(page, stack)
    await page.get_by_role("link", name="New").click()
    name = await page.get_by_label("Correlation id").input_value()
    await page.get_by_label("Ordering user").fill(USER)
    await page.get_by_label("Queries").fill(f'productId:"{product}"')
    box = page.get_by_role("checkbox", name="Deliver what there is")
    await expect(box).not_to_be_checked()
    await box.check()
    await page.get_by_role("button", name="Deliver", exact=True).click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    await expect(page.locator("h1 + div")).to_contain_text("DONE", timeout=60_000)
    table = missing(page)
    await expect(table.locator("caption")).to_have_text(
        "12 files that were ordered are not delivered"
    )
    rows = table.locator("tbody tr")
    await expect(rows).to_have_count(10)
    await expect(rows.first.locator("td").nth(0)).to_have_text(re.compile(r"lost-\d\d\.tif"))
    await expect(rows.first.locator("td").nth(2)).to_contain_text("rs-order could not restore it")
    await expect(page.get_by_text("And 2 more: the manifest names each.")).to_be_visible()
    await fits(page)
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]


async def test_a_delivery_that_has_all_its_files_has_no_panel_of_missing_ones(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}), delivery={"partial": True})
    await client.answer(body)
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.get_by_role("cell", name="a.txt", exact=True)).to_be_visible()
    await expect(page.get_by_role("heading", name="Missing files")).to_have_count(0)


@pytest.mark.usefixtures("broken")
async def test_one_of_which_nothing_is_left_tells_why_and_where_its_report_is(
    page: Page, stack: Stack, client: Client, service: str, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"lost.tif": b"x", "lost-2.tif": b"y"}))
    async with setting(service, stack, "report", value=True):
        await client.send(body)
        told = await client.wait_for(body["correlationId"], "ERROR")
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.locator(".alert")).to_contain_text("INTERNAL_ERROR")
    await expect(page.locator("dl")).to_contain_text(told["reportUrl"])
    await fits(page)


def missing(page: Page) -> Locator:
    """Return the table of missing files."""
    heading = page.get_by_role("columnheader", name="Why")
    return page.get_by_role("table").filter(has=heading)
