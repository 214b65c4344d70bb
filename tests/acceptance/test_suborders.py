"""Orders that rs-order cuts into suborders, two of a user at a time: one archive each."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.client import ORDER_CANCELS, Client, contents, request_for
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]


@pytest.fixture
async def cutting(standin: StandIn) -> AsyncIterator[StandIn]:
    """rs-order cuts at two files, and restores two suborders of a user at a time."""
    await standin.switch(suborder_files=2, user_places=2)
    yield standin
    await standin.reset()


async def fetched(standin: StandIn, correlation_id: str) -> list[int]:
    """Return how often each file of a delivery's order was read."""
    (order,) = await standin.orders(correlation_id)
    return [file["begun"] for file in await standin.files(order["orderId"])]


def of_another(user: str, *products: str) -> dict[str, Any]:
    """Return a request of a user whose places no other test keeps."""
    body = request_for(*products)
    body["order"]["user"] = user
    return body


async def test_more_suborders_than_are_restored_at_a_time_are_one_archive(
    client: Client, make_product: Callable[..., str], cutting: StandIn
) -> None:
    files = {f"f{number}.bin": noise(1000 + number, str(number)) for number in range(7)}
    product = make_product(files)
    body = of_another("one@cnes.fr", product)

    answer = await client.answer(body)

    correlation_id = body["correlationId"]
    assert answer["url"] == f"s3://deliveries/{correlation_id}/{product}_v1.zip"
    archive = await client.fetch(answer["url"])
    assert contents(archive) == files
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        methods = {member.compress_type for member in opened.infolist()}
    assert methods == {zipfile.ZIP_STORED}, "the CRC-32 of each was told before its suborder came"
    assert await fetched(cutting, correlation_id) == [1] * 7
    assert client.heard(correlation_id, ORDER_CANCELS) == []
    assert await client.open_uploads(correlation_id) == []


async def test_suborders_of_several_products_have_a_folder_each(
    client: Client, make_product: Callable[..., str], cutting: StandIn
) -> None:
    await cutting.switch(datasets="product")
    products = [make_product({"same.txt": str(number).encode()}) for number in range(4)]
    body = of_another("two@cnes.fr", *products)

    answer = await client.answer(body)

    correlation_id = body["correlationId"]
    assert answer["url"] == f"s3://deliveries/{correlation_id}/delivery-{correlation_id}.zip"
    assert contents(await client.fetch(answer["url"])) == {
        f"{product}_v1/same.txt": str(number).encode() for number, product in enumerate(products)
    }


async def test_deliveries_of_one_user_do_not_wait_for_each_others_places(
    client: Client, make_product: Callable[..., str], cutting: StandIn
) -> None:
    """More of them than the worker has slots, each with more suborders than there are places."""
    bodies = [
        of_another("three@cnes.fr", make_product({f"f{n}": b"x" * (n + 1) for n in range(5)}))
        for _ in range(20)
    ]
    answers = await asyncio.gather(*(client.answer(body) for body in bodies))
    assert [answer["status"] for answer in answers] == ["DONE"] * 20
    for body in bodies:
        assert await fetched(cutting, body["correlationId"]) == [1] * 5
