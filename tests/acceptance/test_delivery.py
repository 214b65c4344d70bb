"""Requests over AMQP become archives on S3: the whole service, every part real."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from compose.embedded.stack import TENANT, USER
from tests.client import (
    MISSPELT,
    ORDER_CANCELS,
    ORDER_REQUESTS,
    REQUESTS,
    Client,
    contents,
    request_for,
)
from tests.conftest import noise
from tests.readers import READERS
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]

MIB = 1024 * 1024


async def test_one_product_is_delivered_with_its_files_at_the_root(
    client: Client, make_product: Callable[..., str]
) -> None:
    files = {"a.txt": b"text " * 1000, "b.bin": noise(100_000), "empty.dat": b""}
    product = make_product(files)
    body = request_for(product)

    answer = await client.answer(body)

    correlation_id = body["correlationId"]
    archive = await client.fetch(answer["url"])
    assert answer == {
        "correlationId": correlation_id,
        "status": "DONE",
        "url": f"s3://deliveries/{correlation_id}/{product}_v1.zip",
        "md5": hashlib.md5(archive).hexdigest(),
        "size": len(archive),
        "files": len(files),
    }
    assert contents(archive) == files
    assert await client.open_uploads(correlation_id) == []


async def test_several_products_are_delivered_in_a_folder_each(
    client: Client, make_product: Callable[..., str]
) -> None:
    first, second = make_product({"same.txt": b"one"}), make_product({"same.txt": b"two"})
    body = request_for(first, second)

    answer = await client.answer(body)

    correlation_id = body["correlationId"]
    assert answer["url"] == (f"s3://deliveries/{correlation_id}/delivery-{correlation_id}.zip")
    assert contents(await client.fetch(answer["url"])) == {
        f"{first}_v1/same.txt": b"one",
        f"{second}_v1/same.txt": b"two",
    }


async def test_an_archive_of_many_parts_and_pages_is_whole(
    client: Client, make_product: Callable[..., str], tmp_path: Path
) -> None:
    """More than a listing's page of files, more than a part of bytes, read by other programs."""
    files = {f"f{number:03d}.bin": noise(1000 + number, str(number)) for number in range(250)}
    files["large.bin"] = noise(21 * MIB)
    body = request_for(make_product(files))

    answer = await client.answer(body)

    archive = await client.fetch(answer["url"])
    assert contents(archive) == files
    path = tmp_path / "archive.zip"
    path.write_bytes(archive)
    readers = (["unzip", "-tqq"], ["7z", "t"], ["7zz", "t"], ["bsdtar", "-tf"])
    used = [command for command in readers if shutil.which(command[0])]
    assert used, "no unpacker is installed: run `make setup`"
    for command in used:
        read = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        assert read.returncode == 0, f"{command}: {read.stdout}{read.stderr}"


@pytest.mark.parametrize(
    ("name", "media_type"), [("tar", "application/x-tar"), ("tar.zst", "application/zstd")]
)
async def test_a_request_chooses_what_its_files_are_delivered_as(
    client: Client, make_product: Callable[..., str], name: str, media_type: str
) -> None:
    files = {"a.txt": b"text " * 1000, "b.bin": noise(21 * MIB), "empty.dat": b""}
    product = make_product(files)
    body = request_for(product, delivery={"format": name})

    answer = await client.answer(body)

    correlation_id = body["correlationId"]
    archive = await client.fetch(answer["url"])
    assert answer == {
        "correlationId": correlation_id,
        "status": "DONE",
        "url": f"s3://deliveries/{correlation_id}/{product}_v1.{name}",
        "md5": hashlib.md5(archive).hexdigest(),
        "size": len(archive),
        "files": len(files),
    }
    assert READERS[f".{name}"](archive) == files
    assert await client.media_type(answer["url"]) == media_type


async def test_a_format_that_is_not_made_is_denied(client: Client) -> None:
    body = request_for("P", delivery={"format": "cab"})
    assert await client.answer(body) == {
        "correlationId": body["correlationId"],
        "status": "DENIED",
        "errorType": "INVALID_CONTENT",
        "message": "delivery.format must be zip, tar, tar.zst or files; cab is not a format this "
        "version makes",
    }


