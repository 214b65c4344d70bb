"""The pictures of docs/console are as the pages are now; `make screenshots` takes them again.

Data and clock are fixed, the service is not asked. A page whose look changed fails here until its
pictures are taken again: that is how a change of them is seen, and meant.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
from collections.abc import AsyncIterator

import numpy as np
import pytest
from aiohttp import web
from matplotlib.image import imread
from playwright.async_api import Browser, Page, expect

from compose.embedded.stack import ROOT, TENANT
from tests.browser import fixed
from tests.browser.conftest import NARROW, WIDE, Faults
from tests.browser.pictures import PICTURES, Picture
from tests.recorded.today.http import guarded
from tests.servers import serving_application
from tests.web.conftest import check_answer
from web.api.console import Console
from web.endpoint import Endpoint, Handler

FOLDER = ROOT / "docs" / "console"
# What drew the pictures that are kept; another draws letters a little otherwise.
DRAWN_BY = FOLDER / "drawn-by.txt"
# Of a channel, from 0 to 1, and of how many pixels: far less than a letter is.
SLIGHT, FEW = 0.1, 20


def _answering(endpoint: Endpoint, unanswered: list[str]) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if endpoint.stream:
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await stream.prepare(request)
            await asyncio.Event().wait()  # nothing happens
        if request.path not in fixed.ANSWERS:
            unanswered.append(request.path)
            raise web.HTTPNotFound
        response = web.json_response(fixed.ANSWERS[request.path])
        check_answer(endpoint, response)
        return response

    return answer


@pytest.fixture
async def console() -> AsyncIterator[str]:
    """The console on a service that says the same each time; its address."""
    application = web.Application()
    unanswered: list[str] = []
    for path, serve in Console(None).files():
        application.router.add_get(path, serve)
    for endpoint in guarded():
        if endpoint.method == "GET" and not endpoint.path.startswith("/docs"):
            application.router.add_get(endpoint.path, _answering(endpoint, unanswered))
    async with serving_application(application) as port:
        yield f"http://127.0.0.1:{port}"
    assert unanswered == []


async def _open(
    browser: Browser, console: str, picture: Picture, size: dict[str, int], faults: list[str]
) -> Page:
    context = await browser.new_context(
        base_url=console,
        viewport=size,  # type: ignore[arg-type]
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    if picture.page:
        name = fixed.SCIENTIST if picture.role == "REGISTERED_USER" else fixed.OPERATOR
        caller = {"name": name, "role": picture.role, "tenant": TENANT}
        await context.add_init_script(
            "sessionStorage.setItem('rs-delivery-token', 'of the pictures');"
            f"sessionStorage.setItem('rs-delivery-caller', JSON.stringify({caller}));"
        )
    page = await context.new_page()
    Faults(page).seen = faults
    await page.clock.set_fixed_time(fixed.NOW)
    await page.goto(f"/console{picture.address}")
    if picture.page and picture.role != "REGISTERED_USER":  # what is on top of all pages
        await expect(page.locator("#standing a")).to_be_visible()
        await expect(page.locator("#paused p")).to_be_visible()
    for text in picture.there:
        await expect(page.locator("body")).to_contain_text(text)
    return page


async def taken(browser: Browser, console: str, picture: Picture) -> dict[str, bytes]:
    """Return both pictures, by the name of the file of each."""
    faults: list[str] = []
    found = {}
    for before, size in (("", WIDE), ("narrow-", NARROW)):
        page = await _open(browser, console, picture, size, faults)
        found[f"{before}{picture.name}.png"] = await page.screenshot(animations="disabled")
        await page.context.close()
    assert faults == []
    return found


def _drawn_by(browser: Browser) -> str:
    fonts = [
        subprocess.run(
            ["fc-match", family, "file"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for family in ("system-ui", "ui-monospace")
    ]
    names = " ".join(font.rpartition("/")[2] for font in fonts)
    return f"Chromium {browser.version.partition('.')[0]} {names}\n"


def _looks_alike(one: bytes, other: bytes) -> bool:
    """Return whether two pictures differ by less than an eye sees.

    The same page comes out with edges that differ by a 256th, now and then.
    """
    pixels, others = (imread(io.BytesIO(each), format="png") for each in (one, other))
    if pixels.shape != others.shape:
        return False
    return int((np.abs(pixels - others).max(axis=2) > SLIGHT).sum()) <= FEW


def _keep(found: dict[str, bytes], drawn_by: str) -> None:
    """Put pictures into the docs; one that looks as before stays as it is, to the byte."""
    DRAWN_BY.write_text(drawn_by, "utf-8")
    for name, content in found.items():
        path = FOLDER / name
        if not (path.exists() and _looks_alike(content, path.read_bytes())):
            path.write_bytes(content)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
async def test_a_picture_of_the_docs_is_as_the_page_is(
    browser: Browser, console: str, picture: Picture
) -> None:
    drawn_by = _drawn_by(browser)
    found = await taken(browser, console, picture)
    if os.environ.get("SCREENSHOTS"):
        _keep(found, drawn_by)
    if DRAWN_BY.read_text("utf-8") != drawn_by:
        pytest.skip(f"the pictures were not drawn by what is here, {drawn_by.strip()}")
    for name, content in found.items():
        alike = _looks_alike(content, (FOLDER / name).read_bytes())
        assert alike, f"{name} looks otherwise now: look at it, and `make screenshots`"


def test_each_page_has_pictures_and_each_picture_a_page() -> None:
    script = (ROOT / "web" / "assets" / "console" / "app.js").read_text("utf-8")
    pages = re.findall(r'^  "?([\w-]+)"?: async \(\) => \(await import', script, re.MULTILINE)
    assert pages
    assert {picture.page for picture in PICTURES} == {"", *pages}


def test_each_file_is_of_a_picture_and_is_shown_in_the_docs() -> None:
    named = {f"{before}{picture.name}.png" for picture in PICTURES for before in ("", "narrow-")}
    assert {path.name for path in FOLDER.glob("*.png")} == named
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    shown = {
        name
        for path in texts
        for name in re.findall(r"\bconsole/([\w-]+\.png)", path.read_text("utf-8"))
    }
    assert shown == named
