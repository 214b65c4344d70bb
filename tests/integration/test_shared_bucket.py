"""The whole service, of two tenants that share a bucket: what a client was told stays true."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable

import pytest

from compose.embedded.stack import TENANT, Stack
from tests.client import Client, contents, request_for
from tests.service import running_service

OTHER = "swot"


@pytest.fixture
async def sharing(stack: Stack, apart: dict[str, str]) -> AsyncIterator[None]:
    """A running service of two tenants with one bucket."""
    extra = apart | {"DELIVERY_TENANTS": f"{TENANT},{OTHER}"}
    async with running_service(stack, extra=extra):
        yield


async def test_the_second_of_two_tenants_that_use_one_id_is_told_so_and_the_first_keeps_its_archive(
    sharing: None, client: Client, make_product: Callable[..., str]
) -> None:
    ours, theirs = {"a": b"ours"}, {"b": b"theirs"}
    body = request_for(make_product(ours), make_product(ours))
    name = body["correlationId"]
    done = await client.answer(body)
    assert done["status"] == "DONE"
    archive = await client.fetch(done["url"])
    await client.send(
        {**request_for(make_product(theirs), make_product(theirs)), "correlationId": name},
        tenant=OTHER,
    )
    error = await client.wait_for(name, "ERROR")
    assert "another tenant's delivery" in error["message"]
    assert TENANT not in error["message"]
    assert await client.fetch(done["url"]) == archive
    assert hashlib.md5(archive).hexdigest() == done["md5"]
    assert set(contents(archive).values()) == {b"ours"}
    assert await client.open_uploads(name) == []
    again = await client.answer(
        {**request_for(make_product(theirs)), "correlationId": f"{name}-2"}, tenant=OTHER
    )
    assert again["status"] == "DONE"
