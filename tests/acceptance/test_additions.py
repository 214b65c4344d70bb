"""What a client may ask for beyond REGARDS (contract, section 6), all at once, and finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from compose.embedded.stack import USER
from tests.acceptance.conftest import Setting
from tests.client import Client, request_for
from tests.conftest import noise
from tests.readers import READERS

pytestmark = pytest.mark.acceptance

FILES = {"a.txt": b"text " * 1000, "b.bin": noise(100_000), "empty.dat": b""}
KEPT = timedelta(hours=24)


async def test_all_of_it_in_one_request(
    client: Client,
    make_product: Callable[..., str],
    change: Setting,
    admin: aiohttp.ClientSession,
) -> None:
    await change(manifest=True, sha256=True, delivered_ttl=24, link_ttl=1)
    product = make_product(FILES)
    deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    body = request_for(
        product,
        delivery={
            "format": "tar",
            "archiveName": "{productId}-of-{user}",
            "prefix": "out/{version}",
            "partial": True,
            "labels": ["campaign 7", "first"],
            "deadline": deadline.isoformat(),
        },
    )
    began = datetime.now(UTC)

    done = await client.answer(body)

    correlation_id = body["correlationId"]
    folder = f"s3://deliveries/out/1/{correlation_id}"
    archive = await client.fetch(done["url"])
    stored = await client.fetch(done["manifestUrl"])
    expires = datetime.fromisoformat(done.pop("expires"))
    link, link_expires = done.pop("httpUrl"), datetime.fromisoformat(done.pop("httpUrlExpires"))
    assert done == {
        "correlationId": correlation_id,
        "status": "DONE",
        "url": f"{folder}/{product}-of-{USER}.tar",
        "md5": hashlib.md5(archive).hexdigest(),
        "sha256": hashlib.sha256(archive).hexdigest(),
        "size": len(archive),
        "files": len(FILES),
        "manifestUrl": f"{folder}/manifest.json",
    }
    assert READERS[".tar"](archive) == FILES
    # Told in whole seconds, of which none is taken off.
    assert began + KEPT <= expires < datetime.now(UTC) + KEPT + timedelta(seconds=1)
    assert began < link_expires <= datetime.now(UTC) + timedelta(hours=1)
    async with aiohttp.ClientSession() as anyone, anyone.get(link) as answer:
        assert (answer.status, await answer.read()) == (200, archive)
    manifest = json.loads(stored)
    assert manifest["archive"]["md5"] == done["md5"]
    assert [(file["path"], file["md5"]) for file in manifest["files"]] == [
        (name, hashlib.md5(content).hexdigest()) for name, content in FILES.items()
    ]
    assert "missing" not in manifest

    async with admin.get("/deliveries", params={"label": "campaign 7"}) as found:
        (shown,) = [
            entry
            for entry in (await found.json())["content"]
            if entry["correlationId"] == correlation_id
        ]
    assert shown["labels"] == ["campaign 7", "first"]
    assert datetime.fromisoformat(shown["deadline"]) == deadline

    async with admin.delete(f"/deliveries/{correlation_id}/content") as answer:
        assert answer.status == 202
        assert (await answer.json())["content"]["content"] == "removing"


async def test_a_client_that_asks_for_nothing_of_it_hears_what_regards_says(
    client: Client, make_product: Callable[..., str]
) -> None:
    """Beside how much there is, which no client has to read."""
    body = request_for(make_product(FILES))
    done = await client.answer(body)
    assert done.keys() - {"size", "files"} == {"correlationId", "status", "url", "md5"}
    (archive,) = await client.objects(body["correlationId"])
    assert done["url"].endswith(f"/{archive}"), "nothing stands beside it"
