"""What DONE tells is fetched by the link in it, and by the client with no key of the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from compose.embedded.stack import USER, Stack
from tests.client import Client, contents, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.contract.gson import read_response
from tests.integration.azure import made_container, running_azurite, skipped_without
from tests.targets import MAKE

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]

# What a tenant may switch on: a client that knows none of it is told the same.
SETTINGS = {"link_ttl": 2, "manifest": True, "sha256": True, "delivered_ttl": 48}
FILES = {"a.bin": noise(300_000), "b.txt": b"text " * 1000, "empty": b""}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A target, and the service that delivers there."""

    name: str | None  # of the target; None: the default
    checks: bool  # its server looks at what is signed
    url: str  # of the service
    session: aiohttp.ClientSession  # of an operator
    client: Client
    environment: Mapping[str, str]

    async def deliver(self, product: str, **options: Any) -> dict[str, Any]:
        body = request_for(product, targetDelivery=self.name, delivery=options)
        done = await self.client.answer(body)
        assert done["status"] == "DONE", done
        return done

    async def link(self, name: str, **wanted: Any) -> dict[str, Any]:
        async with self.session.post(f"/deliveries/{name}/link", json=wanted) as answer:
            made: dict[str, Any] = await answer.json()
            assert answer.status == 200, made
            return made


async def curl(url: str, place: Path) -> int:
    """Fetch a URL as any client would; return the status of the answer."""
    options = ["-sS", "--noproxy", "*", "--globoff", "-o", str(place), "-w", "%{http_code}"]
    process = await asyncio.create_subprocess_exec(
        "curl", *options, url, stdout=asyncio.subprocess.PIPE, env={}
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return int(out)


@pytest.fixture(params=["s3", pytest.param("azure", marks=skipped_without)])
async def place(
    request: pytest.FixtureRequest,
    service: str,
    stack: Stack,
    client: Client,
    tmp_path: Path,
) -> AsyncIterator[Place]:
    asked = await asyncio.to_thread(delivery, "token", **stack.environment)
    headers = {"Authorization": f"Bearer {asked.stdout.strip()}"}
    async with contextlib.AsyncExitStack() as opened:
        session = await opened.enter_async_context(aiohttp.ClientSession(service, headers=headers))
        values: dict[str, Any] = dict(SETTINGS)
        if request.param == "azure":
            (tmp_path / "azure").mkdir()
            server = await opened.enter_async_context(running_azurite(tmp_path / "azure"))
            target = await opened.enter_async_context(made_container(server))
            far = {"type": "azure", "account": server.account, "container": target.container}
            values["delivery_targets"] = {"far": far | {"endpoint": server.url, "key": server.key}}
        for name, value in values.items():
            opened.push_async_callback(_reset, session, name)
            async with session.put(f"/settings/{name}", json={"value": value}) as answer:
                assert answer.status == 200, await answer.text()
        yield Place(
            name="far" if request.param == "azure" else None,
            checks=request.param == "azure" or MAKE is not None,
            url=service,
            session=session,
            client=client,
            environment=stack.environment,
        )


async def _reset(session: aiohttp.ClientSession, name: str) -> None:
    async with session.delete(f"/settings/{name}") as answer:
        assert answer.status == 200, await answer.text()


async def test_a_link_in_done_is_fetched_with_curl_and_refused_once_altered_or_over(
    place: Place, make_product: Callable[..., str], tmp_path: Path
) -> None:
    done = await place.deliver(make_product(FILES))
    name, url, got = done["correlationId"], done["httpUrl"], tmp_path / "got"
    assert await curl(url, got) == 200
    assert hashlib.md5(got.read_bytes()).hexdigest() == done["md5"]
    assert contents(got.read_bytes()) == FILES
    left = datetime.fromisoformat(done["httpUrlExpires"]) - datetime.now(UTC)
    assert timedelta(hours=1) < left <= timedelta(hours=2)
    if not place.checks:
        return
    another = await place.deliver(make_product({"another": b"x"}))
    other, query = another["httpUrl"].partition("?")[0], url.partition("?")[2]
    signature = r"((?:sig|X-Amz-Signature)=)[^&]{4}"
    altered = {
        "another object": f"{other}?{query}",
        "another signature": re.sub(signature, r"\g<1>0000", url),
        "a longer life": re.sub(r"(se=20|X-Amz-Expires=)..", r"\g<1>99", url),
        "another name": url.replace("_v1.zip%22", "_v2.zip%22"),
        "no signature": url.partition("?")[0],
    }
    for how, link in altered.items():
        assert link != url, how
        assert await curl(link, got) in (400, 401, 403, 404), how
        assert b"PK\x03\x04" not in got.read_bytes(), how
    short = await place.link(name, ttl=1)
    async with asyncio.timeout(60):
        while await curl(short["url"], got) == 200:
            await asyncio.sleep(0.2)
    assert b"PK\x03\x04" not in got.read_bytes()


async def test_a_client_of_regards_is_told_the_same_with_all_that_is_added(
    place: Place, make_product: Callable[..., str]
) -> None:
    done = await place.deliver(make_product(FILES), partial=True, labels=["a"])
    assert {"httpUrl", "manifestUrl", "sha256", "expires", "size"} < done.keys()
    for message in place.client.messages(done["correlationId"]):
        known = read_response(message.body)
        assert known == {field: json.loads(message.body)[field] for field in known}
    assert {field: known[field] for field in ("status", "url", "md5")} == {
        "status": "DONE",
        "url": done["url"],
        "md5": done["md5"],
    }


@pytest.mark.parametrize("form", ["zip", "tar.zst", "files"])
async def test_a_delivery_is_downloaded_by_its_user_with_no_key_of_the_store(
    place: Place, form: str, make_product: Callable[..., str], tmp_path: Path
) -> None:
    """All that the client has is where the service is, and a token of the ordering user."""
    done = await place.deliver(make_product(FILES), format=form)
    arguments = ("token", "--role", "REGISTERED_USER", "--user", USER)
    given = await asyncio.to_thread(delivery, *arguments, **place.environment)
    to = tmp_path / "to"
    unpack = [] if form == "files" else ["--unpack"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from rs_delivery_client.cli import main; main()"),
        *("download", done["correlationId"]),
        *("--to", str(to), "--json", *unpack),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"DELIVERY_URL": place.url, "DELIVERY_TOKEN": given.stdout.strip()},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out, err)
    told = json.loads(out)
    assert (told["result"], told["files"], told["listed"]) == ("ok", len(FILES), len(FILES))
    folder = Path(told["path"])
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    listed = json.loads(found.pop("manifest.json"))
    assert {path.rpartition("/")[2]: content for path, content in found.items()} == FILES
    assert {file["path"] for file in listed["files"]} == set(found)
    assert b"sig" not in err
    assert b"Signature" not in err