async def test_messages_are_in_the_order_and_the_form_of_the_contract(
    client: Client, make_product: Callable[..., str]
) -> None:
    product = make_product({"a.tif": b"raster", "a_quicklook.png": b"look"})
    body = request_for(product, targetDelivery="regards-s3-minio")
    body["order"]["filters"] = {"dataTypes": ["RAWDATA"], "filenameRegExp": ".*\\.tif"}

    answer = await client.answer(body, app_id="my-app", priority=7)

    correlation_id = body["correlationId"]
    assert contents(await client.fetch(answer["url"])) == {"a.tif": b"raster"}
    (order,) = client.messages(correlation_id, ORDER_REQUESTS)
    assert json.loads(order.body) == body["order"] | {
        "correlationId": correlation_id,
        "sizeLimitInBytes": 1024**4,
    }
    granted, done = client.messages(correlation_id)
    assert json.loads(granted.body) == {"correlationId": correlation_id, "status": "GRANTED"}
    assert client.heard(correlation_id, ORDER_CANCELS) == []
    for message, java_type in (
        (granted, "delivery.amqp.output.DeliveryResponseDtoEvent"),
        (done, "delivery.amqp.output.DeliveryResponseDtoEvent"),
        (order, "order.amqp.input.OrderRequestDtoEvent"),
    ):
        assert message.headers == {
            "regards.tenant": TENANT,
            "regards.converter": "GSON",
            "__TypeId__": f"fr.cnes.regards.modules.{java_type}",
            "regards.type": f"fr.cnes.regards.modules.{java_type}",
        }
        assert message.content_type == "application/json"
        assert message.content_encoding == "UTF-8"
        assert message.delivery_mode == 2
        assert message.timestamp is not None
        assert message.priority == 7
        assert message.app_id == "my-app"
        assert message.correlation_id == correlation_id
    ids = {message.message_id for message in (granted, done, order)}
    assert len(ids) == 3
    assert None not in ids


async def test_a_client_on_the_misspelt_exchange_hears_too(
    client: Client, make_product: Callable[..., str]
) -> None:
    queue = await client.channel.declare_queue(exclusive=True)
    await queue.bind(MISSPELT)
    body = request_for(make_product({"a": b"a"}))
    await client.send(body)
    async with queue.iterator(timeout=30) as messages:
        async for message in messages:
            heard = json.loads(message.body)
            if (heard["correlationId"], heard["status"]) == (body["correlationId"], "DONE"):
                break
    # (On the other exchange: it may be heard there a moment later.)
    assert await client.wait_for(body["correlationId"], "DONE") == heard


async def test_the_app_id_falls_back_to_the_user(
    client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}))
    await client.answer(body)
    assert {m.app_id for m in client.messages(body["correlationId"])} == {USER}


async def test_events_twice_and_in_reverse_give_one_delivery(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(events_twice=True, events_reversed=True)
    body = request_for(make_product({"a": b"a"}))
    answer = await client.answer(body)
    assert answer["status"] == "DONE"
    await client.answer(request_for(make_product({"b": b"b"})))  # all of the first is history now
    assert [r["status"] for r in client.heard(body["correlationId"])] == ["GRANTED", "DONE"]


async def test_a_request_sent_again_while_active_is_not_a_second_delivery(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(events_late=0.5)
    body = request_for(make_product({"a": b"a"}))
    await client.send(body)
    await client.send(body)
    await client.wait_for(body["correlationId"], "DONE")
    assert len(client.heard(body["correlationId"], REQUESTS)) == 2
    assert len(await standin.orders(body["correlationId"])) == 1
    assert [r["status"] for r in client.heard(body["correlationId"])] == ["GRANTED", "DONE"]


async def test_a_correlation_id_may_be_used_again_after_its_delivery_has_ended(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}))
    await client.answer(body)
    await client.send(body)
    await client.wait_for_said(body["correlationId"], "GRANTED", "DONE", "GRANTED", "DONE")
    messages = client.messages(body["correlationId"])
    assert len({m.message_id for m in messages}) == 4
    first, second = (json.loads(m.body)["md5"] for m in (messages[1], messages[3]))
    assert first == second  # the same files give the same bytes


async def test_the_process_tells_that_it_lives_and_can_work(service: str) -> None:
    async with aiohttp.ClientSession(service) as session:
        async with session.get("/health/live") as response:
            assert response.status == 200
            assert (await response.json())["status"] == "UP"
        async with session.get("/health/ready") as response:
            assert response.status == 200
            names = ("postgresql", "secret keys", "rs-order", "rabbitmq", "kafka", "events")
            assert await response.json() == {
                "status": "UP",
                "components": {name: {"status": "UP"} for name in names},
            }
