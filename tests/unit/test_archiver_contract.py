"""The archiver that streams, and its twin: the same files become the same object."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.delivery.ports import Archiver
from app.delivery.progress import Progress
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryObjectStore
from sinks.transfer import StreamingArchiver
from tests.contract.archiver import PART, ArchiverContract, Making, in_segments
from tests.integration.transfers import MIB, QUICK
from tests.twins.archiver import PlainArchiver
from tests.twins.rs_order import Source


def streaming(
    source: Source, store: MemoryObjectStore, report: Callable[[Progress], None]
) -> Archiver:
    return StreamingArchiver(
        source,
        store,
        report,
        compression="auto",
        part_size=PART,
        memory=32 * MIB,
        worker_memory=Budget(64 * MIB),
        max_object_size=1024**4,
        connections=4,
        patience=QUICK,
    )


def plain(source: Source, store: MemoryObjectStore, report: Callable[[Progress], None]) -> Archiver:
    return PlainArchiver(source=source, objects=store, report=report, part_size=PART)


class TestStreaming(ArchiverContract):
    """All that is asked of an archiver, of the one in use."""

    @pytest.fixture
    def making(self) -> Making:
        """Files, a store, and the archiver that streams."""
        return Making(make=streaming)


class TestTwin(ArchiverContract):
    """The same of its twin."""

    @pytest.fixture
    def making(self) -> Making:
        """Files, a store, and the archiver in one coroutine."""
        return Making(make=plain)


@pytest.mark.parametrize("lengths", [(), (4, 1, 0, 7)])
async def test_both_make_the_same_object(lengths: tuple[int, ...]) -> None:
    made = []
    for make in (streaming, plain):
        making = Making(make=make)
        result = await making.follow(await making.begin(), in_segments(*lengths))
        assert making.object is not None
        made.append((result, making.object.parts))
    assert made[0] == made[1]
