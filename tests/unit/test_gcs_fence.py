"""An upload that has ended makes no object: whatever order requests are carried out in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import StoredPart, Upload
from app.errors import (
    DeliveryError,
    ForeignObjectError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.usecases.transfer import COMPLETION
from sinks.pipeline.parts import Part
from sinks.stores.gcs import checksum, completion, uploads
from sinks.stores.gcs.calls import GcsCalls, NotMetError, Stored
from sinks.stores.gcs.names import new_part, record_of
from sinks.stores.gcs.requests import COMPLETION_WINDOW, COMPOSE_TIMEOUT
from sinks.stores.gcs.store import GcsObjectStore
from sinks.stores.gcs.target import GcsTarget
from tests.builders import at_any_time, make_delivery
from tests.unit.every_order import at_once, every_order
from tests.unit.gcs_model import TARGET, GcsModel

KEY = "c/a.zip"
MARKS = marks_of(make_delivery())
PART = Part.of(b"content")


@pytest.fixture(autouse=True)
def _as_the_model_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has no checksums, and knows a client by its one request at a time."""
    monkeypatch.setattr(checksum, "joined", lambda _: 0)
    for module in (completion, uploads):
        monkeypatch.setattr(module, "each", one_after_another)


async def one_after_another(jobs: Iterable[Any], act: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    return [await act(job) for job in jobs]


async def nothing(_: object) -> None:
    """Do nothing."""


def store_on(model: GcsModel) -> GcsObjectStore:
    return GcsObjectStore(cast("GcsCalls", model))


async def begun(
    model: GcsModel, marks: dict[str, str] = MARKS, *, parts: int = 1
) -> tuple[Upload, list[StoredPart]]:
    store = store_on(model)
    upload = await store.create_upload(TARGET, KEY, marks, media_type="application/zip")
    return upload, [await store.put_part(TARGET, upload, n, PART) for n in range(1, parts + 1)]


@pytest.mark.parametrize(
    ("parts", "beside"), [(1, "nothing"), (1, "an object"), (1, "a late part"), (3, "nothing")]
)
async def test_what_has_ended_makes_no_object_in_any_order_of_requests(
    parts: int, beside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A completion, of one step or of two, and an end; where an object is replaced, too."""
    monkeypatch.setattr(completion, "MAX_SOURCES", 2)
    if beside != "an object":  # what follows the request that makes the object changes none
        monkeypatch.setattr(completion.GcsCompletion, "_end", nothing)

    async def begin() -> tuple[GcsModel, dict[str, Any], Callable[[], None]]:
        model = GcsModel()
        store = store_on(model)
        if beside == "an object":
            earlier = MARKS | {"rs-delivery-id": "1"}
            other, sent = await begun(model, earlier)
            await store.complete(TARGET, other, sent, 7, marks=earlier)
        upload, sent = await begun(model, parts=parts)
        name = new_part(TARGET, upload, 1, PART.md5)
        at_end: list[Stored | None] = []

        async def complete() -> None:
            with suppress(DeliveryError):
                await store.complete(TARGET, upload, sent, 7 * parts, marks=MARKS)

        async def end() -> None:
            await store.abort(TARGET, upload)
            at_end.append(model.objects.get(KEY))

        async def late() -> None:
            """A request that an attempt before has made, and of which no answer came."""
            await model.insert(TARGET, name, PART, verb="", action="", media_type="")

        def check() -> None:
            assert model.objects.get(KEY) == at_end[-1], "it changed after the end"
            given = [given for given in model.names_given if given != KEY]
            assert len(given) == len({*given}), "a name comes twice"

        third = {"late": late} if beside == "a late part" else {}
        return model, {"complete": complete, "end": end} | third, check

    await every_order(begin, at_least=20)


@pytest.mark.parametrize("steps", range(6))
async def test_an_end_that_breaks_off_anywhere_is_gone_on_with(steps: int) -> None:
    model = GcsModel()
    store = store_on(model)
    upload, sent = await begun(model, parts=2)
    left = iter(range(steps))

    async def turn() -> None:
        if next(left, None) is None:
            raise TargetUnavailableError("away")

    model.turn = turn
    with suppress(TargetUnavailableError):
        await store.abort(TARGET, upload)
    model.turn = at_once
    assert await store.open_uploads(TARGET, KEY) == ([upload] if model.objects else [])
    await store.abort(TARGET, upload)
    assert not model.objects
    with pytest.raises(UploadLostError):
        await store.complete(TARGET, upload, sent, 14, marks=MARKS)


@pytest.mark.parametrize("put", ["upload", "at once"])
async def test_what_another_client_puts_meanwhile_is_never_replaced(put: str) -> None:
    theirs = marks_of(make_delivery(tenant="swot"))

    async def begin() -> tuple[GcsModel, dict[str, Any], Callable[[], None]]:
        model = GcsModel()
        store = store_on(model)
        upload, sent = await begun(model)
        made: list[Stored] = []

        async def ours() -> None:
            with suppress(ForeignObjectError):
                if put == "upload":
                    await store.complete(TARGET, upload, sent, 7, marks=MARKS)
                else:
                    await store.put_object(
                        TARGET, KEY, PART, MARKS, media_type="text/plain", may=at_any_time
                    )

        async def foreign() -> None:
            with suppress(NotMetError):
                await model.insert(
                    TARGET,
                    KEY,
                    PART,
                    verb="",
                    action="",
                    media_type="",
                    metadata=theirs,
                    generation="0",
                )
                made.append(model.objects[KEY])

        def check() -> None:
            assert model.objects[KEY] == made[0] if made else KEY in model.objects

        return model, {"ours": ours, "foreign": foreign}, check

    await every_order(begin, at_least=3)


@pytest.mark.parametrize("dies", [False, True])
async def test_an_object_that_has_not_the_checksum_of_its_parts_is_never_taken_for_the_archive(
    dies: bool,
) -> None:
    """Not by the attempt that composed it, nor by one that finds it after that has died."""

    class Miscomposing(GcsModel):
        async def compose(self, *arguments: Any, **named: Any) -> Stored:
            made = await super().compose(*arguments, **named)
            self.objects[made.name] = replace(made, crc32c=1)
            if dies:
                raise TargetUnavailableError("the worker is no more")
            return made

        async def describe(self, target: GcsTarget, name: str) -> Stored | None:
            if dies and name in self.objects and name == KEY:
                raise TargetUnavailableError("the worker is no more")
            return await super().describe(target, name)

    bad = Miscomposing()
    upload, sent = await begun(bad, parts=2)
    asked = store_on(bad).complete(TARGET, upload, sent, 14, marks=MARKS)
    error = TargetUnavailableError if dies else WrongObjectError
    with pytest.raises(error, match="no more" if dies else "CRC32C is 00000001, and that of its"):
        await asked
    good = GcsModel(objects=bad.objects, generations=bad.generations)
    store = store_on(good)
    found = await store.find(TARGET, KEY)
    assert found is not None
    assert found.has(MARKS)
    assert found.etag != store.etag_of(TARGET, sent)
    etag = await store.complete(TARGET, upload, sent, 14, marks=MARKS, again=True)
    assert etag == store.etag_of(TARGET, sent)
    assert good.objects[KEY].crc32c == 0
    assert [*good.objects] == [KEY]


async def test_a_completion_does_not_wait_until_the_last_of_its_parts_is_gone() -> None:
    """There may be thousands, and the object is there: what is left, the sweep ends."""

    class Slow(GcsModel):
        async def remove(self, target: GcsTarget, name: str, **named: Any) -> None:
            if removed:
                await asyncio.Event().wait()
            removed.append(name)
            await super().remove(target, name, **named)

    removed: list[str] = []
    model = Slow()
    upload, sent = await begun(model, parts=3)
    store = GcsObjectStore(cast("GcsCalls", model), tidying=0.01)
    assert await store.complete(TARGET, upload, sent, 21, marks=MARKS)
    assert removed == [record_of(TARGET, upload)]
    swept = store_on(GcsModel(objects=model.objects))
    assert await swept.open_uploads(TARGET, KEY) == [upload]
    await swept.abort(TARGET, upload)
    assert [*model.objects] == [KEY]


def test_a_note_stands_until_what_was_asked_for_last_is_decided() -> None:
    assert COMPLETION.total_seconds() > COMPLETION_WINDOW + COMPOSE_TIMEOUT
