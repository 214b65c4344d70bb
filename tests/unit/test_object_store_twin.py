"""The store in memory does what every store does, and always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import unquote
from uuid import uuid4

import pytest

from app.delivery.object_store import Upload
from app.delivery.targets import Target, TargetKinds
from app.errors import TargetRefusedError, TargetUnavailableError, UploadLostError
from sinks.pipeline.parts import Part
from sinks.stores.kinds import ManagedStore, Stores
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.stores.s3.target import S3Target
from tests.contract.object_store import ZIP, Answered, ObjectStoreContract, Place

TARGET = MemoryTarget(container="archives")


@pytest.fixture
def place() -> Place:
    """A key of a store of the test's own."""
    store = MemoryObjectStore(without=frozenset({"gone"}))

    async def content(url: str) -> bytes:
        return store.objects(TARGET)[url.removeprefix(TARGET.url_of(""))].content

    async def followed(url: str) -> Answered:
        return Answered(status=200, content=await content(unquote(url.partition("?")[0])))

    return Place(
        store=store,
        target=TARGET,
        kind=MemoryTarget,
        missing=MemoryTarget(container="gone"),
        content=content,
        key=f"{uuid4().hex}/a.zip",
        opens=followed,
    )


class TestMemory(ObjectStoreContract):
    """All that is asked of every store."""


async def test_the_same_calls_give_the_same_ids_and_answers() -> None:
    async def told() -> list[object]:
        store = MemoryObjectStore()
        uploads = [await store.create_upload(TARGET, "k", {}, media_type=ZIP) for _ in range(2)]
        part = await store.put_part(TARGET, uploads[1], 1, Part.of(b"content"))
        etag = await store.complete(TARGET, uploads[1], [part], 7, marks={})
        return [uploads, part, etag, await store.open_uploads(TARGET, "k")]

    assert await told() == await told()


async def test_a_completion_of_an_upload_that_is_gone_says_so(place: Place) -> None:
    upload = await place.begin()
    parts = await place.send(upload, b"content")
    await place.store.abort(place.target, upload)
    with pytest.raises(UploadLostError):
        await place.complete(upload, parts, 7)


async def test_containers_and_servers_are_apart(place: Place) -> None:
    await place.put(b"content")
    for other in (
        MemoryTarget(container="others"),
        MemoryTarget(server="elsewhere:1", container=TARGET.container),
    ):
        assert await place.store.find(other, place.key) is None


async def test_an_upload_is_open_under_its_own_key_alone(place: Place) -> None:
    upload = await place.begin()
    other = Upload(container=upload.container, key="another", upload_id=upload.upload_id)
    with pytest.raises(UploadLostError, match="knows the upload of another no more"):
        await place.send(other, b"content")


async def test_parts_of_several_sizes_are_refused_as_some_stores_do(place: Place) -> None:
    upload = await place.begin()
    with pytest.raises(TargetRefusedError, match="several sizes"):
        await place.complete(upload, await place.send(upload, b"one", b"three", b"six"), 11)


async def test_parts_that_are_too_small_are_refused() -> None:
    store = MemoryObjectStore(least_part=4)
    upload = await store.create_upload(TARGET, "k", {}, media_type=ZIP)
    parts = [await store.put_part(TARGET, upload, number, Part.of(b"abc")) for number in (1, 2)]
    with pytest.raises(TargetRefusedError, match="less than 4 bytes"):
        await store.complete(TARGET, upload, parts, 6, marks={})
    assert await store.complete(TARGET, upload, parts[:1], 3, marks={})


async def test_a_part_that_was_spoilt_on_its_way_is_to_be_sent_again(place: Place) -> None:
    upload = await place.begin()
    spoilt = Part([b"content"], 7, b"\0" * 16)
    with pytest.raises(TargetUnavailableError, match="another MD5"):
        await place.store.put_part(place.target, upload, 1, spoilt)


async def test_each_call_goes_to_the_store_of_its_targets_kind() -> None:
    store = MemoryObjectStore(without=frozenset({"gone"}))
    stores: ManagedStore[Target] = Stores({MemoryTarget.kind: store})
    upload = await stores.create_upload(TARGET, "k", {"a": "b"}, media_type=ZIP)
    part = await stores.put_part(TARGET, upload, 1, Part.of(b"content"))
    etag = await stores.complete(TARGET, upload, [part], 7, marks={"a": "b"})
    assert etag == stores.etag_of(TARGET, [part])
    assert store.objects(TARGET)["k"].media_type == ZIP
    found = await stores.find(TARGET, "k")
    assert found is not None
    await stores.delete(TARGET, "k", etag=found.etag)
    again = await stores.create_upload(TARGET, "k", {}, media_type=ZIP)
    assert await stores.open_uploads(TARGET, "k") == [again]
    await stores.abort(TARGET, again)
    assert await stores.open_uploads(TARGET, "k") == []
    await stores.look(TARGET)
    assert stores.trouble(TARGET) is None
    gone = MemoryTarget(container="gone")
    for steps in (await stores.probe(gone), await stores.examine(gone)):
        assert [step.ok for step in steps] == [False]


def test_each_store_hears_of_the_targets_of_its_kind() -> None:
    s3 = S3Target(endpoint="http://s3", region="r", key="k", secret="s", bucket="b")
    heard = []

    class Curious(MemoryObjectStore):
        def serve(self, in_use: Callable[[], Iterable[Target]]) -> None:
            heard.append(list(in_use()))

    Stores({MemoryTarget.kind: Curious()}).serve(lambda: [s3, TARGET])
    assert heard == [[TARGET]]


def test_what_names_no_kind_is_of_the_first_one_and_what_names_another_waits() -> None:
    """Rows of before there were kinds are S3's; those of a later version are left to it."""
    s3 = S3Target(endpoint="http://s3", region="r", key="k", secret="s", bucket="b")
    kinds = TargetKinds(S3Target, MemoryTarget)
    assert "kind" not in s3.noted()
    assert kinds.read(s3.noted()) == s3
    assert kinds.read(TARGET.noted()) == TARGET
    with pytest.raises(TargetUnavailableError, match="no store of the kind 'memory'"):
        TargetKinds(S3Target).read(TARGET.noted())


def test_it_stands_in_for_a_server_that_a_tenant_has_set() -> None:
    entry = {"s3_server": {"host": "s3.example", "port": 9000}, "bucket": "b", "prefix": "/in/"}
    assert MemoryTarget.configured(entry) == MemoryTarget(
        server="s3.example:9000", container="b", prefix="in/"
    )
