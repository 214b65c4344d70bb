"""The archiver that streams, and its twin: the same files become the same object."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.delivery.ports import Archiver
from app.delivery.progress import Progress
from sinks.formats import FORMATS
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryObjectStore
from sinks.transfer import StreamingArchiver
from tests.contract.archiver import PART, ArchiverContract, Making, in_segments
from tests.integration.transfers import MIB, QUICK
from tests.twins.archiver import PlainArchiver
from tests.twins.rs_order import Source

SUFFIXES = [known_format.suffix for known_format in FORMATS]


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

    @pytest.fixture(params=SUFFIXES)
    def making(self, request: pytest.FixtureRequest) -> Making:
        """Files, a store, and the archiver that streams."""
        return Making(make=streaming, archive_name=f"P_v1{request.param}")


class TestTwin(ArchiverContract):
    """The same of its twin."""

    @pytest.fixture(params=SUFFIXES)
    def making(self, request: pytest.FixtureRequest) -> Making:
        """Files, a store, and the archiver in one coroutine."""
        return Making(make=plain, archive_name=f"P_v1{request.param}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("lengths", [(), (4, 1, 0, 7)])
async def test_both_make_the_same_object(suffix: str, lengths: tuple[int, ...]) -> None:
    made = []
    for make in (streaming, plain):
        making = Making(make=make, archive_name=f"P_v1{suffix}")
        result = await making.follow(await making.begin(), in_segments(*lengths))
        assert making.object is not None
        made.append((result, making.object))
    (one, its), (other, others) = made
    # Where they differ, and not megabytes side by side: comparing those as text takes minutes.
    assert first_difference(its.content, others.content) is None
    assert one == other
    assert [len(part) for part in its.parts] == [len(part) for part in others.parts]


def first_difference(one: bytes, other: bytes) -> tuple[int, bytes, bytes] | None:
    """Return where two archives are different from, and what each has around there."""
    if one == other:
        return None
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    around = slice(max(0, same - 64), same + 64)
    return same, one[around], other[around]
