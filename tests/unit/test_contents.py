"""What is kept of files until their manifest is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from app.delivery.contents import MAX_RECORD, Packed, unpacked, with_contents
from app.delivery.manifest_document import Contents
from tests.builders import make_file

T = TypeVar("T")


async def each(items: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over items."""
    for item in items:
        yield item


def packed(first: int, positions: Iterable[int], *, sha256: bool = False) -> Packed:
    """Return what is kept of files at these positions."""
    kept = Packed(first, sha256=sha256)
    for position in positions:
        digest = bytes([position]) * 32 if sha256 else b""
        kept.add(position, size=position, crc32=position, md5=bytes([position]) * 16, sha256=digest)
    return kept


def contents(position: int, *, sha256: bool = False) -> Contents:
    """Return what is known of a file then."""
    digest = f"{position:02x}" * 32 if sha256 else None
    md5 = f"{position:02x}" * 16
    return Contents(size=position, md5=md5, sha256=digest, crc32=position)


def test_records_are_as_they_were_kept() -> None:
    for sha256 in (False, True):
        records = packed(0, range(3), sha256=sha256).of(1, 3)
        assert records is not None
        assert list(unpacked(records)) == [(n, contents(n, sha256=sha256)) for n in (1, 2)]
        assert len(records) <= 1 + 2 * MAX_RECORD


def test_what_is_kept_elsewhere_leaves_memory() -> None:
    kept = packed(5, range(5, 9))
    kept.forget(7)
    kept.forget(6)  # which is behind it
    records = kept.of(7, 9)
    assert records is not None
    assert [position for position, _ in unpacked(records)] == [7, 8]
    assert kept.of(5, 7) is None
    assert kept.of(9, 9) is None


def test_records_of_a_later_version_tell_nothing() -> None:
    assert list(unpacked(b"\x09" + bytes(100))) == []
    assert list(unpacked(b"\x01" + bytes(33))) == []
    assert list(unpacked(b"")) == []


async def test_each_file_has_its_record_or_what_the_listing_tells() -> None:
    files = [
        make_file(f"f{n}", position=n, size=99, md5="a" * 32, crc32=7) for n in (0, 1, 3, 4, 6, 7)
    ]
    kept = [packed(0, [0, 1]).of(0, 2), packed(2, [3]).of(2, 3), packed(3, [5, 6]).of(3, 5)]
    found = with_contents(each(files), each([records for records in kept if records]))
    listed = Contents(size=99, md5="a" * 32, crc32=7)
    assert [(file.position, known) async for file, known in found] == [
        (0, contents(0)),
        (1, contents(1)),
        (3, contents(3)),
        (4, listed),
        (6, contents(6)),
        (7, listed),
    ]
