"""S3 servers that are slow, break off, answer in riddles, or make ETags of their own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from app.delivery.object_store import StoredPart
from app.errors import RetryableError, UploadLostError, WrongObjectError
from app.waiting.patience import Patience, Waits
from sinks.pipeline.parts import Part
from sinks.stores.s3.conditions import Conditions
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client
from tests.conftest import noise
from tests.integration.s3_proxy import Proxied
from tests.integration.transfers import QUICK

MARKS = {"rs-delivery-id": "this one"}
PARTS = [noise(5 * 1024 * 1024, "1"), noise(5 * 1024 * 1024, "2"), b"the last"]


@pytest.fixture
def proxied(proxied: Proxied, sink: S3ObjectStore) -> Proxied:
    """It is known to keep conditions, as after its first completion."""
    sink.conditions.learn(proxied[1], Conditions.KEPT)
    return proxied


class Sent:
    """An upload, from its beginning to its completion."""

    def __init__(self, sink: S3ObjectStore, target: S3Target, patience: Patience = QUICK) -> None:
        self.sink = sink
        self.target = target
        self.folder = uuid4().hex
        self.key = f"{self.folder}/a.zip"
        self.waits = Waits(patience, aside=contextlib.nullcontext)

    async def parts(self) -> list[StoredPart]:
        self.upload = await self.sink.create_upload(self.target, self.key, MARKS)
        return [
            await self.waits.through(
                partial(self.sink.put_part, self.target, self.upload, number, Part.of(part))
            )
            for number, part in enumerate(PARTS, start=1)
        ]

    async def complete(self, parts: list[StoredPart], size: int | None = None) -> None:
        length = sum(map(len, PARTS)) if size is None else size
        await self.waits.through(
            partial(
                self.sink.complete, self.target, self.upload, parts, length, marks=MARKS, again=True
            )
        )

    async def is_there(self, client: Client) -> bool:
        found = await client.fetch(f"s3://{self.target.bucket}/{self.key}")
        return found == b"".join(PARTS) and await client.open_uploads(self.folder) == []


@pytest.mark.parametrize(
    "faults",
    [
        {"slow_down": 1},
        {"resets": 2},
        {"errors_in_200": 1},
        {"lost_completions": 1},
        {"kms": True},
        {"kms": True, "lost_completions": 1},
        {},
    ],
    ids=str,
)
async def test_faults_that_pass_or_are_only_strange_do_not_matter(
    sink: S3ObjectStore,
    proxied: Proxied,
    client: Client,
    faults: dict[str, int],
) -> None:
    proxy, target = proxied
    for name, value in faults.items():
        setattr(proxy, name, value)
    sent = Sent(sink, target)
    await sent.complete(await sent.parts())
    assert await sent.is_there(client)
    assert all(getattr(proxy, name) in (0, True) for name in faults)


async def test_a_part_that_was_stored_as_another_is_noticed(
    sink: S3ObjectStore, proxied: Proxied
) -> None:
    proxy, target = proxied
    proxy.other_etags = 1
    with pytest.raises(WrongObjectError, match="S3 stored part 1 of"):
        await Sent(sink, target).parts()


@pytest.mark.parametrize("kms", [False, True])
async def test_an_object_of_another_size_is_noticed(
    sink: S3ObjectStore, proxied: Proxied, kms: bool
) -> None:
    proxy, target = proxied
    proxy.kms = kms
    sent = Sent(sink, target)
    parts = await sent.parts()
    with pytest.raises(WrongObjectError, match="should have 7 bytes"):
        await sent.complete(parts, size=7)


async def test_a_completion_that_never_works_is_tried_again_later(
    sink: S3ObjectStore, proxied: Proxied, client: Client
) -> None:
    proxy, target = proxied
    proxy.errors_in_200 = 99
    sent = Sent(sink, target, replace(QUICK, limit=0.1))
    parts = await sent.parts()
    with pytest.raises(RetryableError, match="the object is not there"):
        await sent.complete(parts)
    await sink.abort(target, sent.upload)
    assert await client.open_uploads(sent.folder) == []


async def test_an_upload_that_a_store_answers_500_for_is_lost_if_it_is_not_open(
    sink: S3ObjectStore, proxied: Proxied
) -> None:
    """Some stores answer so for one that they don't know, and waiting brings none back."""
    proxy, target = proxied
    proxy.unknown_is_500 = True
    sent = Sent(sink, target)
    parts = await sent.parts()
    await sink.abort(target, sent.upload)
    with pytest.raises(UploadLostError):
        await sink.put_part(target, sent.upload, 1, Part.of(PARTS[0]))
    with pytest.raises(UploadLostError, match="the object is not there"):
        await sent.complete(parts)
    assert proxy.seen.count("completion") == 1


async def test_parts_are_sent_with_their_md5(
    sink: S3ObjectStore, target: S3Target, client: Client, proxied: Proxied
) -> None:
    """The only check there is where ETags are no MD5s."""
    proxy, through = proxied
    await Sent(sink, through).parts()
    assert sorted(map(str, proxy.digests)) == sorted(
        base64.b64encode(hashlib.md5(part).digest()).decode() for part in PARTS
    )


async def test_a_request_that_is_sent_again_is_counted(
    sink: S3ObjectStore, proxied: Proxied
) -> None:
    proxy, through = proxied
    before = REGISTRY.get_sample_value("delivery_s3_retries_total") or 0
    proxy.slow_down = 1
    await Sent(sink, through).parts()
    assert REGISTRY.get_sample_value("delivery_s3_retries_total") == before + 1
