"""The page of webhooks: how each takes events, what it never took, a ping."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from playwright.async_api import Page, Route, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import NARROW, WIDE, api, has_said, sign_in
from tests.browser.test_console import accessible
from tests.client import Client, request_for
from tests.servers import serving

pytestmark = pytest.mark.timeout(300)

_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


class Consumer:
    """A webhook that answers what it is told to."""

    def __init__(self) -> None:
        self.status = 204
        self.heard: asyncio.Queue[str] = asyncio.Queue()  # types of events

    async def hear(self, request: web.Request) -> web.Response:
        event = await request.json()
        self.heard.put_nowait(event["type"].rpartition(".")[2])
        return web.Response(status=self.status)


@pytest.fixture
async def consumer(service: str, stack: Stack) -> AsyncIterator[Consumer]:
    """The one webhook of the tenant, which is told of what is denied or done."""
    consumer = Consumer()
    async with serving(consumer.hear) as port, api(service, stack) as session:
        url = f"http://127.0.0.1:{port}/hooks?token=very-secret"
        value = {"portal": {"url": url, "secret": _SECRET, "events": ["done"]}}
        async with session.put("/settings/webhooks", json={"value": value}) as answer:
            assert answer.status == 200, await answer.text()
        yield consumer
        await session.delete("/settings/webhooks")


async def _open(page: Page) -> None:
    await page.get_by_role("link", name="Webhooks", exact=True).click()
    await expect(page.get_by_role("heading", name="Webhooks")).to_be_focused()


async def test_what_a_webhook_never_took_is_shown_and_sent_again(
    page: Page,
    stack: Stack,
    client: Client,
    consumer: Consumer,
    make_product: Callable[..., str],
) -> None:
    consumer.status = 410
    body = request_for(make_product({"a.txt": b"a"}))
    await client.answer(body)
    assert await consumer.heard.get() == "done"
    await sign_in(page, stack)
    await _open(page)
    row = page.get_by_role("row").filter(has_text="portal")
    await expect(row).to_contain_text("GONE")
    await expect(row).to_contain_text("it answered 410: it is gone for good")
    assert "very-secret" not in await page.content()
    await row.get_by_role("link", name="portal").click()
    await expect(page.get_by_role("heading", name="portal")).to_be_focused()
    dead = page.get_by_role("row").filter(has_text=body["correlationId"])
    await expect(dead).to_contain_text("it answered 410")
    await page.get_by_role("button", name="Send the chosen again").click()
    await has_said(page, "Choose some first")
    consumer.status = 204
    await dead.get_by_role("checkbox").check()
    await page.get_by_role("button", name="Send the chosen again").click()
    await page.get_by_role("dialog").get_by_role("button", name="Send again").click()
    assert await consumer.heard.get() == "done"
    await expect(page.get_by_text("There are none: it took what it was sent")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="portal")
    await expect(row).to_contain_text("takes events", timeout=20_000)


async def test_a_ping_tells_whether_a_webhook_takes_events(
    page: Page, stack: Stack, consumer: Consumer
) -> None:
    consumer.status = 500
    await sign_in(page, stack)
    await _open(page)
    await expect(page.get_by_role("row").filter(has_text="portal")).to_contain_text("nothing yet")
    await page.get_by_role("button", name="Send a ping to portal").click()
    await expect(page.get_by_text("has not taken the ping: it answered 500")).to_be_visible()
    consumer.status = 204
    await page.get_by_role("button", name="Send a ping to portal").click()
    await expect(page.get_by_text("has taken the ping: it answered 204")).to_be_visible()
    assert [consumer.heard.get_nowait() for _ in range(2)] == ["ping", "ping"]


async def test_an_operator_who_administers_nothing_sends_no_ping(
    page: Page, stack: Stack, consumer: Consumer
) -> None:
    del consumer
    await sign_in(page, stack, "EXPLOIT")
    await _open(page)
    await expect(page.get_by_role("row").filter(has_text="portal")).to_contain_text("OK")
    await expect(page.get_by_role("button", name="ping")).to_have_count(0)


_HOOK = {"url": "https://hooks.example.org/…1a2b3c4d", "owed": 0, "dead": 0}
_HOOKS = [
    _HOOK | {"name": "portal", "state": "OK", "lastSuccessAt": "2026-01-31T11:58:00.000Z"},
    _HOOK
    | {
        "name": "chat",
        "state": "FAILING",
        "owed": 1234,
        "dead": 7,
        "dropped": 12,
        "oldestOwedAt": "2026-01-29T08:00:00.000Z",
        "lastSuccessAt": "2026-01-29T07:59:00.000Z",
        "failingSince": "2026-01-29T08:00:00.000Z",
        "triedAgainAt": "2026-01-31T12:05:00.000Z",
        "lastError": "no answer within 15 seconds",
    },
    _HOOK | {"name": "former", "state": "GONE", "dead": 1, "lastError": "it answered 410"},
    _HOOK | {"name": "quiet", "state": "DISABLED"},
    _HOOK | {"name": "sealed", "state": "UNREADABLE"},
]
_DEAD = [
    {
        "id": str(UUID(int=number)),
        "type": "fr.cnes.regards.delivery.done",
        "correlationId": f"d-00{number}",
        "deliveryId": str(UUID(int=number)),
        "happenedAt": "2026-01-28T08:00:00.000Z",
        "diedAt": "2026-01-31T08:00:00.000Z",
        "tries": 10,
        "lastError": "no answer within 15 seconds",
    }
    for number in range(7)
]


async def _answering(page: Page, hooks: list[dict[str, Any]]) -> None:
    async def answer(route: Route) -> None:
        path = route.request.url.partition("?")[0]
        if path.endswith("/dead"):
            later = "before" in route.request.url
            links = [] if later else [{"rel": "next", "href": "/webhooks/chat/dead?before=5"}]
            content = _DEAD[4:] if later else _DEAD[:4]
            await route.fulfill(json={"content": content, "links": links})
        else:
            await route.fulfill(json={"content": hooks})

    await page.route("**/webhooks", answer)
    await page.route("**/webhooks/*/dead*", answer)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_state_of_webhooks_is_accessible_and_fits_a_phone(
    page: Page, stack: Stack, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await _answering(page, _HOOKS)
    await sign_in(page, stack)
    for name, seen in (("webhooks", "3 of 5 take no events"), ("webhooks/chat", "d-003")):
        await page.goto(f"/console#/{name}")
        await expect(page.get_by_text(seen)).to_be_visible()
        for size in (WIDE, NARROW):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            await accessible(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                name,
                size,
            )
        await page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    await page.get_by_role("button", name="More").click()
    await expect(page.get_by_text("d-006")).to_be_visible()
    await expect(page.get_by_role("button", name="More")).to_have_count(0)
    await page.get_by_label("Choose all").check()
    await expect(page.locator("tbody input:checked")).to_have_count(7)


async def test_a_tenant_without_webhooks_is_told_so_and_a_service_that_is_away_in_words(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack)
    await _open(page)
    await expect(page.get_by_text("There are none.")).to_be_visible()
    await accessible(page)
    away = {"message": "the database does not answer; try again later"}
    await page.route("**/webhooks", lambda route: route.fulfill(status=503, json=away))
    await page.get_by_role("link", name="System").click()
    await _open(page)
    await expect(page.get_by_role("alert")).to_contain_text("the database does not answer")
    # It is looked at again, and what is there then takes the place of the error.
    await page.unroute("**/webhooks")
    await _answering(page, _HOOKS)
    row = page.get_by_role("row").filter(has_text="chat")
    await expect(row).to_contain_text("FAILING", timeout=20_000)


async def test_the_focus_stays_where_it_is_while_the_page_is_looked_at_again(
    page: Page, stack: Stack
) -> None:
    await _answering(page, _HOOKS)
    await sign_in(page, stack)
    await _open(page)
    button = page.get_by_role("button", name="Send a ping to chat")
    await button.focus()
    async with page.expect_response("**/webhooks"):
        pass
    async with page.expect_response("**/webhooks"):
        pass
    await expect(button).to_be_focused()
