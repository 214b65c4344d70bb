"""Requests over AMQP become archives on S3: the whole service, every part real."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from compose.embedded.stack import TENANT, USER
from tests.client import MISSPELT, ORDER_CANCELS, ORDER_REQUESTS, REQUESTS, Client, request_for
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]

MIB = 1024 * 1024


def contents(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


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
    assert client.heard(body["correlationId"])[-1] == heard


async def test_the_app_id_falls_back_to_the_user(
    client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}))
    await client.answer(body)
    assert {m.app_id for m in client.messages(body["correlationId"])} == {USER}


async def test_a_request_that_breaks_rules_is_denied_with_every_reason(client: Client) -> None:
    body = {
        "correlationId": "d-denied",
        "order": {"user": "x" * 200, "queries": [], "filters": {"dataTypes": ["PICTURE"]}},
    }
    answer = await client.answer(body)
    assert answer == {
        "correlationId": "d-denied",
        "status": "DENIED",
        "errorType": "INVALID_CONTENT",
        "message": "order.user must not be longer than 128 characters; "
        "order.queries must have at least one entry; "
        "order.filters.dataTypes.0 must be RAWDATA or QUICKLOOK",
    }


async def test_an_identifier_that_is_too_long_is_denied_like_anything_else(client: Client) -> None:
    """It does not fit into the AMQP property of the answer; the body has it in full."""
    body = request_for("P", correlationId="é" * 300)
    answer = await client.answer(body)
    assert answer["status"] == "DENIED"
    assert answer["message"] == "correlationId must not be longer than 255 characters"


@pytest.mark.parametrize(
    ("body", "tenant", "reason"),
    [
        (b"no json", TENANT, "the body is no JSON"),
        (b"[1]", TENANT, "the body is no JSON object"),
        (b"\xff{}", TENANT, "the body is not UTF-8"),
        (b'{"correlationId": "\\ud800"}', TENANT, "the body holds half of a surrogate pair"),
        (b'{"correlationId": "a\\u0000"}', TENANT, "the body holds a NUL character"),
        (b'{"correlationId": NaN}', TENANT, "the body is no JSON: NaN"),
        (b'{"a": ' * 100_000, TENANT, "the body is no JSON"),
        (b'{"correlationId": 5}', TENANT, "the body has no correlationId"),
        (b'{"order": {}}', TENANT, "the body has no correlationId"),
        (b'{"correlationId": "x"}', None, "the header regards.tenant is missing"),
        (b'{"correlationId": "x"}', "nobody", "unknown tenant 'nobody'"),
    ],
)
async def test_what_cannot_be_answered_goes_to_the_dead_letters_untouched(
    client: Client, body: bytes, tenant: str | None, reason: str
) -> None:
    await client.send(body, tenant=tenant, headers={"custom": "kept"}, message_id="m-1")
    queue = await client.channel.get_queue(f"{REQUESTS_DLQ}", ensure=False)
    async with queue.iterator(timeout=30) as letters:
        async for letter in letters:
            await letter.ack()
            assert letter.body == body
            assert str(letter.headers["x-exception-message"]).startswith(reason)
            assert letter.headers["custom"] == "kept"
            assert letter.message_id == "m-1"
            break


REQUESTS_DLQ = (
    "regards.broadcast.rs-delivery.fr.cnes.regards.modules.delivery.service.submission.create."
    "amqp.DeliveryRequestEventHandler.DLQ"
)


async def test_a_denied_order_ends_in_error_and_is_not_cancelled(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(order="deny", error_type="ORDER_LIMIT_REACHED")
    body = request_for(make_product({"a": b"a"}))
    answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "ORDER_LIMIT_REACHED")
    assert client.heard(body["correlationId"], ORDER_CANCELS) == []


async def test_a_failed_order_ends_in_error_and_is_cancelled(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(order="fail")
    body = request_for(make_product({"a": b"a"}))
    answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "INTERNAL_ERROR")
    cancel = await client.wait_for(body["correlationId"], exchange=ORDER_CANCELS)
    (order,) = await standin.orders(body["correlationId"])
    assert cancel == {"orderId": order["orderId"], "correlationId": body["correlationId"]}


async def test_events_twice_and_in_reverse_give_one_delivery(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(events_twice=True, events_reversed=True)
    body = request_for(make_product({"a": b"a"}))
    answer = await client.answer(body)
    assert answer["status"] == "DONE"
    await client.answer(request_for(make_product({"b": b"b"})))  # all of the first is history now
    assert [r["status"] for r in client.heard(body["correlationId"])] == ["GRANTED", "DONE"]


async def test_faults_that_pass_only_delay(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(
        answers_500=2,
        listing_not_ready=1,
        not_ready=1,
        drops=1,
        drop_after=1000,
        wrong_checksums=1,
    )
    files = {"a.bin": noise(3 * MIB)}
    body = request_for(make_product(files))
    answer = await client.answer(body)
    assert answer["status"] == "DONE"
    assert contents(await client.fetch(answer["url"])) == files
    assert await client.open_uploads(body["correlationId"]) == []
    left = await standin.faults()
    assert not any(
        left[name] for name in ("answers_500", "listing_not_ready", "not_ready", "drops")
    )


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        ({"wrong_checksums": 99}, "expected MD5"),
        ({"wrong_sizes": True}, "expected 100001 bytes, got 100000"),
        ({"refuse": 403}, "rs-order answered 403"),
    ],
)
async def test_a_file_that_stays_wrong_ends_in_error_without_an_archive(
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
    faults: dict[str, object],
    cause: str,
) -> None:
    await standin.misbehave(**faults)
    body = request_for(make_product({"a.bin": noise(100_000)}))
    answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "INTERNAL_ERROR")
    assert cause in answer["message"]
    assert "a.bin" in answer["message"]
    assert await client.open_uploads(body["correlationId"]) == []
    await client.wait_for(body["correlationId"], exchange=ORDER_CANCELS)


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
    await client.wait_for_count(body["correlationId"], 4)
    statuses = [r["status"] for r in client.heard(body["correlationId"])]
    assert statuses == ["GRANTED", "DONE", "GRANTED", "DONE"]
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
            assert await response.json() == {
                "status": "UP",
                "components": {"postgresql": {"status": "UP"}, "rabbitmq": {"status": "UP"}},
            }
