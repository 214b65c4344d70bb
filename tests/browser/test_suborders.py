"""An order of several suborders, as its delivery is watched: what is there, what is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Locator, Page, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import NARROW, WIDE, sign_in
from tests.browser.test_console import accessible
from tests.client import Client, request_for
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)

RESTORE = 600  # seconds that rs-order takes for a suborder


@pytest.fixture
async def slow(standin: StandIn) -> AsyncIterator[StandIn]:
    """rs-order restores two files at a time, from a tape."""
    await standin.switch(
        suborder_files=2, user_places=1, restore_seconds=RESTORE, total_suborders="all"
    )
    yield standin
    await standin.reset()


async def fits(page: Page) -> None:
    """Fail where a phone does not show it, or a screen reader can't tell it."""
    await accessible(page)
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_what_a_delivery_waits_for_is_told_in_words_until_it_is_there(
    page: Page, stack: Stack, client: Client, slow: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({f"f{number}.txt": b"x" * (number + 1) for number in range(6)}))
    body["order"]["user"] = "browsing@cnes.fr"  # whose places no other test keeps
    name = body["correlationId"]
    await sign_in(page, stack)
    await client.send(body)
    row = page.get_by_role("row").filter(has_text=name)
    await expect(row).to_contain_text("ORDERED")
    await slow.advance(RESTORE)
    first = "1 of at least 3 suborders is in the archive; waits for the next one since"
    await expect(row).to_contain_text(first, timeout=60_000)
    await expect(row).not_to_contain_text("has not made the next one")  # it is not told twice
    await expect(page.get_by_label("Deliveries by state")).to_contain_text(
        "1 of them waits for a suborder, the longest for"
    )
    await fits(page)
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]

    await page.get_by_role("link", name=name).click()
    await expect(page.locator(".waits")).to_contain_text(first)
    await expect(page.locator(".alert")).to_have_count(0)
    await expect(page.get_by_role("progressbar")).to_have_count(0)
    await expect(page.get_by_role("button", name="Try now")).to_have_count(0)
    await expect(states(page)).to_have_text(["in the archive", "awaited from rs-order"])
    heading = page.get_by_role("columnheader", name="Name")
    files = page.get_by_role("table").filter(has=heading)
    await expect(files.locator("caption")).to_have_text("Listed so far: 2 of 6 files")
    await expect(names(files)).to_have_text(["f0.txt", "f1.txt"])
    await fits(page)
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]

    await slow.advance(RESTORE)
    second = "2 of at least 3 suborders are in the archive"
    await expect(page.locator(".waits")).to_contain_text(second, timeout=60_000)
    await expect(states(page)).to_have_text(
        ["in the archive", "in the archive", "awaited from rs-order"]
    )
    await expect(files.locator("caption")).to_have_text("Listed so far: 4 of 6 files")
    await expect(names(files)).to_have_text([f"f{number}.txt" for number in range(4)])
    await slow.advance(RESTORE)
    await expect(page.locator("h1 + div")).to_contain_text("DONE", timeout=60_000)
    await expect(files.locator("caption")).to_have_text("6 files, as they are in the archive")
    await expect(names(files)).to_have_text([f"f{number}.txt" for number in range(6)])
    await expect(states(page)).to_have_text(["in the archive"] * 3)
    await expect(page.locator(".waits")).to_have_count(0)
    await expect(page.get_by_role("definition").filter(has_text="s3://")).to_be_visible()


def states(page: Page) -> Locator:
    """Return what is told of each suborder."""
    table = page.get_by_role("table").filter(has_text="As rs-order makes them available")
    return table.locator("td[data-label=State]")


def names(files: Locator) -> Locator:
    """Return the names of files that are shown."""
    return files.locator("tbody td:first-child")


async def test_an_order_of_one_suborder_has_no_table_of_them(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.get_by_role("heading", name=body["correlationId"])).to_be_visible()
    await expect(page.get_by_role("cell", name="a.txt")).to_be_visible()
    await expect(page.get_by_role("heading", name="Suborders")).to_have_count(0)
