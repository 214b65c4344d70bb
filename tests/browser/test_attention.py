"""What needs an operator comes first, on a phone, too; and each attempt of a delivery is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import NARROW, WIDE, sign_in
from tests.browser.test_suborders import fits
from tests.client import Client, request_for
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)


async def transfers_only(route: Route) -> None:
    """Answer with what is found of transfers: other tests of this stack leave dead letters."""
    answer = await route.fetch()
    found = (await answer.json())["content"]
    kept = [finding for finding in found if finding["code"] == "TRANSFERS_FAIL"]
    await route.fulfill(response=answer, json={"content": kept})


async def test_transfers_that_fail_come_first_and_a_delivery_shows_its_attempts(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    names = ["fails-1", "fails-2", "fails-3"]
    # With one that goes well, what other tests of this stack have left is over.
    await client.answer(request_for(make_product({"a.txt": b"a"})))
    await standin.misbehave(refuse=403)
    for name in names:
        await client.answer(request_for(make_product({"a.txt": b"a"}), correlationId=name))
    await standin.behave()
    await page.route("**/attention", transfers_only)
    await sign_in(page, stack, to="Overview")
    needed = page.get_by_role("region", name="What needs you")
    await expect(needed).to_contain_text("fail one after the other: 3 attempts")
    await expect(needed).to_contain_text("403")
    await fits(page)
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    await expect(page.get_by_role("link", name="1 thing needs attention")).to_be_visible()
    await expect(page).to_have_title("(1) Overview \N{EN DASH} rs-delivery console")
    await page.get_by_role("link", name="Deliveries").click()
    await page.get_by_role("link", name=names[-1]).click()
    await expect(page).to_have_title(f"(1) {names[-1]} \N{EN DASH} rs-delivery console")
    attempts = page.get_by_role("table").filter(
        has=page.get_by_role("columnheader", name="Came to")
    )
    await expect(attempts.locator("tbody tr")).to_have_count(1)
    await expect(attempts).to_contain_text("worker-1")
    await expect(attempts).to_contain_text("ended in ERROR")
    await fits(page)
    # One that goes well ends it, without the page being asked for again.
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    await page.get_by_role("link", name="1 thing needs attention").click()
    await expect(needed).to_contain_text("3 attempts")
    await client.answer(request_for(make_product({"a.txt": b"a"})))
    await expect(needed).not_to_contain_text("attempts", timeout=40_000)
    await expect(page.get_by_role("link", name="All is well")).to_be_visible()
    await expect(page).to_have_title("Overview \N{EN DASH} rs-delivery console")
    await page.unroute_all(behavior="wait")
