"""The segments of an archive: what rs-order makes available of an order, one after the other.

rs-order cuts an order into suborders, and restores the next ones when those before are downloaded.
So files are archived as they come, in the order in which their suborders were announced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from app.delivery.manifest import Extent
from app.delivery.targets import Noted


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Files that were announced together."""

    number: int  # from 1, as they were announced
    suborder: int | None  # rs-order's; None: what its whole order has that is in no other segment
    at_end: bool = True  # whether the order was done when it was announced: so that was all of it
    listed: bool = False  # whether its files are in the manifest
    file_count: int = 0  # of those that are in no segment before
    age: timedelta = field(default=timedelta(), compare=False)  # since it was announced


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderSoFar:
    """What is known of the order of a delivery that is being transferred."""

    segments: Sequence[Segment]
    done: bool  # no further suborder comes
    with_errors: bool  # that the order ended with, as rs-order said
    total_suborders: int | None  # that rs-order cut it into, as it said; the least until `done`
    age: timedelta  # since the first segment was announced; 0: none was
    said: str | None = None  # what rs-order said of those errors
    in_error: int = 0  # files that it counted: downloads that broke off may be among them

    def segment(self, number: int) -> Segment | None:
        """Return a segment; None if there is none of that number yet."""
        return self.segments[number - 1] if number <= len(self.segments) else None

    def listed_in(self, number: int) -> int:
        """Return how many files the first so many segments have in the manifest."""
        return sum(segment.file_count for segment in self.segments[:number])

    @property
    def rest_is_listed(self) -> bool:
        """Whether what the whole order has in the end is in the manifest, too."""
        return any(segment.suborder is None and segment.at_end for segment in self.segments)

    @property
    def suborders(self) -> int:
        """How many were announced."""
        return sum(segment.suborder is not None for segment in self.segments)

    @property
    def each_adds(self) -> bool:
        """Whether no suborder is known of that is not in the manifest, or has no file there.

        Until the whole order is listed, others may be, unless rs-order told how many there are.
        """
        if any(segment.at_end and _was_found(segment) for segment in self.segments):
            return True
        unknown = self.total_suborders is None
        return self.all_heard_of or (unknown and self.rest_is_listed and self._none_is_empty)

    @property
    def all_heard_of(self) -> bool:
        """Whether as many as rs-order told with the end are in the manifest, each with files."""
        total = self.total_suborders
        return total is not None and self.heard_of >= total and self._none_is_empty

    @property
    def _none_is_empty(self) -> bool:
        named = [segment for segment in self.segments if segment.suborder is not None]
        return all(segment.file_count for segment in named)

    @property
    def heard_of(self) -> int:
        """How many suborders were announced, or are in the manifest without.

        What was found is one at least each time. Where it was announced after all, that added no
        file.
        """
        empty = sum(_is_empty(segment) for segment in self.segments)
        return self.suborders + max(0, sum(_was_found(each) for each in self.segments) - empty)

    def may_have_been_found(self, segment: Segment) -> bool:
        """Whether the files of a segment may be in the manifest, found before it was announced.

        Each time that some were found accounts for one suborder that adds none.
        """
        before = self.segments[: segment.number - 1]
        return sum(map(_was_found, before)) > sum(map(_is_empty, before))

    def comes_after_all(self, segment: Segment) -> bool:
        """Whether a segment was announced when all that the order has was one already."""
        return any(
            each.suborder is None and each.at_end and each.number < segment.number
            for each in self.segments
        )


def _was_found(segment: Segment) -> bool:
    """Whether it has files of which no suborder was announced until then."""
    return segment.suborder is None and segment.file_count > 0


def _is_empty(segment: Segment) -> bool:
    """Whether it is a suborder that added no file."""
    return segment.suborder is not None and segment.listed and not segment.file_count


def suborders_are(count: int, least: int | None) -> str:
    """Return "2 of at least 3 suborders are", or "1 suborder is".

    The least is left out where it is not told, or says nothing: there is one at least.
    """
    of = f" of at least {least}" if least is not None and least > 1 else ""
    noun = "suborder" if count == 1 and not of else "suborders"
    return f"{count}{of} {noun} {'is' if count == 1 else 'are'}"


def too_many_suborders(total: int, most: int) -> str | None:
    """Say that an order has more suborders than its tenant takes; None: it has not.

    `most` is 0 where it takes any number.
    """
    if not 0 < most < total:
        return None
    return (
        f"was split into {total} suborders, and the tenant's max_suborders allows {most}: "
        "ask for less data at once"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderPlan(Extent, Noted):
    """What is known of an archive that begins before all of its order is available.

    Where not all files were told, it has no extent: neither sizes nor names are known.
    """

    # Whether the order counts more files than it told: then it told them too early, perhaps.
    short: bool = False
    told: bool  # whether rs-order told all files; else the rest is the least that there will be
    folders: bool  # whether members are in folders of their products
    files: int = 0
    total_bytes: int = 0  # sum of the known sizes
    ids: int = 0  # of the files, summed up (`ids_of`)
    # Folders of products whose own name was taken, by the product's digest in decimals.
    renamed: Mapping[str, str] = field(default_factory=dict)

    def is_all_of(self, ordered: int | None) -> bool:
        """Whether it is of all files of an order, by the number that was ordered; None: untold.

        It may have been made before rs-order had cut all of the order into suborders.
        """
        return self.told and 0 < (ordered or 0) <= self.files
