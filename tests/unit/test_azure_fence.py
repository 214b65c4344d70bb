"""An upload that has ended makes no object: whatever order requests are carried out in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, cast

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import StoredPart, Upload
from app.errors import (
    DeliveryError,
    LeaseLostError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
)
from sinks.pipeline.parts import Part
from sinks.stores.azure.blocks import BlockId
from sinks.stores.azure.calls import AzureCalls, Blob, BlocksGoneError, NotMetError
from sinks.stores.azure.metadata import DISCARD, as_metadata
from sinks.stores.azure.objects import object_of
from sinks.stores.azure.records import UploadRecords
from sinks.stores.azure.store import AzureObjectStore
from tests.builders import at_any_time, make_delivery
from tests.unit.azure_model import TARGET, AzureModel
from tests.unit.every_order import at_once, every_order

KEY = "c/a.zip"
MARKS = marks_of(make_delivery())
PART = Part.of(b"content")


def store_on(model: AzureModel) -> AzureObjectStore:
    return AzureObjectStore(cast("AzureCalls", model))


def seen(model: AzureModel) -> tuple[int, dict[str, str]] | None:
    """Return what there is under the key, but for its version."""
    found = object_of(model.blobs.get(KEY))
    return None if found is None else (found.size, dict(found.marks))


async def begun(
    model: AzureModel, marks: dict[str, str] = MARKS, *, parts: int = 1
) -> tuple[Upload, list[StoredPart]]:
    store = store_on(model)
    upload = await store.create_upload(TARGET, KEY, marks, media_type="application/zip")
    sent = [await store.put_part(TARGET, upload, n, PART) for n in range(1, parts + 1)]
    return upload, sent


async def ends_in_steps(model: AzureModel, upload: Upload, steps: int) -> bool:
    """End an upload by so many requests; return whether it takes more."""
    left = iter(range(steps))

    async def turn() -> None:
        if next(left, None) is None:
            raise TargetUnavailableError("away")

    model.turn = turn
    try:
        await store_on(model).abort(TARGET, upload)
    except TargetUnavailableError:
        return True
    finally:
        model.turn = at_once
    return False


def beside(model: AzureModel) -> list[str]:
    """Return what should not be there once all is over."""
    return [name for name, blob in model.blobs.items() if name != KEY or DISCARD in blob.metadata]


@pytest.mark.parametrize(
    ("there", "asked_before"),
    [
        ("nothing", False),
        ("nothing", True),
        ("an object", False),
        ("an object", True),
        ("another object, for a while", True),
    ],
)
async def test_what_has_ended_makes_no_object_in_any_order_of_requests(
    there: str, asked_before: bool
) -> None:
    """A completion, an end, and a part whose answer was lost and that comes late."""

    async def begin() -> tuple[AzureModel, dict[str, Any], Callable[[], None]]:
        model = AzureModel()
        store = store_on(model)
        if there == "an object":
            earlier = MARKS | {"rs-delivery-id": "1"}
            other, sent = await begun(model, earlier)
            await store.complete(TARGET, other, sent, 7, marks=earlier)
        upload, sent = await begun(model)
        if asked_before:  # and nothing came of it
            await UploadRecords(cast("AzureCalls", model)).claim(TARGET, upload)
        at_end: list[Blob | None] = []

        async def complete() -> None:
            with suppress(DeliveryError):
                await store.complete(TARGET, upload, sent, 7, marks=MARKS)

        async def end() -> None:
            await store.abort(TARGET, upload)
            at_end.append(model.blobs.get(KEY))

        async def late() -> None:
            await model.stage(TARGET, KEY, BlockId.new(upload.upload_id, 1, PART.md5), PART)

        async def foreign() -> None:
            await model.commit(TARGET, KEY, [], metadata={}, media_type="", anyway=True)
            await model.remove(TARGET, KEY)
            at_end.append(model.blobs.get(KEY))

        def check() -> None:
            assert model.blobs.get(KEY) == at_end[-1], "it changed after the end"
            assert not beside(model)

        third = {"foreign": foreign} if there.startswith("another") else {"late": late}
        return model, {"complete": complete, "end": end} | third, check

    await every_order(begin, at_least=100)


@pytest.mark.parametrize("asked_before", [False, True])
async def test_an_end_that_may_remove_nothing_is_a_fence_all_the_same(asked_before: bool) -> None:
    """Its SAS may write and not delete, say: so may that of a completion."""

    async def begin() -> tuple[AzureModel, dict[str, Any], Callable[[], None]]:
        model = AzureModel()
        store = store_on(model)
        upload, sent = await begun(model)
        if asked_before:
            await UploadRecords(cast("AzureCalls", model)).claim(TARGET, upload)
        model.may_remove = False
        at_end: list[Any] = []

        async def complete() -> None:
            with suppress(DeliveryError):
                await store.complete(TARGET, upload, sent, 7, marks=MARKS)

        async def end() -> None:
            with pytest.raises(TargetRefusedError):
                await store.abort(TARGET, upload)
            at_end.append(seen(model))

        def check() -> None:
            assert seen(model) == at_end[-1], "it appeared after the end"

        return model, {"complete": complete, "end": end}, check

    await every_order(begin, at_least=50)


@pytest.mark.parametrize("there", [False, True])
async def test_an_end_that_breaks_off_anywhere_is_gone_on_with(there: bool) -> None:
    for steps in range(20):
        model = AzureModel()
        store = store_on(model)
        if there:
            await store.put_aside(TARGET, KEY, PART, {})
        upload, _ = await begun(model, parts=2)
        await UploadRecords(cast("AzureCalls", model)).claim(TARGET, upload)
        before = seen(model)
        broke_off = await ends_in_steps(model, upload, steps)
        assert seen(model) == before
        if broke_off:
            assert await store.open_uploads(TARGET, KEY) == [upload]
            with pytest.raises(UploadLostError) if steps > 1 else nullcontext():
                await store.put_part(TARGET, upload, 1, PART)
            await store.abort(TARGET, upload)
        assert seen(model) == before
        assert await store.open_uploads(TARGET, KEY) == []
        assert not beside(model)
        if not broke_off:
            return
    raise AssertionError


async def test_nothing_is_seen_of_an_upload_that_ends_before_it_was_completed() -> None:
    model = AzureModel()
    upload, _ = await begun(model)
    seen = []

    async def turn() -> None:
        seen.append(model.blobs.get(KEY))

    model.turn = turn
    await store_on(model).abort(TARGET, upload)
    assert seen
    assert not any(seen)
    assert not model.blobs


async def test_uploads_whose_blocks_a_fence_has_discarded_are_ended_with_them() -> None:
    """Also where the end breaks off in between: else they would send all parts for nothing."""
    for steps in range(20):
        model = AzureModel()
        store = store_on(model)
        ended, _ = await begun(model)
        other, sent = await begun(model)
        beginning, _ = await begun(model, parts=0)
        await UploadRecords(cast("AzureCalls", model)).claim(TARGET, ended)
        broke_off = await ends_in_steps(model, ended, steps)
        await store.abort(TARGET, ended)
        with pytest.raises(UploadLostError, match="knows the upload"):
            await store.put_part(TARGET, other, 1, PART)
        with pytest.raises(UploadLostError, match="part 1 of"):
            await store.complete(TARGET, other, sent, 7, marks=MARKS)
        assert await store.open_uploads(TARGET, KEY) == [beginning]
        first = [await store.put_part(TARGET, beginning, 1, PART)]
        assert await store.complete(TARGET, beginning, first, 7, marks=MARKS)
        if not broke_off:
            return
    raise AssertionError


async def test_two_completions_of_two_uploads_make_one_object_in_any_order() -> None:
    async def begin() -> tuple[AzureModel, dict[str, Any], Callable[[], None]]:
        model = AzureModel()
        store = store_on(model)
        etags: list[str] = []

        def completion_of(upload: Upload, sent: list[StoredPart]) -> Any:
            async def complete() -> None:
                with suppress(UploadLostError):
                    etags.append(await store.complete(TARGET, upload, sent, 7, marks=MARKS))

            return complete

        actors = {name: completion_of(*await begun(model)) for name in ("one", "other")}

        def check() -> None:
            assert etags, "neither was completed"
            found = object_of(model.blobs.get(KEY))
            assert found is not None
            assert {found.etag} == {*etags}

        return model, actors, check

    await every_order(begin, at_least=100)


@pytest.mark.parametrize("aside", [True, False])
async def test_an_object_is_put_in_any_order_with_lists_that_come_late(aside: bool) -> None:
    """A list of an earlier call discards what the next one has staged."""

    async def begin() -> tuple[AzureModel, dict[str, Any], Callable[[], None]]:
        model = AzureModel()
        store = store_on(model)
        block = BlockId.new("0" * 32, 1, PART.md5)
        await model.stage(TARGET, KEY, block, PART)

        async def late() -> None:
            with suppress(NotMetError, BlocksGoneError):
                metadata = as_metadata(MARKS)
                await model.commit(
                    TARGET, KEY, [block], metadata=metadata, media_type="", anyway=aside
                )

        async def put() -> None:
            if aside:
                await store.put_aside(TARGET, KEY, PART, MARKS)
            else:
                await store.put_object(
                    TARGET, KEY, PART, MARKS, media_type="text/plain", may=at_any_time
                )

        def check() -> None:
            assert seen(model) == (7, MARKS)

        return model, {"late": late, "put": put}, check

    await every_order(begin, at_least=3)


async def test_each_round_asks_whether_an_object_may_be_put() -> None:
    """What came meanwhile may be a later delivery's, which this one must not replace."""
    model = AzureModel()
    store = store_on(model)
    later = Blob(version='"later"', size=3, metadata=as_metadata(MARKS))
    asked = 0

    async def may() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise LeaseLostError("it was taken over")
        model.blobs[KEY] = later

    with pytest.raises(LeaseLostError):
        await store.put_object(TARGET, KEY, PART, MARKS, media_type="", may=may)
    assert model.blobs[KEY] == later


