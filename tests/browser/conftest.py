"""A real browser before the real service."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from compose.embedded.stack import Stack
from tests.command import delivery
from tests.service import running_service

expect.set_options(timeout=20_000)  # milliseconds, as for what is done on a page

OPERATOR = "operator@example.org"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
# Keeps what a page says, a line each: the page itself forgets it, with the next that it has to say,
# or after some seconds.
KEEPS_WHAT_IS_SAID = """
  new MutationObserver((records) => {
    const kept = document.documentElement.dataset;
    for (const { target, addedNodes } of records) {
      if (target.id !== "said") continue;
      for (const node of addedNodes) kept.said = `${kept.said ?? ""}${node.textContent}\\n`;
    }
  }).observe(document, { subtree: true, childList: true });
"""


@pytest.fixture(scope="package")
async def service(stack: Stack) -> AsyncIterator[str]:
    """The service, shared by this folder and gone after it: it reads the queues; its address."""
    extra = {
        "DELIVERY_WORKER_ID": "worker-1",
        "DELIVERY_WEBHOOK_ALLOWED_HOSTS": "*,127.0.0.1/32",
        "DELIVERY_CONTENT_DOWNLOADS": "4",
    }
    async with running_service(stack, extra=extra) as (_, url):
        yield url


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, headless."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        await opened.close()


class Faults:
    """What the page complained about: errors of scripts, and of the content security policy."""

    def __init__(self, page: Page) -> None:
        self.seen: list[str] = []
        page.on("pageerror", lambda error: self.seen.append(str(error)))
        page.on(
            "console",
            lambda said: (
                self.seen.append(said.text)
                if said.type == "error" and "Failed to load resource" not in said.text
                else None
            ),
        )


@pytest.fixture
async def page(browser: Browser, service: str) -> AsyncIterator[Page]:
    """A new page of the console; it must not complain."""
    context = await browser.new_context(base_url=service, viewport=WIDE)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    # Chromium is told to hold requests before there is any page, and all the time. Told later, by
    # the first `route` of a page that is there, it says that it does before that page knows; what
    # the page asks for then goes by.
    await context.route("requests-are-held-from-the-beginning", lambda route: route.fallback())
    await context.add_init_script(KEEPS_WHAT_IS_SAID)
    opened = await context.new_page()
    faults = Faults(opened)
    await opened.goto("/console")
    yield opened
    # What a test has held of an answer that it does not wait for is dropped with the page.
    await opened.unroute_all(behavior="ignoreErrors")
    await context.close()
    assert faults.seen == []


async def has_said(page: Page, words: str, *, whole: bool = False) -> None:
    """Return once the page has said these words; with `whole`, no others with them.

    It may say something else by then, or nothing any more.
    """
    line = rf"(^|\n){re.escape(words)}\n" if whole else re.escape(words)
    await expect(page.locator("html")).to_have_attribute("data-said", re.compile(line))


def token(stack: Stack, role: str = "PROJECT_ADMIN") -> str:
    """Return a token as an operator makes one."""
    made = delivery("token", "--role", role, "--user", OPERATOR, **stack.environment)
    return made.stdout.strip()


async def sign_in(
    page: Page, stack: Stack, role: str = "PROJECT_ADMIN", *, to: str = "Deliveries"
) -> None:
    """Sign in, and go to a page of the navigation."""
    await page.get_by_label("Token").fill(token(stack, role))
    await page.get_by_role("button", name="Sign in").click()
    if to != "Overview":  # where operators begin
        await page.get_by_role("navigation").get_by_role("link", name=to, exact=True).click()
    await page.get_by_role("heading", name=to, level=1).wait_for()


def api(service: str, stack: Stack, role: str = "PROJECT_ADMIN") -> aiohttp.ClientSession:
    """Return a session of an operator."""
    return aiohttp.ClientSession(service, headers={"Authorization": f"Bearer {token(stack, role)}"})


@contextlib.asynccontextmanager
async def setting(service: str, stack: Stack, name: str, *, value: object) -> AsyncIterator[None]:
    """Let a setting of the tenant be another one meanwhile."""
    async with api(service, stack) as session:
        body = {"name": name, "value": value}
        (await session.put(f"/settings/{name}", json=body)).raise_for_status()
        try:
            yield
        finally:
            (await session.delete(f"/settings/{name}")).raise_for_status()
