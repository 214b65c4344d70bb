"""The page System, in the place of Health: versions, dependencies, maintenance, limits."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from app.store.schema import steps
from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import sign_in
from tests.browser.test_console import accessible
from tests.browser.test_suborders import fits
from tests.browser.test_workers import THEN, told, worker

pytestmark = pytest.mark.timeout(300)


async def test_the_address_of_health_leads_here_and_going_back_leads_before_it(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack)
    await page.goto("/console#/health")
    await expect(page.get_by_role("heading", name="System", level=1)).to_be_focused()
    assert page.url.endswith("#/system")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Deliveries", level=1)).to_be_focused()


async def test_versions_that_differ_and_limits_are_told(page: Page, stack: Stack) -> None:
    workers = [worker("a"), worker("b", version="0.2.0"), worker("c", version="0.2.0")]
    await told(page, "**/workers", [*workers, worker("gone", alive=False)])
    await sign_in(page, stack, to="System")
    await expect(page.get_by_text("1 worker of 0.3.0, 2 workers of 0.2.0")).to_be_visible()
    await expect(page.get_by_text("Versions differ")).to_be_visible()
    limits = page.locator("dl").filter(has_text="HTTP requests of a caller")
    await expect(limits).to_contain_text("a second")
    await expect(limits).to_contain_text("MB")
    await fits(page)


def schema(**changes: Any) -> dict[str, Any]:
    """What `GET /schema` says; of a database at the newest migration, if nothing is changed."""
    applied = [
        {"number": 91, "name": "0091_maintenance_announced.sql", "appliedAt": THEN},
        {"number": 89, "name": "0089_narrow_lists.sql", "appliedAt": THEN},
    ]
    said = {
        "version": "0.2.0",
        "known": 91,
        "count": 2,
        "newest": 91,
        "standing": "same",
        "applied": applied,
        "workers": [],
        "sentence": "the database is at migration 91, the newest that this program knows",
    }
    return {"content": said | changes}


async def test_the_schema_of_the_database_is_told_beside_what_this_process_knows(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, to="System")
    await expect(page.get_by_text("the newest that this program knows")).to_be_visible()
    await expect(page.get_by_text("are applied, the last")).to_be_visible()
    await page.get_by_text("Migrations that are applied").click()
    last = page.get_by_role("table", name="The newest first").get_by_role("row").nth(1)
    await expect(last).to_contain_text(steps()[-1][1])
    await accessible(page)
    await fits(page)


async def test_a_database_that_a_later_version_has_migrated_is_told_with_who_runs_beside_it(
    page: Page, stack: Stack
) -> None:
    told: dict[str, Any] = schema()
    await page.route("**/schema", lambda route: route.fulfill(json=told))
    await sign_in(page, stack, to="System")
    await expect(page.get_by_text("the newest that this program knows")).to_be_visible()
    await page.get_by_text("Migrations that are applied").click()
    names = page.get_by_text("0089_narrow_lists.sql")
    await expect(names).to_be_visible()
    later = "1 worker of 0.1.0 knows migration 60: the database is newer"
    one = {"version": "0.1.0", "workers": 1, "known": 60, "standing": "newer", "sentence": later}
    told |= schema(
        newest=95,
        standing="newer",
        sentence="the database is at migration 95, this program knows 91",
        advice="finish the upgrade: use the newer version that migrated it",
        workers=[one],
    )
    await expect(page.get_by_text("at migration 95, this program knows 91.")).to_be_visible()
    await expect(page.get_by_text("Finish the upgrade")).to_be_visible()
    await expect(page.get_by_text(later)).to_be_visible()
    await expect(names).to_be_visible()  # what was opened stays open
    await accessible(page)
    await fits(page)


async def test_a_maintenance_is_begun_and_ended_and_the_button_keeps_the_focus(
    page: Page, stack: Stack
) -> None:
    """The answers are made here: a maintenance would stop the service that tests share."""
    state: dict[str, Any] = {}
    asked: list[str] = []

    async def answer(route: Route) -> None:
        if route.request.method == "PUT":
            asked.append(route.request.url.partition("/maintenance/")[2])
            said = route.request.post_data_json
            begun = asked[-1].endswith("/enable")
            assert begun or said == {}
            more = {**(said or {}), "enabledBy": "ana"} if begun else {}
            state[TENANT] = {"active": begun, "lastUpdate": THEN} | more
        await route.fulfill(json={"content": state, "links": []})

    await page.route("**/maintenance", answer)
    await page.route("**/maintenance/**", answer)
    await sign_in(page, stack, to="System")
    await expect(page.get_by_text(f"Tenant {TENANT} is in none.")).to_be_visible()
    await page.get_by_role("button", name="Begin maintenance\u2026").focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("New requests wait")
    await dialog.get_by_label("Reason").fill("rs-order is migrated")
    await dialog.get_by_label("For so many hours").fill("2")
    await dialog.get_by_role("button", name="Begin").click()
    await expect(page.get_by_text(f"Tenant {TENANT} is in maintenance since")).to_be_visible()
    await expect(page.get_by_text("rs-order is migrated")).to_be_visible()
    await expect(page.get_by_text("It should be over")).to_be_visible()
    ends = page.get_by_role("button", name="End maintenance\u2026")
    await expect(ends).to_be_focused()
    until = state[TENANT]["until"]
    await page.get_by_role("button", name="Change what is said\u2026").click()
    await expect(dialog.get_by_label("For so many hours")).to_have_value("2")
    await dialog.get_by_label("Reason").fill("it takes longer")
    await dialog.get_by_role("button", name="Say it").click()
    await expect(page.get_by_text("it takes longer")).to_be_visible()
    assert state[TENANT]["until"] == until  # as it was said, to the second
    await fits(page)
    await ends.click()
    await dialog.get_by_role("button", name="End it").click()
    await expect(page.get_by_text(f"Tenant {TENANT} is in none; the last one")).to_be_visible()
    assert asked == [f"{TENANT}/enable", f"{TENANT}/enable", f"{TENANT}/disable"]


@pytest.mark.parametrize("until", [THEN, "2926-01-31T04:00:00Z"])
async def test_what_was_said_of_the_end_holds_until_another_is_typed(
    page: Page, stack: Stack, until: str
) -> None:
    """Also an end that is over, or that is years away."""
    state = {TENANT: {"active": True, "lastUpdate": THEN, "reason": "it moves", "until": until}}
    asked: list[Any] = []

    async def answer(route: Route) -> None:
        if route.request.method == "PUT":
            asked.append(route.request.post_data_json)
            state[TENANT] = {"active": True, "lastUpdate": THEN} | asked[-1]
        await route.fulfill(json={"content": state, "links": []})

    await page.route("**/maintenance", answer)
    await page.route("**/maintenance/**", answer)
    await sign_in(page, stack, to="System")
    change = page.get_by_role("button", name="Change what is said\u2026")
    dialog = page.get_by_role("dialog")
    hours = dialog.get_by_label("For so many hours")
    await change.click()
    await dialog.get_by_label("Reason").fill("it takes longer")
    await dialog.get_by_role("button", name="Say it").click()
    await expect(page.get_by_text("it takes longer")).to_be_visible()
    assert asked == [{"reason": "it takes longer", "until": until}]
    await change.click()
    await hours.fill("1e10")
    await dialog.get_by_role("button", name="Say it").click()
    await expect(dialog).to_be_visible()  # the field is marked: it is too much
    await expect(hours).to_be_focused()
    await hours.evaluate("field => field.removeAttribute('max')")
    await dialog.get_by_role("button", name="Say it").click()
    await expect(page.get_by_role("alert")).to_contain_text("Invalid time value")
    await change.click()
    await hours.fill("1")
    await hours.fill("")
    await dialog.get_by_role("button", name="Say it").click()
    await expect(page.get_by_text("When it should be over was not said.")).to_be_visible()
    assert asked[1:] == [{"reason": "it takes longer"}]


async def test_a_maintenance_is_told_on_every_page_until_it_is_over(
    page: Page, stack: Stack
) -> None:
    found = {
        "code": "MAINTENANCE_FORGOTTEN",
        "severity": "problem",
        "sentence": "The maintenance of the tenant should be over; requests that wait: 4",
        "advice": "`delivery maintenance off --tenant t` ends it.",
        "since": THEN,
        "tenant": TENANT,
        "count": 4,
        "cause": "by ana until 2026-01-31 04:00:00 UTC: rs-order is migrated",
    }
    known = [found]
    await page.route("**/attention", lambda route: route.fulfill(json={"content": known}))
    await sign_in(page, stack, to="Workers")
    told = page.locator("#paused")
    await expect(told).to_contain_text("rs-order is migrated. It should be over.")
    await page.goto("/console#/")
    await expect(page.get_by_text("requests that wait: 4")).to_be_visible()
    await fits(page)
    known.clear()
    await page.get_by_role("link", name="System").click()
    await expect(told).to_be_empty()


async def test_what_is_away_is_told_beside_what_is_there(page: Page, stack: Stack) -> None:
    await page.route("**/limits", lambda r: r.fulfill(status=503, json={"message": "it is away"}))
    await sign_in(page, stack, "READ_ONLY", to="System")
    await expect(page.get_by_role("alert")).to_contain_text("it is away")
    await expect(page.get_by_role("row").filter(has_text="rabbitmq")).to_contain_text("UP")
    await expect(page.get_by_role("heading", name="Maintenance")).to_be_visible()
    await expect(page.get_by_role("button", name="Begin maintenance\u2026")).to_be_hidden()
