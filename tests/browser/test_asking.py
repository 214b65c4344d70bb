"""What the form of a new delivery asks for, and what it says before anything is ordered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from playwright.async_api import Locator, Page, Route, expect

from compose.embedded.stack import USER, Stack
from tests.browser.conftest import sign_in
from tests.browser.test_console import accessible, shot
from tests.browser.test_suborders import fits
from tests.client import Client

pytestmark = pytest.mark.timeout(300)


async def test_an_archive_has_the_name_and_the_folders_that_were_asked_for(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    product = make_product({"a.txt": b"a"})
    name = await begin(page, stack, f'productId:"{product}"')
    await page.get_by_label("Name of the archive").fill("mission-{version}")
    await page.get_by_label("Folders").fill("campaign/{version}")
    await page.get_by_role("button", name="Deliver", exact=True).click()
    await expect(page.locator("h1 + div")).to_contain_text("DONE", timeout=60_000)
    facts = page.locator("dl")
    await expect(facts).to_contain_text(f"campaign/1/{name}/mission-1.zip")
    await expect(fact(page, "Archive")).to_have_text("mission-1.zip")
    await expect(fact(page, "Folders")).to_have_text("campaign/1")
    await client.wait_for(name, "DONE")


async def test_a_template_that_no_archive_can_have_is_refused_with_its_reason(
    page: Page, stack: Stack
) -> None:
    await begin(page, stack, "a:b")
    await page.get_by_label("Name of the archive").fill("a/b")
    await page.get_by_label("Folders").fill("{tenant}")
    await page.get_by_role("button", name="Deliver", exact=True).click()
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("delivery.archiveName")
    await expect(alert).to_contain_text("delivery.prefix")
    await shot(page, "refused")
    await fits(page)


async def test_a_request_that_is_checked_says_what_would_become_of_it_and_orders_nothing(
    page: Page, stack: Stack, client: Client
) -> None:
    name = await begin(page, stack, "a:b")
    await page.get_by_label("Name of the archive").fill("mission")
    await page.get_by_role("button", name="Check").click()
    judged = page.get_by_role("status").filter(has_text="It would be granted.")
    await expect(judged).to_contain_text(f"{name}/mission.zip", timeout=60_000)
    await accessible(page)
    await shot(page, "checked")
    await page.get_by_label("Format").select_option("files")
    await page.get_by_role("button", name="Check").click()
    refused = page.get_by_role("alert").filter(has_text="It would be refused.")
    await expect(refused).to_contain_text("delivery.archiveName names an archive")
    await expect(refused).not_to_contain_text("would go to")
    await fits(page)
    await page.get_by_role("link", name="Deliveries").click()
    await expect(page.get_by_role("heading", name="Deliveries")).to_be_focused()
    await expect(page.get_by_role("link", name=name)).to_have_count(0)
    assert client.heard(name) == []


async def test_a_double_click_asks_once_and_another_try_has_the_same_key(
    page: Page, stack: Stack
) -> None:
    name = await begin(page, stack, "a:b")
    keys: list[str | None] = []
    came, let_go = asyncio.Event(), asyncio.Event()

    async def fail_late(route: Route) -> None:
        if route.request.method != "POST":
            await route.fallback()
            return
        keys.append(await route.request.header_value("Idempotency-Key"))
        came.set()
        await let_go.wait()
        if len(keys) == 1:  # its answer is lost
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/deliveries", fail_late)
    deliver = page.get_by_role("button", name="Deliver", exact=True)
    await deliver.dblclick()
    await came.wait()
    await deliver.click()
    assert len(keys) == 1
    let_go.set()
    await expect(page.get_by_role("alert")).to_be_visible()
    await deliver.click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    assert len(keys) == 2
    assert keys[0]
    assert keys[0] == keys[1]


async def begin(page: Page, stack: Stack, query: str) -> str:
    """Open the form, and say what is ordered; return its correlation id."""
    await sign_in(page, stack)
    await page.get_by_role("link", name="New").click()
    await page.get_by_label("Ordering user").fill(USER)
    await page.get_by_label("Queries").fill(query)
    return await page.get_by_label("Correlation id").input_value()


def fact(page: Page, name: str) -> Locator:
    """Return what is said of a delivery under a name."""
    return (
        page.locator("dl dt")
        .filter(has_text=re.compile(f"^{name}$"))
        .locator("xpath=following-sibling::dd[1]")
    )
