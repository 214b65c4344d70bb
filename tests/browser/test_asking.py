"""What the form of a new delivery asks for, and what it says before anything is ordered."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

import pytest
from playwright.async_api import Locator, Page, Route, expect

from compose.embedded.stack import USER, Stack
from tests.browser.conftest import api, has_said, sign_in, token
from tests.browser.test_console import accessible
from tests.browser.test_focus import answered, holding
from tests.browser.test_suborders import fits
from tests.client import Client, request_for
from tests.command import delivery

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
    await page.get_by_label("Format").select_option("files")
    await page.get_by_role("button", name="Check").click()
    refused = page.get_by_role("alert").filter(has_text="It would be refused.")
    await expect(refused).to_contain_text("delivery.archiveName names an archive")
    await expect(refused).not_to_contain_text("would go to")
    await fits(page)
    await page.get_by_role("link", name="Deliveries").click()
    await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_focused()
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


async def test_what_would_be_refused_is_not_sent_and_what_would_wait_is_by_another_press(
    page: Page, stack: Stack
) -> None:
    name = await begin(page, stack, "a:b")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method + request.url.split("/")[-1]))
    deliver = page.get_by_role("button", name="Deliver", exact=True)
    await page.get_by_label("Name of the archive").fill("a/b")
    await deliver.click()
    await expect(page.get_by_role("alert")).to_contain_text("It would be refused.")
    await page.get_by_label("Name of the archive").fill("")

    async def warn(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        told["content"]["problems"] = ["target far can't be tried"]
        await route.fulfill(response=answer, json=told)

    await page.route("**/deliveries/validate?*", warn)
    await deliver.click()
    warning = page.get_by_role("status").filter(has_text="another press")
    await expect(warning).to_contain_text("target far can't be tried")
    assert "POSTdeliveries" not in sent
    await accessible(page)
    await deliver.click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    assert sent.count("POSTdeliveries") == 1
    assert sent.count("POSTvalidate?probe=false") == 2


async def test_what_is_over_a_quota_is_told_to_be_refused_for_now_and_is_not_sent(
    page: Page, stack: Stack
) -> None:
    await begin(page, stack, "a:b")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method + request.url.split("/")[-1]))
    words = "request d is over the quota: user u has 1 of 1 active deliveries"

    async def refuse(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        told["content"] |= {"granted": False, "broken": [words], "retryAfter": 30}
        await route.fulfill(response=answer, json=told)

    await page.route("**/deliveries/validate*", refuse)
    for name in ("Deliver", "Check"):
        await page.get_by_role("button", name=name, exact=True).click()
        judged = page.get_by_role("alert")
        await expect(judged).to_contain_text("It would be refused for now.")
        await expect(judged).to_contain_text(words)
    assert "POSTdeliveries" not in sent


async def test_products_and_kinds_of_files_are_asked_for_without_a_query(
    page: Page, stack: Stack, make_product: Callable[..., str]
) -> None:
    product = make_product({"a.txt": b"a"})
    await sign_in(page, stack)
    await page.get_by_role("link", name="New").click()
    await page.get_by_role("button", name="Deliver", exact=True).click()
    queries = page.get_by_label("Queries")
    assert not await queries.evaluate("(field) => field.checkValidity()")  # one of both is needed
    await page.get_by_label("Ordering user").fill(USER)
    await page.get_by_label("Products").fill(f'{product}\n a "b"\\c')
    await page.get_by_label("Quicklooks").check()
    await page.get_by_label("File names").fill(".*\\.tif")
    assert await queries.evaluate("(field) => field.checkValidity()")
    await page.get_by_text("As programs send it").click()
    request = page.get_by_role("region", name="The request")
    await expect(request).to_contain_text("queries")
    written = json.loads(await request.inner_text())
    assert written["order"] == {
        "user": USER,
        "queries": [f'productId:"{product}"', 'productId:"a \\"b\\"\\\\c"'],
        "filters": {"dataTypes": ["QUICKLOOK"], "filenameRegExp": ".*\\.tif"},
    }
    await fits(page)


async def test_a_form_that_is_half_written_is_there_again_after_the_token_has_ended(
    page: Page, stack: Stack
) -> None:
    name = await begin(page, stack, "a:b")
    await page.get_by_label("Labels").fill("Alps")
    await page.get_by_label("Deliver what there is").check()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401, json={"message": "the token has expired; sign in again"})

    await page.route("**/deliveries/validate?*", refuse)
    await page.get_by_role("button", name="Deliver", exact=True).click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.unroute("**/deliveries/validate?*")
    await page.get_by_label("Token").fill(token(stack))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("What you had begun is here again.")).to_be_visible()
    await expect(page.get_by_label("Correlation id")).to_have_value(name)
    await expect(page.get_by_label("Queries")).to_have_value("a:b")
    await expect(page.get_by_label("Labels")).to_have_value("Alps")
    await expect(page.get_by_label("Deliver what there is")).to_be_checked()
    await accessible(page)
    await page.get_by_role("button", name="Begin with an empty form").click()
    await expect(page.get_by_label("Queries")).to_have_value("")
    await expect(page.get_by_text("What you had begun")).to_have_count(0)


async def test_a_form_that_is_half_written_is_shown_to_no_other_user_nor_after_signing_out(
    page: Page, stack: Stack
) -> None:
    await begin(page, stack, "a:b")
    kept = await page.evaluate("sessionStorage.getItem('rs-delivery-draft')")
    await page.get_by_role("button", name="Sign out").click()
    assert await page.evaluate("sessionStorage.getItem('rs-delivery-draft')") is None
    # Nor where the other's token has ended in the same tab.
    await page.evaluate("(kept) => sessionStorage.setItem('rs-delivery-draft', kept)", kept)
    other = delivery("token", "--user", "other@example.org", **stack.environment)
    await page.get_by_label("Token").fill(other.stdout.strip())
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="New delivery")).to_be_focused()
    await expect(page.get_by_label("Queries")).to_have_value("")
    await expect(page.get_by_label("Ordering user")).to_have_value("other@example.org")
    assert await page.evaluate("sessionStorage.getItem('rs-delivery-draft')") is None


async def test_what_is_changed_of_an_earlier_request_is_there_again_and_no_other_draft_is_lost(
    page: Page,
    stack: Stack,
    service: str,
    client: Client,
    make_product: Callable[..., str],
) -> None:
    request = request_for(make_product({"a.txt": b"a"}))
    await client.answer(request)
    await begin(page, stack, "other:draft")
    await page.get_by_role("link", name="Deliveries").click()
    async with api(service, stack) as session:
        answer = await session.get(f"/deliveries/{request['correlationId']}")
        like = f"/console#/new?from={(await answer.json())['content']['id']}"
    await page.goto(like)
    queries = page.get_by_label("Queries")
    await expect(page.get_by_text("As it was asked for before.")).to_be_visible()
    await expect(queries).not_to_have_value("other:draft")
    await page.get_by_role("navigation").get_by_role("link", name="New").click()
    await expect(queries).to_have_value("other:draft")
    await page.goto(like)
    await expect(page.get_by_text("As it was asked for before.")).to_be_visible()
    await page.get_by_label("Labels").fill("Alps")
    await page.reload()
    await expect(page.get_by_text("What you had begun is here again.")).to_be_visible()
    await expect(page.get_by_label("Labels")).to_have_value("Alps")
    await page.get_by_role("button", name="Begin with an empty form").click()
    await expect(queries).to_have_value("")


async def test_a_user_who_leaves_before_it_is_checked_is_told_that_it_was_not_sent(
    page: Page, stack: Stack
) -> None:
    await begin(page, stack, "a:b")
    async with holding(page, "/deliveries/validate", "POST") as held:
        await page.get_by_role("button", name="Deliver", exact=True).click()
        checked = await held.first()
        await page.get_by_role("link", name="Deliveries").click()
        await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_focused()
        await answered(page, checked)
    await has_said(page, "It was not sent: the page was left.", whole=True)


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
