"""The console signs in at a real identity provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from app.delivery.own_ids import prefix_of
from compose.embedded.oidc_provider import OidcProvider, missing, oidc_provider
from compose.embedded.processes import free_port
from compose.embedded.stack import Stack
from tests.browser.conftest import WIDE, Faults
from tests.identity import private_jwk
from tests.service import running_service

USER = "operator@example.org"
# Claims as other providers have them: nested, and the user not by an address.
ELSEWHERE = {
    "DELIVERY_OIDC_USER_CLAIMS": "preferred_username,sub",
    "DELIVERY_OIDC_TENANT_CLAIM": "of.tenant",
    "DELIVERY_OIDC_ROLE_CLAIM": "realm_access.roles",
    "DELIVERY_ROLES": "customer=REGISTERED_USER,ops-team=EXPLOIT",
}


def elsewhere(role: str) -> dict[str, Any]:
    """Return claims of a user of that role, where ELSEWHERE looks for them."""
    return {
        "preferred_username": "ada",
        "of": {"tenant": "sentinel"},
        "realm_access": {"roles": ["offline", role]},
    }


@pytest.fixture
def claims(request: pytest.FixtureRequest) -> dict[str, Any] | None:
    """What a test's parameter says: the claims, for a service with ELSEWHERE; None: the usual."""
    said: dict[str, Any] | None = getattr(request, "param", None)
    return said


@pytest.fixture
async def provider(tmp_path: Path, claims: dict[str, Any] | None) -> AsyncIterator[OidcProvider]:
    """The provider; its tokens are about to end as soon as they are given."""
    if sentence := missing():
        pytest.skip(sentence)
    async with oidc_provider(
        tmp_path,
        jwks=[private_jwk("one")],
        claims={"tenant": "sentinel", "role": "PROJECT_ADMIN"} if claims is None else claims,
        home=f"http://127.0.0.1:{free_port()}/console",
        lifetime=25,
    ) as running:
        yield running


@pytest.fixture
async def console(
    stack: Stack, provider: OidcProvider, browser: Browser, claims: dict[str, Any] | None
) -> AsyncIterator[tuple[Page, str]]:
    """A page of the console of a service whose users are the provider's, and its address."""
    home = json.loads(provider.file.read_text("utf-8"))["home"]
    extra = {} if claims is None else ELSEWHERE
    extra = extra | {
        "DELIVERY_WEB_PORT": home.rpartition(":")[2].partition("/")[0],
        "DELIVERY_OIDC_ISSUER": provider.url,
        "DELIVERY_OIDC_AUDIENCE": provider.audience,
        "DELIVERY_OIDC_CLIENT_ID": provider.client,
    }
    async with running_service(stack, extra=extra):
        context = await browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        page = await context.new_page()
        faults = Faults(page)
        await page.goto(home)
        yield page, home
        await context.close()
        # (The provider's own pages name fonts that its policy, or this machine, does not let in.)
        assert [said for said in faults.seen if "Content Security Policy" not in said] == []


async def signed_in(page: Page, provider: OidcProvider) -> None:
    """Sign in there, and come back."""
    await page.get_by_role(
        "button", name=f"Sign in with {provider.url.removeprefix('http://')}"
    ).click()
    await page.get_by_placeholder("Enter any login").fill(USER)
    await page.get_by_placeholder("and password").fill("any")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def test_a_user_signs_in_at_the_provider_and_out_there_too(
    console: tuple[Page, str], provider: OidcProvider
) -> None:
    page, home = console
    renewed = _renewals(page)
    await signed_in(page, provider)
    await expect(page.locator(".who")).to_contain_text(f"{USER}, PROJECT_ADMIN")
    assert page.url == home  # no code is left in it
    await page.get_by_role("link", name="System").click()
    await expect(page.get_by_role("heading", name="System")).to_be_visible()
    assert await renewed.get() == 200
    assert all(status == 200 for status in _rest_of(renewed))
    kept = await page.evaluate("() => JSON.stringify({ ...sessionStorage, ...localStorage })")
    assert "rs-delivery-token" in kept
    assert "refresh" not in kept.lower()
    assert "verifier" not in kept.lower()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="Yes, sign me out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.url.startswith(home)
    # The provider knows the user no more, either.
    await page.get_by_role("button", name="Sign in with 127").click()
    await expect(page.get_by_placeholder("Enter any login")).to_be_visible()


def _renewals(page: Page) -> asyncio.Queue[int]:
    """Collect the status of each answer to a renewal of the token, from now on."""
    seen = asyncio.Queue[int]()
    page.on(
        "response",
        lambda answer: (
            seen.put_nowait(answer.status) if answer.url.endswith("/sign-in/refresh") else None
        ),
    )
    return seen


def _rest_of(seen: asyncio.Queue[int]) -> list[int]:
    return [seen.get_nowait() for _ in range(seen.qsize())]


async def test_a_code_that_was_not_asked_for_signs_no_user_in(console: tuple[Page, str]) -> None:
    page, home = console
    await page.goto(f"{home}?code=of-another&state=of-another")
    await expect(page.get_by_role("alert")).to_contain_text("not begun here")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.url == home


async def test_a_user_whom_the_provider_turns_away_is_told(console: tuple[Page, str]) -> None:
    page, home = console
    await page.get_by_role("button", name="Sign in with 127").click()
    await page.get_by_role("link", name="Cancel").click()
    await expect(page.get_by_role("alert")).to_contain_text("did not let you in")
    assert page.url == home


@pytest.mark.parametrize("claims", [elsewhere("customer")], indirect=True)
async def test_a_user_whose_claims_are_elsewhere_orders_by_the_name_that_the_service_reads(
    console: tuple[Page, str], provider: OidcProvider
) -> None:
    page, _ = console
    await signed_in(page, provider)
    who = page.locator(".who")
    await expect(who).to_contain_text("ada, customer (REGISTERED_USER), tenant sentinel")
    await page.get_by_role("link", name="New", exact=True).click()
    await expect(page.get_by_label("Ordering user")).to_have_value("ada")
    await expect(page.get_by_text("Those of your own begin with")).to_contain_text(prefix_of("ada"))
    await page.get_by_label("Queries").fill("a:b")
    await page.get_by_role("button", name="Deliver", exact=True).click()
    # (Not what is said: that it was taken in gives way to how it ended, which may be at once.)
    asked = page.get_by_role("heading", level=2, name=prefix_of("ada"))
    await expect(asked).to_be_visible()


@pytest.mark.parametrize("claims", [elsewhere("ops-team")], indirect=True)
async def test_an_operator_whose_claims_are_elsewhere_resumes_what_they_paused(
    console: tuple[Page, str], provider: OidcProvider
) -> None:
    page, _ = console
    await signed_in(page, provider)
    await expect(page.locator(".who")).to_contain_text("ada, ops-team (EXPLOIT), tenant sentinel")
    await page.get_by_role("link", name="System").click()
    await page.get_by_role("button", name="Pause\u2026").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill("disks are exchanged")
    await dialog.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume the tenant's transfers").click()
    await expect(page.get_by_text("Nothing is paused.")).to_be_visible()
