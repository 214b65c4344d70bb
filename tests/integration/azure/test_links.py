"""Links to blobs: Azurite looks at what was signed, and refuses what has ended or was altered."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.errors import NoLinkError
from compose.embedded.azurite import Azurite
from sinks.pipeline.parts import Part
from sinks.stores.azure.managed import AzureStore
from sinks.stores.azure.target import AzureTarget
from tests.builders import at_any_time
from tests.contract.object_store import ZIP, make_asked, over_http
from tests.integration.azure import sas_of, skipped_without

pytestmark = skipped_without


async def put(store: AzureStore, target: AzureTarget, key: str) -> None:
    await store.put_object(target, key, Part.of(b"content"), {}, media_type=ZIP, may=at_any_time)


async def test_a_link_names_the_file_that_is_saved(
    store: AzureStore, direct: AzureTarget, key: str
) -> None:
    await put(store, direct, key)
    asked = make_asked(name="ä b+1.zip", media_type="application/x-tar")
    answered = await over_http(await store.link(direct, key, asked))
    assert (answered.status, answered.content) == (200, b"content")
    assert answered.media_type == "application/x-tar"
    assert answered.disposition == (
        "attachment; filename=\"_ b+1.zip\"; filename*=UTF-8''%C3%A4%20b%2B1.zip"
    )


@pytest.mark.parametrize("ago", [timedelta(seconds=3), timedelta(hours=5)])
async def test_a_link_that_has_ended_is_refused(
    store: AzureStore, direct: AzureTarget, key: str, ago: timedelta
) -> None:
    await put(store, direct, key)
    asked = make_asked(at=datetime.now(UTC) - ago, seconds=1)
    assert (await over_http(await store.link(direct, key, asked))).status == 403


async def test_a_link_that_was_altered_is_refused(
    store: AzureStore, direct: AzureTarget, key: str
) -> None:
    await put(store, direct, key)
    await put(store, direct, "another's/b.zip")
    url = await store.link(direct, key, make_asked())
    assert (await over_http(url)).status == 200
    altered = [
        url.replace(key, "another's/b.zip"),
        re.sub("sig=...", "sig=AAA", url),
        re.sub("se=20..", "se=2099", url),
        url.replace("a.zip%22", "b.zip%22"),
    ]
    for link in altered:
        assert link != url
        assert (await over_http(link)).status == 403


async def test_a_link_of_a_key_that_was_changed_is_refused(
    store: AzureStore, direct: AzureTarget, key: str
) -> None:
    await put(store, direct, key)
    rotated = replace(direct, key="AAAA" * 16)
    assert (await over_http(await store.link(rotated, key, make_asked()))).status == 403


async def test_what_has_a_sas_alone_makes_no_links(
    store: AzureStore, direct: AzureTarget, server: Azurite, key: str
) -> None:
    sas = sas_of(server, direct.container, ends=timedelta(hours=1))
    with pytest.raises(NoLinkError, match="the key of the account, or an identity"):
        await store.link(replace(direct, key=None, sas=sas), key, make_asked())
