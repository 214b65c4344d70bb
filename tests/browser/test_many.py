"""Many deliveries at once in the console: shown, confirmed, done, and told of each."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import has_said, sign_in
from tests.browser.test_console import accessible
from tests.browser.test_suborders import fits
from tests.client import Client, request_for
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)


async def several(
    client: Client, make_product: Callable[..., str], label: str, count: int
) -> list[str]:
    """Ask for deliveries that have a label in common, and wait until they are being ordered."""
    names = []
    for _ in range(count):
        body = request_for(make_product({"a.txt": b"a"})) | {"delivery": {"labels": [label]}}
        body["order"]["user"] = "many@cnes.fr"
        await client.send(body)
        await client.wait_for(body["correlationId"], "GRANTED")
        names.append(body["correlationId"])
    return names


async def test_those_of_a_filter_are_cancelled_after_they_were_shown(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    label = f"night-{uuid4().hex[:8]}"
    await standin.misbehave(order="silent")
    names = await several(client, make_product, label, 2)
    await sign_in(page, stack)
    await page.goto(f"/console#/deliveries?label={label}&since=today")
    await expect(
        page.get_by_role("row")
        .filter(has_text="GRANTED")
        .or_(page.get_by_role("row").filter(has_text="ORDERED"))
    ).to_have_count(2)
    await expect(page.get_by_label("Label")).to_have_value(label)
    await expect(page.get_by_label("Requested")).to_have_value("today")
    await page.get_by_role("button", name="Retry these\u2026").click()
    await expect(page.get_by_text("Nothing of this can be tried again.")).to_be_visible()
    await page.get_by_text("2 deliveries are left alone").click()
    await expect(page.get_by_text("waits for rs-order").first).to_be_visible()
    await page.get_by_role("button", name="Cancel these\u2026").focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Cancel 2 deliveries?")
    for name in names:
        await expect(dialog).to_contain_text(name)
    await fits(page)
    await dialog.get_by_role("button", name="Go back").click()
    await page.get_by_role("button", name="Cancel these\u2026").click()
    await dialog.get_by_label("Reason").fill("another night")
    await dialog.get_by_role("button", name="Cancel them").click()
    await has_said(page, "2 deliveries cancelled.", whole=True)
    for name in names:
        answer = await client.wait_for(name, "ERROR")
        assert answer["message"] == "cancelled by operator@example.org: another night"
    await expect(page.get_by_role("row").filter(has_text="another night")).to_have_count(2)


async def test_two_hundred_are_asked_about_in_a_line_and_those_that_could_not_are_named(
    page: Page, stack: Stack
) -> None:
    one = {"id": str(uuid4()), "correlationId": "d-1", "state": "ERROR"}
    why = "delivery d-1 was asked for again since then; look at that one"

    async def answer(route: Route) -> None:
        body = route.request.post_data_json
        assert isinstance(body, dict)
        assert body["filter"] == {"state": ["ERROR"]}
        if body.get("dryRun"):
            would = [one | {"correlationId": f"d-{n}"} for n in range(1, 201)]
            await route.fulfill(json={"content": would, "left": [], "more": True})
        else:
            assert body["ids"] == [one["id"]] * 200
            await route.fulfill(json={"content": [one] * 199, "left": [one | {"why": why}]})

    await page.route("**/deliveries/retry", answer)
    await sign_in(page, stack)
    await page.goto("/console#/deliveries?state=ERROR")
    await page.get_by_role("button", name="Retry these\u2026").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Try 200 deliveries again?")
    await expect(dialog).to_contain_text("d-1, d-2, d-3, d-4, d-5 and 195 more")
    await expect(dialog).to_contain_text("these are the newest")
    await dialog.get_by_role("button", name="Try again").click()
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("199 deliveries will be tried again. 1 delivery could not")
    await expect(alert.get_by_role("link", name="d-1")).to_be_visible()
    await fits(page)


async def test_what_the_service_refuses_is_told_and_who_may_only_look_is_offered_nothing(
    page: Page, stack: Stack
) -> None:
    await page.route(
        "**/deliveries/cancel",
        lambda route: route.fulfill(status=503, json={"message": "the database is away"}),
    )
    await sign_in(page, stack)
    await page.get_by_role("button", name="Cancel these\u2026").click()
    await expect(page.get_by_role("alert")).to_contain_text("the database is away")
    await accessible(page)
    await page.get_by_role("button", name="Sign out").click()
    await sign_in(page, stack, "READ_ONLY")
    await expect(page.get_by_role("button", name="Cancel these\u2026")).to_be_hidden()
