"""The page of targets: how it goes with each; it is paused, resumed and tried there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import setting, sign_in
from tests.browser.test_console import accessible
from tests.browser.test_focus import answered, holding
from tests.browser.test_suborders import fits
from tests.client import Client, request_for

pytestmark = pytest.mark.timeout(300)

DEFAULT = "regards-s3-minio"


def target(name: str, **changes: Any) -> dict[str, Any]:
    """What `GET /targets` says of one that works."""
    return {
        "tenant": TENANT,
        "name": name,
        "type": "s3",
        "place": "s3://archives",
        "state": "works",
        "failures": 0,
        "lastGood": "2026-01-31T12:00:00.000Z",
        "running": 2,
        "waiting": 5,
        "goodLastHour": 12,
        "badLastHour": 0,
    } | changes


FAILS = target(
    "archive",
    state="fails",
    since="2026-01-31T12:00:00.000Z",
    failures=14,
    badLastHour=14,
    goodLastHour=0,
    lastBad={
        "at": "2026-01-31T12:30:00.000Z",
        "code": "TARGET_REFUSED",
        "cause": "403 AccessDenied",
    },
    attention={"code": "TRANSFERS_FAIL"},
)


async def test_a_target_that_fails_says_since_when_why_and_what_that_means(
    page: Page, stack: Stack
) -> None:
    found = {"content": [target(DEFAULT), FAILS, target("new", state="unused", lastGood=None)]}
    await page.route("**/targets", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, to="Targets")
    row = page.get_by_role("row").filter(has_text="archive")
    row = row.filter(has_text="TARGET_REFUSED")
    await expect(row).to_contain_text("fails for")
    await expect(row).to_contain_text("14 attempts failed")
    await expect(row).to_contain_text("403 AccessDenied")
    await expect(row).to_contain_text("2 under way, 5 waiting")
    await expect(row).to_contain_text("0 went well, 14 failed")
    await fits(page)
    moving = row.get_by_role("link", name="2 under way")
    await expect(moving).to_have_attribute("href", "#/deliveries?activity=moving&target=archive")
    # No list is of the same ones: with them are those that are tried again, or paused.
    await expect(row.get_by_role("link", name="5 waiting")).to_have_count(0)
    await moving.click()
    await expect(page.get_by_label("Target", exact=True)).to_have_value("archive")
    await page.go_back()
    await row.get_by_role("link", name="TARGET_REFUSED").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("What TARGET_REFUSED means")


async def test_many_targets_and_none_fit_every_screen(page: Page, stack: Stack) -> None:
    many = [target(f"target-{number}-{'x' * number}") for number in range(100)]
    found: dict[str, Any] = {"content": many}
    await page.route("**/targets", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, to="Targets")
    await expect(page.get_by_role("table", name="100 targets")).to_be_visible()
    await fits(page)
    found["content"] = []
    await expect(page.get_by_text("there is no target")).to_be_visible()
    await accessible(page)


async def test_before_there_is_an_answer_it_says_so_and_after_an_error_why(
    page: Page, stack: Stack
) -> None:
    async with holding(page, "/targets") as held:
        await sign_in(page, stack, to="Targets")
        await expect(page.get_by_text("Asking\u2026")).to_be_visible()
        await accessible(page)
        await answered(page, await held.first(), status=503, body='{"message": "it is away"}')
        await expect(page.get_by_role("alert")).to_have_text("it is away")
        await expect(page.get_by_text("Asking\u2026")).to_have_count(0)
        await fits(page)


async def test_a_target_is_paused_with_a_reason_and_resumed_where_it_is_shown(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, "EXPLOIT", to="Targets")
    row = page.get_by_role("row").filter(has_text=DEFAULT)
    await expect(row.get_by_role("button", name="Test connection")).to_have_count(0)
    await row.get_by_role("button", name=f"Pause transfers to {DEFAULT}").press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"Pause transfers to {DEFAULT}?")
    await accessible(page)
    await dialog.get_by_label("Reason").fill("disks are exchanged")
    await dialog.get_by_role("button", name="Pause").click()
    await expect(row).to_contain_text("paused for")
    await expect(row).to_contain_text("disks are exchanged")
    await expect(page.locator("#paused")).to_contain_text("disks are exchanged")
    resume = row.get_by_role("button", name=f"Resume transfers to {DEFAULT}")
    await expect(resume).to_be_focused()
    await accessible(page)
    await resume.press("Enter")
    await expect(row).not_to_contain_text("disks are exchanged")
    await expect(page.locator("#paused")).to_be_empty()
    await expect(row.get_by_role("button", name=f"Pause transfers to {DEFAULT}")).to_be_focused()


async def test_a_pause_without_a_reason_is_refused_in_the_row(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, to="Targets")
    row = page.get_by_role("row").filter(has_text=DEFAULT)
    await row.get_by_role("button", name="Pause").click()
    await page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    await expect(row.get_by_role("alert")).to_contain_text("reason")


async def test_what_is_paused_with_its_tenant_is_resumed_elsewhere(
    page: Page, stack: Stack
) -> None:
    pause = {"scope": "tenant", "tenant": TENANT, "cause": "the transfers of tenant are paused"}
    found = {"content": [target(DEFAULT, state="paused", pause=pause)]}
    await page.route("**/targets", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, to="Targets")
    row = page.get_by_role("row").filter(has_text=DEFAULT)
    await expect(row).to_contain_text("It is resumed on the page System")
    await expect(row.get_by_role("button")).to_have_accessible_name(f"Test connection to {DEFAULT}")


async def test_the_connection_to_each_target_is_tried_and_said(
    page: Page,
    service: str,
    stack: Stack,
    client: Client,
    make_product: Callable[..., str],
) -> None:
    where = urlsplit(stack.environment["DELIVERY_S3_ENDPOINT"])
    server = {
        "scheme": where.scheme,
        "host": where.hostname,
        "port": where.port,
        "region": stack.environment["DELIVERY_S3_REGION"],
        "key": "key-of-archive",
        "secret": "secret-of-archive",
    }
    further = {"s3_server": server, "bucket": "no-such-bucket"}
    async with setting(service, stack, "delivery_targets", value={"archive": further}):
        await client.answer(request_for(make_product({"a.txt": b"a"})))
        await sign_in(page, stack, to="Targets")
        works = page.get_by_role("row").filter(has_text=DEFAULT)
        await expect(works).to_contain_text("last good:")
        await works.get_by_role("button", name="Test connection").click()
        await expect(works).to_contain_text("writable: good")
        unused = page.get_by_role("row").filter(has_text="archive").filter(has_text="unused")
        await unused.get_by_role("button", name="Test connection").click()
        await expect(unused.locator(".down").first).to_contain_text("archive, ")
        await accessible(page)
        await fits(page)


async def test_another_tenants_targets_are_looked_at_only(page: Page, stack: Stack) -> None:
    found = {"content": [target(DEFAULT, tenant="swot")]}
    await page.route("**/targets", lambda route: route.fulfill(json=found))
    await sign_in(page, stack, "INSTANCE_ADMIN", to="Targets")
    row = page.get_by_role("row").filter(has_text=DEFAULT)
    await expect(row).to_contain_text("of tenant swot")
    await expect(row.get_by_role("button")).to_have_count(0)
