"""Files that are delivered as they are, by the whole service: objects, and a manifest of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from compose.embedded.stack import Stack
from tests.acceptance.test_operating import ask_to_cancel
from tests.client import Client, request_for
from tests.conftest import noise
from tests.integration.test_recovery import finished_by_another, in_transfer, program
from tests.service import running_service
from tests.standin import StandIn

MIB = 1024 * 1024
AS_FILES = {"delivery": {"format": "files"}}
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/manifest.json").read_text())


@pytest.fixture
def quick(apart: dict[str, str]) -> dict[str, str]:
    """Settings of workers that notice soon, apart from other tests."""
    return apart | {
        "DELIVERY_LEASE_TTL": "3",
        "DELIVERY_SHUTDOWN_GRACE": "0",
        "DELIVERY_RECONCILE_INTERVAL": "1",
    }


async def check_delivered(
    client: Client, body: dict[str, Any], answer: dict[str, Any], files: dict[str, bytes]
) -> dict[str, Any]:
    """The files are there, and what the manifest tells of them is so; return it."""
    name = body["correlationId"]
    url = f"s3://deliveries/{name}/"
    manifest = await client.fetch(f"{url}manifest.json")
    assert answer == {
        "correlationId": name,
        "status": "DONE",
        "url": url,
        "md5": hashlib.md5(manifest).hexdigest(),
        "size": len(manifest),
        "files": len(files),
        "manifestUrl": f"{url}manifest.json",
    }
    told: dict[str, Any] = json.loads(manifest)
    jsonschema.validate(told, SCHEMA)
    assert told["correlationId"] == name
    assert {each["path"]: (each["size"], each["md5"]) for each in told["files"]} == {
        path: (len(content), hashlib.md5(content).hexdigest()) for path, content in files.items()
    }
    assert await client.objects(name) == sorted([*files, "manifest.json"])
    for path, content in files.items():
        assert await client.fetch(url + path) == content
    assert await client.open_uploads(name) == []
    return told


async def until_nothing_is_left(client: Client, name: str) -> None:
    async with asyncio.timeout(120):  # the sweep comes half a minute after the lease
        while await client.objects(name) or await client.open_uploads(name):
            await asyncio.sleep(0.2)


async def test_files_are_objects_and_the_manifest_tells_of_all(
    stack: Stack, quick: dict[str, str], client: Client, make_product: Callable[..., str]
) -> None:
    many = {f"f{number:03d}.tif": noise(1000 + number, str(number)) for number in range(150)}
    first = make_product({**many, "large.bin": noise(21 * MIB), "empty": b""})
    second = make_product({"f000.tif": b"another"})
    body = request_for(first, second, **AS_FILES)
    async with running_service(stack, extra=quick):
        answer = await client.answer(body)
        files = {f"{first}_v1/{name}": content for name, content in many.items()}
        files |= {f"{first}_v1/large.bin": noise(21 * MIB), f"{first}_v1/empty": b""}
        files |= {f"{second}_v1/f000.tif": b"another"}
        told = await check_delivered(client, body, answer, files)
        assert {(each["product"], each["version"]) for each in told["files"]} == {
            (first, 1),
            (second, 1),
        }
        assert await client.media_type(f"{answer['url']}{first}_v1/f000.tif") == "image/tiff"

        again = body | {"order": request_for(second)["order"]}
        await client.send(again)
        await client.wait_for_said(body["correlationId"], "GRANTED", "DONE", "GRANTED", "DONE")
        answer = client.heard(body["correlationId"])[-1]
        await check_delivered(client, again, answer, {"f000.tif": b"another"})


async def test_a_worker_that_is_killed_is_taken_over_and_nothing_is_left_over(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    files = {"a.bin": noise(30 * MIB), "b.txt": b"b", "c.bin": noise(100_000)}
    body = request_for(make_product(files), **AS_FILES)
    await standin.misbehave(bytes_per_second=200_000)
    async with running_service(stack, extra=quick) as (child, _):
        await in_transfer(stack, quick, client, body)
        program(child).send_signal(signal.SIGKILL)
        await asyncio.to_thread(child.process.wait)
    await finished_by_another(stack, quick, client, standin, body)
    answer = client.heard(body["correlationId"])[-1]
    await check_delivered(client, body, answer, files)


async def test_nothing_is_left_of_one_that_is_cancelled(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    files = {"a.txt": b"a", "b.bin": noise(30 * MIB), "c.txt": b"c"}
    body = request_for(make_product(files), **AS_FILES)
    name = body["correlationId"]
    await standin.misbehave(bytes_per_second=200_000)
    async with running_service(stack, extra=quick):
        await in_transfer(stack, quick, client, body)
        async with asyncio.timeout(60):
            while await client.objects(name) != ["a.txt"]:
                await asyncio.sleep(0.1)
        await ask_to_cancel(client, {"correlationId": name})
        answer = await client.wait_for(name, "DONE", "ERROR")
        assert answer["status"] == "ERROR"
        await until_nothing_is_left(client, name)


async def test_nothing_is_left_of_one_with_a_wrong_file(
    stack: Stack,
    quick: dict[str, str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    files = {f"{number}.bin": noise(10_000, str(number)) for number in range(20)}
    body = request_for(make_product(files), **AS_FILES)
    await standin.misbehave(wrong_checksums=99)
    extra = quick | {"DELIVERY_TRANSFER_ATTEMPTS": "1"}
    async with running_service(stack, extra=extra):
        answer = await client.answer(body)
        assert answer["status"] == "ERROR"
        assert "expected MD5" in answer["message"]
        await until_nothing_is_left(client, body["correlationId"])