async def test_an_upload_whose_record_can_not_be_read_ends_behind_a_fence() -> None:
    model = AzureModel()
    store = store_on(model)
    upload, sent = await begun(model)
    (name,) = model.blobs
    blocks = [*model.blocks[KEY]]
    model.blobs[name] = Blob(version='"other"', size=0, metadata={})
    await store.abort(TARGET, upload)
    with pytest.raises(BlocksGoneError):  # of a completion that began before
        await model.commit(TARGET, KEY, blocks, metadata={}, media_type="")
    with pytest.raises(UploadLostError):
        await store.complete(TARGET, upload, sent, 7, marks=MARKS)
    assert not model.blobs


async def test_a_folder_of_an_account_with_folders_is_not_replaced() -> None:
    model = AzureModel()
    store = store_on(model)
    upload, sent = await begun(model)
    folder = model.blobs[KEY] = Blob(version='"f"', size=0, metadata={"Hdi_isfolder": "true"})
    with pytest.raises(TargetRefusedError, match="is a folder"):
        await store.complete(TARGET, upload, sent, 7, marks=MARKS)
    with pytest.raises(TargetRefusedError, match="is a folder"):
        await store.put_object(TARGET, KEY, PART, MARKS, media_type="text/plain", may=at_any_time)
    assert model.blobs[KEY] == folder


def test_an_id_is_read_as_it_was_made_and_another_programs_is_not_read() -> None:
    made = BlockId.new("0123456789abcdef" * 2, 50_000, PART.md5)
    assert BlockId.read(str(made)) == made
    assert len(str(made)) == 64
    assert BlockId.new(made.upload_id, 50_000, PART.md5) != made
    for other in ("", "MDAwMDE=", "block-000001", "\N{SNOWMAN}" * 64, "A" * 60):
        assert BlockId.read(other) is None
