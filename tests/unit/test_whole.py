"""An object that is put at once by an upload of one part."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import LeaseLostError
from sinks.pipeline.parts import Part
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.stores.whole import put_by_upload
from tests.contract.archiver import TARGET


class SlowStore(MemoryObjectStore):
    """Takes a part for so long that the lease is lost meanwhile."""

    lost = False

    async def put_part(self, *args: Any, **named: Any) -> Any:
        self.lost = True
        return await super().put_part(*args, **named)


async def test_it_asks_again_before_its_completion() -> None:
    """What came while the part was sent may be a later delivery's, which is not replaced."""
    store = SlowStore()

    async def may() -> None:
        if store.lost:
            raise LeaseLostError("it was taken over")

    target: MemoryTarget = TARGET
    with pytest.raises(LeaseLostError):
        await put_by_upload(store, target, "k", Part.of(b"1"), {}, media_type="", may=may)
    assert store.objects(target) == {}
    assert store.open() == []


async def test_it_asks_before_it_opens_anything() -> None:
    store = MemoryObjectStore()

    async def may() -> None:
        assert store.open() == []
        raise LeaseLostError("it was taken over")

    with pytest.raises(LeaseLostError):
        await put_by_upload(store, TARGET, "k", Part.of(b"1"), {}, media_type="", may=may)
    assert store.objects(TARGET) == {}
