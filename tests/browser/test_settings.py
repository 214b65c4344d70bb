"""The page of settings: a form for each, made of the schema of its values."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from compose.embedded.stack import Stack
from tests.browser.conftest import OPERATOR, WIDE, api, has_said, setting, sign_in, token
from tests.browser.test_console import accessible
from tests.browser.test_focus import answered, holding
from tests.browser.test_suborders import fits
from tests.command import delivery

pytestmark = pytest.mark.timeout(300)

SERVER: dict[str, Any] = {
    "scheme": "https",
    "host": "s3.example.org",
    "port": 443,
    "region": "eu-west-1",
    "key": "AKIA",
    "secret": "a-very-secret-key",
}
TARGET = {"s3_server": SERVER, "bucket": "long-term"}


def form(page: Page, name: str) -> Locator:
    """Return the form of a setting."""
    return page.locator(f"form[data-setting={name}]")


async def save(of: Locator) -> None:
    """Save what was changed, and wait until it is."""
    await of.get_by_role("button", name="Save").click()
    await expect(of).to_contain_text("(set)")
    await expect(of.get_by_role("button", name="Save")).to_be_hidden()


async def value_of(service: str, stack: Stack, name: str) -> Any:
    """Return what a setting is by now."""
    async with api(service, stack) as session:
        answer = await session.get(f"/settings/{name}")
        return (await answer.json())["content"]["value"]


async def put(service: str, stack: Stack, name: str, value: object) -> None:
    """Set it as another person does."""
    async with api(service, stack) as session:
        (await session.put(f"/settings/{name}", json={"value": value})).raise_for_status()


@pytest.fixture(autouse=True)
async def _restored(service: str, stack: Stack) -> AsyncIterator[None]:
    """Leave every setting at its default."""
    yield
    async with api(service, stack) as session:
        for found in await (await session.get("/settings")).json():
            if any(link["rel"] == "delete" for link in found["links"]):
                await session.delete(f"/settings/{found['content']['name']}")


async def test_a_number_says_how_much_that_is_and_what_it_may_be(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, to="Settings")
    hours = form(page, "request_ttl")
    await expect(hours).to_contain_text("0 to 876,000.")
    await hours.get_by_role("spinbutton").fill("50")
    await expect(hours.get_by_role("status").first).to_have_text("= 2 days 2 h")
    size = form(page, "order_size_limit_bytes")
    await expect(size).to_contain_text("Default: 1,099,511,627,776 bytes = 1 TiB")
    await size.get_by_role("spinbutton").fill("1610612736")
    await expect(size.get_by_role("status").first).to_have_text("= 1.5 GiB")
    await size.get_by_role("button", name="Undo").click()
    await expect(size.get_by_role("spinbutton")).to_have_value("1099511627776")
    await expect(size.get_by_role("button", name="Save")).to_be_hidden()


async def test_choices_switches_and_groups_are_saved_as_what_they_say(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    await form(page, "delivery_format").get_by_role("combobox").select_option("tar.zst")
    await save(form(page, "delivery_format"))
    await form(page, "manifest").get_by_role("switch", name="Manifest beside archives").press(" ")
    await save(form(page, "manifest"))
    quota = form(page, "quota")
    await quota.get_by_role("group", name="User").get_by_label("Active").fill("3")
    await quota.get_by_role("group", name="Tenant").get_by_label("Bytes per day").fill("1073741824")
    await quota.get_by_label("Over requests").select_option("deny")
    await save(quota)
    assert await value_of(service, stack, "delivery_format") == "tar.zst"
    assert await value_of(service, stack, "manifest") is True
    assert await value_of(service, stack, "quota") == {
        "tenant": {"active": 0, "requests_per_minute": 0, "bytes_per_day": 1073741824},
        "user": {"active": 3, "requests_per_minute": 0, "bytes_per_day": 0},
        "over_requests": "deny",
        "over_bytes": "wait",
    }


async def test_a_target_is_added_and_its_secret_kept_until_another_is_typed(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    targets = form(page, "delivery_targets")
    await targets.get_by_label("Name of a new one").fill("archive")
    await targets.get_by_label("Name of a new one").press("Enter")
    await expect(targets.get_by_label("Type")).to_be_focused()
    server = targets.get_by_role("group", name="S3 server")
    await server.get_by_label("Scheme").select_option("https")
    for name in ("host", "port", "region", "key", "secret"):
        await server.get_by_label(name, exact=False).last.fill(str(SERVER[name]))
    await targets.get_by_label("Bucket").fill("Long_Term")
    await targets.get_by_role("button", name="Save").click()
    bucket = targets.get_by_label("Bucket")
    await expect(bucket).to_be_focused()
    await expect(bucket).to_have_attribute("aria-invalid", "true")
    await expect(bucket).to_have_accessible_description(re.compile("must be 3 to 63"))
    await accessible(page)
    await bucket.fill("long-term")
    await save(targets)
    entry = targets.locator(".entry")
    await expect(entry.locator("summary")).to_have_text("archive s3.example.org · long-term")
    await entry.locator("summary").click()
    secret = entry.get_by_label("Secret")
    await expect(secret).to_have_value("*******")
    await expect(secret).to_have_attribute("type", "password")
    await entry.get_by_label("Bucket").fill("longer-term")
    await save(targets)  # with the secret that is stored
    found = await value_of(service, stack, "delivery_targets")
    assert found["archive"]["bucket"] == "longer-term"
    assert found["archive"]["addressing_style"] == "path"
    await entry.locator("summary").click()
    await entry.get_by_label("Host").fill("s3.example.net")
    await targets.get_by_role("button", name="Save").click()
    await expect(secret).to_be_focused()
    await expect(entry).to_contain_text("the stored one is for another scheme, host or port")
    await entry.get_by_role("button", name="Remove archive").click()
    await expect(targets.get_by_text("There are none.")).to_be_visible()
    await save(targets)
    assert await value_of(service, stack, "delivery_targets") == {}


async def test_each_kind_of_target_has_fields_of_its_own(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, to="Settings")
    targets = form(page, "delivery_targets")
    await targets.get_by_label("Name of a new one").fill("a.server")
    await targets.get_by_role("button", name="Add").click()
    await targets.get_by_label("Type").select_option("sftp")
    await expect(targets.get_by_label("Port")).to_have_value("22")
    await targets.get_by_label("Host", exact=True).fill("sftp.example.org")
    await targets.get_by_label("User").fill("deliveries")
    await targets.get_by_label("Host key").fill("no key at all")
    await targets.get_by_label("Path").fill("/in")
    await targets.get_by_label("Password").fill("secret")
    await targets.get_by_role("button", name="Save").click()
    await expect(targets.get_by_label("Host key")).to_be_focused()
    await targets.get_by_label("Type").select_option("file")
    await expect(targets.get_by_label("Host key")).to_have_count(0)
    await expect(targets.get_by_label("Mode")).to_be_visible()


async def test_a_webhook_is_told_of_what_is_chosen(page: Page, stack: Stack, service: str) -> None:
    await sign_in(page, stack, to="Settings")
    hooks = form(page, "webhooks")
    await hooks.get_by_label("Name of a new one").fill("portal")
    await hooks.get_by_role("button", name="Add").click()
    await hooks.get_by_label("URL").fill("https://hooks.example.org/in")
    await hooks.get_by_label("Secret", exact=True).fill(f"whsec_{'A' * 43}=")
    await expect(hooks.get_by_label("done")).to_be_disabled()
    await hooks.get_by_label("all, also").uncheck()
    await hooks.get_by_label("done").check()
    await save(hooks)
    found = (await value_of(service, stack, "webhooks"))["portal"]
    assert found["events"] == ["done"]
    assert found["enabled"] is True


async def test_what_another_changed_meanwhile_is_shown_beside_before_it_is_replaced(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    hours = form(page, "request_ttl")
    value = hours.get_by_role("spinbutton")
    before = await value.input_value()
    await value.fill("30")
    await put(service, stack, "request_ttl", 40)
    await hours.get_by_role("button", name="Save").click()
    row = hours.get_by_role("row").filter(has_text="the value")
    await expect(row).to_contain_text(f"the value{before} hours40 hours")
    await expect(row).to_contain_text("30 hours")
    await expect(hours.get_by_role("button", name="Take theirs")).to_be_focused()
    await fits(page)
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    assert await value_of(service, stack, "request_ttl") == 40
    # And once more, while it is looked at.
    await put(service, stack, "request_ttl", 41)
    await hours.get_by_role("button", name="Put mine").click()
    await expect(row).to_contain_text("40 hours = 1 day 16 h41 hours")
    await hours.get_by_role("button", name="Put mine").click()
    await expect(hours.get_by_role("button", name="Save")).to_be_hidden()
    assert await value_of(service, stack, "request_ttl") == 30
    await value.fill("31")
    await put(service, stack, "request_ttl", 42)
    await value.press("Enter")
    await hours.get_by_role("button", name="Take theirs").press("Enter")
    await expect(value).to_have_value("42")
    await expect(value).to_be_focused()
    assert await value_of(service, stack, "request_ttl") == 42


async def test_a_conflict_shows_no_secret(page: Page, stack: Stack, service: str) -> None:
    async with setting(service, stack, "delivery_targets", value={"archive": TARGET}):
        await sign_in(page, stack, to="Settings")
        targets = form(page, "delivery_targets")
        await targets.locator("summary", has_text="archive").click()
        await targets.get_by_label("Secret").fill("my-own-secret")
        await put(service, stack, "delivery_targets", {"archive": TARGET | {"bucket": "other"}})
        await targets.get_by_role("button", name="Save").click()
        rows = targets.get_by_role("row")
        await expect(rows.filter(has_text="bucket")).to_contain_text("long-termotherlong-term")
        await expect(rows.filter(has_text="secret")).to_contain_text("setsetanother one")
        assert "my-own-secret" not in await page.locator("table").inner_text()
        await targets.get_by_role("button", name="Take theirs").click()


async def test_two_who_change_a_secret_are_told_what_its_mask_hides(
    page: Page, stack: Stack, service: str
) -> None:
    async with setting(service, stack, "delivery_targets", value={"archive": TARGET}):
        await sign_in(page, stack, to="Settings")
        targets = form(page, "delivery_targets")
        await targets.locator("summary", has_text="archive").click()
        # Before a key is pressed here: this page has the mask of the secret before theirs.
        theirs = SERVER | {"secret": "their-own-secret"}
        await put(service, stack, "delivery_targets", {"archive": TARGET | {"s3_server": theirs}})
        await targets.get_by_label("Secret").fill("my-own-secret")
        await targets.get_by_role("button", name="Save").click()
        await expect(targets).to_contain_text(f"{OPERATOR} set another secret")
        row = targets.get_by_role("row").filter(has_text="secret")
        await expect(row).to_contain_text("setanother oneanother one")
        await fits(page)
        await targets.get_by_role("button", name="Put mine").click()
        await expect(targets.get_by_role("button", name="Save")).to_be_hidden()
        await has_said(page, "Saved.", whole=True)
        # What this page saved is no other's, and what comes after it is.
        await targets.locator("summary", has_text="archive").click()
        await targets.get_by_label("Secret").fill("my-second-secret")
        await save(targets)
        await put(service, stack, "delivery_targets", {"archive": TARGET | {"s3_server": theirs}})
        await targets.locator("summary", has_text="archive").click()
        await targets.get_by_label("Bucket").fill("other")
        await targets.get_by_role("button", name="Save").click()
        await expect(targets).to_contain_text(f"{OPERATOR} set another secret")
        await targets.get_by_role("button", name="Take theirs").click()


async def test_where_the_audit_trail_began_is_asked_again_when_typing_begins(
    page: Page, stack: Stack, service: str
) -> None:
    failing = {"status": 503, "json": {"message": "not now"}}
    async with setting(service, stack, "delivery_targets", value={"archive": TARGET}):
        await page.route("**/audit?limit=1", lambda route: route.fulfill(**failing))
        await sign_in(page, stack, to="Settings")
        targets = form(page, "delivery_targets")
        await targets.locator("summary", has_text="archive").click()
        await page.unroute("**/audit?limit=1")
        async with page.expect_response("**/audit?limit=1"):
            await targets.get_by_label("Secret").fill("my-own-secret")
        theirs = SERVER | {"secret": "their-own-secret"}
        await put(service, stack, "delivery_targets", {"archive": TARGET | {"s3_server": theirs}})
        await targets.get_by_role("button", name="Save").click()
        await expect(targets).to_contain_text(f"{OPERATOR} set another secret")
        await targets.get_by_role("button", name="Take theirs").click()


async def test_a_session_that_ends_keeps_stored_secrets_of_what_was_typed(
    page: Page, stack: Stack, service: str
) -> None:
    """Also where the page is loaded again: what is saved would remove one that is optional."""
    secrets = {"secret": f"whsec_{'A' * 43}=", "previous_secret": f"whsec_{'B' * 42}A="}
    hook = {"url": "https://hooks.example.org/in"} | secrets
    async with setting(service, stack, "webhooks", value={"lab": hook}):
        await sign_in(page, stack, to="Settings")
        hooks = form(page, "webhooks")
        await hooks.locator("summary", has_text="lab").click()
        await hooks.get_by_label("Previous secret").fill("whsec_typed")
        await ended_by(page, hooks.get_by_role("button", name="Save"), stack)
        # Only a secret was typed: what is there again is what is stored.
        await expect(page.get_by_text("Secrets were not kept: type them again.")).to_be_visible()
        await expect(hooks.get_by_role("button", name="Save")).to_be_hidden()
        await hooks.locator("summary", has_text="lab").click()
        await hooks.get_by_label("Previous secret").fill("whsec_typed")
        await hooks.get_by_label("Enabled").uncheck()
        await ended_by(page, hooks.get_by_role("button", name="Save"), stack)
        await expect(page.get_by_text("is here again: Webhooks, by name.")).to_be_visible()
        await hooks.locator("summary", has_text="lab").click()
        await expect(hooks.get_by_label("Previous secret")).to_have_value("*******")
        await save(hooks)
        lab = (await value_of(service, stack, "webhooks"))["lab"]
        assert (lab["enabled"], lab["previous_secret"]) == (False, "*******")


async def ended_by(page: Page, button: Locator, stack: Stack) -> None:
    """Have the session end by a click, load the page again, and sign in."""
    over = {"status": 401, "json": {"message": "the token has expired"}}
    await page.route("**/settings/*", lambda route: route.fulfill(**over))
    await button.click()
    await expect(page.get_by_label("Token")).to_be_visible()
    await page.unroute("**/settings/*")
    await page.reload()
    await page.get_by_label("Token").fill(token(stack))
    await page.get_by_role("button", name="Sign in").click()


async def test_a_session_that_ends_takes_nothing_of_what_was_typed(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    await form(page, "request_ttl").get_by_role("spinbutton").fill("30")
    quota = form(page, "quota")
    await quota.get_by_role("button", name="Edit as JSON").click()
    await quota.get_by_label("JSON").fill('{"user": ')
    secret = form(page, "s3_server").get_by_label("Secret")
    await secret.fill("another-secret")
    over = {"status": 401, "json": {"message": "the token has expired"}}
    await page.route("**/settings/request_ttl", lambda route: route.fulfill(**over))
    await form(page, "request_ttl").get_by_role("button", name="Save").click()
    await expect(page.get_by_role("alert")).to_contain_text("the token has expired")
    await page.unroute("**/settings/request_ttl")
    await page.get_by_label("Token").fill(token(stack))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("What you had not saved is here again")).to_contain_text(
        "Time to live of requests (hours), Quotas, S3 server."
    )
    await expect(quota.get_by_label("JSON")).to_have_value('{"user": ')
    await expect(secret).to_have_value("another-secret")
    assert "another-secret" not in await page.evaluate("JSON.stringify({...sessionStorage})")
    await fits(page)
    await save(form(page, "request_ttl"))
    assert await value_of(service, stack, "request_ttl") == 30
    # As after a way to the identity provider and back: all but secrets is there.
    await quota.get_by_role("button", name="Undo").click()
    await quota.get_by_role("group", name="User").get_by_label("Active").fill("3")
    await form(page, "s3_server").get_by_label("Region").fill("eu-west-9")
    await page.route("**/settings/quota", lambda route: route.fulfill(**over))
    await quota.get_by_role("button", name="Save").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    await page.reload()
    await page.get_by_label("Token").fill(token(stack))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("Secrets were not kept: type them again.")).to_be_visible()
    await expect(quota.get_by_label("Active").last).to_have_value("3")
    await expect(form(page, "s3_server").get_by_label("Region")).to_have_value("eu-west-9")
    await expect(secret).to_have_value("*******")  # that which is stored
    # Another user of this tab is shown none of it.
    await quota.get_by_role("button", name="Save").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    made = delivery(
        "token", "--role", "PROJECT_ADMIN", "--user", "other@example.org", **stack.environment
    )
    await page.get_by_label("Token").fill(made.stdout.strip())
    await page.get_by_role("button", name="Sign in").click()
    await expect(form(page, "quota").get_by_label("Active").last).to_have_value("0")
    await expect(page.get_by_text("What you had not saved")).to_have_count(0)


async def test_a_change_between_the_last_look_and_saving_is_a_conflict_too(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    hours = form(page, "request_ttl")
    await hours.get_by_role("spinbutton").fill("30")
    async with holding(page, "/settings/request_ttl", "PUT") as held:
        await hours.get_by_role("button", name="Save").click()
        request = await held.first()
        await put(service, stack, "request_ttl", 40)
        await request.continue_()
    await expect(hours).to_contain_text("Someone else changed this meanwhile")
    assert await value_of(service, stack, "request_ttl") == 40


async def test_what_is_typed_while_it_is_saved_stays_to_be_saved(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    hours = form(page, "request_ttl")
    value = hours.get_by_role("spinbutton")
    await value.fill("30")
    async with holding(page, "/settings/request_ttl", "PUT") as held:
        await value.press("Enter")
        request = await held.first()
        await value.press("End")
        await page.keyboard.type("1")
        await value.press("Enter")  # one call at a time
        await answered(page, request)
        assert len(held) == 1
    await has_said(page, "Saved. What you have typed since is not saved yet.", whole=True)
    await expect(value).to_have_value("301")
    await expect(value).to_be_focused()
    await expect(hours).to_contain_text("(set)")
    await expect(hours.get_by_role("button", name="Put back to default")).to_be_visible()
    assert await value_of(service, stack, "request_ttl") == 30
    await save(hours)
    assert await value_of(service, stack, "request_ttl") == 301


async def test_each_attempt_begins_without_what_was_complained_of_before(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, to="Settings")
    bucket = form(page, "delivery_bucket")
    value = bucket.get_by_role("textbox")
    await value.fill("No")
    for _ in range(2):
        await bucket.get_by_role("button", name="Save").click()
        await expect(value).to_have_attribute("aria-invalid", "true")
    await expect(bucket.locator(".problem span")).to_have_count(1)
    quota = form(page, "quota")
    await quota.get_by_role("button", name="Edit as JSON").click()
    text = quota.get_by_label("JSON")
    await text.fill('{"user": {"active": "many"}}')
    for _ in range(2):
        async with page.expect_response("**/settings/quota"):
            await quota.get_by_role("button", name="Save").click()
        await expect(quota.get_by_role("alert")).to_be_visible()
        await expect(quota.locator(".problem span")).to_have_count(1)
    await text.fill('{"user": {"active": 3}}')
    await quota.get_by_role("button", name="Edit as a form").click()
    await expect(quota.locator(".problem span")).to_have_count(0)


async def test_what_is_typed_to_a_mask_is_no_secret(page: Page, stack: Stack, service: str) -> None:
    async with setting(service, stack, "delivery_targets", value={"archive": TARGET}):
        await sign_in(page, stack, to="Settings")
        targets = form(page, "delivery_targets")
        await targets.locator("summary", has_text="archive").click()
        secret = targets.get_by_label("Secret")
        await secret.focus()
        await secret.press("End")
        await page.keyboard.type("new")
        await expect(secret).to_have_value("*******new")
        await expect(secret).to_have_attribute("aria-invalid", "true")
        await expect(secret).to_have_accessible_description(re.compile("delete all that is there"))
        await targets.get_by_role("button", name="Save").click()
        await expect(secret).to_be_focused()
        await accessible(page)
        await targets.get_by_role("button", name="Edit as JSON").click()
        await targets.get_by_role("button", name="Save").click()  # the service refuses it, too
        await expect(targets).to_contain_text("what stands for the stored one; send all of it")
        await targets.get_by_role("button", name="Edit as a form").click()
        await targets.locator("summary", has_text="archive").click()
        await secret.fill("new")
        await save(targets)


async def test_another_type_keeps_what_both_have(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, to="Settings")
    targets = form(page, "delivery_targets")
    await targets.get_by_label("Name of a new one").fill("archive")
    await targets.get_by_role("button", name="Add").click()
    await targets.get_by_label("Host", exact=True).fill("s3.example.org")
    await targets.get_by_label("Bucket").fill("long-term")
    await targets.get_by_label("Prefix").fill("2026")
    kind = targets.get_by_label("Type")
    await kind.select_option("gcs")
    await expect(targets.get_by_label("Bucket")).to_have_value("long-term")
    await expect(targets.get_by_label("Prefix")).to_have_value("2026")
    await targets.get_by_label("Prefix").fill("2027")
    await kind.select_option("azure")
    await expect(targets.get_by_label("Prefix")).to_have_value("2027")
    await targets.get_by_label("Key", exact=True).fill("of-the-account")
    await kind.select_option("sftp")
    await expect(targets.get_by_label("Key", exact=True)).to_have_value("")
    await kind.select_option("s3")  # as it was before it was another one
    await expect(targets.get_by_label("Host", exact=True)).to_have_value("s3.example.org")
    await expect(targets.get_by_label("Bucket")).to_have_value("long-term")
    await expect(targets.get_by_label("Prefix")).to_have_value("2027")


async def test_a_number_that_would_be_rounded_is_refused(
    page: Page, stack: Stack, service: str
) -> None:
    large = 2**53 + 1
    await put(service, stack, "quota", {"tenant": {"bytes_per_day": large}})
    await sign_in(page, stack, to="Settings")
    quota = form(page, "quota")
    await quota.get_by_role("group", name="User").get_by_label("Active").fill("3")
    await quota.get_by_role("button", name="Save").click()
    await expect(
        quota.get_by_role("group", name="Tenant").get_by_label("Bytes per day")
    ).to_be_focused()
    await quota.get_by_role("button", name="Edit as JSON").click()
    await quota.get_by_role("button", name="Save").click()
    alert = quota.get_by_role("alert")
    await expect(alert).to_contain_text("Numbers can be up to 9,007,199,254,740,991 here")
    text = quota.get_by_label("JSON")
    await text.fill(f'{{"tenant": {{"bytes_per_day": {large}}}}}')
    await quota.get_by_role("button", name="Save").click()
    await expect(alert).to_contain_text("a larger one would be rounded")
    assert (await value_of(service, stack, "quota"))["tenant"]["bytes_per_day"] == large


async def test_a_page_with_changes_asks_before_it_is_left(page: Page, stack: Stack) -> None:
    await sign_in(page, stack, to="Settings")
    value = form(page, "request_ttl").get_by_role("spinbutton")
    await value.fill("30")
    for leave in (
        page.get_by_role("link", name="System").click(),
        page.evaluate("location.hash = '#/deliveries'"),
        page.get_by_role("button", name="Sign out").click(),
    ):
        await leave
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Not saved: Time to live of requests (hours).")
        await dialog.get_by_role("button", name="Go back").click()
        await expect(value).to_have_value("30")
        assert await page.evaluate("location.hash") == "#/settings"
    await page.get_by_role("link", name="System").click()
    await page.get_by_role("button", name="Leave without saving").click()
    await expect(page.get_by_role("heading", name="System")).to_be_focused()
    await page.get_by_role("link", name="Settings").click()
    await expect(value).not_to_have_value("30")
    await page.get_by_role("link", name="System").click()  # there is nothing to ask
    await expect(page.get_by_role("heading", name="System")).to_be_focused()


async def test_json_is_the_last_resort_and_the_way_back_from_it(
    page: Page, stack: Stack, service: str
) -> None:
    await sign_in(page, stack, to="Settings")
    quota = form(page, "quota")
    await quota.get_by_role("button", name="Edit as JSON").click()
    text = quota.get_by_label("JSON")
    await text.fill('{"user": {"active": 5}')
    await quota.get_by_role("button", name="Save").click()
    await expect(quota.get_by_role("alert")).to_contain_text("This is not JSON")
    await text.fill('{"user": {"active": "many"}}')
    await quota.get_by_role("button", name="Save").click()
    await expect(quota).to_contain_text("user.active: ")
    await text.fill('{"user": {"active": 5}}')
    await quota.get_by_role("button", name="Edit as a form").click()
    await expect(quota.get_by_role("group", name="User").get_by_label("Active")).to_have_value("5")
    await save(quota)
    assert (await value_of(service, stack, "quota"))["user"]["active"] == 5


async def test_a_form_that_can_not_show_all_of_the_json_drops_none_of_it(
    page: Page, stack: Stack
) -> None:
    await sign_in(page, stack, to="Settings")
    quota = form(page, "quota")
    await quota.get_by_role("button", name="Edit as JSON").click()
    text = quota.get_by_label("JSON")
    later = '{"user": {"active": 5, "later": 1}}'
    await text.fill(later)
    await quota.get_by_role("button", name="Edit as a form").click()
    await expect(quota.get_by_role("alert")).to_contain_text("A form can't show user.later")
    await expect(text).to_have_value(later)


async def test_what_a_form_can_not_show_is_shown_as_json(page: Page, stack: Stack) -> None:
    unknown = {"later": {"type": "tape", "reel": 7}}

    async def with_unknown(route: Any) -> None:
        answer = await route.fetch()
        body = await answer.json()
        for told in body:
            if told["content"]["name"] == "delivery_targets":
                told["content"]["value"] = unknown
        new = {"name": "new", "description": "A new one.", "value": 5, "defaultValue": 5}
        body.append({"content": new, "links": []})
        await route.fulfill(response=answer, json=body)

    await page.route("**/settings", with_unknown)
    await sign_in(page, stack, to="Settings")
    await expect(form(page, "delivery_targets").get_by_label("JSON")).to_have_value(
        '{\n  "later": {\n    "type": "tape",\n    "reel": 7\n  }\n}'
    )
    await expect(form(page, "new").get_by_label("JSON")).to_have_value("5")
    await expect(page.get_by_role("heading", name="Further")).to_be_visible()
    await accessible(page)


async def test_one_who_only_looks_sees_values(page: Page, stack: Stack, service: str) -> None:
    async with setting(service, stack, "delivery_targets", value={"archive": TARGET}):
        await sign_in(page, stack, "READ_ONLY", to="Settings")
        shown = page.locator("[data-setting=delivery_targets]")
        await expect(shown).to_contain_text("s3.example.org")
        await expect(page.locator("[data-setting=request_ttl]")).to_contain_text("hours")
        await expect(page.locator("main form, main button")).to_have_count(0)
        assert SERVER["secret"] not in await page.content()
        await fits(page)


async def test_a_setting_that_an_address_names_is_gone_to(page: Page, stack: Stack) -> None:
    await sign_in(page, stack)
    await page.goto("/console#/settings?name=quota")
    await expect(form(page, "quota")).to_be_focused()


async def test_before_there_is_an_answer_and_after_an_error(page: Page, stack: Stack) -> None:
    async with holding(page, "/settings") as held:
        await sign_in(page, stack, to="Settings")
        request = await held.first()
        await expect(page.get_by_text("Asking\u2026")).to_be_visible()
        await accessible(page)
        await answered(page, request, status=503, body='{"message": "it is away"}')
        await expect(page.get_by_role("alert")).to_have_text("it is away")
        await expect(page.get_by_text("Asking\u2026")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_many_targets_fit_every_screen(
    page: Page, stack: Stack, service: str, scheme: Any
) -> None:
    many = {f"target-{number}-{'x' * number}": TARGET for number in range(100)}
    async with setting(service, stack, "delivery_targets", value=many):
        await page.emulate_media(color_scheme=scheme)
        await sign_in(page, stack, to="Settings")
        await expect(page.locator(".entry")).to_have_count(100)
        await page.locator(".entry summary").first.click()
        await fits(page)
