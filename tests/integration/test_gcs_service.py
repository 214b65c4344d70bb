"""A request with a target on Google's becomes an archive there: the whole service, on a fake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import aiohttp

from compose.embedded.stack import Stack
from tests.client import Client, contents, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.gcs_account import private_key
from tests.integration.gcs import fetched, made_bucket, names, running_gcs, skipped_without
from tests.integration.test_configured_service import dump
from tests.service import running_service

pytestmark = skipped_without

MIB = 1024 * 1024


async def test_an_archive_is_delivered_to_a_bucket_that_a_tenant_has_set(
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    make_product: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Of several parts; what is told, kept and left there has no secret and no leftover."""
    files = {"a.bin": noise(20 * MIB), "b.txt": b"text " * 1000}
    product = make_product(files)
    async with (
        running_gcs(tmp_path) as server,
        made_bucket(server) as target,
        running_service(stack, extra=apart) as (child, url),
    ):
        place = {"type": "gcs", "bucket": target.container, "endpoint": server.url}
        place |= {"credentials": target.credentials, "prefix": "far/off"}
        secret = private_key().splitlines()[5]
        token = delivery("token", **{**stack.environment, **apart}).stdout.strip()
        signed = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(url, headers=signed) as session:
            value = {"value": {"far": place}}
            async with session.put("/settings/delivery_targets?check=true", json=value) as answer:
                said = await answer.text()
                assert answer.status == 200, said
                assert secret not in said
                assert '"credentials": "*******"' in said or '"credentials":"*******"' in said

        body = request_for(product, targetDelivery="far")
        done = await client.answer(body)

        name = f"far/off/{body['correlationId']}/{product}_v1.zip"
        assert done["status"] == "DONE", done
        assert done["url"] == f"gs://{target.container}/{name}"
        archive = await fetched(server, done["url"])
        assert done["md5"] == hashlib.md5(archive).hexdigest()
        assert contents(archive) == files
        assert await names(server, target.container) == [name]

        body = request_for(product, targetDelivery="far", delivery={"format": "files"})
        done = await client.answer(body)

        assert done["status"] == "DONE", done
        folder = f"gs://{target.container}/far/off/{body['correlationId']}/"
        for file, content in files.items():
            assert await fetched(server, f"{folder}{file}") == content
        assert secret not in await dump(apart["DELIVERY_DATABASE_URL"])
        assert secret not in child.log.read_text()
