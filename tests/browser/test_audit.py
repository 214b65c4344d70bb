"""The page of the audit trail: who did what, to what; narrowed by its address."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import NARROW, OPERATOR, WIDE, api, setting, sign_in
from tests.browser.test_console import accessible
from tests.browser.test_focus import answered, holding
from tests.browser.test_suborders import fits

pytestmark = pytest.mark.timeout(300)


def entry(number: int, **changes: Any) -> dict[str, Any]:
    """What `GET /audit` says of a change."""
    return {
        "id": number,
        "at": "2026-01-31T12:00:00.000Z",
        "tenant": TENANT,
        "actor": "ann@example.org",
        "role": "ADMIN",
        "action": "set",
        "subject": "request_ttl",
        "before": 12,
        "after": 48,
    } | changes


async def telling(page: Page, *entries: dict[str, Any]) -> None:
    """Let the service say that this is all that was done."""
    found = {"content": entries, "links": []}
    await page.route(re.compile(r"/audit\?"), lambda route: route.fulfill(json=found))


async def test_a_change_says_who_did_what_and_leads_to_what_it_was_done_to(
    page: Page, stack: Stack, service: str
) -> None:
    async with setting(service, stack, "request_ttl", value=47):
        await sign_in(page, stack, to="Audit")
        row = page.get_by_role("row").filter(has_text="request_ttl").first
        await expect(row).to_contain_text("47")
        await expect(row).to_contain_text(OPERATOR)
        await expect(row).to_contain_text("over HTTP as PROJECT_ADMIN")
        await fits(page)
        await page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        await row.get_by_role("link", name="request_ttl", exact=True).click()
        form = page.locator("form[data-setting=request_ttl]")
        await expect(form).to_be_focused()
        await form.get_by_text("Last changes").click()
        await expect(form).to_contain_text(f"{OPERATOR}: set")
        await form.get_by_role("link", name="What was changed").click()
        await expect(page.get_by_role("heading", name="Audit")).to_be_focused()
        await expect(page.get_by_label("To what")).to_have_value("request_ttl")
        await expect(page.get_by_role("row").filter(has_text="47").first).to_be_visible()


async def test_each_thing_leads_to_where_it_is_shown(page: Page, stack: Stack) -> None:
    places = {
        "delivery d 1/2": "#/delivery/d%201%2F2",
        "webhook portal": "#/webhooks/portal",
        "dead letter amqp:7": "#/dead-letters",
        "s3_server": "#/settings?name=s3_server",
        f"the transfers of tenant {TENANT} to target archive": "#/targets",
    }
    await telling(page, *(entry(number, subject=name) for number, name in enumerate(places)))
    await sign_in(page, stack, to="Audit")
    for name, address in places.items():
        link = page.get_by_role("link", name=name, exact=True)
        await expect(link).to_have_attribute("href", address)


async def test_what_changed_is_told_part_by_part(page: Page, stack: Stack) -> None:
    was = {"host": "one", "port": 443, "tags": ["a"]}
    await telling(
        page,
        entry(3, subject="s3_server", before=was, after=was | {"host": "two"}, role="AMQP"),
        entry(2, subject="quota", before=None, after={f"p{n}": n for n in range(9)}),
        entry(1, action="export", subject="configuration", before=None, after=None),
    )
    await sign_in(page, stack, to="Audit")
    row = page.get_by_role("row").filter(has_text="s3_server")
    await expect(row.get_by_role("list")).to_have_text("host: one → two")
    await expect(row).to_contain_text("over AMQP")
    await page.get_by_text("9 parts").click()
    await expect(page.get_by_role("listitem").filter(has_text="p8")).to_be_visible()
    await expect(
        page.get_by_role("row").filter(has_text="configuration").get_by_role("list")
    ).to_have_count(0)


async def test_the_trail_is_narrowed_by_the_form_and_by_the_address(
    page: Page, stack: Stack
) -> None:
    asked: list[str] = []

    async def tell(route: Route) -> None:
        asked.append(route.request.url.partition("?")[2])
        await route.fulfill(json={"content": [entry(1)], "links": []})

    await page.route(re.compile(r"/audit\?"), tell)
    await sign_in(page, stack, to="Audit")
    await page.get_by_label("Who").fill("ann@example.org")
    await page.get_by_label("What", exact=True).fill("set")
    await page.get_by_label("From").fill("2026-01-01T00:00")
    async with page.expect_response(re.compile(r"/audit\?actor")):
        await page.get_by_label("Who").press("Enter")
    await expect(page.get_by_label("What", exact=True)).to_have_value("set")
    await expect(page.get_by_label("From")).to_have_value("2026-01-01T00:00")
    assert asked[-1].startswith("actor=ann%40example.org&action=set&since=2")
    async with page.expect_response(re.compile(r"/audit\?actor=ann%40example.org&limit")):
        await page.get_by_role("link", name="ann@example.org").click()
    async with page.expect_response(re.compile(r"/audit\?limit")):
        await page.get_by_role("link", name="Show all").click()
    await expect(page.get_by_label("Who")).to_have_value("")
    await page.go_back()
    await expect(page.get_by_label("Who")).to_have_value("ann@example.org")


async def test_the_form_leaves_a_phones_first_screen_to_what_is_found(
    page: Page, stack: Stack
) -> None:
    await page.route(
        re.compile(r"/audit\?"),
        lambda route: route.fulfill(json={"content": [entry(1)], "links": []}),
    )
    await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    await sign_in(page, stack, to="Audit")
    await expect(page.locator("tbody tr")).to_be_in_viewport(ratio=0.5)
    await expect(page.get_by_label("Who")).to_be_hidden()
    await page.get_by_text("Filters", exact=True).press("Enter")
    await page.get_by_label("Who").fill("ann@example.org")
    await fits(page)
    await page.get_by_label("Who").press("Enter")
    await expect(page.get_by_text("Filters: ann@example.org")).to_be_visible()
    await expect(page.get_by_label("Who")).to_be_hidden()
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    await expect(page.get_by_label("Who")).to_be_visible()


async def test_older_entries_follow_and_the_button_keeps_the_focus(
    page: Page, stack: Stack
) -> None:
    async def tell(route: Route) -> None:
        first = "before" not in route.request.url
        numbers = range(400, 300, -1) if first else range(300, 200, -1)
        links = [{"rel": "next", "href": "/audit?limit=50&before=301"}] if first else []
        content = [entry(number, subject=f"delivery {'x' * 80}-{number}") for number in numbers]
        await route.fulfill(json={"content": content, "links": links})

    await page.route(re.compile(r"/audit\?"), tell)
    await sign_in(page, stack, to="Audit")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(100)
    await page.get_by_role("button", name="Older entries").press("Enter")
    await expect(rows).to_have_count(200)
    await expect(page.get_by_role("button", name="Older entries")).to_be_hidden()
    await fits(page)


async def test_the_trail_is_a_file_too(page: Page, stack: Stack, service: str) -> None:
    async with setting(service, stack, "request_ttl", value=46):
        await sign_in(page, stack)
        await page.goto("/console#/audit?subject=request_ttl")
        async with page.expect_download() as begun:
            await page.get_by_role("button", name="Download as CSV").click()
        file = await begun.value
        assert file.suggested_filename == "audit.csv"
        lines = (await file.path()).read_text("utf-8").splitlines()
        assert lines[0].startswith("id,at,tenant,actor")
        assert all("request_ttl" in line for line in lines[1:])
        assert any(line.endswith(",46") for line in lines[1:])


async def test_before_there_is_an_answer_after_an_error_and_where_there_is_nothing(
    page: Page, stack: Stack
) -> None:
    async with holding(page, "/audit") as held:
        await sign_in(page, stack, to="Audit")
        request = await held.first()
        await expect(page.get_by_text("Asking\u2026")).to_be_visible()
        await accessible(page)
        await answered(page, request, status=503, body='{"message": "it is away"}')
        await expect(page.get_by_role("alert")).to_have_text("it is away")
        await fits(page)
    await telling(page)
    await page.goto("/console#/audit?actor=eve")
    await expect(page.get_by_text("Nothing is like that.")).to_be_visible()
    await expect(page.get_by_role("table")).to_have_count(0)
    await page.goto("/console#/audit")
    await expect(page.get_by_text("Nothing was changed yet.")).to_be_visible()
    await accessible(page)


async def test_an_operator_who_administers_nothing_is_offered_neither_settings_nor_audit(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, "EXPLOIT")
    await expect(page.get_by_role("link", name="System")).to_be_visible()
    for name in ("Settings", "Audit"):
        await expect(page.get_by_role("link", name=name)).to_have_count(0)
    await page.goto("/console#/audit")
    await expect(page.get_by_role("alert")).to_be_visible()


async def test_one_who_only_looks_reads_the_trail(page: Page, stack: Stack, service: str) -> None:
    async with api(service, stack) as session:
        await session.get("/microservice/configuration")
    await sign_in(page, stack, "READ_ONLY", to="Audit")
    await expect(page.get_by_role("row").filter(has_text="configuration").first).to_be_visible()
