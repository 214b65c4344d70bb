"""Pauses in the console: begun and ended on the page System, told on every page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from playwright.async_api import Page, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import api, has_said, sign_in
from tests.browser.test_console import accessible
from tests.client import Client, request_for

pytestmark = pytest.mark.timeout(300)


async def test_a_tenant_is_paused_with_a_reason_and_resumed(
    page: Page,
    service: str,
    stack: Stack,
    client: Client,
    make_product: Callable[..., str],
) -> None:
    await sign_in(page, stack)
    await page.get_by_role("link", name="System").click()
    await expect(page.get_by_text("Nothing is paused.")).to_be_visible()
    await page.get_by_role("button", name="Pause\u2026").click()
    dialog = page.get_by_role("dialog")
    await accessible(page)
    await dialog.get_by_role("button", name="Pause").click()
    await has_said(page, "reason")
    await page.get_by_role("button", name="Pause\u2026").click()
    await dialog.get_by_label("Reason").fill("disks are exchanged")
    await dialog.get_by_label("For so many hours").fill("1.5")
    await dialog.get_by_label("What runs").select_option("stop")
    await dialog.get_by_role("button", name="Pause").click()
    banner = page.locator("#paused")
    await expect(banner).to_contain_text("The transfers of tenant sentinel are paused by")
    await expect(banner).to_contain_text("disks are exchanged")
    await accessible(page)
    body = request_for(make_product({"a.txt": b"a"}))
    await client.send(body)
    path = f"/deliveries/{body['correlationId']}"
    async with api(service, stack) as session, asyncio.timeout(60):
        while "disks are exchanged" not in await (await session.get(path)).text():
            await asyncio.sleep(0.2)
    await page.goto(f"/console#/delivery/{body['correlationId']}")
    await expect(banner).to_contain_text("disks are exchanged")
    waits = page.get_by_text("It waits: PAUSED: the transfers of tenant sentinel")
    await expect(waits).to_be_visible()
    await page.get_by_role("link", name="System").click()
    await page.get_by_role("button", name="Resume the tenant's transfers").click()
    await expect(page.get_by_text("Nothing is paused.")).to_be_visible()
    await expect(banner).to_be_empty()
    done = await client.wait_for(body["correlationId"], "DONE", "ERROR")
    assert done["status"] == "DONE"


async def test_who_administers_a_tenant_is_offered_no_worker_and_who_administers_all_is(
    page: Page, stack: Stack
) -> None:
    for role, workers in (("EXPLOIT", 0), ("INSTANCE_ADMIN", 1)):
        await sign_in(page, stack, role)
        await page.get_by_role("link", name="System").click()
        await page.get_by_role("button", name="Pause\u2026").click()
        dialog = page.get_by_role("dialog")
        options = dialog.get_by_role("option")
        await expect(options.filter(has_text="Transfers to regards-s3-minio")).to_have_count(1)
        await expect(options.filter(has_text="Worker worker-1: drain it")).to_have_count(workers)
        await expect(options.filter(has_text="All transfers")).to_have_count(workers)
        await dialog.get_by_role("button", name="Go back").click()
        await page.goto("/console#/deliveries")
        await page.get_by_role("button", name="Sign out").click()
