"""The page Workers: who works on what; a worker is drained and resumed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import TENANT, Stack
from tests.browser.conftest import api, sign_in
from tests.browser.test_suborders import fits

pytestmark = pytest.mark.timeout(300)

THEN = "2026-01-31T11:58:00+00:00"


def worker(name: str, **facts: Any) -> dict[str, Any]:
    """Return what is told of a worker."""
    return {
        "id": name,
        "version": "0.3.0",
        "startedAt": THEN,
        "seenAt": THEN,
        "alive": True,
        "silentFor": 1.0,
        "slots": 2,
        "running": 0,
    } | facts


def carried(name: str, by: str) -> dict[str, Any]:
    """Return a delivery that a worker has under way."""
    return {
        "id": f"00000000-0000-0000-0000-{name[-3:].rjust(12, '0')}",
        "tenant": TENANT,
        "correlationId": name,
        "state": "TRANSFERRING",
        "activity": "moving",
        "user": "scientist@example.org",
        "target": "archive",
        "requestedAt": THEN,
        "worker": by,
    }


async def told(page: Page, path: str, content: list[Any]) -> None:
    """Let the page be told this."""

    async def answer(route: Route) -> None:
        await route.fulfill(json={"content": content, "links": []})

    await page.route(path, answer)


async def test_each_worker_tells_what_it_carries(page: Page, stack: Stack) -> None:
    workers = [
        worker("w-a12", running=3, slots=4),
        worker("w-b07", version="0.2.0"),
        worker("w-c01", alive=False, silentFor=130.0),
    ]
    pause = {
        "scope": "worker",
        "name": "w-b07",
        "reason": "new disks",
        "running": "stop",
        "pausedBy": "o.night",
        "since": THEN,
        "until": "2099-01-31T12:00:00+00:00",
        "cause": "worker w-b07 is drained by o.night: new disks",
    }
    await told(page, "**/workers", workers)
    await told(page, "**/pauses", [pause])
    await told(page, "**/deliveries?activity=*", [carried(f"d-{n}", "w-a12") for n in (1, 2)])
    await sign_in(page, stack, to="Workers")
    await expect(page.get_by_text("3 of 6 slots are taken, at 2 workers")).to_be_visible()
    first, second, third = (page.get_by_role("row").filter(has_text=w["id"]) for w in workers)
    await expect(first).to_contain_text("alive")
    await expect(first).to_contain_text("3 of 4")
    await expect(first.get_by_role("link", name="d-2")).to_have_attribute("href", "#/delivery/d-2")
    await expect(first).to_contain_text("and 1 of other tenants")
    await expect(first).to_contain_text("workers differ")
    await expect(second).to_contain_text("drained by o.night: new disks; until")
    await expect(third).to_contain_text("silent for 2 min 10 s")
    # They serve all tenants: who administers one looks, and is told who can.
    await expect(page.get_by_role("button", name="Drain w-a12\u2026")).to_have_count(0)
    await expect(page.get_by_role("columnheader", name="What to do")).to_have_count(0)
    await expect(page.locator("main")).to_contain_text(
        "An administrator of the instance drains and resumes them."
    )
    await fits(page)


async def test_two_hundred_fit_and_none_are_told(page: Page, stack: Stack) -> None:
    await told(page, "**/workers", [worker(f"w-{n:03}", running=2) for n in range(200)])
    moving = [carried(f"d-{n:03}", "w-000") for n in range(200)]
    await told(page, "**/deliveries?activity=*", moving)
    await sign_in(page, stack, to="Workers")
    await expect(page.get_by_role("row")).to_have_count(201)
    await expect(page.get_by_role("link", name="all 200")).to_have_attribute(
        "href", "#/deliveries?worker=w-000"
    )
    await fits(page)
    await told(page, "**/workers", [])
    await expect(page.get_by_text("No worker is there: start")).to_be_visible()
    await page.route("**/workers", lambda r: r.fulfill(status=503, json={"message": "it is away"}))
    await expect(page.get_by_role("alert")).to_contain_text("it is away")


async def test_a_worker_is_drained_and_resumed_from_the_keyboard(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, "INSTANCE_ADMIN", to="Workers")
    try:
        drain = page.get_by_role("button", name="Drain worker-1\u2026")
        await drain.focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Drain worker worker-1?")
        await dialog.get_by_label("Reason").fill("a new version")
        await dialog.get_by_role("button", name="Drain").click()
        row = page.get_by_role("row").filter(has_text="worker-1")
        await expect(row).to_contain_text("a new version")
        resume = page.get_by_role("button", name="Resume worker-1")
        await expect(resume).to_be_focused()
        await fits(page)
        await resume.click()
        await expect(row).not_to_contain_text("a new version")
    finally:  # whatever became of it: the other tests need the worker
        async with api(service, stack, "INSTANCE_ADMIN") as session:
            await session.delete("/pauses/workers/worker-1")
