"""How archives are divided into parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ArchiveTooLargeError, CheckpointUnusableError
from sinks import formats
from sinks.formats.deflate import DeflatePool
from sinks.formats.zip import Zip
from sinks.pipeline.parts import MAX_PARTS, MIB, PartPlan, memory_lack, plan_parts, within

TIB = 1024**4
# With as many threads as a worker has where nothing else is set, at most: each takes memory.
ZIP = Zip(pool=DeflatePool(8))


def plan(total: int, **changes: int) -> PartPlan:
    given = {
        "total_bytes": total,
        "file_count": 1,
        "name_bytes": 0,
        "at_most": total,
        "part_size": 8 * MIB,
        "memory": 128 * MIB,
        "worker_memory": 1280 * MIB,
        "max_object_size": 5 * TIB,
    }
    return plan_parts(ZIP, **{**given, **changes})


@given(st.integers(0, 5 * TIB), st.integers(1, 100_000))
def test_ten_thousand_parts_are_enough_and_memory_is_kept(total: int, files: int) -> None:
    chosen = plan(total, file_count=files)
    assert chosen.part_size * MAX_PARTS >= total + total // 1000
    assert chosen.in_flight >= 1
    held = chosen.memory - chosen.directory
    assert held <= (128 * MIB if total < 450 * 1024**3 else 1280 * MIB)


def test_the_largest_object_needs_what_the_settings_say() -> None:
    assert plan(5 * TIB, file_count=1).memory <= 1096 * MIB + 300


def test_the_directory_of_many_files_is_part_of_the_memory() -> None:
    few, many = plan(TIB), plan(TIB, file_count=1_000_000, name_bytes=100_000_000)
    assert many.directory == 241_000_000 + ZIP.pool.memory
    assert many.memory - few.memory > 230_000_000
    # That of a few fits into what a transfer has anyway.
    least = plan(1, memory=56 * MIB, worker_memory=56 * MIB, file_count=5000, name_bytes=5000 * 100)
    assert least.memory <= 56 * MIB


def test_an_archive_too_large_for_its_target_is_told_before_it_starts() -> None:
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_MAX_OBJECT_SIZE"):
        plan(6 * TIB)


def test_a_tar_that_is_too_large_with_its_headers_is_told_before_it_starts() -> None:
    """Not by its last part, hours later."""
    limits: dict[str, Any] = {
        "total_bytes": 1000 * MIB,
        "file_count": 1000,
        "name_bytes": 0,
        "at_most": 1000 * MIB,
        "part_size": 8 * MIB,
        "memory": 128 * MIB,
        "worker_memory": 1280 * MIB,
    }
    _, tar, _ = formats.FORMATS
    least = 1000 * MIB + 1000 * 512 + 1024
    with pytest.raises(ArchiveTooLargeError, match=f"are {least} or more"):
        plan_parts(tar, max_object_size=least - 1, **limits)
    plan_parts(tar, max_object_size=least, **limits)


def test_an_archive_too_large_for_the_memory_is_told_with_the_figure_that_works() -> None:
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_WORKER_MEMORY to ") as raised:
        plan(4 * TIB, worker_memory=256 * MIB)
    figure = int(str(raised.value).split("DELIVERY_WORKER_MEMORY to ")[1].split()[0])
    assert plan(4 * TIB, worker_memory=figure).memory == figure


def test_parts_are_as_large_as_those_that_were_sent() -> None:
    assert plan(1, sent_in=48 * MIB).part_size == 48 * MIB


def test_parts_too_large_for_the_memory_were_sent_in_vain_where_smaller_ones_do() -> None:
    with pytest.raises(CheckpointUnusableError, match="parts of 503316480 bytes"):
        plan(1, sent_in=480 * MIB, worker_memory=256 * MIB)
    # Where smaller ones don't either, it is told with the figure that works, as ever.
    with pytest.raises(ArchiveTooLargeError, match=r"2 parts of 440401920"):
        plan(4 * TIB, sent_in=480 * MIB, worker_memory=256 * MIB)


def test_parts_too_small_for_what_an_archive_has_become_were_sent_in_vain() -> None:
    """More was announced since: it would end at part 10,000, hours later, and for good."""
    assert plan(70 * 1024**3, sent_in=8 * MIB).part_size == 8 * MIB
    with pytest.raises(CheckpointUnusableError, match=r"parts of 8388608 bytes.*take 11534336"):
        plan(100 * 1024**3, sent_in=8 * MIB)
    # What a target or worker can't take at all is told as ever.
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_WORKER_MEMORY"):
        plan(4 * TIB, sent_in=8 * MIB, worker_memory=256 * MIB)


def test_what_was_saved_of_many_files_is_part_of_the_memory() -> None:
    few = plan(1, sent_in=8 * MIB, file_count=1_000_000)
    many = plan(1, sent_in=8 * MIB, file_count=1_000_000, sent_members=1_000_000)
    assert many.memory - few.memory == 208_000_000
    with pytest.raises(CheckpointUnusableError, match="1000000 files at a time"):
        plan(
            1,
            sent_in=8 * MIB,
            file_count=1_000_000,
            sent_members=1_000_000,
            worker_memory=300 * MIB,
        )


def test_what_takes_the_memory_is_told_where_it_is_not_enough() -> None:
    """Names may be what does, and parts of another size help nothing then."""
    names = 1_341_000_000 + ZIP.pool.memory
    with pytest.raises(ArchiveTooLargeError, match=f"2 parts of 8388608, {names} for"):
        plan(1, file_count=1_000_000, name_bytes=1_200_000_000)
    names = 1_024_141 + ZIP.pool.memory
    with pytest.raises(ArchiveTooLargeError, match=f"2 parts of 440401920, {names} for"):
        plan(4 * TIB, worker_memory=256 * MIB, file_count=1, name_bytes=1_024_000)


@pytest.mark.parametrize(
    ("suffix", "memory", "level"),
    [(".tar", 32, 3), (".tar.zst", 64, 3), (".tar.zst", 224, 19), (".zip", 40, 3)],
)
def test_parts_leave_room_for_what_a_format_holds(suffix: str, memory: int, level: int) -> None:
    """Fewer at once, rather than refuse for good what would fit."""
    (form,) = [
        each
        for each in formats.formats_with(zstd_level=level, deflate_threads=2)
        if each.suffix == suffix
    ]
    chosen = plan_parts(
        form,
        total_bytes=1000,
        file_count=1,
        name_bytes=10,
        at_most=1000,
        part_size=8 * MIB,
        memory=memory * MIB,
        worker_memory=memory * MIB,
        max_object_size=5 * TIB,
    )
    assert chosen.in_flight >= 1
    assert chosen.memory <= memory * MIB


def test_more_parts_at_once_are_sent_where_a_worker_has_the_memory_for_many_members() -> None:
    """A directory that is larger than what a transfer is to have takes nothing from its parts."""
    assert plan(1, file_count=1_000_000, name_bytes=100_000_000).in_flight == 4


def test_memory_that_is_too_little_for_any_archive_of_a_format_is_told() -> None:
    limits = {"part_size": 8 * MIB, "memory": 128 * MIB}
    made = formats.formats_with(zstd_level=19)
    lack = memory_lack(made, worker_memory=128 * MIB, **limits)
    assert lack is not None
    assert "a .tar.zst of whatever size" in lack
    figure = int(lack.split("raise it to ")[1].split()[0])
    assert memory_lack(made, worker_memory=figure, **limits) is None
    assert memory_lack(made, worker_memory=figure - 1, **limits) is not None
    assert memory_lack(formats.FORMATS, worker_memory=128 * MIB, **limits) is None


def test_parts_are_whole_blocks_of_md5() -> None:
    assert plan(1, part_size=5 * MIB + 1).part_size == 5 * MIB + 64


def test_parts_have_room_for_what_files_of_unknown_size_may_bring() -> None:
    assert plan(0, at_most=5 * 1024**3).part_size == 8 * MIB  # room for 80 GB
    chosen = plan(0, at_most=300 * 1024**3)
    assert chosen.part_size * MAX_PARTS > 300 * 1024**3
    assert chosen.memory <= 128 * MIB


def test_a_limit_without_end_takes_no_more_memory_than_a_transfer_has() -> None:
    chosen = plan(0, at_most=2**62)
    assert chosen.part_size == 48 * MIB
    assert chosen.memory - ZIP.pool.memory <= 128 * MIB


def test_an_archive_that_becomes_too_large_on_the_way_is_refused_in_words() -> None:
    chosen = plan(0, at_most=0)
    within(chosen, number=MAX_PARTS, size=8 * MIB, max_object_size=5 * TIB)
    with pytest.raises(ArchiveTooLargeError, match=r"10000 parts of 8388608.*order_size_limit_byt"):
        within(chosen, number=MAX_PARTS + 1, size=1, max_object_size=5 * TIB)
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_MAX_OBJECT_SIZE"):
        within(chosen, number=2, size=2, max_object_size=8 * MIB + 1)
