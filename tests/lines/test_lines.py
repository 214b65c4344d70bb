"""Every line but Kafka's over TLS, with a CA of the site: what works, and what is told if not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from app.errors import SourceUnavailableError
from compose.embedded import s3
from streams.regards.sign_in import PasswordFlow
from tests.client import Client, contents, request_for
from tests.lines.conftest import Lines
from tests.service import running_service

pytestmark = pytest.mark.acceptance

UNTRUSTED = "the server's certificate is not of a CA that is trusted here"
EXPIRED = "the server's certificate is not good (certificate has expired); renew it there"
OTHER_NAME = "the server's certificate is for another name"


async def fetch(lines: Lines, url: str) -> bytes:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    endpoint = lines.settings["DELIVERY_S3_ENDPOINT"]
    async with s3.client(endpoint, s3.KEY, s3.SECRET, s3.REGION, ca=lines.tls.ca) as store:
        answer = await store.get_object(Bucket=bucket, Key=key)
        content: bytes = await answer["Body"].read()
        return content


def problems(told: str, part: str) -> str:
    """Return what `delivery doctor` finds wrong with a part, and its advice."""
    lines = told.splitlines()
    found = [
        f"{line} {lines[number + 1]}"
        for number, line in enumerate(lines)
        if line.startswith(f"PROBLEM  {part}, ")
    ]
    return "\n".join(found)


async def test_a_delivery_and_the_commands_go_over_encrypted_lines(
    lines: Lines, client: Client, make_product: Callable[..., str]
) -> None:
    files = {"a.bin": b"a" * 100_000, "b.txt": b"b"}
    https = {
        "DELIVERY_WEB_TLS_CERTIFICATE": str(lines.tls.certificate),
        "DELIVERY_WEB_TLS_KEY": str(lines.tls.key),
    }
    async with running_service(lines.stack, extra={**lines.settings, **https}) as (child, address):
        answer = await client.answer(request_for(make_product(files)))
        assert answer["status"] == "DONE"
        assert contents(await fetch(lines, answer["url"])) == files
        told = (await lines.run("doctor")).stdout
        assert "postgresql, encryption: TLSv1" in told
        for part in ("rabbitmq", "postgresql", "rs-order", "s3"):
            assert problems(told, part) == ""
            assert f"ok       {part}, " in told
        # Settings are heard of by LISTEN, and commands have the same lines.
        changed = await lines.run("settings", "set", "request_ttl", "48")
        assert changed.returncode == 0, changed.stderr
        listed = await lines.run("list", "--json")
        assert answer["correlationId"] in listed.stdout
        for command in (["migrate"], ["dlq", "list"], ["stats"]):
            ended = await lines.run(*command)
            assert ended.returncode == 0, ended.stderr
        token = (await lines.run("token")).stdout.strip()
        url = f"https://localhost:{URL(address).port}"
        asked = ("settings", "--url", url, "--token", token, "get", "request_ttl")
        shown = await lines.run(*asked)
        assert "48" in shown.stdout, shown.stderr
        refused = await lines.run(*asked, DELIVERY_HTTP_CA="")
        assert f"{url} does not answer ({UNTRUSTED}" in refused.stderr
        assert "Traceback" not in child.log.read_text()


async def test_rabbitmq_takes_a_certificate_in_place_of_a_password(lines: Lines) -> None:
    url = URL(lines.settings["DELIVERY_AMQP_URL"]).with_user(None) % {"auth": "external"}
    changes = {"DELIVERY_AMQP_URL": str(url), "DELIVERY_AMQP_PASSWORD_FILE": ""}
    ended = await lines.run("dlq", "list", **changes)
    assert ended.returncode == 0, ended.stderr


async def told_by_doctor(lines: Lines, **changes: str) -> str:
    ended = await lines.run("doctor", **changes)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    said: str = ended.stdout
    return said


async def refused_start(lines: Lines, **changes: str) -> str:
    """Start the service; it ends with one sentence, well before the time that it would wait."""
    ended = await lines.run("serve", **{"DELIVERY_START_TIMEOUT": "600", **changes})
    assert ended.returncode in (2, 69)
    assert "Traceback" not in ended.stderr
    said: str = ended.stderr
    return said


async def test_certificates_of_another_ca_are_told(lines: Lines) -> None:
    names = ("DELIVERY_AMQP", "DELIVERY_DATABASE", "DELIVERY_HTTP", "DELIVERY_S3")
    other = str(lines.other.file)
    told = await told_by_doctor(lines, **{f"{name}_CA": other for name in names})
    parts = ("rabbitmq", "postgresql", "rs-order", "s3")
    for part, name in zip(parts, names, strict=True):
        assert UNTRUSTED in problems(told, part)
        assert f"{name}_CA" in problems(told, part)
    for name in names[:2]:
        said = await refused_start(lines, **{f"{name}_CA": other})
        assert UNTRUSTED in said
        assert f"give its CA: {name}_CA" in said
        assert "localhost" in said


async def test_certificates_for_another_name_are_told(lines: Lines) -> None:
    names = (
        "DELIVERY_AMQP_URL",
        "DELIVERY_DATABASE_URL",
        "DELIVERY_RS_ORDER_URL",
        "DELIVERY_S3_ENDPOINT",
    )
    changes = {name: lines.settings[name].replace("localhost", "127.0.0.1") for name in names}
    told = await told_by_doctor(lines, **changes)
    for part in ("rabbitmq", "postgresql", "rs-order", "s3"):
        assert OTHER_NAME in problems(told, part)
    for name in names[:2]:
        assert OTHER_NAME in await refused_start(lines, **{name: changes[name]})
    # In libpq's words: the certificate is checked, its name is not.
    told = await told_by_doctor(lines, **changes, DELIVERY_DATABASE_SSLMODE="verify-ca")
    assert problems(told, "postgresql, reachable") == ""


async def test_a_certificate_that_we_should_show_is_told(lines: Lines) -> None:
    shown, key = lines.other.issue("stranger", common_name="regards")
    for changes, what in (
        (("", ""), "give one: {}_CERTIFICATE and {}_KEY"),
        ((str(shown), str(key)), "does not take the certificate of {}_CERTIFICATE"),
    ):
        for part, name in (("rabbitmq", "DELIVERY_AMQP"), ("postgresql", "DELIVERY_DATABASE")):
            files = dict(zip((f"{name}_CERTIFICATE", f"{name}_KEY"), changes, strict=True))
            sentence = what.format(name, name)
            assert sentence in problems(await told_by_doctor(lines, **files), part)
            # The server may be heard to hang up, and not why: that could pass.
            assert sentence in await refused_start(lines, **files, DELIVERY_START_TIMEOUT="2")


async def test_certificates_that_expire_are_told_and_renewed_ones_are_taken_up(
    lines: Lines, client: Client, make_product: Callable[..., str]
) -> None:
    good = lines.site.issue("good", "localhost")
    expired = lines.site.issue("expired", "localhost", expired=True)
    async with running_service(lines.stack, extra=lines.settings) as (child, address):
        token = (await lines.run("token")).stdout.strip()
        async with aiohttp.ClientSession(
            address, headers={"Authorization": f"Bearer {token}"}
        ) as session:
            await lines.show(*expired)
            try:
                broken = await _health(session, rabbitmq=False, postgresql=False, **_RS_ORDER_DOWN)
                for name in ("rabbitmq", "postgresql", "rs-order"):
                    assert EXPIRED in broken[name]["error"]
                told = await told_by_doctor(lines)
                for part in ("rabbitmq", "postgresql", "rs-order", "s3"):
                    assert EXPIRED in problems(told, part)
                assert EXPIRED in await refused_start(lines)
            finally:
                await lines.show(*good)
                await _make_bucket(lines)  # the store has forgotten everything
            await _health(session, rabbitmq=True, postgresql=True, **{"rs-order": True})
        assert child.running
        async with Client.connected(lines.stack) as again:
            answer = await again.answer(request_for(make_product({"a": b"a"})))
        assert answer["status"] == "DONE"
    log = child.log.read_text()
    assert [line for line in log.splitlines() if "Traceback" in line] == []
    assert EXPIRED in log


async def _make_bucket(lines: Lines) -> None:
    endpoint = lines.settings["DELIVERY_S3_ENDPOINT"]
    async with s3.client(endpoint, s3.KEY, s3.SECRET, s3.REGION, ca=lines.tls.ca) as store:
        await store.create_bucket(
            Bucket=s3.BUCKET, CreateBucketConfiguration={"LocationConstraint": s3.REGION}
        )


_RS_ORDER_DOWN = {"rs-order": False}


async def _health(session: aiohttp.ClientSession, **wanted: bool) -> dict[str, Any]:
    """Return the components once they are as wanted."""
    async with asyncio.timeout(90):
        while True:
            async with session.get("/health/ready") as answer:
                components: dict[str, Any] = (await answer.json())["components"]
            if all((components[name]["status"] == "UP") is up for name, up in wanted.items()):
                return components
            await asyncio.sleep(0.2)


async def test_a_password_is_checked_at_an_oauth_server_of_the_site(lines: Lines) -> None:
    async def token(_request: web.Request) -> web.Response:
        return web.json_response({"access_token": "a-token"})

    app = web.Application()
    app.router.add_post("/oauth/token", token)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(lines.tls.certificate, lines.tls.key)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        url = f"https://localhost:{runner.addresses[0][1]}/oauth/token"
        good = PasswordFlow(url, client="c", secret="s", ca=str(lines.site.file))
        assert await good.token("sentinel", "user", "password") == "a-token"
        for ca in ("", str(lines.other.file)):
            wrong = PasswordFlow(url, client="c", secret="s", ca=ca)
            with pytest.raises(SourceUnavailableError, match=UNTRUSTED) as raised:
                await wrong.token("sentinel", "user", "password")
            assert "DELIVERY_HTTP_CA" in str(raised.value)
    finally:
        await runner.cleanup()
