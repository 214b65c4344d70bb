"""The console as an operator uses it, in a real browser, on the real service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, expect

from app.delivery.own_ids import prefix_of
from compose.embedded.stack import TENANT, USER, Stack
from tests.browser.conftest import NARROW, OPERATOR, WIDE, api, has_said, sign_in, token
from tests.builders import make_token
from tests.client import Client, request_for
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = pytest.mark.timeout(300)

LETTER = {  # as a page of dead letters has it
    "id": "amqp:1",
    "reason": "the body is no JSON",
    "tenant": TENANT,
    "place": "a.queue",
    "buriedAt": "2026-01-31T11:58:00.000Z",
    "bytes": 4,
    "text": "nope",
}


async def test_a_bad_token_is_refused_in_words(page: Page, stack: Stack) -> None:
    await page.get_by_label("Token").fill("nonsense")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("Authorization must be")
    good = token(stack)
    await page.get_by_label("Token").fill(good[:-3] + "abc")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("the token is not valid")
    nothing = make_token(stack.environment["DELIVERY_RS_ORDER_TOKEN_SECRET"], role="PUBLIC")
    await page.get_by_label("Token").fill(nothing)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("this needs one of the roles")
    await sign_in(page, stack)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_delivery_is_asked_for_and_its_bar_moves_to_done(
    page: Page, stack: Stack, standin: StandIn, make_product: Callable[..., str]
) -> None:
    product = make_product({"a.bin": noise(12_000_000), "b.txt": b"b"})
    await standin.misbehave(bytes_per_second=100_000)  # for minutes, until it was looked at
    await sign_in(page, stack)
    await page.get_by_role("link", name="New").click()
    name = await page.get_by_label("Correlation id").input_value()
    await page.get_by_label("Ordering user").fill(USER)
    await page.get_by_label("Queries").fill(f'productId:"{product}"')
    await page.get_by_label("Format").select_option("tar")
    await page.get_by_role("button", name="Deliver").click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    bar = page.get_by_role("progressbar", name=f"Progress of {name}")
    await expect(bar).to_be_visible()
    await expect(bar).to_have_attribute("value", re.compile(r"[1-9][0-9]?\.[0-9]"))
    # The list shows it, too, without being asked again.
    await page.get_by_role("link", name="Deliveries").click()
    row = page.get_by_role("row").filter(has_text=name)
    await expect(row.get_by_role("progressbar")).to_be_visible()
    await row.get_by_role("link").focus()
    await standin.behave()
    await expect(row).to_contain_text("DONE", timeout=40_000)
    await expect(row.get_by_role("link")).to_be_focused()  # though its row changed each second
    await page.get_by_role("link", name=name).click()
    await expect(page.get_by_text(re.compile(r"s3://.*\.tar$"))).to_be_visible()
    await expect(page.get_by_role("cell", name="a.bin")).to_be_visible()


async def test_a_user_asks_for_their_own_without_an_id(
    page: Page, stack: Stack, make_product: Callable[..., str]
) -> None:
    product = make_product({"a.bin": noise(9_000), "b.txt": b"b"})
    await sign_in(page, stack, "REGISTERED_USER")
    for name in (
        "Overview",
        "Targets",
        "Workers",
        "Settings",
        "Audit",
        "Webhooks",
        "Dead letters",
        "System",
    ):
        await expect(page.get_by_role("link", name=name)).to_have_count(0)
    await page.get_by_role("link", name="New").click()
    await expect(page.get_by_label("Correlation id")).to_have_value("")
    await expect(page.get_by_text(prefix_of(OPERATOR))).to_be_visible()
    await expect(page.get_by_label("Ordering user")).to_have_value(OPERATOR)
    await page.get_by_label("Queries").fill(f'productId:"{product}"')
    await page.get_by_label("Correlation id").fill("somebody-elses")
    await page.get_by_role("button", name="Deliver").click()
    await expect(page.get_by_role("alert")).to_contain_text("correlationId must begin with")
    await page.get_by_label("Correlation id").fill("")
    await page.get_by_role("button", name="Deliver").click()
    await expect(page.get_by_role("heading", name="My deliveries")).to_be_focused()
    newest = page.get_by_role("heading", name=".zip").first
    await expect(newest).to_be_visible(timeout=40_000)
    await newest.get_by_role("link").click()
    await expect(page.get_by_role("heading", name=prefix_of(OPERATOR))).to_be_visible()
    await expect(page.get_by_text("s3://")).to_be_visible()
    await page.get_by_role("link", name="Deliveries").click()
    rows = page.get_by_role("row").filter(has=page.get_by_role("link"))
    await expect(rows.first).to_contain_text(prefix_of(OPERATOR))


@pytest.mark.parametrize("name", ["..", "events"])
async def test_a_delivery_that_no_path_can_name_has_its_page(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str], name: str
) -> None:
    product = make_product({f"{number}.txt": b"a" for number in range(60)})
    await client.answer(request_for(product, correlationId=name))
    await sign_in(page, stack)
    await page.get_by_role("link", name=name, exact=True).first.click()
    await expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    await expect(page.get_by_text("s3://")).to_be_visible()
    await page.get_by_role("button", name="More files").click()
    await expect(page.get_by_role("cell", name=".txt")).to_have_count(60)


async def test_a_failed_delivery_says_why_and_can_be_tried_again(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await standin.misbehave(refuse=403)
    await client.answer(body)
    await standin.behave()
    await sign_in(page, stack)
    row = page.get_by_role("row").filter(has_text=body["correlationId"])
    await expect(row).to_contain_text("403")
    await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.locator(".alert")).to_contain_text("INTERNAL_ERROR")
    # The code leads to what it means.
    await page.locator(".alert").get_by_role("link", name="SOURCE_REFUSED").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("What SOURCE_REFUSED means")
    await expect(page.get_by_text("give the user access to the data")).to_be_visible()
    await page.go_back()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("dialog")).to_contain_text("would fail again as it did")
    await page.get_by_role("dialog").get_by_role("button", name="Try again").click()
    await client.wait_for(body["correlationId"], "DONE")
    await expect(page.locator("h1 + div")).to_contain_text("DONE")


async def test_the_list_tells_at_once_that_an_attempt_was_given_up_and_forgets_it_when_it_is_over(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await sign_in(page, stack)
    await standin.misbehave(listing_not_ready=1000)
    await client.send(body)
    row = page.get_by_role("row").filter(has_text=body["correlationId"])
    await expect(row).to_contain_text("rs-order has not finished order")
    await expect(row).to_contain_text("AVAILABLE, for")
    await expect(row).to_contain_text(re.compile(r"retrying (in \d+ s|now), \d+ tr"))
    await expect(row.get_by_role("link", name="SOURCE_NOT_READY")).to_be_visible()
    await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.locator(".alert")).to_contain_text("It waits: SOURCE_NOT_READY")
    await expect(page.locator(".timeline")).to_contain_text("until now")
    await page.get_by_role("link", name="Deliveries").click()
    await expect(row).to_contain_text("rs-order has not finished order")
    await standin.behave()
    await expect(row).to_contain_text("DONE", timeout=40_000)
    await expect(row).not_to_contain_text("rs-order has not finished order")
    await page.get_by_role("link", name=body["correlationId"]).click()
    await expect(page.locator(".timeline")).to_contain_text(
        "put off: SOURCE_NOT_READY: rs-order has not finished"
    )


async def test_a_delivery_is_cancelled_with_a_reason(
    page: Page, stack: Stack, client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await standin.misbehave(order="silent")
    await client.send(body)
    await client.wait_for(body["correlationId"], "GRANTED")
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_label("Reason").fill("wrong product")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    answer = await client.wait_for(body["correlationId"], "ERROR")
    assert answer["message"] == "cancelled by operator@example.org: wrong product"
    await expect(page.locator(".alert")).to_contain_text("wrong product")


async def test_what_was_delivered_is_removed_from_its_target(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await sign_in(page, stack)
    await page.get_by_role("link", name=body["correlationId"]).click()
    await page.get_by_role("button", name="Remove content").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove content").click()
    await expect(page.locator("dl")).to_contain_text("removed from its target")
    timeline = page.locator(".timeline")
    await expect(timeline).to_contain_text("Its content was removed", timeout=60_000)
    await expect(page.get_by_role("button", name="Remove content")).to_have_count(0)
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert await client.objects(body["correlationId"]) == []


async def test_a_setting_is_changed_takes_effect_and_is_put_back(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack)
    await page.get_by_role("link", name="Settings").click()
    form = page.locator("form[data-setting=order_size_limit_bytes]")
    await expect(form).to_contain_text("(default)")
    value = form.get_by_role("spinbutton", name="Largest order (bytes)")
    await value.fill("-1")
    await form.get_by_role("button", name="Save").click()
    assert not await value.evaluate("(input) => input.checkValidity()")
    await value.fill("12345678901")
    await expect(form).to_contain_text("= 11.5 GiB")
    await form.get_by_role("button", name="Save").click()
    await expect(form).to_contain_text("(set)")
    async with api(service, stack) as session:
        answer = await session.get("/settings/order_size_limit_bytes")
        assert (await answer.json())["content"]["value"] == 12345678901
    await form.get_by_role("button", name="Put back to default").click()
    await page.get_by_role("dialog").get_by_role("button", name="Put back").click()
    await expect(form).to_contain_text("(default)")


async def test_a_connection_is_tried_before_it_is_saved(page: Page, stack: Stack) -> None:
    await sign_in(page, stack)
    await page.get_by_role("link", name="Settings").click()
    form = page.locator("form[data-setting=s3_server]")
    secret = form.get_by_label("secret")
    await expect(secret).to_have_value("*******")
    await form.get_by_role("button", name="Test connection").click()
    await expect(form).to_contain_text("writable: good")
    await form.get_by_label("port").fill("9")
    # Not tried: the tenant's targets are tried five times a minute at most, by other tests, too.
    await form.get_by_role("button", name="Save").click()
    await expect(form).to_contain_text("the stored one is for another")
    await secret.fill("another-secret")
    await form.get_by_role("button", name="Test connection").click()
    await expect(form).to_contain_text("no S3 server can be used", timeout=30_000)
    await expect(form).to_contain_text("(default)")


async def until_buried(service: str, stack: Stack, text: str) -> None:
    """Return once that message is a dead letter: the page shows those that were there before it."""
    async with asyncio.timeout(60), api(service, stack, "INSTANCE_ADMIN") as session:
        while text not in await (await session.get("/dead-letters?reason=regards.tenant")).text():
            await asyncio.sleep(0.1)


async def test_dead_letters_are_shown_and_put_back(
    page: Page, stack: Stack, client: Client, service: str
) -> None:
    text = f"no json at all: {uuid4().hex}"  # others have left letters, too
    await client.send(text.encode(), tenant=None, message_id="nonsense")
    await until_buried(service, stack, text)
    await sign_in(page, stack, "INSTANCE_ADMIN")
    await page.get_by_role("link", name="Dead letters").click()
    row = page.get_by_role("row").filter(has_text=text)
    await expect(row).to_contain_text("regards.tenant")
    await row.get_by_text(f"{len(text)} B").click()
    await expect(row.get_by_text(text)).to_be_visible()
    await row.get_by_role("checkbox").check()
    await page.get_by_role("button", name="Put back").click()
    await page.get_by_role("dialog").get_by_role("button", name="Put back").click()
    await has_said(page, "were put back")


async def test_what_another_has_mended_meanwhile_is_shown_before_it_is_written_over(
    page: Page, stack: Stack
) -> None:
    """The answers are made here: two administrators at one letter."""
    whole: dict[str, Any] = {**LETTER, "body": {"text": "nope"}}
    version = {"ETag": '"1"'}
    sent: list[Any] = []

    async def answer(route: Route) -> None:
        if route.request.method == "PUT":
            seen = await route.request.header_value("if-match")
            body: Any = route.request.post_data_json
            sent.append((seen, body["text"]))
            if seen != version["ETag"]:
                said = "amqp:1 was mended by ben@x.org meanwhile"
                await route.fulfill(status=412, json={"message": said})
                return
        await route.fulfill(json=whole, headers=version)

    found = {"content": [LETTER], "total": 1, "links": []}
    await page.route("**/dead-letters?*", lambda route: route.fulfill(json=found))
    await page.route("**/dead-letters/*", answer)
    await sign_in(page, stack)
    await page.get_by_role("link", name="Dead letters").click()
    await page.get_by_text("Mend", exact=True).click()
    body = page.get_by_label("Another body of amqp:1")
    await body.fill("mine")
    version["ETag"] = '"2"'
    whole["mendedBody"] = {"text": "theirs"}
    await page.get_by_role("button", name="Keep").click()
    await expect(page.get_by_role("alert")).to_contain_text("was mended by ben@x.org meanwhile")
    theirs = page.get_by_role("group", name="Body of amqp:1 as it is now")
    await expect(theirs).to_have_text("theirs")
    await expect(body).to_have_value("mine")
    await accessible(page)
    await page.get_by_role("button", name="Keep").click()
    await expect(page.locator("#said")).to_contain_text("It is mended")
    assert sent == [('"1"', "mine"), ('"2"', "mine")]


async def test_system_tells_of_dependencies_and_targets(page: Page, stack: Stack) -> None:
    await sign_in(page, stack)
    await page.get_by_role("link", name="System").click()
    await expect(page.get_by_role("row").filter(has_text="rabbitmq")).to_contain_text("UP")
    await expect(page.get_by_role("row").filter(has_text="deliveries at")).to_contain_text("UP")


async def test_system_is_there_while_a_target_is_silent(page: Page, stack: Stack) -> None:
    await page.route("**/health/targets", lambda _route: None)  # is never answered
    await sign_in(page, stack)
    await page.get_by_role("link", name="System").click()
    await expect(page.get_by_role("row").filter(has_text="rabbitmq")).to_contain_text("UP")


async def test_system_shows_no_targets_to_an_operator(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, "EXPLOIT")
    async with page.expect_response("**/health/targets") as asked:
        await page.get_by_role("link", name="System").click()
    assert (await asked.value).status == 403
    await expect(page.get_by_role("row").filter(has_text="rabbitmq")).to_contain_text("UP")
    await expect(page.get_by_role("alert")).to_have_count(0)
    await expect(page.get_by_role("heading", name="Targets")).to_have_count(0)


async def test_one_who_only_looks_finds_no_button_that_changes_anything(
    page: Page, stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    found = {"content": [LETTER], "total": 1, "links": []}
    await page.route("**/dead-letters?*", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, "READ_ONLY")
    await expect(page.locator(".who")).to_contain_text("READ_ONLY")
    await expect(page.get_by_role("link", name="New")).to_have_count(0)
    await page.goto(f"/console#/delivery/{body['correlationId']}")
    await expect(page.get_by_role("region", name="The order")).to_contain_text("queries")
    # But those of what is shown.
    buttons = page.locator("main").get_by_role("button", disabled=False)
    await expect(buttons).to_have_count(0)
    await page.get_by_role("link", name="Settings").click()
    await expect(page.get_by_role("group").filter(has_text="Time to live")).to_be_visible()
    await expect(buttons).to_have_count(0)
    await expect(page.locator("main").get_by_role("textbox")).to_have_count(0)
    await expect(page.locator("main").get_by_role("spinbutton")).to_have_count(0)
    await page.get_by_role("link", name="Dead letters").click()
    await expect(page.get_by_role("row").filter(has_text="no JSON")).to_be_visible()
    await expect(page.get_by_role("checkbox")).to_have_count(0)
    await expect(page.get_by_text("Mend", exact=True)).to_have_count(0)
    await expect(buttons).to_have_text(["Look"])
    await page.get_by_role("link", name="System").click()
    await expect(page.get_by_role("heading", name="Targets")).to_be_visible()


PAGES = ["overview", "mine", "deliveries", "new", "targets", "workers", "settings", "audit"]
PAGES += ["webhooks", "dead-letters", "system", "help", "help/TARGET_REFUSED"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_and_fits_a_phone(
    page: Page, stack: Stack, scheme: Any, client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    await page.emulate_media(color_scheme=scheme)
    await accessible(page)
    await sign_in(page, stack)
    for name in [*PAGES, f"delivery/{body['correlationId']}"]:
        await page.goto(f"/console#/{name}")
        await expect(page.locator("h1")).to_be_focused()
        if name == "system":
            await expect(page.get_by_role("heading", name="Targets")).to_be_visible()
        if name.startswith("delivery/"):
            await expect(page.get_by_role("region", name="The order")).to_contain_text("queries")
        await accessible(page)
        await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        await page.set_viewport_size(WIDE)  # type: ignore[arg-type]


async def test_a_delivery_is_accessible_before_its_answer_is_there(
    page: Page, stack: Stack
) -> None:
    await page.route("**/deliveries/soon", lambda _route: None)  # is never answered
    await sign_in(page, stack)
    await page.goto("/console#/delivery/soon")
    await expect(page.get_by_role("heading", name="soon")).to_be_focused()
    await accessible(page)


async def test_everything_can_be_done_with_the_keyboard(page: Page, stack: Stack) -> None:
    await expect(page.get_by_label("Token")).to_be_visible()  # its file is loaded by then
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Token")).to_be_focused()
    await page.keyboard.insert_text(token(stack))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview")).to_be_focused()


async def accessible(page: Page) -> None:
    """Fail on what axe-core calls serious or critical."""
    results = await Axe().run(page)
    found = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert found == [], page.url
