"""Overview names the faults of a drawn night, each since when it is so, and nothing else."""

from __future__ import annotations

from typing import Any

import aiohttp
import asyncpg
import pytest
from playwright.async_api import Browser, expect

from app.settings import Settings
from app.views.attention import Need
from compose.embedded.stack import Stack
from tests.acceptance.faults import draw, happen
from tests.acceptance.night import TENANTS, Night
from tests.browser.conftest import WIDE, Faults, sign_in
from tests.caller import instance_admin
from tests.service import running_service

pytestmark = pytest.mark.timeout(300)

# Of each finding on the page: what it says, and since when it is so.
SHOWN = """found => found.map((one) => [
  one.querySelector("b").textContent,
  one.querySelector("time").getAttribute("datetime"),
])"""


def whose(finding: dict[str, Any]) -> str:
    return f"Tenant {finding['tenant']}: " if "tenant" in finding else ""


@pytest.mark.parametrize("seed", [86, 198], ids="seed={}".format)
async def test_overview_names_the_faults_of_a_night_since_when_they_are_so_and_nothing_else(
    seed: int,
    stack: Stack,
    apart: dict[str, str],
    pool: asyncpg.Pool,
    settings: Settings,
    browser: Browser,
) -> None:
    night = Night(pool, settings, stack)
    await happen(night, draw(seed))
    # What is paused, the banner of every page tells.
    paused = [each for each in night.named if each.code is Need.PAUSED]
    shown = [each for each in night.named if each not in paused]
    own = apart | {"DELIVERY_TENANTS": ",".join(TENANTS)}
    async with running_service(stack, command="web", extra=own) as (_, address):
        headers = instance_admin(stack)
        async with aiohttp.ClientSession(address, headers=headers) as session:
            told = (await (await session.get("/attention")).json())["content"]
        context = await browser.new_context(base_url=address, viewport=WIDE)  # type: ignore[arg-type]
        page = await context.new_page()
        faults = Faults(page)
        await page.goto("/console")
        await sign_in(page, stack, "INSTANCE_ADMIN", to="Overview")
        findings = page.get_by_role("region", name="What needs you").locator(".finding")
        await expect(findings).to_have_count(len(shown))
        found = [(said, since) for said, since in await findings.evaluate_all(SHOWN)]
        assert sorted(since for _, since in found) == sorted(
            each.since.isoformat(timespec="milliseconds") for each in shown
        )
        assert found == [
            (whose(each) + each["sentence"], each["since"])
            for each in told
            if each["code"] != Need.PAUSED
        ]
        for each in paused:
            words = f"of tenant {each.tenant} are paused by ana: disks"
            await expect(page.locator("#paused")).to_contain_text(words)
        await context.close()
        assert faults.seen == []
